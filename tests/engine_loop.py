"""A network, its data and a plain loop, for the tests of the engine."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample

N, b, CLASSES = 50, 8, 4


def make_data(seed=1):
    random = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (N,), generator=random)
    centres = 2 * torch.randn(CLASSES, 6, generator=random)
    return TensorDataset(centres[targets] + torch.randn(N, 6, generator=random), targets)


def make_loader(data=None, **options):
    return DataLoader(data or make_data(), **{"batch_size": b, "shuffle": True} | options)


def make_model(dropout=0.0):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Dropout(dropout))
    return nn.Sequential(trunk, nn.Linear(10, CLASSES))


def make_optimizer(model, lr=0.2):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.5)


def make_engine(model, optimizer=None, /, **options):
    """Always, at the last layer, unless ``options`` say otherwise."""
    defaults = {"head": [*model.children()][-1], "control": "always", "adapt": None, "seed": 7}
    return isample.Engine(optimizer or make_optimizer(model), **defaults | options)


def loss_of(model, batch):
    inputs, targets = batch
    return F.cross_entropy(model(inputs), targets)


def train(model, optimizer, batches):
    losses = []
    for batch in batches:
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def weighted(model, ticket):
    """The gradient of the batch by weights written out, in float64, one tensor a parameter."""
    inputs, targets = ticket.batch
    with torch.enable_grad():
        losses = F.cross_entropy(model(inputs), targets, reduction="none").double()
        weights = torch.ones(len(losses)) if ticket.weights is None else ticket.weights
        return torch.autograd.grad((weights.double() * losses).mean(), list(model.parameters()))


def assert_weighted(model, engine, ticket, gradients=None):
    """The gradients are those of the ticket's own weights: float32, summed in another order."""
    expected = unhooked(model, engine, ticket)
    for p, gradient in zip(model.parameters(), expected):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-4, atol=1e-6)


def unhooked(model, engine, ticket):
    with engine.paused():
        return weighted(model, ticket)


def parameters_of(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(some, others):
    return all(map(torch.equal, some, others))

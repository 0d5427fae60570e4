"""Weighted gradients of the rows path, over many draws, against the whole data set's."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.scoring.rows import Rows
from isample.values import Batch
from tests.row_losses import LOSSES, N, Problem, flat

pytestmark = pytest.mark.usefixtures("one_thread")

DRAWS, b = 10_000, 8
WHOLE_STEPS = 2_500  # of which each takes some five times as long as a draw


def standard_errors(gradients, truth):
    """How far the mean of ``gradients``, [draws, P], is from ``truth``: the largest of P."""
    gradients = torch.stack(gradients)
    error = gradients.std(0) / math.sqrt(len(gradients))
    return ((gradients.mean(0) - truth).abs() / error).max().item()


def skewed_scores():
    return torch.rand(N, generator=torch.Generator().manual_seed(2)) ** 3 + 0.05


def gradients(problem, *, with_counts=True, method="pps"):
    """Of batches that were drawn in proportion to fixed scores, [P] each."""
    generator = torch.Generator().manual_seed(3)
    logits = [z.detach() for z in problem.logits(problem.inputs)]
    jacobian, rows = problem.inputs, Rows()
    dealt = Batch((), N, N, observe=True)  # the mean counts of the whole data set
    for z, n in zip(logits, problem.counts(problem.targets)):
        rows.through(z, dealt, n)
    found = []
    for _ in range(DRAWS):
        places, weights = isample.draw(skewed_scores(), b, method=method, generator=generator)
        batch = Batch((), b, N, weights, by_memory=True)
        targets = [y[places] for y in problem.targets]
        leaves = [z[places].requires_grad_() for z in logits]
        counts = problem.counts(targets) if with_counts else [None] * len(leaves)
        passed = [rows.through(z, batch, n) for z, n in zip(leaves, counts)]
        at_logits = torch.autograd.grad(problem.reduced(passed, targets), leaves)
        found.append(flat(row.flatten(1).t() @ jacobian[places] for row in at_logits))
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_drawn_batches(name):
    """Of 200 parameters in all, one goes beyond 4 standard errors by chance with a probability of 1
    in 80; that of a faulty weight goes there for any seed."""
    problem = Problem(name)
    assert standard_errors(gradients(problem), problem.gradient()) < 4


def test_drawn_with_replacement():
    problem = Problem("tokens")
    assert standard_errors(gradients(problem, method="alias"), problem.gradient()) < 4


@pytest.mark.parametrize("name", ["class weights", "ignored labels"])
def test_a_ratio_needs_counts(name):
    """The weighted terms over what the drawn batch counts are another estimate: these tests see a
    bias of that size."""
    problem = Problem(name)
    assert standard_errors(gradients(problem, with_counts=False), problem.gradient()) > 6


@pytest.mark.parametrize("name", ["cross-entropy", "tokens"])
def test_a_memorys_batches(name):
    """All of the path: each draw is unbiased given those before it, from which it learned. Batches
    of a table are spread among each other, so that the error of a mean is less than is said."""
    problem = Problem(name)
    optimizer = torch.optim.SGD(problem.parameters, lr=0.0)
    engine = isample.Engine(optimizer, control="always", adapt=None, seed=3)
    data = TensorDataset(problem.inputs, *problem.targets)
    loader, found = engine.loader(DataLoader(data, batch_size=b, shuffle=True)), []
    for _ in range(WHOLE_STEPS // (N // b) + 1):
        for ticket in loader.tickets():
            inputs, *targets = ticket.batch
            pairs = zip(problem.logits(inputs), problem.counts(targets))
            problem.reduced([engine.rows(z, n) for z, n in pairs], targets).backward()
            if ticket.weights is not None:
                found.append(flat(p.grad for p in problem.parameters))
            optimizer.step()
            optimizer.zero_grad()
    assert len(found) >= WHOLE_STEPS
    assert standard_errors(found, problem.gradient()) < 4


class Linear(torch.nn.Module):
    """A problem's own layer as a model."""

    def __init__(self, problem):
        super().__init__()
        self.layers, self.shape = torch.nn.ModuleList(problem.layers), problem.heads[0].shape

    def forward(self, inputs):
        return self.layers[0](inputs).view(len(inputs), *self.shape)


@pytest.mark.parametrize("name", ["cross-entropy", "tokens"])
def test_half_of_a_batch_that_was_scored(name):
    """``choose`` keeps 20 of all 40 samples, by the objective's own gradient at the logits. Their
    mean count is that of all of them, which the first scoring pass sees."""
    problem = Problem(name)
    model = Linear(problem)
    optimizer = torch.optim.SGD(problem.parameters, lr=0.0)

    def objective(model, batch):
        inputs, targets = batch
        z = engine.rows(model(inputs), problem.counts([targets])[0])
        return problem.heads[0].reduced(z, targets)

    engine = isample.Engine(
        optimizer,
        model=model,
        objective=objective,
        control="always",
        adapt=None,
        seed=4,
        batch_size=N // 2,
    )
    whole, found, weights = (problem.inputs, problem.targets[0]), [], set()
    for _ in range(WHOLE_STEPS):
        kept = engine.choose(whole)
        assert len(kept[0]) == N // 2
        objective(model, kept).backward()
        found.append(flat(p.grad for p in problem.parameters))
        optimizer.step()
        optimizer.zero_grad()
        weights.add((engine.report.weight_min, engine.report.weight_max))
    assert max(high for _, high in weights) > 2  # nothing of it is uniform
    assert standard_errors(found, problem.gradient()) < 4


@pytest.mark.parametrize("scorer", ["loss", "objective"])
def test_mean_counts_of_what_is_kept(scorer):
    """Nothing is dealt where each batch is scored and cut: its weights tell the mean count."""
    problem, counts = Problem("tokens"), []
    model = Linear(problem)
    optimizer = torch.optim.SGD(problem.parameters, lr=0.0)

    def objective(model, batch):
        inputs, targets = batch
        n = problem.counts([targets])[0]
        return problem.heads[0].reduced(engine.rows(model(inputs), n), targets)

    def loss(z, targets):
        return problem.heads[0].terms(z, targets)

    scores = {"objective": objective} if scorer == "objective" else {"loss": loss}
    engine = isample.Engine(
        optimizer, model=model, control="always", seed=4, batch_size=b, **scores
    )
    random = torch.Generator().manual_seed(1)
    for _ in range(300):
        some = torch.randperm(N, generator=random)[: 3 * b]
        kept = engine.choose((problem.inputs[some], problem.targets[0][some]))
        objective(model, kept).backward()
        optimizer.step()
        counts.append(engine.state_dict()["rows"][0])
    assert counts[-1]["samples"] >= 300 * b
    estimates = torch.tensor([each["total"] for each in counts]).diff() / b
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(counts[-1]["total"] / counts[-1]["samples"] - problem.mean_counts()[0]) < 4 * error
    assert error < 0.03 * problem.mean_counts()[0]

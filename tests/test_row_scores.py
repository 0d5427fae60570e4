"""Scores and weighted gradients at the logits, against autograd of each sample's own loss."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import isample
from tests.row_losses import LOSSES, Problem

pytestmark = pytest.mark.usefixtures("one_thread")

b = 8


def run(problem, epochs):
    """Trains at a rate of 0 on what an engine draws; yields the batch's ticket, its targets, its
    logits and their gradients."""
    optimizer = torch.optim.SGD(problem.parameters, lr=0.0)
    engine = isample.Engine(optimizer, control="always", adapt=None, seed=3)
    data = TensorDataset(problem.inputs, *problem.targets)
    loader = engine.loader(DataLoader(data, batch_size=b, shuffle=True))
    for _ in range(epochs):
        for ticket in loader.tickets():
            inputs, *targets = ticket.batch
            logits = problem.logits(inputs)
            for z in logits:
                z.retain_grad()
            pairs = zip(logits, problem.counts(targets))
            problem.reduced([engine.rows(z, n) for z, n in pairs], targets).backward()
            optimizer.step()
            yield ticket, targets, logits


def norms(rows):
    return sum(row.flatten(1).square().sum(1) for row in rows).sqrt()


@pytest.mark.parametrize("name", LOSSES)
def test_against_each_samples_own_loss(name):
    """All is float64 but the squares and the factors: a product of three roundings to float32, 6e-8
    each, and sums of up to 18 squares. The first epoch deals the data set once, so that the
    mean counts of the batches after it are those of the whole of it."""
    problem, drawn = Problem(name), 0
    for ticket, targets, logits in run(problem, epochs=3):
        if ticket.weights is None:
            continue
        drawn += 1
        rows = problem.row_gradients(logits, targets)
        torch.testing.assert_close(ticket.score.double(), norms(rows), rtol=1e-6, atol=1e-12)
        for z, row in zip(logits, rows):
            weights = ticket.weights.double().view(-1, *[1] * (row.dim() - 1))
            torch.testing.assert_close(z.grad, weights * row / b, rtol=1e-6, atol=1e-12)
    assert drawn == 10


@pytest.mark.parametrize("name", LOSSES)
def test_a_dealt_batch_keeps_its_gradient(name):
    problem = Problem(name)
    for ticket, targets, logits in run(problem, epochs=1):
        assert ticket.weights is None
        leaves = [z.detach().requires_grad_() for z in logits]
        own = torch.autograd.grad(problem.reduced(leaves, targets), leaves)
        assert all(torch.equal(z.grad, row) for z, row in zip(logits, own))


@pytest.mark.parametrize("name", ["cross-entropy", "squared error", "tokens"])
def test_scores_of_dealt_batches(name):
    """A mean count is that of what was dealt so far, this batch included."""
    problem, total, samples = Problem(name), 0.0, 0
    for ticket, targets, logits in run(problem, epochs=1):
        rows = problem.row_gradients(logits, targets)
        if problem.heads[0].counts is not None:
            total, samples = total + problem.counts(targets)[0].sum().item(), samples + b
            rows = [rows[0] * problem.mean_counts()[0] / (total / samples)]
        torch.testing.assert_close(ticket.score.double(), norms(rows), rtol=1e-6, atol=1e-12)


def test_reduced_losses_are_the_ratios_of_their_terms():
    """The truth of these tests against torch's own reductions."""
    for name in LOSSES:
        problem = Problem(name)
        loss = problem.reduced(problem.logits(problem.inputs), problem.targets)
        own = torch.autograd.grad(loss, problem.parameters)
        whole = torch.cat([gradient.flatten() for gradient in own])
        torch.testing.assert_close(whole, problem.gradient(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", ["dict", "tuple", "list"])
def test_logits_of_any_form(form):
    """What is not floating, or needs no gradient, passes as it is."""
    x = torch.randn(b, 3)
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    engine = isample.Engine(optimizer, control="always", seed=0)
    loader = engine.loader(DataLoader(TensorDataset(x), batch_size=b, shuffle=True))
    (ticket,) = loader.tickets()
    z, other = layer(ticket.batch[0]), torch.ones(b, dtype=torch.int64)
    given = {"dict": {"z": z, "n": other, "loss": None}, "tuple": (z, other), "list": [z, other]}
    passed = engine.rows(given[form])
    assert type(passed) is type(given[form])
    out, kept = (passed["z"], passed["n"]) if form == "dict" else passed
    assert kept is other and torch.equal(out, z)
    out.square().mean().backward()
    optimizer.step()
    expected = norms([2 * z.detach().double() / 4])
    torch.testing.assert_close(ticket.score.double(), expected, rtol=1e-5, atol=0)

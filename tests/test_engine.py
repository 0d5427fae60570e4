"""The engine in loops of every make: its weights are those of the batch under way."""

import contextlib
import itertools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import isample
from tests.engine_loop import (
    N,
    assert_weighted,
    b,
    equal,
    loss_of,
    make_engine,
    make_loader,
    make_model,
    make_optimizer,
    parameters_of,
    train,
    unhooked,
)

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS = 4


@pytest.mark.parametrize("control", ["always", "never"])
def test_a_plain_loop_is_the_trainer(control):
    """The rows' gradients are rounded otherwise than the loss's: 28 steps of it."""
    model, twin = make_model(), make_model()
    trainer = isample.Trainer(
        model, make_optimizer(model), batch_size=b, mode="memory", control=control, seed=7
    )
    trainer.fit(make_loader(), epochs=EPOCHS)
    optimizer = make_optimizer(twin)
    engine = make_engine(twin, optimizer, control=control, adapt="lr")
    loader = engine.loader(make_loader())
    for _ in range(EPOCHS):
        train(twin, optimizer, loader)
    theirs, ours = trainer.history.steps, engine.history.steps
    assert len(ours) == len(theirs) == EPOCHS * 7
    assert [r.active for r in ours] == [r.active for r in theirs]
    assert {r.active for r in ours} == ({True, False} if control == "always" else {False})
    for one, other in zip(ours, theirs):
        assert one.tau == pytest.approx(other.tau, rel=1e-5, nan_ok=True)
        assert one.weight_max == pytest.approx(other.weight_max, rel=1e-5)
        assert one.effective_batch == pytest.approx(other.effective_batch, rel=1e-4)
    for p, q in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_known_loss_is_the_trainer():
    model, twin = make_model(), make_model()
    trainer = isample.Trainer(
        model, make_optimizer(model), batch_size=b, mode="memory", control="always", seed=7
    )
    trainer.fit(make_loader(), epochs=EPOCHS)
    optimizer = make_optimizer(twin)
    engine = make_engine(twin, optimizer, head=None, loss="cross_entropy", adapt="lr")
    loader = engine.loader(make_loader())
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            optimizer.zero_grad()
            engine.loss(twin(inputs), targets).backward()
            optimizer.step()
    assert [r.loss for r in engine.history.steps] == [r.loss for r in trainer.history.steps]
    assert equal(parameters_of(model), parameters_of(twin))


def steps_of(model, engine, optimizer, tickets):
    """A step on each, checked against weights written out."""
    for ticket in tickets:
        optimizer.zero_grad()
        loss_of(model, ticket.batch).backward()
        assert_weighted(model, engine, ticket)
        optimizer.step()
        yield ticket


def prefetched(tickets, ahead):
    queue, tickets = [], iter(tickets)
    with contextlib.suppress(StopIteration):
        while len(queue) <= ahead:
            queue.append(next(tickets))
    while queue:
        for ticket in tickets:
            queue.append(ticket)
            break
        yield queue.pop(0)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_batches_that_are_fetched_ahead(ahead):
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    loader = engine.loader(make_loader())
    weights = [
        ticket.weights
        for _ in range(3)
        for ticket in steps_of(model, engine, optimizer, prefetched(loader.tickets(), ahead))
    ]
    assert len(weights) == 21 and sum(w is not None for w in weights) >= 13 - ahead


def test_batches_that_are_fetched_in_groups():
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    loader = engine.loader(make_loader())
    for _ in range(3):
        tickets = loader.tickets()
        while group := list(itertools.islice(tickets, 3)):
            assert len(list(steps_of(model, engine, optimizer, group))) == len(group)
    assert len(engine.history.steps) == 21 and engine.report.active


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.heads = make_model()[0], nn.ModuleList(nn.Linear(10, 4) for _ in "ab")


@pytest.mark.parametrize("control", ["always", "never"])
@pytest.mark.parametrize("ahead", [0, 1])
def test_both_heads_are_of_one_batch(control, ahead):
    """Also where nothing is weighted or scored, and another batch waits."""
    model = TwoHeads()
    optimizer = make_optimizer(model)
    engine = isample.Engine(optimizer, control=control, seed=7)
    loader, steps = engine.loader(make_loader()), 0
    for _ in range(3):
        for ticket in prefetched(loader.tickets(), ahead):
            hidden = model.trunk(ticket.batch[0])
            logits = [engine.rows(head(hidden)) for head in model.heads]
            optimizer.zero_grad()
            sum(z.square().mean() for z in logits).backward()
            optimizer.step()
            steps += 1
            assert engine.report.step == steps and ticket.heads == 2


@pytest.mark.parametrize("optimizer_of", [torch.optim.LBFGS, torch.optim.SGD])
def test_closures(optimizer_of):
    """Each evaluation of a step has the weights of its batch; numbers are read by the first."""
    model, evaluated = make_model(), []
    optimizer = optimizer_of(model.parameters(), lr=0.1)
    engine = make_engine(model, optimizer, attach=False)
    loader = engine.loader(make_loader())
    for _ in range(3):
        for ticket in prefetched(loader.tickets(), 1):

            def closure(ticket=ticket):
                optimizer.zero_grad()
                loss = loss_of(model, ticket.batch)
                loss.backward()
                assert_weighted(model, engine, ticket)
                evaluated.append(ticket)
                engine.before_update()
                return loss

            optimizer.step(closure)
            engine.after_update()
    assert len(engine.history.steps) == 21 and engine.report.active
    assert len(evaluated) == 21 if optimizer_of is torch.optim.SGD else len(evaluated) > 60


def test_several_evaluations_before_the_update():
    """The scores are those of the last one, as the weights are."""
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    loader = engine.loader(make_loader())
    for ticket in loader.tickets():
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, ticket.batch).backward()
        optimizer.step()
        assert ticket.score.max() < 1.5  # the norm of a difference of probabilities
    assert len(engine.history.steps) == 7


def test_several_forward_passes_before_one_backward():
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    loader = engine.loader(make_loader())
    for _ in range(2):
        for ticket in loader.tickets():
            optimizer.zero_grad()
            ((loss_of(model, ticket.batch) + loss_of(model, ticket.batch)) / 2).backward()
            assert_weighted(model, engine, ticket)
            optimizer.step()
    assert len(engine.history.steps) == 14 and engine.report.active


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing(use_reentrant, accumulated, ahead):
    """The head's second forward pass, within the backward pass, is of the same batch."""
    model = make_model()
    optimizer = make_optimizer(model, lr=0.0)
    engine = make_engine(model, optimizer)
    loader, scores = engine.loader(make_loader()), []
    for _ in range(2):
        for at, ticket in enumerate(prefetched(loader.tickets(), ahead)):
            inputs, targets = ticket.batch
            hidden = model[0](inputs)
            z = checkpoint(model[1], hidden, use_reentrant=use_reentrant)
            optimizer.zero_grad()
            nn.functional.cross_entropy(z, targets).backward()
            assert_weighted(model, engine, ticket)
            if (at + 1) % accumulated == 0 or at == 6:
                optimizer.step()
            scores.append((z.detach(), targets, ticket))
    assert len(engine.history.steps) == 14
    for z, targets, ticket in scores:
        expected = isample.softmax_score(z, targets)[0]
        torch.testing.assert_close(ticket.score, expected, rtol=1e-5, atol=0)


def test_accumulated_gradients():
    """One update of two batches: two reports, and a gradient of both."""
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    loader = engine.loader(make_loader(drop_last=True))
    for _ in range(3):
        tickets = loader.tickets()
        for pair in zip(tickets, tickets):
            expected = [unhooked(model, engine, ticket) for ticket in pair]
            optimizer.zero_grad()
            for ticket in pair:
                (loss_of(model, ticket.batch) / 2).backward()
            for p, gradients in zip(model.parameters(), zip(*expected)):
                torch.testing.assert_close(p.grad, sum(gradients) / 2, rtol=1e-4, atol=1e-6)
            reports = len(engine.history.steps)
            optimizer.step()
            assert len(engine.history.steps) == reports + 2
    assert engine.report.step == 3 * (N // b) and engine.report.active


def test_two_heads_in_a_checkpoint():
    """The second head's gradient comes first, and makes the first head once more."""
    model = TwoHeads()
    optimizer = make_optimizer(model)
    engine = isample.Engine(optimizer, control="always", adapt=None, seed=7)
    loader = engine.loader(make_loader())

    def heads(hidden):
        return [engine.rows(head(hidden)) for head in model.heads]

    for _ in range(2):
        for ticket in prefetched(loader.tickets(), 1):
            optimizer.zero_grad()
            one, two = checkpoint(heads, model.trunk(ticket.batch[0]), use_reentrant=False)
            (one.square().mean() + two.square().mean()).backward()
            optimizer.step()
            rows = torch.cat([one, two], dim=1).detach() / 2
            torch.testing.assert_close(ticket.score, rows.norm(dim=1), rtol=1e-5, atol=0)
    assert len(engine.history.steps) == 14 and engine.report.active


def test_evaluation_passes():
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    inputs = torch.randn(3, 6)
    for _ in range(3):
        for batch in engine.loader(make_loader()):
            with torch.no_grad():
                assert model(inputs).shape == (3, 4)
            with engine.paused():
                model(inputs).sum().backward()
            model.eval()
            model(inputs)
            model.train()
            train(model, optimizer, [batch])
    assert len(engine.history.steps) == 21


def test_an_optimizer_that_the_engine_does_not_know():
    model, other = make_model(), nn.Linear(2, 1)
    optimizer, free = make_optimizer(model), torch.optim.SGD(other.parameters(), lr=0.1)
    engine = make_engine(model, optimizer)
    for batch in engine.loader(make_loader()):
        for _ in range(2):
            other(torch.ones(1, 2)).sum().backward()
            free.step()
        train(model, optimizer, [batch])
        free.step()
    assert len(engine.history.steps) == 7

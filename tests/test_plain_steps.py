"""A batch that is neither weighted nor scored passes by the short way: training is what it is
without an engine, and every step has its report."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import isample
from isample.control import Choices, make_controller
from isample.support.errors import NonFiniteLossError
from isample.values import Plan, StepReport
from tests.engine_loop import N, b, loss_of, make_loader, make_model, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")


def step(model, optimizer, batch):
    loss = loss_of(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def twice(model, optimizer, batch):
    """A head that is called two times."""
    loss = loss_of(model, batch) + loss_of(model, [2 * batch[0], batch[1]])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def closure(model, optimizer, batch, engine=None):
    def evaluate():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        if engine is not None:
            engine.before_update()
        return loss

    optimizer.step(evaluate)
    if engine is not None:
        engine.after_update()


def in_checkpoint(use_reentrant):
    def train(model, optimizer, batch):
        z = checkpoint(model[1], model[0](batch[0]), use_reentrant=use_reentrant)
        optimizer.zero_grad()
        F.cross_entropy(z, batch[1]).backward()
        optimizer.step()

    return train


def accumulated():
    calls = []

    def train(model, optimizer, batch):
        (loss_of(model, batch) / 2).backward()
        calls.append(1)
        if len(calls) % 2 == 0:
            optimizer.step()
            optimizer.zero_grad()

    return train


LOOPS = {
    "step": lambda: step,
    "a head twice": lambda: twice,
    "closure": lambda: closure,
    "checkpoint": lambda: in_checkpoint(False),
    "reentrant": lambda: in_checkpoint(True),
    "accumulated": accumulated,
}


def fetched(loader, epochs, ahead=0):
    """Batches of so many epochs, fetched so many ahead."""
    for _ in range(epochs):
        waiting = []
        for batch in loader:
            waiting.append(batch)
            if len(waiting) > ahead:
                yield waiting.pop(0)
        yield from waiting


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("source", ["memory", "stream"])
@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.filterwarnings("ignore:loader's batches pass as they are")
def test_training_is_what_it_is_without_an_engine(name, source, ahead):
    results = []
    for engaged in (True, False):
        model, train, batches = make_model(), LOOPS[name](), []
        optimizer = make_optimizer(model)
        if name == "closure":
            optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
        if engaged:
            engine = isample.Engine(
                optimizer,
                head=model[1],
                control="never",
                attach=name != "closure",
                batch_size=b,
                seed=3,
            )
            loader = engine.loader(make_loader() if source == "memory" else [*make_loader()])
            for batch in fetched(loader, 2, ahead):
                batches.append(batch)
                train(model, optimizer, batch, *([engine] if name == "closure" else []))
            given = batches
            assert [report.step for report in engine.history.steps] == list(range(1, 15))
        else:
            for batch in given:
                train(model, optimizer, batch)
        results.append([p.detach() for p in model.parameters()])
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_the_report_of_a_plain_step():
    model = make_model()
    optimizer = make_optimizer(model)
    engine = isample.Engine(optimizer, head=model[1], control="never", seed=3)
    history, before = engine.history, 0.0
    for at, batch in enumerate(engine.loader(make_loader())):
        step(model, optimizer, batch)
        size = len(batch[1])
        report = engine.report
        assert isinstance(report, StepReport) and report is history.steps[-1]
        assert (report.step, report.kept, report.presample) == (at + 1, size, size)
        assert not report.active and report.effective_batch == size and report.scored == 0
        assert report.weight_min == report.weight_max == 1.0 and math.isnan(report.tau)
        assert report.seconds > 0 and before < report.elapsed <= engine.elapsed
        before = report.elapsed
    assert size == N % b and len(history.steps) == 7 and history.active_share == 0.0
    again = isample.History(history.steps, history.evaluations)
    assert again == history != isample.History() and repr(again) == repr(history)


def test_a_known_loss_is_reported_and_refused_where_it_is_not_finite():
    model = make_model()
    optimizer = make_optimizer(model)
    engine = isample.Engine(optimizer, model=model, loss="cross_entropy", control="never", seed=3)
    losses = []
    for at, (inputs, targets) in enumerate(engine.loader(make_loader())):
        if at == 4:
            inputs = inputs * math.nan
        losses.append(engine.loss(model(inputs), targets))
        optimizer.zero_grad()
        losses[-1].backward()
        if at == 4:
            before = [p.clone() for p in model.parameters()]
            with pytest.raises(NonFiniteLossError):
                optimizer.step()
            assert all(map(torch.equal, before, model.parameters()))
            break
        optimizer.step()
    told = [report.loss for report in engine.history.steps]
    assert told == [loss.item() for loss in losses[:4]]


def test_a_plain_batch_is_left_out_by_skip():
    """Before or behind its forward pass."""
    model = make_model()
    optimizer = make_optimizer(model)
    engine = isample.Engine(optimizer, head=model[1], control="never", seed=3)
    for at, batch in enumerate(engine.loader(make_loader())):
        if at in (2, 4):
            if at == 4:
                model(batch[0])
            engine.skip()
            continue
        step(model, optimizer, batch)
    assert [report.step for report in engine.history.steps] == [1, 2, 3, 4, 5]


class Fourth(type(make_controller("always", Choices(b, remembers=True)))):
    """Draws every fourth batch by importance, and leaves others alone."""

    def clock(self, state, seconds, overhead):
        return state._replace(tau_ema=state.tau_ema + 1)

    def observe(self, state, seen):
        return super().observe(state, seen)._replace(tau_ema=state.tau_ema)

    def plan(self, state):
        return Plan(importance=state.tau_ema % 4 == 3, observe=False)


def test_a_plain_batch_that_accumulates_behind_a_drawn_one():
    """The update is of both, and no gain is left for the next."""
    model = make_model()
    optimizer = make_optimizer(model)
    engine = isample.Engine(
        optimizer, head=model[1], control=Fourth(Choices(b, remembers=True)), seed=3
    )
    active = []
    for _ in range(4):
        for batch in engine.loader(make_loader(drop_last=True)):
            loss_of(model, batch).backward()
            if len(active) % 4 != 2:
                engine.settle()
            else:
                optimizer.step()
                optimizer.zero_grad()
                assert engine.steps.is_idle
            active.append(engine.report.active)
    assert len(engine.history.steps) == 24 and active[8:] == [True, False, False, False] * 4


def test_logits_of_another_batch_are_refused():
    model = make_model()
    engine = isample.Engine(make_optimizer(model), head=model[1], control="never", seed=3)
    inputs, _ = next(iter(engine.loader(make_loader())))
    with pytest.raises(ValueError, match="logits must have a row for each of the batch's 8"):
        model(inputs[:-1])


def test_a_schedule_is_noted_in_plain_steps():
    """The highest rate was of plain steps alone, and is the bound of those that are raised."""
    model = make_model()
    optimizer = make_optimizer(model, lr=0.05)
    engine = isample.Engine(optimizer, head=model[1], control="never", seed=3)
    for at, batch in enumerate(engine.loader(make_loader(batch_size=1))):
        optimizer.param_groups[0]["lr"] = 0.2 if 5 < at < 25 else 0.05
        step(model, optimizer, batch)
    assert engine.steps.rates.state_dict() == {"highest_lr": [0.2]}
    assert engine.steps.rates.gain_cap == pytest.approx(2 * 0.2 / 0.05)


def test_a_rate_that_is_a_tensor_is_noted_when_it_falls():
    """A scheduler fills it in place; gains are of use again below the highest rate."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=torch.tensor(0.4))
    rates = isample.control.rates.LearningRate(optimizer)
    rates.note()
    assert rates.gain_cap == 2.0
    optimizer.param_groups[0]["lr"].fill_(0.1)
    rates.note()
    assert rates.gain_cap == pytest.approx(8.0)

"""Larger steps and smaller batches out of the noise that was saved: against the formulas, by
hand."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Always, Choices, Speedup, make_controller
from isample.control.rates import LearningRate, make_rates
from isample.values import Observation, Plan
from tests.small_training import b, make_data, make_model


def optimizer_of(kind=torch.optim.SGD, lr=0.1):
    return kind([nn.Parameter(torch.ones(2))], lr=lr)


def rate_within(rates, gain):
    rates.note()
    rates.raise_for(gain)
    rate = rates.optimizer.param_groups[0]["lr"]
    rates.put_back()
    return rate


@pytest.mark.parametrize(
    "kind,decay,gain,expected",
    [
        (torch.optim.SGD, 0.5, 1.6, 0.08),  # in proportion
        (torch.optim.SGD, 0.5, 1.4, 0.05),  # from a gain of 1.5 on
        (torch.optim.SGD, 0.5, math.nan, 0.05),  # and once there is something known
        (torch.optim.SGD, 1.0, 7.0, 0.2),  # but at most twice the highest there was
        (torch.optim.SGD, 0.1, 7.0, 0.07),
        (torch.optim.SGD, 0.01, 70.0, 0.01),  # and at most ten times the schedule's own
        (torch.optim.SGD, 0.1, 0.5, 0.01),  # never lower than that
        (torch.optim.AdamW, 0.1, 4.0, 0.02),  # the root, for what divides by the gradient's scale
        (torch.optim.RMSprop, 0.1, 4.0, 0.02),
    ],
)
def test_rates_follow_the_formula_and_come_back(kind, decay, gain, expected):
    optimizer = optimizer_of(kind)
    rates = LearningRate(optimizer)
    assert rate_within(rates, 1.0) == 0.1
    optimizer.param_groups[0]["lr"] = 0.1 * decay
    assert rate_within(rates, gain) == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0.1 * decay


@pytest.mark.parametrize(
    "kind,decay,expected",
    [
        (torch.optim.SGD, 1.0, 2.0),
        (torch.optim.SGD, 0.4, 5.0),
        (torch.optim.SGD, 0.01, 10.0),
        (torch.optim.SGD, 0.0, 1.0),
        (torch.optim.Adam, 1.0, 4.0),
        (torch.optim.Adam, 0.8, 6.25),
    ],
)
def test_a_gain_is_of_use_until_the_rate_is_at_its_bound(kind, decay, expected):
    rates = LearningRate(optimizer_of(kind))
    assert rates.gain_cap == 1.0  # before the first step
    rates.note()
    rates.optimizer.param_groups[0]["lr"] *= decay
    rates.note()
    assert rates.gain_cap == pytest.approx(expected)
    if decay > 0:
        lr = rates.optimizer.param_groups[0]["lr"]
        assert (
            rate_within(rates, expected)
            == rate_within(rates, 100.0)
            > max(lr, rate_within(rates, 0.9 * expected))
        )


def test_groups_may_be_added_later():
    optimizer = optimizer_of()
    rates = LearningRate(optimizer)
    rate_within(rates, 1.0)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.3})
    rates.note()
    optimizer.param_groups[1]["lr"] = 0.1
    rates.raise_for(4.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.4])
    rates.put_back()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


def test_a_gain_follows_a_gain_and_rates_come_back_once():
    rates = LearningRate(optimizer_of())
    rates.note()
    for gain in (2.0, 4.0, math.nan):
        rates.raise_for(gain)
    assert rates.optimizer.param_groups[0]["lr"] == 0.1
    rates.raise_for(2.0)
    rates.put_back()
    rates.optimizer.param_groups[0]["lr"] = 0.07  # a schedule's, between two steps
    rates.put_back()
    assert rates.optimizer.param_groups[0]["lr"] == 0.07


def test_rates_come_back_after_an_error_of_the_optimizer():
    model, (inputs, targets) = make_model(), make_data(b)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = isample.Trainer(model, optimizer, batch_size=b, control=GainOf([4.0]), seed=5)
    seen = []

    def interrupt(optimizer, *_):
        seen.append(optimizer.param_groups[0]["lr"])
        raise KeyboardInterrupt

    optimizer.register_step_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.step(torch.cat([inputs] * 5), targets.repeat(5))
    assert seen == [0.2] and optimizer.param_groups[0]["lr"] == 0.1


def test_an_sgd_step_moves_by_the_raised_rate():
    """One step of plain SGD on a gradient of 1, by hand."""
    optimizer = optimizer_of(lr=0.1)
    parameter = optimizer.param_groups[0]["params"][0]
    parameter.grad = torch.ones(2)
    rates = LearningRate(optimizer)
    rates.note()
    optimizer.param_groups[0]["lr"] = 0.06
    rates.raise_for(2.5)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 1 - 0.15))


def test_the_state_of_rates_that_are_left_alone_is_taken():
    rates = LearningRate(optimizer_of())
    rates.note()
    rates.load_state_dict(make_rates(None, rates.optimizer).state_dict())
    assert rates.state_dict() == {"highest_lr": [0.1]}


class GainOf(Always):
    """Every step scores candidates, or draws by memory, and is worth what the list says."""

    def __init__(self, gains, remembers=False):
        super().__init__(Choices(b, remembers=remembers, candidates=(5 * b,)))
        self.gains = iter(gains)

    def gain(self, state, seen):
        return next(self.gains)


def learnt_but_for_some(n=1200):
    inputs, targets = make_data(n)
    targets[::17] = (targets[::17] + 1) % 5
    return DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True)


class Machine(Speedup):
    """A clock on which scoring a batch takes a twentieth of a step, and training on it most."""

    def clock(self, state, seconds, overhead):
        kind = state.seen
        return super().clock(state, 0.2 + 0.05 * kind.scored + 0.75 * kind.kept, 0.001)


@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_the_trainer_draws_fewer_where_that_saves_time(mode):
    """As noisy as a uniform batch, in less time."""
    model, sizes = make_model(), []
    model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0])) if torch.is_grad_enabled() else None
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    choices = Choices(b, remembers=mode == "memory", candidates=(b, 2 * b), thins=True)
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, mode=mode, adapt="batch", control=Machine(choices), seed=5
    )
    history = trainer.fit(learnt_but_for_some(), epochs=10)
    assert sizes == [report.kept for report in history.steps]
    assert sizes[0] == b and sum(size < b for size in sizes) > 60  # trials alone are some ten


def test_a_rate_follows_from_all_batches_since_the_last_step():
    """Worth 1, 1, 1 and 5, four batches have (1 + 1 + 1 + 1/5) / 4 of the noise of uniform ones:
    they are worth 1.25, and below 1.5 the rate stays."""
    inputs, targets = make_data(5 * b)
    model, seen = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    control = GainOf([5.0] * 4 + [1.0, 1.0, 1.0, 5.0] + [5.0, 5.0, 5.0, 2.0])
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, accumulate=4, control=control, mode="presample", seed=5
    )
    for step in range(12):
        optimizer.param_groups[0]["lr"] = 1.0 if step < 4 else 0.1  # so that it has room
        trainer.step(inputs, targets)
    assert seen == pytest.approx([2.0, 0.1, 0.1 * 4 / 1.1])


def test_only_active_steps_are_larger():
    """The largest rate that the optimizer sees, in the uniform epoch and after it, at a gain of
    4."""
    model, seen = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    control = GainOf(itertools.repeat(4.0), remembers=True)
    trainer = isample.Trainer(model, optimizer, batch_size=b, control=control, seed=5)
    history = trainer.fit(learnt_but_for_some(), epochs=6)
    assert trainer.mode == "memory"
    assert seen == [0.1 if report.active else 0.05 for report in history.steps]
    assert len(set(seen)) == 2


@pytest.mark.parametrize(
    "adapt,lr,gain_cap",
    [("lr", 0.05, 2.0), ("lr", 0.02, 5.0), (None, 0.02, math.inf), ("batch", 0.02, math.inf)],
)
def test_draws_are_flattened_to_what_the_rate_has_a_use_for(adapt, lr, gain_cap):
    """At a rate of 0.02 after one of 0.05 that is 2 0.05 / 0.02. Where no rate has a use for it, or
    less noise is wanted for itself, a rule that always draws flattens nothing."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = isample.Trainer(model, optimizer, batch_size=b, control="always", adapt=adapt, seed=5)
    for _ in trainer.iterate(learnt_but_for_some(), epochs=3):
        optimizer.param_groups[0]["lr"] = lr
    assert trainer.memory.plan.gain_cap == pytest.approx(gain_cap)


def test_a_state_brings_no_use_along_that_the_trainer_has_not():
    trainers, loader = [], learnt_but_for_some()
    for adapt in ("lr", None):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        options = dict(mode="memory", adapt=adapt, control="always", seed=5)
        trainers.append(isample.Trainer(model, optimizer, batch_size=b, **options))
    raising, plain = trainers
    raising.fit(loader, epochs=1)
    with pytest.raises(isample.StateError, match="adapt='lr', here None"):
        plain.load_state_dict(raising.state_dict())
    plain.load_state_dict(raising.state_dict(), strict=False)
    plain.fit(loader, epochs=2)
    assert plain.memory.plan.gain_cap == 2.0


def test_a_step_tells_the_size_of_the_batch_that_would_be_as_noisy():
    """By what was measured, whatever tau the draws have that were flattened; its own size before
    that is known."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    gains = itertools.chain([math.nan] * 3, itertools.count(1.0, 0.5))
    control = GainOf(gains, remembers=True)
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, mode="memory", control=control, seed=5
    )
    history = trainer.fit(learnt_but_for_some(), epochs=2)
    told = [report.effective_batch for report in history.steps]
    assert told[:103] == [b] * 103
    assert told[103:] == [b * (1.0 + 0.5 * step) for step in range(97)]


def test_unknown_use():
    with pytest.raises(ValueError, match="adapt must be one of batch, lr; got 'momentum'"):
        isample.Trainer(make_model(), optimizer_of(), adapt="momentum")


def test_always_draws_also_where_no_gain_is_of_use():
    """Draws that are capped at a gain of 1 would be uniform ones."""
    always = make_controller("always", Choices(b, remembers=True))
    for cap, expected in ((1.0, math.inf), (2.5, 2.5)):
        state = always.observe(always.init(), Observation(loss=1.0, gain_cap=cap))
        assert always.plan(state).gain_cap == expected and always.plan(state).importance


class Scoring(GainOf):
    """Every step scores twice a batch that the memory's source deals."""

    def plan(self, state):
        return Plan(candidates=2 * b, keep=b)


def test_no_rate_is_raised_before_the_memory_has_seen_an_epoch():
    """1,200 samples: 100 batches of 12 are an epoch, and a step's candidates are two of them."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    control = Scoring(itertools.repeat(4.0), remembers=True)
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, control=control, mode="memory", seed=5
    )
    seen, step = [], optimizer.step
    optimizer.step = lambda: (seen.append(optimizer.param_groups[0]["lr"]), step())
    for _ in itertools.islice(trainer.iterate(learnt_but_for_some(), epochs=3), 80):
        pass
    assert seen[:50] == [0.05] * 50 and seen[50:] == [0.1] * 30

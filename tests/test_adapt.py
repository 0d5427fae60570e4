"""Larger steps and smaller batches out of the noise that was saved: against the formulas, by
hand."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control.gain import Gain
from isample.control.rates import LearningRate, batch_draws
from isample.scoring.losses import BatchLoss
from isample.training.update import Update
from tests.test_trainer import b, make_data, make_model


def optimizer_of(kind=torch.optim.SGD, lr=0.1):
    return kind([nn.Parameter(torch.ones(2))], lr=lr)


def rate_within(rates, gain):
    rates.note()
    with rates.raised(gain):
        return rates.optimizer.param_groups[0]["lr"]


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
    assert rates.usable == 1.0  # before the first step
    rates.note()
    rates.optimizer.param_groups[0]["lr"] *= decay
    assert rates.usable == pytest.approx(expected)
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
    with rates.raised(4.0):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.2, 0.4])
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]


def test_rates_come_back_after_an_error():
    rates = LearningRate(optimizer_of())
    rates.note()
    with pytest.raises(KeyboardInterrupt), rates.raised(2.0):
        raise KeyboardInterrupt
    assert rates.optimizer.param_groups[0]["lr"] == 0.1


def test_an_sgd_step_moves_by_the_raised_rate():
    """One step of plain SGD on a gradient of 1, by hand."""
    optimizer = optimizer_of(lr=0.1)
    parameter = optimizer.param_groups[0]["params"][0]
    parameter.grad = torch.ones(2)
    rates = LearningRate(optimizer)
    rates.note()
    optimizer.param_groups[0]["lr"] = 0.06
    with rates.raised(2.5):
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.full((2,), 1 - 0.15))


@pytest.mark.parametrize(
    "ratio,share,expected",
    [(0.5, 0.0, 50), (0.401, 0.2, 51), (0.01, 0.0, 25), (1.3, 0.0, 100), (0.9, 0.2, 100)],
)
def test_smaller_batches_are_as_noisy_as_uniform_ones(ratio, share, expected):
    """share + ratio 100/b' = 1, between a quarter and all of 100."""
    gain = Gain()
    assert batch_draws(100, gain) == 100, "nothing is known yet"
    for _ in range(20):
        gain.observe(1.0, ratio, share)
    assert batch_draws(100, gain) == expected


def learnt_but_for_some(n=1200):
    inputs, targets = make_data(n)
    targets[::17] = (targets[::17] + 1) % 5
    return DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True)


@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_the_trainer_draws_fewer_once_there_is_a_gain(mode):
    model, sizes = make_model(), []
    model.register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0])) if torch.is_grad_enabled() else None
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, mode=mode, adapt="batch", gate="always", seed=5
    )
    trainer.fit(learnt_but_for_some(), epochs=10)
    assert sizes[0] == b and min(sizes) < b and trainer.sampler.gate.gain.drawn == sizes[-1] / b


def test_a_rate_follows_from_all_batches_since_the_last_step():
    """Worth 1, 1, 1 and 5, four batches have (1 + 1 + 1 + 1/5) / 4 of the noise of uniform ones:
    they are worth 1.25."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    update = Update(model, optimizer, None, None, accumulate=4)
    update.rates.highest = [1.0]
    for worths, rate in (((1.0, 1.0, 1.0, 5.0), 0.1), ((5.0, 5.0, 5.0, 2.0), 0.1 * 4 / 1.1)):
        before = model.weight.item()
        for worth in worths:
            update.backward(BatchLoss(model.weight.sum(), model.weight))
            update.move(worth)
        assert before - model.weight.item() == pytest.approx(
            rate, rel=1e-5
        )  # below a worth of 1.5 it stays


def test_only_active_steps_are_larger(monkeypatch):
    """The largest rate that the optimizer sees, in the uniform epoch and after it, at a gain of
    4."""
    monkeypatch.setattr(Gain, "value", property(lambda gain: 4.0))
    model, seen = make_model(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"])
    )
    trainer = isample.Trainer(model, optimizer, batch_size=b, gate="always", seed=5)
    history = trainer.fit(learnt_but_for_some(), epochs=6)
    assert trainer.mode == "memory"
    assert seen == [0.1 if report.active else 0.05 for report in history.steps]
    assert len(set(seen)) == 2


@pytest.mark.parametrize(
    "adapt,lr,usable",
    [("lr", 0.05, 2.0), ("lr", 0.02, 5.0), (None, 0.02, math.inf), ("batch", 0.02, math.inf)],
)
def test_draws_are_evened_out_to_what_the_rate_has_a_use_for(adapt, lr, usable):
    """At a rate of 0.02 after one of 0.05 that is 2 0.05 / 0.02; where no rate is raised nothing is
    evened out."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = isample.Trainer(model, optimizer, batch_size=b, gate="always", adapt=adapt, seed=5)
    for _ in trainer.iterate(learnt_but_for_some(), epochs=3):
        optimizer.param_groups[0]["lr"] = lr
    assert trainer.memory.usable == pytest.approx(usable)


def test_a_state_brings_no_use_along_that_the_trainer_has_not():
    trainers = []
    for adapt in ("lr", None):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        trainers.append(
            isample.Trainer(model, optimizer, batch_size=b, mode="memory", adapt=adapt, seed=5)
        )
    raising, plain = trainers
    raising.fit(learnt_but_for_some(), epochs=1)
    plain.load_state_dict(raising.state_dict())
    assert plain.memory.usable == 2.0
    plain.fit(learnt_but_for_some(), epochs=2)
    assert plain.memory.usable == math.inf


def test_a_step_tells_the_size_of_the_batch_that_would_be_as_noisy():
    """By what was measured, whatever tau the draws have that were evened out."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = isample.Trainer(model, optimizer, batch_size=b, mode="memory", gate="always", seed=5)
    told = []
    for report in trainer.iterate(learnt_but_for_some(), epochs=4):
        told.append((report.effective_batch, b * trainer.sampler.gate.gain.value))
    assert told[0] == (b, pytest.approx(math.nan, nan_ok=True))
    assert all(tells == measured for tells, measured in told[-50:])


def test_unknown_use():
    with pytest.raises(ValueError, match="adapt must be one of batch, lr; got 'momentum'"):
        isample.Trainer(make_model(), optimizer_of(), adapt="momentum")

"""Optimizers that keep account of their rate: a raised one would stay in their state."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control.rates import LearningRate, SteadyRate
from tests.small_training import b, make_data, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

LR = 0.05


class ScheduleFree(torch.optim.Optimizer):
    """Weighs its average by the largest rate so far, as the one of Defazio et al. (2024)."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr, "lr_max": 0.0, "weight_sum": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            group["lr_max"] = max(group["lr"], group["lr_max"])
            group["weight_sum"] += group["lr_max"] ** 2
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad)


class OwnSGD(torch.optim.SGD):
    """torch's own step under another name."""


class Wrapped(torch.optim.Optimizer):
    """Around another one, as Accelerate has it."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.defaults, self.state = optimizer.defaults, optimizer.state

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


def rates_of(make):
    model = make_model()
    optimizer = make(model.parameters())
    return isample.Trainer(model, optimizer, batch_size=b).engine.steps.rates


@pytest.mark.parametrize(
    "make",
    [
        lambda p: ScheduleFree(p, LR),
        lambda p: torch.optim.ASGD(p, LR),
        lambda p: torch.optim.Rprop(p, LR),
        lambda p: Wrapped(ScheduleFree(p, LR)),
    ],
)
def test_a_rate_that_the_state_would_keep_is_left_alone(make):
    with pytest.warns(UserWarning, match="adapt='lr' leaves the rates of .* alone"):
        rates = rates_of(make)
    assert isinstance(rates, SteadyRate) and rates.gain_cap == 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, LR),
        lambda p: torch.optim.AdamW(p, LR),
        lambda p: OwnSGD(p, LR),
        lambda p: Wrapped(torch.optim.Adam(p, LR)),
    ],
)
def test_torchs_own_are_raised(make, recwarn):
    assert isinstance(rates_of(make), LearningRate) and not recwarn.list


def test_a_schedule_free_state_has_the_users_rate_after_training():
    model = make_model()
    optimizer = ScheduleFree(model.parameters(), LR)
    with pytest.warns(UserWarning, match="leaves the rates"):
        trainer = isample.Trainer(model, optimizer, batch_size=b, control="always", mode="memory")
    loader = DataLoader(TensorDataset(*make_data(240)), batch_size=b, shuffle=True)
    trainer.fit(loader, epochs=6)
    group = optimizer.param_groups[0]
    assert group["lr"] == group["lr_max"] == LR
    assert group["weight_sum"] == pytest.approx(trainer.step_count * LR**2)


def test_iterate_fills_the_history_as_fit_does():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    trainer = isample.Trainer(model, optimizer, batch_size=b, mode="memory", control="always")
    loader = DataLoader(TensorDataset(*make_data(60)), batch_size=b, shuffle=True)
    reports = list(trainer.iterate(loader, epochs=3))
    assert trainer.history.steps == reports and len(reports) == 15

"""Every method that can be resumed: a run that is stopped anywhere and goes on equals the unbroken
one bit for bit."""

from dataclasses import replace
from functools import partial

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")

import torch

from bench.training.checkpoint import load_checkpoint, save_checkpoint
from bench.training.experiments.registry import ENTRANTS, EXPERIMENTS
from bench.training.methods import METHODS
from bench.training.methods.importance import isample_default
from bench.training.methods.katyusha import Katyusha
from bench.training.methods.online_batch_selection import OnlineBatchSelection
from tests.small_experiment import ALWAYS, SMALL, new_session, steady_clock  # noqa: F401

THE_PAPER_S = [
    "uniform",
    "loss",
    "gradient-norm",
    "upper-bound",
    "online-batch-selection",
    "prioritized",
    "svrg",
    "scsg",
    "katyusha",
    "isample",
]
# Whole passes are 13 batches. Online batch selection computes all losses anew after 20 updates, so
# in steps 21 to 33. Anchors take 13 steps, and the updates by them 63 for SVRG, 25 for Katyusha and
# some 12 for SCSG.
STOPS = (5, 13, 25, 45, 55)
STEPS = 60
# What is decided by the clock is no matter of the state: this gate is open. Katyusha's y has no
# weight where tau1 is 1/2.
STEADY = {
    "isample": partial(isample_default, control="always"),
    "katyusha": partial(Katyusha, tau1=0.2),
    "online-batch-selection": partial(OnlineBatchSelection, recompute_every=20),
}
EXPERIMENT = replace(
    SMALL, entrants={**ENTRANTS, **STEADY, "always": ALWAYS}, every=1 / 4, clip_grad_norm=1.0
)
BY_UPDATES = replace(EXPERIMENT, seconds=None, updates=60, every=7, measure="variance")


def begun(experiment, method, budget):
    made = new_session(experiment, method, budget)
    return made, made.train()


def goes_on_bit_for_bit(experiment, method, budget, stops, path):
    whole, steps = begun(experiment, method, budget)
    for count, _ in enumerate(steps, 1):
        if count in stops:
            save_checkpoint(path.with_suffix(f".{count}"), whole.state_dict())
    assert count > max(stops)
    for stop in stops:
        resumed, steps = begun(experiment, method, budget)
        torch.manual_seed(12345 + stop)  # another process's
        resumed.load_state_dict(load_checkpoint(path.with_suffix(f".{stop}")))
        assert sum(1 for _ in steps) == count - stop
        for name, value in whole.training.model.state_dict().items():
            assert torch.equal(resumed.training.model.state_dict()[name], value), (stop, name)
        assert resumed.points == whole.points and resumed.meter.updates == whole.meter.updates, stop


@pytest.mark.parametrize("method", [*ENTRANTS, "always"])
def test_a_run_goes_on_bit_for_bit(method, tmp_path):
    goes_on_bit_for_bit(EXPERIMENT, method, STEPS / 4, STOPS, tmp_path / "run")


@pytest.mark.parametrize("method", ["uniform", "svrg"])
def test_a_run_of_so_many_updates_goes_on_bit_for_bit(method, tmp_path):
    goes_on_bit_for_bit(
        BY_UPDATES, method, 13, (17,) if method == "svrg" else (9,), tmp_path / "run"
    )


def test_the_paper_s_comparison_can_be_run():
    for name, experiment in EXPERIMENTS.items():
        if experiment.measure == "progress" and name != "ablation-b":
            assert set(THE_PAPER_S) <= set(experiment.entrants)
    assert [name for name in METHODS if not METHODS[name].resumable] == [
        "random",
        "selective-backprop",
        "selective-backprop-reweighted",
        "infobatch",
        "isample-plain-loop",
    ]


def norm(made):
    return torch.cat([p.grad.flatten() for p in made.training.model.parameters()]).norm()


@pytest.mark.parametrize("method", THE_PAPER_S)
def test_every_method_clips_as_the_experiment_says(method):
    for bound, at_most in ((None, float("inf")), (1e-3, 1.001e-3)):
        made = new_session(replace(EXPERIMENT, clip_grad_norm=bound), method, 10.0)
        norms = [norm(made) for _ in made.train() if made.meter.updates]
        assert max(norms) <= at_most and (bound is None) == (max(norms) > 0.01)

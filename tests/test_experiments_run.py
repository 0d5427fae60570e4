"""Runs of the paper's experiments: measurements, schedules, files, and that a killed run goes on as
if nothing had been."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")

import torch

import isample
from bench.common.networks import PixelLSTM
from bench.training import checkpoint, runfile
from bench.training.experiments import gradients, session
from bench.training.experiments.measurements import scaled
from bench.training.experiments.registry import EXPERIMENTS
from bench.training.experiments.session import do_run
from bench.training.runfile import RunFileError
from bench.training.training import Training
from tests.small_experiment import (  # noqa: F401
    SETS,
    SMALL,
    finished,
    images,
    new_session,
    steady_clock,
)

BY_UPDATES = replace(SMALL, seconds=None, updates=60, every=7, measure="variance")


def lines(made, folder):
    return [json.loads(line) for line in made.run.path(folder).read_text().splitlines()]


# --- stopping and going on ------------------------------------------------------------------------


def test_a_killed_run_s_files_are_those_of_an_unbroken_one(tmp_path, monkeypatch):
    """Killed three steps after its last checkpoint."""
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = finished(new_session(), tmp_path / "whole")

    first = new_session()
    clock = SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(session, "time", clock)
    steps = do_run(first, tmp_path / "killed")
    for _ in range(16):
        next(steps)
    clock.monotonic = lambda: 11.0
    next(steps)  # this step is saved
    for _ in range(3):
        next(steps)
    del steps
    assert not runfile.read(first.run.path(tmp_path / "killed")).finished

    second = finished(new_session(), tmp_path / "killed")
    assert second.points == whole.points
    assert [line for line in lines(second, tmp_path / "killed") if line["event"] == "point"] == [
        line for line in lines(whole, tmp_path / "whole") if line["event"] == "point"
    ]
    assert not second.run.checkpoint(tmp_path / "killed").exists()


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    made = new_session()
    torch.save({"trainer": {}}, made.run.checkpoint(tmp_path))
    with pytest.raises(
        RunFileError, match="is of another version: delete it to do that run from its beginning"
    ):
        finished(made, tmp_path)


def test_checkpoints_are_at_most_ten_seconds_apart(tmp_path, monkeypatch):
    made, now, saves = new_session(replace(SMALL, every=1.0), budget=20.0), [0.0], []
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(session, "save_checkpoint", lambda path, state: saves.append(now[0]))
    for _ in do_run(made, tmp_path):
        now[0] += 1.0
    steps = made.meter.updates
    assert saves[0] == 0 and steps > 60 and saves[-1] >= steps - 11
    assert max(later - earlier for earlier, later in pairwise(saves)) <= 10


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "run.checkpoint"
    checkpoint.save_checkpoint(path, {"step": 1})

    def killed(state, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_checkpoint(path, {"step": 2})
    assert checkpoint.load_checkpoint(path) == {"step": 1}
    assert checkpoint.load_checkpoint(tmp_path / "none") is None
    path.write_bytes(b"half")
    with pytest.raises(RunFileError, match="is not a checkpoint"):
        checkpoint.load_checkpoint(path)


# --- measurements and schedule -------------------------------------------------------------------


def test_measurements_and_learning_rate_follow_the_time():
    made, rates = new_session(budget=10.0), []
    for _ in made.train():
        rates.append((made.meter.elapsed, made.training.optimizer.param_groups[0]["lr"]))
    for elapsed, rate in rates:
        assert rate == pytest.approx(0.1 if elapsed < 4 else 0.02 if elapsed < 8 else 0.004)
    assert {round(rate, 6) for _, rate in rates} == {0.1, 0.02, 0.004}
    elapsed = [point.elapsed for point in made.points]
    assert elapsed[0] == 0 and len(elapsed) == 9
    assert all(0 <= e - 10 * i / 8 <= 0.5 for i, e in enumerate(elapsed))
    assert made.points[-1].active_seconds is None
    # What the referee's clock calls active is every step of a gate that is always open.
    assert (always := new_session(method="always")) and list(always.train())
    assert always.points[-1].active_seconds == always.points[-1].elapsed


def test_measurements_by_updates_fall_on_multiples():
    made = new_session(BY_UPDATES, budget=30)
    list(made.train())
    # 60 updates with a measurement every 7; half of the budget, so every 4 (3.5 is rounded to even)
    assert [point.updates for point in made.points] == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert set(made.points[0].distance) == {"uniform", "loss", "upper_bound", "gradient_norm"}


def test_probabilities_are_kept_at_the_end_only():
    made = new_session(replace(BY_UPDATES, measure="correlation"), budget=14)
    list(made.train())
    assert [point.probabilities is not None for point in made.points] == [False] * (
        len(made.points) - 1
    ) + [True]
    kept = made.points[-1].probabilities
    assert {name: len(values) for name, values in kept.items()} == dict.fromkeys(kept, 100)
    assert all(sum(values) == pytest.approx(1, abs=1e-3) for values in kept.values())
    loss = sum((a - b) ** 2 for a, b in zip(kept["loss"], kept["gradient_norm"]))
    assert made.points[-1].squared_error["loss"] == pytest.approx(loss, rel=1e-2)


def test_probabilities_are_of_whole_presamples(monkeypatch):
    """Of 100 samples, two presamples of 40."""
    monkeypatch.setattr(gradients, "PRESAMPLE", 40)
    made = new_session(replace(BY_UPDATES, measure="correlation"), budget=1)
    list(made.train())
    for values in made.points[-1].probabilities.values():
        assert [sum(values[i : i + 40]) for i in (0, 40)] == pytest.approx(
            [1, 1], abs=1e-3
        ) and len(values) == 80


def test_points_are_losses_of_the_plain_samples():
    made = new_session()
    list(made.train())
    made.training.model.eval()
    with torch.no_grad():
        x, y = SETS.plain.__getitems__(list(range(100)))
        expected = torch.nn.functional.cross_entropy(made.training.model(x), y).item()
    assert scaled(10_000, 0.01) == 1000
    assert made.points[-1].training_loss == pytest.approx(expected, rel=1e-4)
    assert made.points[-1].test_error in (
        0.0,
        0.5,
        1.0,
    )  # the root of 0.01 is a tenth of 20 images


def test_a_diverging_run_ends_with_the_point_that_shows_it(tmp_path):
    made = new_session(method="upper-bound", budget=100.0)
    steps = do_run(made, tmp_path)
    next(steps)
    with torch.no_grad():
        made.training.model[0].weight.fill_(math.nan)
    list(steps)
    record = runfile.read(made.run.path(tmp_path))
    assert record.finished and record.points[-1].diverged and record.points[-1].updates == 1


# --- run files ------------------------------------------------------------------------------------


def test_run_files_of_other_settings_are_refused(tmp_path):
    made = finished(new_session(), tmp_path)
    assert runfile.read_finished(made.run, tmp_path)
    with pytest.raises(
        RunFileError, match=r"holds a run with scale 0.01, not 0.5; normalisation batch, not layer"
    ):
        runfile.read_finished(replace(made.run, scale=0.5, normalisation="layer"), tmp_path)
    path = made.run.path(tmp_path)
    path.write_text(path.read_text()[:-9])
    assert not runfile.read_finished(made.run, tmp_path)
    path.write_text('{"event": "sta')
    assert not runfile.read_finished(made.run, tmp_path)
    path.write_text('{"event": "start", "run": {"speed": 3}}\n')
    with pytest.raises(RunFileError, match="is not a run file"):
        runfile.read_all(tmp_path, "run")


# --- settings ----------------------------------------------------------------------------------


def test_settings_are_the_paper_s(monkeypatch):
    asked = {}

    def noted(*arguments, **options):
        asked.update(options)
        return SimpleNamespace(state_dict=None, load_state_dict=None)

    monkeypatch.setattr(isample.Trainer, "paper", noted)
    cifar, pixels = EXPERIMENTS["cifar100"], EXPERIMENTS["pixel-mnist"]
    network = torch.nn.Linear(1, 1)
    sgd = cifar.optimizer(network).param_groups[0]
    assert (sgd["lr"], sgd["momentum"], sgd["weight_decay"], cifar.drops) == (
        0.1,
        0.9,
        5e-4,
        (0.4, 0.8),
    )
    adam = pixels.optimizer(network)
    assert (
        isinstance(adam, torch.optim.Adam)
        and adam.param_groups[0]["lr"] == 1e-3
        and pixels.clip_grad_norm == 1
    )
    for experiment, b, presample, threshold in (
        (cifar, 128, 640, 1.5),
        (pixels, 32, 128, 1.8),
        (EXPERIMENTS["finetune"], 16, 48, 2.0),
    ):
        assert experiment.batch_size == b and experiment.methods == (
            "uniform",
            "loss",
            "upper-bound",
        )
        training = Training(experiment, None, network, adam, 1.0, seed=0)
        for method, score in (("upper-bound", "upper_bound"), ("loss", "loss")):
            experiment.entrants[method](training)
            assert (asked["presample"], asked["tau_threshold"]) == (presample, threshold)
            assert asked["score"] == score
    ablation, presamples = EXPERIMENTS["ablation-b"], []
    for make in ablation.entrants.values():
        make(Training(ablation, None, network, adam, 1.0, seed=0))
        presamples.append(asked["presample"])
        assert asked["tau_threshold"] == 1.5
    assert presamples == [256, 384, 640, 1024]
    assert (EXPERIMENTS["variance"].updates, EXPERIMENTS["variance"].every) == (50_000, 3_000)
    assert isinstance(pixels.model(1.0, None, 10), PixelLSTM)

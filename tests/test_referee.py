"""The referee itself: its clock, and what it attributes time to."""

import math
from types import SimpleNamespace

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

import numpy as np
import torch
from torch import nn

import isample
from bench.common.datasets import Rows, Sets
from bench.common.sets import Data
from bench.training import evaluation, meter, referee
from bench.training.tasks import TASKS, Task
from bench.training.training import Training

# --- the clock ------------------------------------------------------------------------------------


def line_sets():
    x = torch.linspace(-1, 1, 64)[:, None]
    rows = Rows(x, 3 * x)
    return Sets(rows, rows, rows)


def line_training(seconds, seed=0):
    task = Task(Data("line", lambda root: line_sets()), "", lambda: nn.Linear(1, 1), "mse", 8, 0.1)
    return Training.begin(task, line_sets(), seconds, seed)


class Clock:
    """In place of the module ``time``: time passes where a test says so, a core is had for half of
    it."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.now / 2


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(meter, "time", clock)
    return clock


def taking(clock, seconds):
    """A method of which each unit takes so long; the units of the second half are active."""

    def method(training):
        while True:
            clock.now += seconds
            losses = training.losses(training.model(torch.ones(1, 1)), torch.ones(1, 1))
            training.update(losses.mean())
            yield training.progress > 0.5

    return method


def test_only_the_method_s_time_counts(monkeypatch, clock):
    """Evaluations of a second each leave 16 updates of 1/64 s their whole 1/4 s."""
    evaluate = evaluation.mean_loss_and_error

    def slow(*arguments):
        clock.now += 0.5  # for each of the two sets
        return evaluate(*arguments)

    monkeypatch.setattr(evaluation, "mean_loss_and_error", slow)
    points = list(referee.train(line_training(0.25), taking(clock, 1 / 64)))
    final = points[-1]
    assert final.elapsed == 0.25 and final.updates == 16 and final.cpu_seconds == 0.125
    assert final.active_seconds == 7 / 64, "the units behind the one that ended the first half"
    assert clock.now == 0.25 + len(points) == 17.25
    assert points[0].elapsed == points[0].updates == 0
    assert [point.elapsed for point in points] == [i / 64 for i in range(17)]


def test_a_gpu_is_waited_for_before_a_clock_is_read(monkeypatch, clock):
    """A unit queues work of 1/64 s and goes on at once; before the first there was some of 9 s."""
    queued = [9.0]

    def synchronize(device):
        assert device.type == "cuda"
        clock.now += queued.pop() if queued else 0.0

    def method(training):
        while True:
            queued.append(1 / 64)
            yield None

    monkeypatch.setattr(meter.torch.cuda, "synchronize", synchronize)
    monkeypatch.setattr(Training, "device", property(lambda self: torch.device("cuda", 0)))
    made = meter.Meter(line_training(1.0), method)
    for _ in range(8):
        made.advance()
    assert made.elapsed == 8 / 64 and made.cpu_seconds == 4 / 64


def test_learning_rate_falls_linearly_to_zero(clock):
    training, rates = line_training(0.1), []

    def watched(training):
        for _ in taking(clock, 0.01)(training):
            rates.append((training.progress, training.optimizer.param_groups[0]["lr"]))
            yield

    list(referee.train(training, watched))
    for progress, rate in rates:
        assert rate == pytest.approx(0.1 * (1 - progress))
    assert training.optimizer.param_groups[0]["lr"] == 0 and rates[-1][0] > rates[0][0]


def test_a_method_that_ends_or_diverges(clock):
    with pytest.raises(RuntimeError, match="go on until its time is spent"):
        list(referee.train(line_training(5.0), lambda training: iter([None])))

    def diverging(training):
        while True:
            with torch.no_grad():
                training.model.weight.fill_(math.nan)
            clock.now += 0.125
            yield

    points = list(referee.train(line_training(2.0), diverging))
    assert len(points) == 2 and points[-1].diverged and points[-1].elapsed == 0.125


def test_evaluation_is_over_all_samples_and_leaves_the_mode():
    task, sets = TASKS["regression"], line_sets()
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.9)).train()
    with torch.no_grad():
        model[0].weight.fill_(1.0), model[0].bias.fill_(0.5)
    loss, error = evaluation.mean_loss_and_error(model, task.loss, sets.plain)
    x = np.linspace(-1, 1, 64)
    assert loss == error == pytest.approx(np.mean((x + 0.5 - 3 * x) ** 2), rel=1e-5)
    assert model.training and model[1].training


def report_of(**said):
    said = {"active": False, "scored": 0, "kept": 8, **said}
    nan = math.nan
    return isample.StepReport(
        0,
        1.0,
        nan,
        nan,
        presample=8,
        effective_batch=8.0,
        weight_min=1.0,
        weight_max=1.0,
        scoring_seconds=0.0,
        seconds=0.0,
        **said,
    )


def test_seconds_are_attributed_to_the_kinds_of_steps(monkeypatch):
    """Each unit takes the next of 1, 2, 4, ... seconds, so that each sum says what it is of."""
    reports = [
        report_of(),
        report_of(active=True),
        report_of(active=True, kept=4),
        report_of(active=True, scored=16, kept=4),
        report_of(kept=0),  # does not say
        None,
    ]
    readings = iter([second for i in range(6) for second in (0.0, 2.0**i)])
    clock = SimpleNamespace(perf_counter=lambda: next(readings), process_time=lambda: 0.0)
    monkeypatch.setattr(meter, "time", clock)
    made = meter.Meter(line_training(100.0), lambda training: reports)
    assert [made.advance() for _ in reports] == [False, True, True, True, False, None]
    assert made.elapsed == 63 and made.active_seconds == 14
    assert made.kinds == {"plain": 17.0, "memory": 2.0, "thinned": 4.0, "presample": 8.0}
    assert set(made.kinds) == set(meter.KINDS) and made.point().kinds == made.kinds

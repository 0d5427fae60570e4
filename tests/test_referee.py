"""The referee itself: its clock, its statistics, its files and its command line."""

import json
import math
import time
from dataclasses import replace

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

import numpy as np
import torch
from torch import nn

from bench.common.datasets import Rows, Sets
from bench.common.images import Images
from bench.common.sets import Data, friedman, imbalanced, noisy_labels
from bench.training import evaluation, referee, report, runfile, statistics
from bench.training.compare import Plan
from bench.training.runfile import Point, Record, Run, RunFileError
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


def sleeping(training):
    while True:
        time.sleep(0.01)
        training.update(training.losses(training.model(torch.ones(1, 1)), torch.ones(1, 1)).mean())
        yield training.progress > 0.5


def test_only_the_method_s_time_counts(monkeypatch):
    """Evaluations of 50 ms leave 20 updates of 10 ms their whole 0.2 s."""
    evaluate = evaluation.mean_loss_and_error

    def slow(*arguments):
        time.sleep(0.025)
        return evaluate(*arguments)

    monkeypatch.setattr(evaluation, "mean_loss_and_error", slow)
    worked = []

    def timed(training):
        while True:
            began = time.perf_counter()
            active = next(steps)
            worked.append(time.perf_counter() - began)
            yield active

    began = time.perf_counter()
    training = line_training(0.2)
    steps = sleeping(training)
    points = list(referee.train(training, timed))
    wall = time.perf_counter() - began
    final = points[-1]
    assert final.elapsed >= 0.2 and wall > final.elapsed + 0.05 * (len(points) - 1)
    assert sum(worked) <= final.elapsed < 1.5 * sum(worked)
    assert (
        2 <= final.updates <= 20
    )  # a sleep lasts at least as long as asked for, on a busy machine longer
    assert points[0].elapsed == points[0].updates == 0
    assert [p.elapsed for p in points] == sorted(p.elapsed for p in points)
    assert 0 < final.active_seconds < final.elapsed
    assert final.cpu_seconds < final.elapsed


def test_learning_rate_falls_linearly_to_zero():
    training, rates = line_training(0.1), []

    def watched(training):
        for _ in sleeping(training):
            rates.append((training.progress, training.optimizer.param_groups[0]["lr"]))
            yield

    list(referee.train(training, watched))
    for progress, rate in rates:
        assert rate == pytest.approx(0.1 * (1 - progress))
    assert training.optimizer.param_groups[0]["lr"] == 0 and rates[-1][0] > rates[0][0]


def test_a_method_that_ends_or_diverges():
    with pytest.raises(RuntimeError, match="go on until its time is spent"):
        list(referee.train(line_training(5.0), lambda training: iter([None])))

    def diverging(training):
        while True:
            with torch.no_grad():
                training.model.weight.fill_(math.nan)
            time.sleep(0.01)
            yield

    points = list(referee.train(line_training(0.2), diverging))
    assert len(points) == 2 and points[-1].diverged and points[-1].elapsed < 0.2


def test_evaluation_is_over_all_samples_and_leaves_the_mode():
    task, sets = TASKS["regression"], line_sets()
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.9)).train()
    with torch.no_grad():
        model[0].weight.fill_(1.0), model[0].bias.fill_(0.5)
    loss, error = evaluation.mean_loss_and_error(model, task.loss, sets.plain)
    x = np.linspace(-1, 1, 64)
    assert loss == error == pytest.approx(np.mean((x + 0.5 - 3 * x) ** 2), rel=1e-5)
    assert model.training and model[1].training


# --- data -----------------------------------------------------------------------------------------


def images(count=2000):
    labels = np.arange(count) % 10
    pixels = np.zeros((count, 8, 8, 1), np.uint8)
    return Images(pixels, labels, pixels[:50], labels[:50])


def test_noisy_labels_are_wrong_in_a_fifth_and_the_test_s_are_not():
    clean, noisy = images(20_000), noisy_labels(images(20_000))
    changed = clean.y_train != noisy.y_train
    assert changed.sum() == 4000 and np.array_equal(clean.y_test, noisy.y_test)
    offsets = np.bincount((noisy.y_train - clean.y_train)[changed] % 10, minlength=10)
    # 4,000 over nine offsets: 444 each, standard deviation 19.9
    assert (
        offsets[0] == 0
        and offsets[1:].min() > 444 - 4 * 19.9
        and offsets[1:].max() < 444 + 4 * 19.9
    )
    assert np.array_equal(noisy.y_train, noisy_labels(images(20_000)).y_train)


def test_imbalanced_classes_fall_geometrically():
    counts = np.bincount(imbalanced(images()).y_train)
    assert counts.tolist() == [math.ceil(200 * 100 ** (-c / 9)) for c in range(10)]
    assert counts[0] == 200 and counts[9] == 2


def test_friedman_s_noise_floor_is_four_percent():
    """The best predictor, the noise-free function, leaves the share of the variance that the title
    states."""
    test = friedman(training=1000, test=20_000).test
    x = test.inputs.numpy() / math.sqrt(12) + 0.5
    best = (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )
    y = test.targets[:, 0].numpy()
    slope, offset = np.polyfit(best, y, 1)
    # 1 / var(y), var(y) = 24.8 +- 2 %: an estimate of a ratio of variances from 20,000 samples is
    # good to 2 %
    assert np.mean((slope * best + offset - y) ** 2) == pytest.approx(0.040, rel=0.1)


# --- statistics -----------------------------------------------------------------------------------


def test_interval_is_student_s():
    made = statistics.interval([1.0, 2.0, 3.0])
    # t(0.975, 2 degrees) = 4.302653, s = 1: 4.302653 / sqrt(3)
    assert (
        made.mean == 2.0
        and made.half_width == pytest.approx(2.484138, abs=1e-6)
        and made.count == 3
    )
    # t(0.975, 1) = 12.706205, s = sqrt(2) / 2: 12.706205 / 2
    assert statistics.interval([0.0, 1.0]).half_width == pytest.approx(6.353102, abs=1e-6)
    assert math.isnan(statistics.interval([5.0]).half_width)


MACHINE = {
    "date": "2030-01-01 00:00 UTC",
    "cores": 2,
    "processor": "",
    "python": "",
    "torch": "",
    "isample": "",
}


def points(*losses, seconds=100.0, error=0.1):
    times = np.linspace(0, seconds, len(losses))
    return [
        Point(
            t,
            int(t) * 10,
            cpu_seconds=0.95 * t,
            load=1.0,
            training_loss=loss,
            test_loss=loss,
            test_error=error,
        )
        for t, loss in zip(times, losses)
    ]


def finished(method, *losses, seed=0, share=1.0, error=0.1):
    run = Run("compare", "digits", method, seed, 100.0, "digits", share)
    return Record(run, MACHINE, points(*losses, seconds=share * 100, error=error))


def test_time_to_reach_is_linear_between_evaluations():
    curve = points(2.0, 1.0, 0.4, 0.5, 0.2)  # every 25 s
    assert statistics.time_to_reach(curve, 1.0) == 25.0
    assert statistics.time_to_reach(curve, 0.7) == pytest.approx(37.5)
    assert statistics.time_to_reach(curve, 0.3) == pytest.approx(75 + 25 * 2 / 3)
    assert statistics.time_to_reach(curve, 3.0) == 0.0
    assert statistics.time_to_reach(curve, 0.1) == math.inf


def test_lead_is_measured_where_both_have_been():
    uniform = finished("uniform", 2.0, 1.0, 0.5)  # at 0, 50, 100 s
    better = finished("isample", 2.0, 0.5, 0.1)
    worse = finished("random", 2.0, 1.5, 0.75)
    half = finished("isample", 2.0, 1.0, share=0.5)
    assert statistics.lead(better, uniform) == pytest.approx(0.5)
    assert statistics.lead(worse, uniform) == pytest.approx(-0.25)  # uniform had 0.75 at 75 s
    assert statistics.lead(half, uniform) == pytest.approx(0.0)
    assert statistics.lead(uniform, uniform) == 0


def test_rows_pair_the_seeds():
    records = [
        finished("uniform", 2.0, 1.0, 0.5, seed=0, error=0.10),
        finished("uniform", 2.0, 1.0, 0.7, seed=1, error=0.20),
        finished("isample", 2.0, 0.5, 0.1, seed=0, error=0.09),
        finished("isample", 2.0, 1.0, 0.9, seed=1, error=0.17),
        finished("paper", 2.0, math.nan, seed=0),
    ]
    uniform, isample, paper = statistics.rows(records)
    assert (uniform.name, isample.name, paper.name) == ("uniform", "isample", "paper")
    assert isample.training_loss.mean == pytest.approx(0.5) and isample.reached == 1
    assert isample.time_to_baseline.mean == pytest.approx(0.5)
    assert isample.error_difference.mean == pytest.approx(-0.02)
    # differences -0.01 and -0.03: s = 0.02 / sqrt(2), 12.706205 s / sqrt(2)
    assert isample.error_difference.half_width == pytest.approx(0.12706205)
    assert uniform.error_difference.mean == uniform.lead.mean == 0
    assert isample.updates.mean == 1000 and isample.disturbed == 0
    assert paper.diverged == 1 and paper.training_loss.count == 0 and paper.lead is None


def test_runs_that_lost_their_core_are_marked():
    slowed = finished("paper", 2.0, 1.0)
    slowed.points[-1] = replace(slowed.points[-1], cpu_seconds=80.0)
    records = [finished("uniform", 2.0, 1.0), slowed]
    assert [row.disturbed for row in statistics.rows(records)] == [0, 1]
    page = report.markdown(records, "curves.png")
    assert "| paper † |" in page and "| uniform |" in page
    assert "Disturbed: paper (seed 0) had their core for less than 90 %" in page


def test_the_page_says_who_is_ahead():
    records = [
        finished("uniform", 2.0, 1.0, 0.5, error=0.10),
        finished("isample", 2.0, 0.9, 0.4, error=0.08),
        finished("infobatch", 2.0, 0.9, 0.3, error=0.09),
        finished("isample", 2.0, 0.6, share=0.5, error=0.01),
    ]
    told = report.standings(statistics.rows(records))
    assert told == [
        "- Lower final training loss than isample's, on average: infobatch.",
        "- Lower final test error than isample's, on average: none.",
    ]
    assert report.significant(0.012345) == "0.0123" and report.significant(0) == "0"
    assert report.significant(123.4) == "123"


# --- run files ------------------------------------------------------------------------------------


def write_run(folder, run, end=True):
    writer = runfile.RunWriter(run, folder)
    for point in points(2.0, math.nan):
        writer.point(point)
    if end:
        writer.end()


def test_run_files_are_read_as_they_were_written(tmp_path):
    run = Run("compare", "mnist", "isample", 2, 100.0, "MNIST", 0.5)
    assert run.path(tmp_path).name == "mnist.isample@0.5.2.jsonl"
    write_run(tmp_path, run)
    back = runfile.read_finished(run, tmp_path)
    assert back.run == run and back.points[0] == points(2.0, math.nan)[0] and back.final.diverged
    for line in run.path(tmp_path).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_interrupted_runs_are_not_finished(tmp_path):
    run = Run("compare", "mnist", "uniform", 0, 100.0, "MNIST")
    assert runfile.read_finished(run, tmp_path) is None
    write_run(tmp_path, run, end=False)
    assert runfile.read_finished(run, tmp_path) is None
    whole = run.path(tmp_path).read_text()
    run.path(tmp_path).write_text(whole[:-20])
    assert runfile.read_finished(run, tmp_path) is None
    with pytest.raises(RunFileError, match="no finished run of `compare`"):
        runfile.read_all(tmp_path, "compare")


def test_files_of_other_budgets_or_contents_are_refused(tmp_path):
    write_run(tmp_path, Run("compare", "mnist", "uniform", 0, 100.0, "MNIST"))
    with pytest.raises(
        RunFileError, match="holds a run with budget 100.0, not 50.0: choose another --output"
    ):
        runfile.read_finished(Run("compare", "mnist", "uniform", 0, 50.0, "MNIST"), tmp_path)
    path = tmp_path / "mnist.paper.0.jsonl"
    path.write_text('{"event": "start", "run": {"speed": 3}}\n{"event": "end"}\n')
    with pytest.raises(RunFileError, match="not a run file"):
        runfile.read(path)


def test_a_seed_s_methods_come_together_in_shuffled_order():
    entrants = [
        ("uniform", 1.0),
        ("isample", 1.0),
        ("isample", 0.5),
        ("paper", 1.0),
        ("random", 1.0),
        ("infobatch", 1.0),
    ]
    runs = Plan("digits", "digits", entrants, 10.0, 3).runs()
    orders = [[(run.method, run.share) for run in runs[i : i + 6]] for i in (0, 6, 12)]
    assert [run.seed for run in runs] == [0] * 6 + [1] * 6 + [2] * 6
    assert (
        all(sorted(order) == sorted(entrants) for order in orders)
        and len(set(map(tuple, orders))) > 1
    )

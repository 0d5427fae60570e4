"""What a comparison's runs say, and the files that they are in."""

import json
import math
from dataclasses import replace

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

import numpy as np

from bench.training import report, runfile, statistics
from bench.training.compare import Plan
from bench.training.runfile import Point, Record, Run, RunFileError

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


def test_the_page_says_what_kinds_of_steps_took_the_time():
    records = [
        finished("uniform", 2.0, 1.0),
        *(finished("isample", 2.0, 1.0, seed=s) for s in (0, 1)),
    ]
    for record, memory in zip(records[1:], (60.0, 80.0)):
        kinds = {"plain": 88.0 - memory, "memory": memory, "thinned": 12.0}
        record.points[-1] = replace(record.final, kinds=kinds)
    told = "- isample: 70 % of the time drawn by memory, 12 % thinned, 18 % plain."
    assert report.times_by_kind(statistics.rows(records)) == [told]
    assert told in report.markdown(records, "curves.png").splitlines()


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

"""`python -m bench.scoring`: its correlations are those of the scores that it says, and its files
say how they were made."""

import json
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr

from bench.scoring import __main__ as bench
from bench.training.tasks import find_task
from bench.training.training import Training
from isample.scoring.forward import Scoring


@pytest.fixture(scope="module")
def trained():
    task = find_task("digits")
    made = bench.Bench(Training.begin(task, task.data.sets(Path(".")), 1.0, 0), whole=False)
    made.ways = {
        name: way for name, way in made.ways.items() if not way.compile
    }  # that takes ten seconds
    made.train(0.5)
    return made


def test_it_stops_in_the_middle_of_the_schedule(trained):
    group = trained.training.optimizer.param_groups[0]
    assert 0.5 * group["initial_lr"] <= group["lr"] < 0.6 * group["initial_lr"]
    assert trained.updates % bench.STALE == 1


def test_older_parameters_score_worse(trained):
    """The present ones' scores are nearest to themselves, then those of one update ago, then those
    of fifty."""
    present = trained.scores(Scoring())
    ways = [name for name in trained.ways if name.startswith("parameters of")]
    likeness = {
        name: spearmanr(trained.scores(trained.ways[name]), present).statistic for name in ways
    }
    one, fifty = (
        likeness["parameters of one update ago (ahead=True)"],
        likeness["parameters of 50 updates ago"],
    )
    assert 1 > one > fifty


def test_the_files_hold_every_way(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    rows = trained.run()
    assert [row["way"] for row in rows] == [*trained.ways, "remembered (memory mode)"]
    assert all(row["time"] > 0 for row in rows[:-1]) and rows[-1]["time"] == 0
    exact = {row["way"]: row["correlation"] for row in rows}
    assert exact["chunks of 16"] == pytest.approx(exact["all at once (the paper)"], abs=1e-3)
    arguments = type(
        "Arguments", (), {"task": "digits", "seconds": 0.5, "threads": 1, "results": tmp_path}
    )
    bench.write(arguments, find_task("digits"), rows, trained.updates)
    kept = json.loads((tmp_path / "scoring-digits.json").read_text())
    assert kept["rows"] == rows and kept["torch"] == torch.__version__
    assert kept["command"] == "python -m bench.scoring --task digits --seconds 0.5 --threads 1"
    assert "| remembered (memory mode) | 0.00 |" in (tmp_path / "scoring-digits.md").read_text()

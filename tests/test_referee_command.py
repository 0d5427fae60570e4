"""The referee's command line: a whole comparison, resuming, killing, and what it refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from bench.training import compare, runfile

ROOT = Path(__file__).parent.parent


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "bench.training", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("referee")
    arguments = [
        "compare",
        "--task",
        "regression",
        "--seconds",
        "1",
        "--seeds",
        "1",
        "--methods",
        "uniform,isample",
    ]
    arguments += [
        "--share",
        "isample=0.5",
        "--output",
        folder / "runs",
        "--results",
        folder / "results",
    ]
    return folder, arguments, command(*arguments)


def test_a_comparison_from_end_to_end(compared):
    folder, _, done = compared
    assert done.returncode == 0, done.stderr
    page = (folder / "results/regression.md").read_text()
    numbers = json.loads((folder / "results/regression.json").read_text())
    assert numbers["rows"][0]["name"] == "uniform"
    assert {row["name"] for row in numbers["rows"]} == {"uniform", "isample", "isample@0.5"}
    assert (folder / "results/regression.png").read_bytes().startswith(b"\x89PNG")
    assert "| uniform" in page and "compare --task regression --seconds 1 --seeds 1" in page
    assert str(ROOT) not in page and str(folder) not in page
    for run in numbers["runs"]:
        elapsed = [point["elapsed"] for point in run["points"]]
        budget = run["run"]["share"] * 1.0
        assert elapsed[0] == 0 and elapsed[-2] < budget <= elapsed[-1]
        first, last = (run["points"][at]["training_loss"] for at in (0, -1))
        assert first > 0.5 and last < first  # how far it falls in a second is the machine's
    # One seed, so all begin alike.
    assert len({run["points"][0]["training_loss"] for run in numbers["runs"]}) == 1


def test_resuming_skips_what_is_finished_and_repeats_what_is_not(compared):
    folder, arguments, _ = compared
    files = {path.name: path for path in (folder / "runs").iterdir()}
    interrupted = files["regression.uniform.0.jsonl"]
    interrupted.write_text("\n".join(interrupted.read_text().splitlines()[:4]) + "\n")
    kept = {name: path.read_bytes() for name, path in files.items() if path != interrupted}
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "[3/3] regression, uniform, seed 0" in done.stdout and "[1/3]" not in done.stdout
    assert all(files[name].read_bytes() == content for name, content in kept.items())
    assert runfile.read(interrupted).finished

    (folder / "results/regression.md").unlink()
    again = command("table", folder / "runs", "--results", folder / "results")
    assert again.returncode == 0 and (folder / "results/regression.md").is_file()


@pytest.mark.skipif(len(compare.cores()) < 2, reason="needs two cores")
def test_the_last_run_has_company(tmp_path, monkeypatch):
    """Three runs on two cores: beside the third runs a copy of it, on the core that is left, and is
    gone at the end."""
    started, start = [], compare.start

    def noted(run, root, folder, core):
        process = start(run, root, folder, core)
        started.append((run, folder, core, process))
        return process

    monkeypatch.setattr(compare, "start", noted)
    plan = compare.Plan("regression", "", [("uniform", 1.0)], 0.5, 3)
    (tmp_path / "runs").mkdir()
    compare.compare(plan, tmp_path, tmp_path / "runs", 2, lambda *told: None)
    real = [one for one in started if one[1] == tmp_path / "runs"]
    (copy,) = [one for one in started if one not in real]
    assert len(real) == 3 and copy[0] == real[2][0] and copy[2] != real[2][2]
    assert not copy[3].is_alive() and not copy[1].exists()
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_a_killed_comparison_takes_its_runs_along(tmp_path):
    arguments = [
        "compare",
        "--task",
        "regression",
        "--seconds",
        "1e6",
        "--seeds",
        "1",
        "--methods",
        "uniform",
    ]
    arguments += ["--output", tmp_path / "runs", "--results", tmp_path / "results"]
    started = subprocess.Popen(
        [sys.executable, "-m", "bench.training", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    path = tmp_path / "runs/regression.uniform.0.jsonl"
    while not (path.is_file() and "point" in path.read_text()):
        assert started.poll() is None
        time.sleep(0.1)
    started.terminate()
    _, error = started.communicate()  # its runs hold the pipe open as long as they live
    assert started.returncode == 130 and "the same command goes on" in error
    assert not runfile.read(path).finished


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--task", "mnits"], "task must be one of cifar10, cifar10-label-noise"),
        (
            ["--methods", "uniform,magic"],
            "method must be one of double-rate, gradient-norm, infobatch",
        ),
        (["--methods", "uniform,uniform"], "must name each entrant once"),
        (["--share", "isample=1.5"], "--share must be METHOD=S"),
        (["--share", "nobody=0.5"], "method must be one of"),
        (["--task", "mnist", "--root", "/nowhere"], "no mnist in /nowhere: looked for mnist.npz"),
        (["--seconds", "0"], "--seconds must be positive; got 0"),
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--jobs", "1000"], "--jobs must be from 1 to the number of cores"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(arguments, message, tmp_path, capsys):
    from bench.training.__main__ import main

    with pytest.raises(SystemExit) as stopped:
        main(["compare", "--task", "regression", "--output", str(tmp_path / "runs"), *arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_table_needs_runs(tmp_path, capsys):
    from bench.training.__main__ import main

    with pytest.raises(SystemExit):
        main(["table", str(tmp_path)])
    assert f"no finished run of `compare` in {tmp_path}" in capsys.readouterr().err

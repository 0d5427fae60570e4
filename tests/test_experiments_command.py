"""The command line of the paper's experiments: a run killed and resumed, its figures, and what is
refused."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from bench.training import runfile
from bench.training.__main__ import main

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise in CIFAR-10's form, of 8 x 8 pixels."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    pixels = random.integers(256, size=(640, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(640) % 10
    np.savez(
        folder / "cifar10.npz",
        x_train=pixels,
        y_train=labels,
        x_test=pixels[:100],
        y_test=labels[:100],
    )
    return folder


def start(*arguments):
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


# Kills itself within the sixth point that it would write. An update takes 1/64 s of its clock.
KILLED = """
import itertools, os, signal, sys
from types import SimpleNamespace
from bench.training import __main__, meter, runfile
write, written, ticks = runfile.RunWriter.point, [], itertools.count()
meter.time = SimpleNamespace(perf_counter=lambda: next(ticks) / 64, process_time=lambda: 0.0)

def point(writer, measured):
    written.append(measured)
    if os.path.exists(sys.argv[1]) and len(written) > 5:
        os.kill(os.getpid(), signal.SIGKILL)
    write(writer, measured)

runfile.RunWriter.point = point
__main__.main(sys.argv[2:])
"""


def test_a_killed_process_s_run_goes_on(data, tmp_path):
    arguments = [
        "run",
        "cifar10",
        "--seconds",
        3,
        "--seeds",
        1,
        "--methods",
        "upper-bound",
        "--data",
        data,
    ]
    arguments += ["--device", "cpu", "--scale", 0.01, "--output", tmp_path]
    path, checkpoint = (
        tmp_path / f"cifar10.upper-bound.0.{suffix}" for suffix in ("jsonl", "checkpoint")
    )
    killed = start("-c", KILLED, checkpoint, *arguments)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = runfile.read(path)
    assert not before.finished and checkpoint.exists()

    resumed = start("-m", "bench.training", *arguments)
    assert resumed.returncode == 0, resumed.stderr
    told = "[1/1] cifar10, upper-bound, seed 0: ", "1 of 1 runs done now"
    assert all(each in resumed.stdout for each in told)
    after = runfile.read(path)
    assert after.finished and not checkpoint.exists()
    assert (
        after.points[: len(before.points)] == before.points
    )  # a point is saved before it is written
    elapsed = [point.elapsed for point in after.points]
    assert elapsed == sorted(elapsed) and elapsed[-2] < 3 <= elapsed[-1]

    content = path.read_bytes()
    assert main([str(argument) for argument in arguments]) == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["cifar"], "experiment must be one of ablation-b, cifar10, cifar100, correlation"),
        (
            ["cifar10", "--methods", "magic"],
            "--methods must be of uniform, large-batch, double-rate, upper-bound, ",
        ),
        (
            ["cifar10", "--methods", "infobatch"],
            "presample, isample for cifar10, which can be resumed; got 'infobatch'",
        ),
        (
            ["ablation-b", "--methods", "loss"],
            "--methods must be of B=256, B=384, B=640, B=1024 for ablation-b",
        ),
        (
            ["cifar10", "--methods", "loss,loss"],
            "--methods must name each method once; got loss,loss",
        ),
        (["cifar10", "--seconds", "0"], "--seconds must be positive; got 0"),
        (
            ["variance", "--seconds", "9"],
            "--seconds must not be given for variance, which counts 50,000 updates",
        ),
        (["cifar10", "--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["cifar10", "--scale", "2"], "--scale must be in (0, 1]; got 2"),
        (
            ["cifar10", "--normalisation", "none"],
            "--normalisation must be one of batch, group, layer; got 'none'",
        ),
        (
            ["pixel-mnist", "--normalisation", "group"],
            "--normalisation must not be given for pixel-mnist; got 'group'",
        ),
        (
            ["cifar10", "--device", "abacus"],
            "--device must be one that torch can use; got 'abacus'",
        ),
        (["cifar100", "--data", "/nowhere"], "no cifar100 in /nowhere: looked for cifar100.npz"),
        (["pixel-mnist", "--data", "/nowhere"], "no mnist in /nowhere: looked for mnist.npz"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["run", *arguments, "--output", str(tmp_path / "runs")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "runs").exists()

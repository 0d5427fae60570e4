"""One build holds the loops of several instruction sets; each gives the same scores, and the same
draws bit for bit."""

import os
import subprocess
import sys

import pytest
import torch

from isample import _C

PROGRAM = """
import sys, torch, isample
from isample import _C
torch.manual_seed(0)
results = {}
for classes in (1, 5, 10, 32, 33, 100, 3000):
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        logits, labels = (torch.randn(50, classes) * 4).to(dtype), torch.randint(classes, (50,))
        for smoothing in (0.0, 0.1):
            score, loss = isample.softmax_score(logits, labels, label_smoothing=smoothing)
            results[classes, dtype, smoothing] = torch.stack([score, loss])
score = torch.rand(640)
for method in ("alias", "systematic", "pps"):
    drawn = isample.draw(score, 128, method=method, seed=1)
    results[method] = torch.stack([x.double() for x in drawn])
torch.save((_C.build_info()["cpu"], results), sys.argv[1])
"""


def run(level, path):
    environment = {**os.environ, **({"ISAMPLE_CPU": level} if level else {})}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    path = tmp_path_factory.mktemp("dispatch") / "baseline.pt"
    run("baseline", path).check_returncode()
    name, results = torch.load(path, weights_only=False)
    assert name == "baseline"
    return results


@pytest.mark.parametrize("level", ["avx512", "avx2"])
def test_wider_loops_agree_with_the_baseline(level, baseline, tmp_path):
    done = run(level, tmp_path / "out.pt")
    if "processor runs" in done.stderr:
        pytest.skip(f"this processor does not run {level}")
    assert done.returncode == 0, done.stderr
    name, results = torch.load(tmp_path / "out.pt", weights_only=False)
    assert name == level
    for key, expected in baseline.items():
        if isinstance(key, str):
            assert torch.equal(results[key], expected), key
        # sums in another order, with or without fused multiply-adds; smoothing cancels to an ulp of
        # 1
        else:
            smoothed = key[2] > 0
            torch.testing.assert_close(
                results[key], expected, rtol=2e-6, atol=3e-7 if smoothed else 0
            )


def test_an_unknown_level_is_an_error_that_lists_the_known(tmp_path):
    done = run("sse9", tmp_path / "out.pt")
    assert done.returncode != 0
    assert "ISAMPLE_CPU must name an instruction set that this processor runs" in done.stderr
    assert "baseline" in done.stderr and "got 'sse9'" in done.stderr


def test_the_loops_run_on_torchs_threads():
    """at::parallel_for is serial, without a word, in an extension that was compiled without
    OpenMP."""
    assert _C.build_info()["threads"] == "OpenMP"

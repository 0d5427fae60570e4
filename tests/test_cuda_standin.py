"""The CUDA kernels' own sources, run without a GPU.

tests/cpp/standin is a stand-in for CUDA's execution model: g++ compiles csrc/cuda/*.cu against it,
and tests/cpp/cuda_* compare what the kernels write with long double arithmetic (scores) and with
serial loops, bit for bit (all the rest). Schedules of blocks and threads are shuffled, so that a
missing barrier shows. tests/cpp/mutate.py breaks the kernels one place at a time and demands that
these tests notice.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/cpp/standin"))

import build  # noqa: E402


@pytest.fixture(scope="module")
def cuda_tests():
    return build.build(ROOT / "build/standin")


@pytest.mark.parametrize("seed", [1, 2])
def test_kernels_on_the_stand_in(cuda_tests, seed):
    done = subprocess.run([cuda_tests, str(seed), "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

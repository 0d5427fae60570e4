"""How much memory a MemorySampler takes: 12 bytes a sample, whatever it does."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MEASURE = """
import torch, isample
from isample.values import Plan

torch.set_num_threads(1)

def kilobytes(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def run(size, b):
    sampler = isample.MemorySampler(
        size, b, uniform_epochs=1e-9, half_life=2.0, contradicted=0.9, rebuild_every=2, seed=0
    )
    for importance, gain_cap in [(False, 1.5), (True, 1.5), (True, float("inf")), (False, 2.0)]:
        sampler.follow(Plan(importance=importance, gain_cap=gain_cap))
        for _ in range(4):
            drawn = sampler.draw()
            sampler.update(drawn.indices, torch.rand(b))
            sampler.memory.implied_weights(drawn.indices, gain_cap)
    return sampler

run(2**17, 256)
before = kilobytes("VmRSS")
sampler = run(SIZE, 256)
print((kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_twelve_bytes_a_sample_at_the_peak():
    """Dealing, drawing, fading, flattening, and renewing the table, all in one process. What is
    beside it: five bytes for each score that fades at once, 2^18, the draws of some
    batches, and what the allocator keeps."""
    size = 2**24 + 1
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.replace("SIZE", str(size))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    peak = int(done.stdout)
    assert 11 * size <= peak <= 12 * size + 24 * 2**20

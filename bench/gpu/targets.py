"""How fast the kernels are to be, in microseconds, by the GPU they run on.

From scores to draws and weights, as `importance_sample` makes them. The targets are an H200's, of
4.8 TB/s. A short call waits for its launch, which takes as long on an H100; a long one for memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

H200_BANDWIDTH = 4.8  # TB/s


@dataclass(frozen=True)
class Target:
    """``shape`` is (rows, classes) and the dtype, as both benchmarks write them."""

    shape: str
    microseconds: float
    by_memory: bool = False


TARGETS = (
    Target("(128, 10) float32", 5.0),
    Target("(640, 100) float32", 6.0),
    Target("(1024, 1000) float32", 8.0),
    Target("(4096, 32000) bfloat16", 66.0, by_memory=True),
    Target("(4096, 32000) float32", 130.0, by_memory=True),
    Target("(8192, 128256) bfloat16", 510.0, by_memory=True),
)
# The names that the driver gives to GPUs with these memories, in TB/s. A part of a GPU (MIG) and
# other models of the same generation have less, and no targets.
BANDWIDTHS = {r"NVIDIA H200( NVL)?": 4.8, r"NVIDIA H100( 80GB HBM3)?": 3.35}


def targets(gpu: str) -> dict[str, float]:
    """Shape -> microseconds at most; nothing for a GPU that no target is known for."""
    for name, bandwidth in BANDWIDTHS.items():
        if re.fullmatch(name, gpu):
            slower = H200_BANDWIDTH / bandwidth
            return {
                each.shape: each.microseconds * (slower if each.by_memory else 1.0)
                for each in TARGETS
            }
    return {}


def compared(value: float, target: float) -> str:
    return "met" if value <= target else f"missed by {value / target - 1:.1%}"

"""The methods, by name. Each is a generator function as `bench.training.training` describes."""

from __future__ import annotations

from dataclasses import dataclass

from isample.registry import look_up

from ..training import Method
from .importance import isample_default, paper
from .infobatch import infobatch
from .selective_backprop import selective_backprop, selective_backprop_reweighted
from .uniform import double_rate, large_batch, random_selection, uniform


@dataclass(frozen=True)
class Entry:
    """``train`` is the method, ``summary`` what the table's legend says of it."""

    train: Method
    summary: str


METHODS = {
    "uniform": Entry(uniform, "plain loop over shuffled batches of b"),
    "large-batch": Entry(large_batch, "plain loop over batches of 2b, learning rate doubled (linear scaling)"),
    "double-rate": Entry(double_rate, "plain loop with twice the learning rate, which isample's may reach"),
    "random": Entry(random_selection, "loads 5b samples, trains on a random b of them"),
    "selective-backprop": Entry(
        selective_backprop,
        "Jiang et al. 2019: forward pass on every batch; a sample is kept with probability (percentile of its loss "
        "among the last 1,024)²; trains whenever b are kept",
    ),
    "selective-backprop-reweighted": Entry(
        selective_backprop_reweighted,
        "the same with the probability at least 0.1 and each loss weighted by its inverse, self-normalised",
    ),
    "infobatch": Entry(
        infobatch,
        "Qin et al. 2024: an epoch leaves out half of the samples whose loss was below the mean and doubles the "
        "gradient of the other half; the last 12.5 % of the time nothing is left out",
    ),
    "paper": Entry(
        paper, "Katharopoulos and Fleuret 2018, Algorithm 1: B = 5b scored, b drawn with replacement, switch on tau"
    ),
    "isample": Entry(isample_default, "isample.Trainer, all by default: memory mode"),
}


def find_method(name: str) -> Entry:
    """Raises ValueError that lists the methods."""
    return look_up(METHODS, name, "method")

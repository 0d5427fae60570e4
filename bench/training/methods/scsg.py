"""SCSG (Lei and Jordan 2017, "Less than a Single Pass: Stochastically Controlled Stochastic
Gradient").

SVRG whose anchor is measured on B samples only, drawn without replacement, on which a round then
stays:

    w <- w - lr v        n times, each time on b of the B samples, drawn uniformly with replacement
    n geometric, P(n = k) = (1 - q) q^k with q = B / (B + b), whose mean is B / b

The authors have b = 1; the mean is that of the batched algorithm of Lei et al. (2017). With B = N
it goes to the optimum itself, otherwise to a neighbourhood of it.
"""

from __future__ import annotations

import math

import torch

from ..training import Training
from .anchor import Anchored

ANCHOR = 32  # B / b


class SCSG(Anchored):
    """``chosen`` are the anchor's samples, int64 [B]."""

    saved = ("chosen",)

    def __init__(self, training: Training, anchor_batches: int = ANCHOR):
        super().__init__(training)
        self.anchored = min(anchor_batches * self.batch_size, self.size)
        self.chosen = torch.arange(0)

    def cast_indices(self) -> torch.Tensor:
        self.chosen = torch.randperm(self.size, generator=self.generator)[: self.anchored]
        return self.chosen

    def train_indices(self) -> torch.Tensor:
        updates = geometric(self.anchored / (self.anchored + self.batch_size), self.generator)
        return self.chosen[self.drawn(updates, self.anchored)]


def geometric(q: float, generator: torch.Generator) -> int:
    """k >= 0 with probability (1 - q) q^k, by inversion: q^k is the probability of k or more."""
    uniform = 1 - torch.rand((), generator=generator, dtype=torch.float64).item()  # in (0, 1]
    return math.floor(math.log(uniform) / math.log(q))

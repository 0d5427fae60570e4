"""SVRG (Johnson and Zhang 2013, "Accelerating Stochastic Gradient Descent using Predictive Variance
Reduction").

Option I, in batches of b: the anchor is where the last round ended, its gradient that of the whole
training set, and

    w <- w - lr v        m times, each time on b samples drawn uniformly with replacement

m b = 5 N, as the authors advise for problems that are not convex. They begin such problems with
some epochs of plain SGD, which is left out here.
"""

from __future__ import annotations

import torch

from ..training import Training
from .anchor import Anchored

EPOCHS = 5.0  # m b / N


class SVRG(Anchored):
    def __init__(self, training: Training, epochs: float = EPOCHS):
        super().__init__(training)
        self.updates = round(epochs * self.size / self.batch_size)

    def train_indices(self) -> torch.Tensor:
        return self.drawn(self.updates, self.size)

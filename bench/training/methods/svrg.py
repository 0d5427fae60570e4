"""SVRG (Johnson and Zhang 2013, "Accelerating Stochastic Gradient Descent using Predictive Variance Reduction").

Option I, in batches of b: the anchor is where the last round ended, its gradient that of the whole training set, and

    w <- w - lr v        m times, each time on b samples drawn uniformly with replacement

m b = 5 N, as the authors advise for problems that are not convex. They begin such problems with some epochs of plain
SGD, which is left out here.
"""

from __future__ import annotations

from typing import Iterator

import torch

from ..training import Training
from .anchor import cast_anchor, step, stop_momentum

EPOCHS = 5.0  # m b / N


def svrg(training: Training, epochs: float = EPOCHS) -> Iterator[None]:
    stop_momentum(training.optimizer)
    generator, size, batch_size = training.generator(), len(training.sets.training), training.batch_size
    updates = round(epochs * size / batch_size)
    while True:
        anchor = yield from cast_anchor(training, torch.arange(size).split(batch_size))
        drawn = torch.randint(size, (updates, batch_size), generator=generator)
        for inputs, targets in training.fetch(drawn):
            step(training, anchor.corrected(inputs, targets))
            yield

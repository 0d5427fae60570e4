"""SCSG (Lei and Jordan 2017, "Less than a Single Pass: Stochastically Controlled Stochastic Gradient").

SVRG whose anchor is measured on B samples only, drawn without replacement, on which a round then stays:

    w <- w - lr v        n times, each time on b of the B samples, drawn uniformly with replacement
    n geometric, P(n = k) = (1 - q) q^k with q = B / (B + b), whose mean is B / b

The authors have b = 1; the mean is that of the batched algorithm of Lei et al. (2017). With B = N it goes to the
optimum itself, otherwise to a neighbourhood of it.
"""

from __future__ import annotations

import math
from typing import Iterator

import torch

from ..training import Training
from .anchor import cast_anchor, step, stop_momentum

ANCHOR = 32  # B / b


def scsg(training: Training, anchor_batches: int = ANCHOR) -> Iterator[None]:
    stop_momentum(training.optimizer)
    generator, size, batch_size = training.generator(), len(training.sets.training), training.batch_size
    anchored = min(anchor_batches * batch_size, size)
    while True:
        chosen = torch.randperm(size, generator=generator)[:anchored]
        anchor = yield from cast_anchor(training, chosen.split(batch_size))
        updates = geometric(anchored / (anchored + batch_size), generator)
        drawn = chosen[torch.randint(anchored, (updates, batch_size), generator=generator)]
        for inputs, targets in training.fetch(drawn):
            step(training, anchor.corrected(inputs, targets))
            yield


def geometric(q: float, generator: torch.Generator) -> int:
    """k >= 0 with probability (1 - q) q^k, by inversion: q^k is the probability of k or more."""
    uniform = 1 - torch.rand((), generator=generator, dtype=torch.float64).item()  # in (0, 1]
    return math.floor(math.log(uniform) / math.log(q))

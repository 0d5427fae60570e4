"""Online batch selection (Loshchilov and Hutter 2015, "Online Batch Selection for Faster Training of Neural Networks").

All samples are ranked by their latest known loss, and the one of rank i = 0 ... N - 1 from the top is drawn, with
replacement, with a probability that falls exponentially with its rank:

    p_i proportional to exp(-(log(s) / N) i)        so that p_0 / p_(N-1) is s, but for one rank
    s = s_0^(1 - progress)                          from s_0 at the beginning to 1, the uniform distribution, at the end

The batch's plain mean is minimised: nothing corrects the bias toward high losses. The first epoch visits every sample
once; all losses are computed anew every r updates. Katharopoulos and Fleuret (2018) took the best of s_0 in
{1, 10, 100} and r in {600, 1200, 3600} and do not say which that was.
"""

from __future__ import annotations

import math
from typing import Iterator, Sequence

import torch

import isample

from ..training import Training
from .selective_backprop import scored_losses

PRESSURE = 100.0  # s_0
RECOMPUTE_EVERY = 1200  # r
SORT_EVERY = 100  # updates; sorting 60,000 losses takes less time than one update


class Ranking:
    """The latest known loss of each of ``size`` samples, and draws by the rank that it had at the last sorting."""

    def __init__(self, size: int, pressure: float):
        self.pressure = pressure
        self.loss = torch.full((size,), math.inf)

    def sort(self, progress: float) -> None:
        pressure = self.pressure ** (1 - progress)
        self.order = self.loss.argsort(descending=True)
        self.table = isample.alias_table(rank_probabilities(len(self.loss), pressure))

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Samples, int64 [count]."""
        ranks, _ = isample.draw(self.table, count, generator=generator)
        return self.order[ranks]


def rank_probabilities(size: int, pressure: float) -> torch.Tensor:
    """float32 [size], not normalised."""
    return torch.exp(-math.log(pressure) / size * torch.arange(size))


def online_batch_selection(
    training: Training, pressure: float = PRESSURE, recompute_every: int = RECOMPUTE_EVERY
) -> Iterator[None]:
    generator, size = training.generator(), len(training.sets.training)
    ranking = Ranking(size, pressure)
    first_epoch = torch.randperm(size, generator=generator).split(training.batch_size)
    yield from train_on(training, ranking, first_epoch)
    since_recomputed = len(first_epoch)
    while True:
        if since_recomputed >= recompute_every:
            yield from recompute(training, ranking)
            since_recomputed = 0
        ranking.sort(training.progress)
        count = min(SORT_EVERY, recompute_every - since_recomputed)
        drawn = ranking.draw(count * training.batch_size, generator)
        yield from train_on(training, ranking, drawn.split(training.batch_size))
        since_recomputed += count


def train_on(training: Training, ranking: Ranking, batches: Sequence[torch.Tensor]) -> Iterator[None]:
    for index, (inputs, targets) in zip(batches, training.fetch(batches)):
        losses = training.losses(training.model(inputs), targets)
        ranking.loss[index] = losses.detach()
        training.update(losses.mean())
        yield


def recompute(training: Training, ranking: Ranking) -> Iterator[None]:
    """Every sample's loss, by the network as it is now."""
    batches = torch.arange(len(ranking.loss)).split(training.batch_size)
    for index, (inputs, targets) in zip(batches, training.fetch(batches)):
        ranking.loss[index] = scored_losses(training, inputs, targets)
        yield

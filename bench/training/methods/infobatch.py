"""InfoBatch (Qin et al. 2024, "Lossless Training Speed Up by Unbiased Dynamic Data Pruning").

At the beginning of an epoch a sample whose last loss is below the mean of all is left out with
probability r; one that stays has its gradient multiplied by 1 / (1 - r). Near the end of the
training nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..training import Training

RATIO = 0.5  # r
ANNEAL_FROM = 0.875  # share of the training after which every sample is used


class Pruning:
    """Remembers the last loss of each of ``size`` samples. All are equal at first, so the first
    epoch is whole."""

    def __init__(self, size: int, ratio: float = RATIO):
        self.ratio = ratio
        self.loss = torch.ones(size)

    def epoch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples to visit in random order, int64 [n <= size], and the weights of all samples,
        [size]."""
        easy = self.loss < self.loss.mean()
        left_out = easy & (torch.rand(len(easy), generator=generator) < self.ratio)
        weights = torch.where(easy, 1 / (1 - self.ratio), 1.0)
        return shuffled(torch.nonzero(~left_out).flatten(), generator), weights

    def whole_epoch(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        size = len(self.loss)
        return torch.randperm(size, generator=generator), torch.ones(size)


def infobatch(training: Training) -> Iterator[None]:
    generator = torch.Generator().manual_seed(training.seed)
    pruning = Pruning(len(training.sets.training))
    while True:
        annealing = training.progress >= ANNEAL_FROM
        order, weights = (pruning.whole_epoch if annealing else pruning.epoch)(generator)
        batches = order.split(training.batch_size)
        for index, (inputs, targets) in zip(batches, training.fetch(batches)):
            losses = training.losses(training.model(inputs), targets)
            pruning.loss[index] = losses.detach()
            training.update((weights[index] * losses).mean())
            yield
            if training.progress >= ANNEAL_FROM and not annealing:
                break


def shuffled(index: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return index[torch.randperm(len(index), generator=generator)]

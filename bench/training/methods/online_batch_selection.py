"""Online batch selection (Loshchilov and Hutter 2015, "Online Batch Selection for Faster Training
of Neural Networks").

All samples are ranked by their latest known loss, and the one of rank i = 0 ... N - 1 from the top
is drawn, with replacement, with a probability that falls exponentially with its rank:

    p_i proportional to exp(-(log(s) / N) i)    so that p_0 / p_(N-1) is s, but for one rank
    s = s_0^(1 - progress)                      from s_0 to 1, the uniform distribution

The batch's plain mean is minimised: nothing corrects the bias toward high losses. The first epoch
visits every sample once; all losses are computed anew every r updates. Katharopoulos and Fleuret
(2018) took the best of s_0 in {1, 10, 100} and r in {600, 1200, 3600} and do not say which that
was.
"""

from __future__ import annotations

import math

import torch

import isample

from ..training import Training
from .dealt import Dealt
from .selective_backprop import scored_losses

PRESSURE = 100.0  # s_0
RECOMPUTE_EVERY = 1200  # r
SORT_EVERY = 100  # updates; sorting 60,000 losses takes less time than one update


class OnlineBatchSelection(Dealt):
    """``loss`` is the latest known one of each sample, [N]; ``since_recomputed`` counts updates,
    those that the present phase has still to make included."""

    saved = ("loss", "since_recomputed")

    def __init__(
        self, training: Training, pressure: float = PRESSURE, recompute_every: int = RECOMPUTE_EVERY
    ):
        super().__init__(training)
        self.pressure, self.recompute_every = pressure, recompute_every
        self.loss = torch.full((self.size,), math.inf)
        self.since_recomputed = 0

    def next_phase(self) -> tuple[str, torch.Tensor]:
        if self.name == "":
            self.since_recomputed = math.ceil(self.size / self.batch_size)
            return "train", torch.randperm(self.size, generator=self.generator)
        if self.since_recomputed >= self.recompute_every:
            self.since_recomputed = 0
            return "recompute", torch.arange(self.size)
        count = min(SORT_EVERY, self.recompute_every - self.since_recomputed)
        self.since_recomputed += count
        pressure = self.pressure ** (1 - self.training.progress)
        return "train", draw_by_rank(self.loss, pressure, count * self.batch_size, self.generator)

    def train(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        losses = self.training.losses(self.training.model(inputs), targets)
        self.loss[index] = losses.detach().cpu()
        self.training.update(losses.mean())

    def recompute(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """By the network as it is now."""
        self.loss[index] = scored_losses(self.training, inputs, targets).cpu()


def draw_by_rank(
    loss: torch.Tensor, pressure: float, count: int, generator: torch.Generator
) -> torch.Tensor:
    """Samples, int64 [count], by the rank of their ``loss``, [N]."""
    ranks, _ = isample.draw(
        isample.alias_table(rank_probabilities(len(loss), pressure)), count, generator=generator
    )
    return loss.argsort(descending=True)[ranks]


def rank_probabilities(size: int, pressure: float) -> torch.Tensor:
    """float32 [size], not normalised."""
    return torch.exp(-math.log(pressure) / size * torch.arange(size))

"""Methods that look at no score: the baseline, a larger batch, and a random part of what is
loaded."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..training import Training
from .dealt import Dealt

LARGER = 2  # times the batch size of `large_batch`
LOADED = 5  # batches that `random_selection` loads for each that it trains on


class Uniform(Dealt):
    """Shuffled passes over the samples; what is left over of a pass after its last whole batch is
    left out."""

    def next_phase(self) -> tuple[str, torch.Tensor]:
        whole = self.size - self.size % self.batch_size
        return "train", torch.randperm(self.size, generator=self.generator)[:whole]

    def train(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.training.update(self.training.losses(self.training.model(inputs), targets).mean())


def large_batch(training: Training) -> Uniform:
    """The learning rate grows with the batch, as usual for SGD (Goyal et al. 2017)."""
    training.scale_learning_rate(LARGER)
    return Uniform(training, LARGER * training.batch_size)


def double_rate(training: Training) -> Uniform:
    """What a higher learning rate alone does: isample's may be up to twice the task's."""
    training.scale_learning_rate(2)
    return Uniform(training)


def random_selection(training: Training) -> Iterator[None]:
    """Pays for loading a presample and learns nothing from it: what selection by importance has to
    beat."""
    generator = training.generator()
    for inputs, targets in training.batches(LOADED * training.batch_size):
        chosen = torch.randperm(len(targets), generator=generator)[: training.batch_size]
        training.update(training.losses(training.model(inputs[chosen]), targets[chosen]).mean())
        yield

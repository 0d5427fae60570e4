"""Methods that look at no score: the baseline, a larger batch, and a random part of what is loaded."""

from __future__ import annotations

from typing import Iterator

import torch

from ..training import Training

LARGER = 2  # times the batch size of `large_batch`
LOADED = 5  # batches that `random_selection` loads for each that it trains on


def uniform(training: Training) -> Iterator[None]:
    for inputs, targets in training.batches(training.batch_size):
        training.update(training.losses(training.model(inputs), targets).mean())
        yield


def large_batch(training: Training) -> Iterator[None]:
    """The learning rate grows with the batch, as usual for SGD (Goyal et al. 2017)."""
    training.scale_learning_rate(LARGER)
    for inputs, targets in training.batches(LARGER * training.batch_size):
        training.update(training.losses(training.model(inputs), targets).mean())
        yield


def double_rate(training: Training) -> Iterator[None]:
    """What a higher learning rate alone does: isample's may be up to twice the task's."""
    training.scale_learning_rate(2)
    return uniform(training)


def random_selection(training: Training) -> Iterator[None]:
    """Pays for loading a presample and learns nothing from it: what selection by importance has to beat."""
    generator = training.generator()
    for inputs, targets in training.batches(LOADED * training.batch_size):
        chosen = torch.randperm(len(targets), generator=generator)[: training.batch_size]
        training.update(training.losses(training.model(inputs[chosen]), targets[chosen]).mean())
        yield

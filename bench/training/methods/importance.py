"""Methods that isample.Trainer does."""

from __future__ import annotations

from typing import Iterator

import isample

from ..training import Training

PRESAMPLE = 5  # B / b of the paper's experiments


def upper_bound(training: Training) -> Iterator[bool]:
    return algorithm_1(training, "upper_bound")


def loss(training: Training) -> Iterator[bool]:
    """The same algorithm drawing in proportion to the loss: what most of the literature sorts by."""
    return algorithm_1(training, "loss")


def gradient_norm(training: Training) -> Iterator[bool]:
    """The same algorithm drawing in proportion to what the upper bound bounds, at the price of B backward passes."""
    return algorithm_1(training, "gradient_norm")


def algorithm_1(training: Training, score: str) -> Iterator[bool]:
    trainer = isample.Trainer.paper(
        training.model,
        training.optimizer,
        training.task.loss,
        training.batch_size,
        PRESAMPLE * training.batch_size,
        score=score,
        seed=training.seed,
    )
    return steps(trainer, training)


def isample_default(training: Training) -> Iterator[bool]:
    trainer = isample.Trainer(
        training.model,
        training.optimizer,
        training.task.loss,
        batch_size=training.batch_size,
        seed=training.seed,
    )
    return steps(trainer, training)


def steps(trainer: isample.Trainer, training: Training) -> Iterator[bool]:
    """The trainer's own clock stands while the referee holds it, so its budget is spent when the referee's is."""
    for report in trainer.iterate(training.loader(training.batch_size), seconds=training.seconds):
        yield report.active

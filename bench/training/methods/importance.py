"""Methods that isample.Trainer does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import isample

from ..training import Training


class Trained:
    """A trainer, whose state is the method's."""

    def __init__(self, training: Training, trainer: isample.Trainer):
        self.training, self.trainer = training, trainer
        self.state_dict, self.load_state_dict = trainer.state_dict, trainer.load_state_dict

    def __iter__(self) -> Iterator[isample.StepReport]:
        """Until whoever drives it has had enough."""
        loader = self.training.loader(self.training.batch_size)
        # Not before the first step is asked for: a state may be loaded until then.
        yield from self.trainer.iterate(loader, seconds=math.inf)


def upper_bound(training: Training, **options: Any) -> Trained:
    """Algorithm 1; ``options`` are of `isample.Trainer`, in place of the task's."""
    return algorithm_1(training, "upper_bound", **options)


def loss(training: Training) -> Trained:
    """The same algorithm drawing in proportion to the loss: what most of the literature sorts
    by."""
    return algorithm_1(training, "loss")


def gradient_norm(training: Training) -> Trained:
    """The same algorithm drawing in proportion to what the upper bound bounds, at the price of B
    backward passes."""
    return algorithm_1(training, "gradient_norm")


def algorithm_1(training: Training, score: str, **options: Any) -> Trained:
    task = training.task
    settings = {"presample": task.presample, "tau_threshold": task.tau_threshold, "score": score}
    return trained(training, isample.Trainer.paper, **{**settings, **options})


def isample_default(training: Training, **options: Any) -> Trained:
    return trained(training, isample.Trainer, **options)


def fresh_presamples(training: Training) -> Trained:
    """isample without a memory: a scoring pass, made as cheap and used as well as isample can."""
    return isample_default(training, mode="presample")


def trained(training: Training, make, **options: Any) -> Trained:
    task = training.task
    options = {"clip_grad_norm": task.clip_grad_norm, "seed": training.seed, **options}
    return Trained(
        training, make(training.model, training.optimizer, task.loss, task.batch_size, **options)
    )

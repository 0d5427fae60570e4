"""What is measured at the checkpoints of a run: a point's content, by the experiment's ``measure``.

A measurement leaves the model, torch's random state and the clock as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from bench.common.datasets import spread

from .. import evaluation
from ..meter import Meter
from ..training import Training
from . import gradients

SEEN_SAMPLES = 10_000  # on which the training loss is measured

VARIANCE_SAMPLES, VARIANCE_DRAWS, VARIANCE_REPEATS = 1024, 128, 10
CORRELATION_SAMPLES = 16_384


def scaled(number: int, scale: float) -> int:
    """A width or a number of samples, by the root of ``scale``: so a layer's work shrinks as the
    budget does."""
    return max(1, round(number * math.sqrt(scale)))


def progress(meter: Meter, scale: float) -> dict[str, Any]:
    """Training loss on a fixed part of the training set without augmentation, loss and error on the
    test set."""
    sets = meter.training.sets
    seen = spread(sets.plain, scaled(SEEN_SAMPLES, scale))
    return evaluation.progress(
        meter.training, seen, spread(sets.test, scaled(len(sets.test), scale))
    )


def variance(meter: Meter, scale: float) -> dict[str, Any]:
    """The distances of figure 1, each the mean over its repeats."""
    training = meter.training
    inputs, targets = samples(training, scaled(VARIANCE_SAMPLES, scale))
    generator = torch.Generator().manual_seed(training.seed * 1_000_003 + meter.updates)
    made = gradients.distances(
        training.model,
        training.task.loss,
        inputs,
        targets,
        scaled(VARIANCE_DRAWS, scale),
        VARIANCE_REPEATS,
        generator,
    )
    return {"distance": {name: values.mean().item() for name, values in made.items()}}


def correlation(meter: Meter, scale: float) -> dict[str, Any]:
    """The errors of figure 2 and, at the end, the probabilities that are drawn there."""
    training = meter.training
    count = min(scaled(CORRELATION_SAMPLES, scale), len(training.sets.plain))
    # A smaller presample would have larger probabilities.
    whole = max(1, count // gradients.PRESAMPLE) * gradients.PRESAMPLE
    inputs, targets = samples(training, min(count, whole))
    made = gradients.probabilities(training.model, training.task.loss, inputs, targets)
    measured: dict[str, Any] = {"squared_error": gradients.squared_errors(made)}
    if training.progress >= 1:
        measured["probabilities"] = {
            name: [float(f"{p:.5g}") for p in values.tolist()] for name, values in made.items()
        }
    return measured


MEASURES: dict[str, Callable[[Meter, float], dict[str, Any]]] = {
    "progress": progress,
    "variance": variance,
    "correlation": correlation,
}


def samples(training: Training, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniformly drawn training samples without augmentation, the same ones each time of a run."""
    plain = training.sets.plain
    order = torch.randperm(len(plain), generator=torch.Generator().manual_seed(training.seed))
    inputs, targets = plain.__getitems__(order[:count].tolist())
    return training.on_device((inputs, targets))

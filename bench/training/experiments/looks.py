"""What is looked at on the way: a point's content, by the experiment's ``measure``.

A look leaves the model, torch's random state and the clock as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

from bench.common.networks import as_fetched
from isample.scoring.losses import make_loss
from isample.training.loop import evaluate

from . import measures
from .data import spread
from .registry import scaled
from .runfile import Point

if TYPE_CHECKING:
    from .session import Session

SEEN_SAMPLES = 10_000  # on which the training loss is measured
EVALUATION_BATCH = 250

VARIANCE_SAMPLES, VARIANCE_DRAWS, VARIANCE_REPEATS = 1024, 128, 10
CORRELATION_SAMPLES = 16_384


def progress(session: Session) -> Point:
    """Training loss on a fixed part of the training set without augmentation, loss and error on the
    test set."""
    sets, scale = session.sets, session.run.scale
    training_loss, _ = mean_loss_and_error(session, spread(sets.plain, scaled(SEEN_SAMPLES, scale)))
    test_loss, test_error = mean_loss_and_error(
        session, spread(sets.test, scaled(len(sets.test), scale))
    )
    return {
        "training_loss": training_loss,
        "test_loss": test_loss,
        "test_error": test_error,
        "active_seconds": session.meter.active_seconds or 0.0,
    }


def variance(session: Session) -> Point:
    """The distances of figure 1, each the mean over its repeats."""
    scale = session.run.scale
    inputs, targets = samples(session, scaled(VARIANCE_SAMPLES, scale))
    generator = torch.Generator().manual_seed(session.run.seed * 1_000_003 + session.meter.updates)
    draws = scaled(VARIANCE_DRAWS, scale)
    made = measures.distances(
        session.training.model,
        session.experiment.loss,
        inputs,
        targets,
        draws,
        VARIANCE_REPEATS,
        generator,
    )
    return {"distance": {name: values.mean().item() for name, values in made.items()}}


def correlation(session: Session) -> Point:
    """The errors of figure 2 and, at the end, the probabilities that are drawn there."""
    count = min(scaled(CORRELATION_SAMPLES, session.run.scale), len(session.sets.plain))
    whole = (
        max(1, count // measures.PRESAMPLE) * measures.PRESAMPLE
    )  # a smaller one would have larger probabilities
    inputs, targets = samples(session, min(count, whole))
    made = measures.probabilities(session.training.model, session.experiment.loss, inputs, targets)
    point: Point = {"squared_error": measures.squared_errors(made)}
    if session.training.progress >= 1:
        point["probabilities"] = {
            name: [float(f"{p:.5g}") for p in values.tolist()] for name, values in made.items()
        }
    return point


MEASURES: dict[str, Callable[[Session], Point]] = {
    "progress": progress,
    "variance": variance,
    "correlation": correlation,
}


def samples(session: Session, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uniformly drawn training samples without augmentation, the same ones at each look of a
    run."""
    plain = session.sets.plain
    order = torch.randperm(len(plain), generator=torch.Generator().manual_seed(session.run.seed))
    inputs, targets = plain.__getitems__(order[:count].tolist())
    return session.training.on_device((inputs, targets))


def mean_loss_and_error(session: Session, data: Dataset) -> tuple[float, float]:
    training, batches = session.training, DataLoader(data, EVALUATION_BATCH, collate_fn=as_fetched)
    return evaluate(training.model, make_loss(session.experiment.loss), batches, training.device)

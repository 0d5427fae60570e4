"""One run: a method trains until its time is spent, and is evaluated on the way while its clock
stands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

from .data import Sets
from .meter import Meter
from .methods import find_method
from .record import Point, Run, RunWriter
from .tasks import LOSSES, Task, find_task
from .training import Method, Training

EVALUATIONS = 20  # evenly spaced in time, besides the one before the first update
EVALUATION_BATCH = (
    50  # a forward pass that stays in the cache is twice as fast as one of 500 images
)


def run_alone(run: Run, root: Path, folder: Path, core: int | None) -> None:
    """Does one run, in a process of its own: one thread, on ``core`` where the system can pin it.
    Gives up at the next evaluation if the process that started it is gone."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent too, which then ends this process
    if core is not None:
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    task = find_task(run.task)
    sets = task.sets(root, run.seed)
    warm_up(task, sets)
    training = Training.begin(task, sets, run.share * run.seconds, run.seed)
    writer = RunWriter(run.path(folder), run)
    for point in train(training, find_method(run.method).make):
        writer.point(point)
        if (parent := parent_process()) is not None and not parent.is_alive():
            return
    writer.end()


def warm_up(task: Task, sets: Sets) -> None:
    """One step of another network: what the libraries prepare at their first call is no method's
    time."""
    training = Training.begin(task, sets, seconds=1.0, seed=0)
    inputs, targets = sets.seen.__getitems__(torch.arange(task.batch_size))
    training.update(training.losses(training.model(inputs), targets).mean())


def train(training: Training, make: Callable[[Training], Method]) -> Iterator[Point]:
    """Trains, and yields an evaluation before the first update, at each 20th of the time and at its
    end. A run that diverges ends with the evaluation that shows it. What time counts is said at
    `Meter`.
    """
    meter, due = Meter(training, make), 1
    yield evaluate(meter)
    while training.progress < 1.0:
        meter.advance()
        training.decay_learning_rate()
        if training.progress >= due / EVALUATIONS:
            point = evaluate(meter)
            yield point
            if point.diverged:
                return
            due = int(training.progress * EVALUATIONS) + 1


def evaluate(meter: Meter) -> Point:
    training, sets = meter.training, meter.training.sets
    training_loss, _ = mean_loss_and_error(training.model, training.task, sets.seen)
    test_loss, test_error = mean_loss_and_error(training.model, training.task, sets.test)
    return Point(
        elapsed=meter.elapsed,
        updates=meter.updates,
        training_loss=training_loss,
        test_loss=test_loss,
        test_error=test_error,
        active_seconds=meter.active_seconds,
        cpu_seconds=meter.cpu_seconds,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
    )


def mean_loss_and_error(model: nn.Module, task: Task, data: Dataset) -> tuple[float, float]:
    """In evaluation mode; the model is left in the mode in which it was found."""
    loss, was_training = LOSSES[task.loss], model.training
    model.eval()
    losses, errors = 0.0, 0.0
    with torch.inference_mode():
        for index in torch.arange(len(data)).split(EVALUATION_BATCH):
            inputs, targets = data.__getitems__(index)
            outputs = model(inputs)
            losses += loss.losses(outputs, targets).double().sum().item()
            errors += loss.errors(outputs, targets).double().sum().item()
    model.train(was_training)
    return losses / len(data), errors / len(data)

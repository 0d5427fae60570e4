"""One run: a method trains until its time is spent, and is evaluated on the way while its clock
stands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import parent_process
from pathlib import Path

import torch

from bench.common.datasets import Sets, spread

from .evaluation import progress
from .meter import Meter
from .methods import find_method
from .runfile import Point, Run, RunWriter
from .tasks import Task, find_task
from .training import Method, Training

SEEN_SAMPLES = 10_000  # training samples on which the training loss is measured
EVALUATIONS = 20  # evenly spaced in time, besides the one before the first update


def run_alone(run: Run, root: Path, folder: Path, core: int | None) -> None:
    """Does one run, in a process of its own: one thread, on ``core`` where the system can pin it.
    Gives up at the next evaluation if the process that started it is gone."""
    # Ctrl-C reaches the parent too, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if core is not None:
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    task = find_task(run.task)
    sets = task.data.sets(root)
    warm_up(task, sets)
    training = Training.begin(task, sets, run.share * run.budget, run.seed)
    writer = RunWriter(run, folder)
    for point in train(training, find_method(run.method).make):
        writer.point(point)
        if (parent := parent_process()) is not None and not parent.is_alive():
            return
    writer.end()


def warm_up(task: Task, sets: Sets) -> None:
    """One step of another network: what the libraries prepare at their first call is no method's
    time."""
    training = Training.begin(task, sets, seconds=1.0, seed=0)
    inputs, targets = sets.plain.__getitems__(list(range(task.batch_size)))
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
    seen = spread(sets.plain, SEEN_SAMPLES)
    return meter.point(**progress(training, seen, sets.test))

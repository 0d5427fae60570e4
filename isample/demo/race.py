"""The run itself: two copies of one network, uniform and importance sampling, at equal wall-clock time.

The two take turns of about a second each, so that whatever else the machine does slows both alike. A method's clock
runs while it trains, loading and scoring included; the time of evaluations counts for neither. The learning rate falls
to zero, linearly in time, for both.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from ..trainer import Trainer
from .data import Images
from .network import Endless, ImageDataset, batches, pixel_moments, small_cnn

LEARNING_RATE = 0.05
MOMENTUM = 0.9
TURN_SECONDS = 1.0
EVALUATIONS = 24
EVALUATED_TRAINING_IMAGES = 10_000


@dataclass(frozen=True)
class Settings:
    """What the command line asks for. `seconds` is the training time of each method."""

    data: str = "digits"
    root: Path = Path("data")
    seconds: float = 30.0
    seed: int = 0
    batch_size: int = 64
    presample: int = 320


class Point(NamedTuple):
    """One evaluation: seconds of training and updates so far; mean losses, and the share of test images missed."""

    seconds: float
    updates: int
    training_loss: float
    test_loss: float
    test_error: float


class Trace(NamedTuple):
    """One step: the clock after it, its tau, the moving average of tau, and whether importance sampling was on."""

    seconds: float
    tau: float
    tau_ema: float
    active: bool


@dataclass
class Contestant:
    """One method with its own network, its own order of the data, and its own clock."""

    name: str
    trainer: Trainer
    loader: Endless
    budget: float
    watch: Callable[[Contestant], None]
    seconds: float = 0.0
    points: list[Point] = field(default_factory=list)
    steps: list[Trace] = field(default_factory=list)

    def train_until(self, seconds: float) -> None:
        """Trains until the clock stands at `seconds`, or one step later."""
        before, start = self.seconds, time.perf_counter()

        def after_step(trainer: Trainer, report) -> None:
            self.seconds = before + time.perf_counter() - start
            self.steps.append(Trace(self.seconds, float(report.tau), float(report.tau_ema), bool(report.active)))
            for group in trainer.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * max(0.0, 1.0 - self.seconds / self.budget)
            self.watch(self)

        if seconds > before:
            self.trainer.fit(self.loader, seconds=seconds - before, callbacks=[after_step], progress=False)
            self.seconds = before + time.perf_counter() - start

    def evaluate(self, training, test) -> None:
        seen, unseen = self.trainer.evaluate(training), self.trainer.evaluate(test)
        self.points.append(Point(self.seconds, len(self.steps), seen.loss, unseen.loss, unseen.error))

    @property
    def active_share(self) -> float:
        return sum(step.active for step in self.steps) / max(1, len(self.steps))

    @property
    def switched_on(self) -> float | None:
        """Seconds until importance sampling was first on; None if it never was."""
        return next((step.seconds for step in self.steps if step.active), None)


class Race:
    """Sets both methods up with the same parameters and seeds; `run` lets them train in turns."""

    def __init__(self, images: Images, settings: Settings, watch: Callable[[Contestant], None] = lambda _: None):
        self.settings = settings
        moments = pixel_moments(images.x_train)
        shift = 4 if settings.data == "cifar10" else 0
        torch.manual_seed(settings.seed)
        network = small_cnn(images.x_train.shape[1:])
        self.parameters = sum(p.numel() for p in network.parameters())

        # Every k-th image, not the first ones: a file may be sorted by class.
        every = math.ceil(len(images.x_train) / EVALUATED_TRAINING_IMAGES)
        self.training = batches(ImageDataset(images.x_train[::every], images.y_train[::every], moments), 500)
        self.test = batches(ImageDataset(images.x_test, images.y_test, moments), 500)

        def contestant(name: str, gate: str) -> Contestant:
            dataset = ImageDataset(images.x_train, images.y_train, moments, shift, settings.seed)
            model = copy.deepcopy(network)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)
            trainer = Trainer(model, optimizer, loss="cross_entropy", batch_size=settings.batch_size,
                              presample=settings.presample, gate=gate)
            loader = Endless(batches(dataset, settings.batch_size, shuffle_seed=settings.seed))
            return Contestant(name, trainer, loader, settings.seconds, watch)

        self.uniform = contestant("uniform", "never")
        self.importance = contestant("importance", "threshold")
        self.contestants = [self.uniform, self.importance]
        self.tau_threshold = (settings.presample + 3 * settings.batch_size) / (3 * settings.batch_size)

    def run(self, after_evaluation: Callable[[Race], None] = lambda _: None) -> None:
        """Trains and evaluates both; `after_evaluation` is called each time both have been evaluated."""
        turns = math.ceil(self.settings.seconds / EVALUATIONS / TURN_SECONDS)
        order = list(self.contestants)
        self.evaluate(after_evaluation)
        for turn in range(1, EVALUATIONS * turns + 1):
            for contestant in order:
                contestant.train_until(self.settings.seconds * turn / (EVALUATIONS * turns))
            order.reverse()
            if turn % turns == 0:
                self.evaluate(after_evaluation)

    def evaluate(self, after_evaluation: Callable[[Race], None]) -> None:
        for contestant in self.contestants:
            contestant.evaluate(self.training, self.test)
        after_evaluation(self)

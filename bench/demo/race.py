"""The run itself: three copies of one network, trained by uniform sampling, by the paper's
algorithm and by isample, at equal wall-clock time.

They take turns of about a second each, so that whatever else the machine does slows all alike. A
method's clock runs while it trains, loading and scoring included; the time of evaluations counts
for none. The learning rate falls to zero, linearly in time, for all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from bench.common.datasets import batches, spread
from bench.common.images import Images
from bench.common.networks import small_cnn
from bench.common.sets import SHIFT, image_sets
from isample import StepReport, Trainer

LEARNING_RATE = 0.05
MOMENTUM = 0.9
TURN_SECONDS = 1.0
EVALUATIONS = 24
EVALUATED_TRAINING_IMAGES = 10_000
EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Settings:
    """What the command line asks for. `seconds` is the training time of each method."""

    data: str = "digits"
    root: Path = Path("data")
    seconds: float = 30.0
    seed: int = 0
    batch_size: int = 64
    presample: int = 320

    @property
    def tau_threshold(self) -> float:
        return break_even_tau(self.batch_size, self.presample)


def break_even_tau(batch_size: int, presample: int) -> float:
    """(B + 3b) / 3b: from this tau on, a step over a presample of B pays if a backward pass costs
    two forward passes (section 3.3 of the paper)."""
    return (presample + 3 * batch_size) / (3 * batch_size)


class Point(NamedTuple):
    """One evaluation: seconds of training and updates so far; mean losses, and the share of test
    images missed."""

    seconds: float
    updates: int
    training_loss: float
    test_loss: float
    test_error: float


@dataclass
class Contestant:
    """One method: its own network, its own pass over the data, its own clock."""

    name: str
    trainer: Trainer
    reports: Iterator[StepReport]
    watch: Callable[[Contestant], None]
    steps: list[StepReport] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.steps[-1].elapsed if self.steps else 0.0

    def train_until(self, seconds: float) -> None:
        """Trains until the clock stands at `seconds` or just beyond; it stands still between two
        calls."""
        while self.seconds < seconds and (report := next(self.reports, None)) is not None:
            self.steps.append(report)
            for group in self.trainer.optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1.0 - self.trainer.progress)
            self.watch(self)

    def evaluate(self, training: Iterable, test: Iterable) -> None:
        seen, unseen = self.trainer.evaluate(training), self.trainer.evaluate(test)
        self.points.append(
            Point(self.seconds, len(self.steps), seen.loss, unseen.loss, unseen.error)
        )

    @property
    def active_share(self) -> float:
        return sum(step.active for step in self.steps) / len(self.steps)

    @property
    def switched_on(self) -> StepReport | None:
        """The first step with importance sampling on."""
        return next((step for step in self.steps if step.active), None)


class Race:
    """Sets the methods up with the same parameters and seeds; `run` lets them train in turns.

    `watch` is called with the contestant after each of its steps, while its clock stands.
    """

    def __init__(
        self,
        images: Images,
        settings: Settings,
        watch: Callable[[Contestant], None] = lambda _: None,
    ):
        self.settings = settings
        sets = image_sets(images, SHIFT if settings.data == "cifar10" else 0)
        torch.manual_seed(settings.seed)
        network = small_cnn(images.x_train.shape[1:])
        self.parameters = sum(p.numel() for p in network.parameters())

        self.training = batches(spread(sets.plain, EVALUATED_TRAINING_IMAGES), EVALUATION_BATCH)
        self.test = batches(sets.test, EVALUATION_BATCH)

        def contestant(name: str, make: Callable[..., Trainer], **options) -> Contestant:
            model = copy.deepcopy(network)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)
            trainer = make(
                model,
                optimizer,
                "cross_entropy",
                settings.batch_size,
                seed=settings.seed,
                **options,
            )
            loader = batches(sets.training, settings.batch_size, shuffle_seed=settings.seed)
            return Contestant(
                name, trainer, trainer.iterate(loader, seconds=settings.seconds), watch
            )

        self.uniform = contestant("uniform", Trainer.paper, control="never")
        self.paper = contestant("paper", Trainer.paper, presample=settings.presample)
        self.isample = contestant("isample", Trainer)
        self.contestants = (self.uniform, self.paper, self.isample)

    def run(self, after_evaluation: Callable[[Race], None] = lambda _: None) -> None:
        """Trains and evaluates all; `after_evaluation` is called each time all have been
        evaluated."""
        turns_each = math.ceil(self.settings.seconds / EVALUATIONS / TURN_SECONDS)
        turns = EVALUATIONS * turns_each
        for turn in range(turns + 1):
            for contestant in self.contestants[:: 1 if turn % 2 else -1]:
                contestant.train_until(self.settings.seconds * turn / turns)
            if turn % turns_each == 0:
                for contestant in self.contestants:
                    contestant.evaluate(self.training, self.test)
                after_evaluation(self)

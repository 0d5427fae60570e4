"""One run of an experiment: a method works until its budget is spent, is measured on the way, and
can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import isample
from bench.common.datasets import Sets

from ..checkpoint import load_checkpoint, save_checkpoint
from ..meter import Meter
from ..runfile import Point, Run, RunWriter
from ..training import Training
from .measurements import MEASURES
from .registry import Experiment

CHECKPOINT_SECONDS = 10.0  # of wall-clock time: what a kill can cost
DROP = 0.2  # the learning rate's factor at each drop


class Session:
    """A run's ``training``, the ``meter`` that drives its method, and the ``points`` so far."""

    def __init__(self, run: Run, experiment: Experiment, sets: Sets):
        torch.manual_seed(run.seed)
        self.run, self.experiment, self.sets = run, experiment, sets
        model = experiment.model(run.scale, run.normalisation, sets.classes).to(run.device).train()
        seconds, updates = (
            (run.budget, None) if experiment.updates is None else (math.inf, int(run.budget))
        )
        self.training = Training(
            experiment, sets, model, experiment.optimizer(model), seconds, run.seed, updates
        )
        self.meter = Meter(self.training, experiment.entrants[run.method])
        self.points: list[Point] = []

    def train(self) -> Iterator[bool | None]:
        """Trains from where the run stands, adds to ``points`` and yields after each unit of the
        method's work what the method does.

        A run that diverges ends with the point that shows it.
        """
        if not self.points:
            self.measure()
        due = self.next_due()
        try:
            while not self.done:
                active = self.meter.advance()
                self.set_learning_rate()
                if self.training.progress >= 1 or self.position >= due:
                    self.measure()
                    due = self.next_due()
                yield active
        except (isample.NonFiniteScoreError, isample.NonFiniteLossError):
            self.measure()

    def set_learning_rate(self) -> None:
        """That of the next unit of work."""
        drops = sum(self.training.progress >= share for share in self.experiment.drops)
        for group in self.training.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * DROP**drops

    @property
    def done(self) -> bool:
        """The budget is spent, or the training has diverged."""
        return self.training.progress >= 1 or self.points[-1].diverged

    @property
    def position(self) -> float:
        """How far the run is, in what ``every`` counts: updates or the share of the time."""
        return self.training.progress if self.experiment.updates is None else self.meter.updates

    def next_due(self) -> float:
        """Where the next measurement is due: at a multiple of ``every``, which shrinks with a
        budget of updates."""
        every = self.experiment.every
        if self.experiment.updates is not None:
            every = max(1, round(every * self.run.budget / self.experiment.updates))
        return every * (math.floor(self.position / every + 1e-9) + 1)

    def measure(self) -> None:
        measured = MEASURES[self.experiment.measure](self.meter, self.run.scale)
        self.points.append(self.meter.point(**measured))

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.training.model.state_dict(),
            "optimizer": self.training.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
            "points": [asdict(point) for point in self.points],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.training.model.load_state_dict(state["model"])
        self.training.optimizer.load_state_dict(state["optimizer"])
        self.meter.load_state_dict(state["meter"])
        self.points = [Point(**point) for point in state["points"]]


def do_run(session: Session, folder: Path) -> Iterator[bool | None]:
    """Does what is left of the session's run, yields as it does, and keeps the files in ``folder``
    up to date."""
    path = session.run.checkpoint(folder)
    state = load_checkpoint(path)
    if state is not None:
        session.load_state_dict(state)
    writer = RunWriter(session.run, folder, session.points)
    written, saved = len(session.points), time.monotonic()
    try:
        for active in session.train():
            # A measurement may take longer than the training between two, so it is saved at once.
            if written < len(session.points) or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                save_checkpoint(path, session.state_dict())
                saved = time.monotonic()
            for point in session.points[written:]:
                writer.point(point)
            written = len(session.points)
            yield active
        for point in session.points[written:]:
            writer.point(point)
        writer.end()
        path.unlink(missing_ok=True)
    finally:
        writer.close()

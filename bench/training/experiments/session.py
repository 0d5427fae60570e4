"""One run of an experiment: a method works until its budget is spent, is looked at on the way, and
can be resumed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import isample

from ..meter import Meter
from ..training import Training
from .data import Sets
from .looks import MEASURES
from .registry import Experiment
from .runfile import Point, Run, RunFileError, RunWriter, load_checkpoint, save_checkpoint

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
            self.look()
        due = self.next_look()
        try:
            while not self.done:
                active = self.meter.advance()
                self.set_learning_rate()
                if self.training.progress >= 1 or self.position >= due:
                    self.look()
                    due = self.next_look()
                yield active
        except isample.NonFiniteScoreError:
            self.look()

    def set_learning_rate(self) -> None:
        """That of the next unit of work."""
        drops = sum(self.training.progress >= share for share in self.experiment.drops)
        for group in self.training.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * DROP**drops

    @property
    def done(self) -> bool:
        """The budget is spent, or the training has diverged."""
        return self.training.progress >= 1 or not math.isfinite(
            self.points[-1].get("training_loss", 0.0)
        )

    @property
    def position(self) -> float:
        """How far the run is, in what ``every`` counts: updates or the share of the time."""
        return self.training.progress if self.experiment.updates is None else self.meter.updates

    def next_look(self) -> float:
        """The next multiple of ``every``, which shrinks with a budget of updates."""
        every = self.experiment.every
        if self.experiment.updates is not None:
            every = max(1, round(every * self.run.budget / self.experiment.updates))
        return every * (math.floor(self.position / every + 1e-9) + 1)

    def look(self) -> None:
        point = {"elapsed": self.meter.elapsed, "updates": self.meter.updates}
        self.points.append({**point, **MEASURES[self.experiment.measure](self)})

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.training.model.state_dict(),
            "optimizer": self.training.optimizer.state_dict(),
            "meter": self.meter.state_dict(),
            "points": self.points,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.training.model.load_state_dict(state["model"])
        self.training.optimizer.load_state_dict(state["optimizer"])
        self.meter.load_state_dict(state["meter"])
        self.points = state["points"]


def do_run(session: Session, folder: Path) -> Iterator[bool | None]:
    """Does what is left of the session's run, yields as it does, and keeps the files in ``folder``
    up to date."""
    path = session.run.checkpoint(folder)
    state = load_checkpoint(path)
    if state is not None and "meter" not in state:
        raise RunFileError(
            f"{path} is of an older version: delete it to do that run from its beginning"
        )
    if state is not None:
        session.load_state_dict(state)
    writer, written, saved = (
        RunWriter(session.run, folder, session.points),
        len(session.points),
        time.monotonic(),
    )
    try:
        for active in session.train():
            # A look may take longer than the training between two, so it is saved at once.
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

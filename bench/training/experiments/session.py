"""One run of an experiment: a trainer works until its budget is spent, is looked at on the way, and can be resumed."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Iterator

import torch
from torch.utils.data import DataLoader

import isample
from isample.demo.network import as_fetched

from .data import Sets
from .looks import MEASURES
from .registry import LOSS, Experiment
from .runfile import Point, Run, RunWriter, load_checkpoint, save_checkpoint

CHECKPOINT_SECONDS = 10.0  # of wall-clock time: what a kill can cost
DROP = 0.2  # the learning rate's factor at each drop


class Session:
    """A run's model, optimizer and trainer, the ``points`` so far, and its clocks: seconds of training, ``elapsed`` and
    ``active_seconds`` of them, and ``progress``, the share of the budget that is spent."""

    def __init__(self, run: Run, experiment: Experiment, sets: Sets):
        torch.manual_seed(run.seed)
        self.run, self.experiment, self.sets = run, experiment, sets
        self.device = torch.device(run.device)
        self.model = experiment.model(run.scale, run.normalisation, sets.classes).to(self.device).train()
        self.optimizer = experiment.optimizer(self.model)
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        self.trainer = experiment.entrants[run.method](
            self.model, self.optimizer, LOSS, experiment.batch_size,
            clip_grad_norm=experiment.clip_grad_norm, seed=run.seed,
        )  # fmt: skip
        self.points: list[Point] = []
        self.elapsed = self.active_seconds = self.progress = 0.0

    def train(self) -> Iterator[isample.StepReport]:
        """Trains from where the run stands, adds to ``points`` and yields each step's report.

        A run that diverges ends with the point that shows it.
        """
        if not self.points:
            self.look()
        due = self.next_look()
        try:
            for report in () if self.done else self.trainer.iterate(self.loader(), **self.budget()):
                self.account(report)
                if self.progress >= 1 or self.position >= due:
                    self.look()
                    due = self.next_look()
                yield report
                if self.done:
                    return
        except isample.NonFiniteScoreError:
            self.look()

    def loader(self) -> DataLoader:
        """Shuffled by torch's own generator, which the trainer saves: so a resumed epoch deals the same batches."""
        size = self.experiment.batch_size
        return DataLoader(self.sets.training, size, shuffle=True, drop_last=True, collate_fn=as_fetched)

    def budget(self) -> dict[str, float]:
        """For the trainer, which counts time or epochs: so many epochs have that many updates at least."""
        return {"seconds": self.run.budget} if self.experiment.updates is None else {"epochs": self.run.budget}

    def account(self, report: isample.StepReport) -> None:
        """The clocks after a step, and the learning rate of the next."""
        self.active_seconds += (report.elapsed - self.elapsed) * report.active
        self.elapsed = report.elapsed
        spent = self.elapsed if self.experiment.updates is None else self.trainer.step_count
        self.progress = min(1.0, spent / self.run.budget)
        drops = sum(self.progress >= share for share in self.experiment.drops)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * DROP**drops

    @property
    def done(self) -> bool:
        """The budget is spent, or the training has diverged."""
        return self.progress >= 1 or not math.isfinite(self.points[-1].get("training_loss", 0.0))

    @property
    def position(self) -> float:
        """How far the run is, in what ``every`` counts: updates or the share of the time."""
        return self.progress if self.experiment.updates is None else self.trainer.step_count

    def next_look(self) -> float:
        """The next multiple of ``every``, which shrinks with a budget of updates."""
        every = self.experiment.every
        if self.experiment.updates is not None:
            every = max(1, round(every * self.run.budget / self.experiment.updates))
        return every * (math.floor(self.position / every + 1e-9) + 1)

    def look(self) -> None:
        point = {"elapsed": self.elapsed, "updates": self.trainer.step_count}
        self.points.append({**point, **MEASURES[self.experiment.measure](self)})

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trainer": self.trainer.state_dict(),
            "points": self.points,
            "clocks": [self.elapsed, self.active_seconds, self.progress],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.trainer.load_state_dict(state["trainer"])
        self.points = state["points"]
        self.elapsed, self.active_seconds, self.progress = state["clocks"]


def do_run(session: Session, folder: Path) -> Iterator[isample.StepReport]:
    """Does what is left of the session's run, yields after each step, and keeps the files in ``folder`` up to date."""
    path = session.run.checkpoint(folder)
    state = load_checkpoint(path)
    if state is not None:
        session.load_state_dict(state)
    writer, written, saved = RunWriter(session.run, folder, session.points), len(session.points), time.monotonic()
    try:
        for report in session.train():
            # A look may take longer than the training between two, so it is saved at once.
            if written < len(session.points) or time.monotonic() - saved >= CHECKPOINT_SECONDS:
                save_checkpoint(path, session.state_dict())
                saved = time.monotonic()
            for point in session.points[written:]:
                writer.point(point)
            written = len(session.points)
            yield report
        for point in session.points[written:]:
            writer.point(point)
        writer.end()
        path.unlink(missing_ok=True)
    finally:
        writer.close()

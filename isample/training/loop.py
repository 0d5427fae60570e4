"""The loop around the engine: epochs, time, and the place to resume from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from isample.engine import Engine
from isample.sources.epochs import length_of
from isample.sources.loader import Loader
from isample.support.checks import check_count, check_loader
from isample.support.interrupts import INTERRUPTS, undone_after_failure
from isample.training.step import Step
from isample.values import StepReport


class Done:
    """What follows the last event of a run."""


DONE = Done()


class Loop:
    """Trains by ``step`` on the batches of a loader, for so many epochs or seconds.

    ``progress`` is the spent share of the budget, ``elapsed`` the present run's training time in
    seconds.
    """

    def __init__(self, engine: Engine, step: Step):
        self.engine: Engine = engine
        self.step: Step = step
        self.progress: float = 0.0
        self._before = 0.0  # the engine's seconds when the run began
        self._loader: Loader | None = None
        self._resumed: dict[str, Any] | None = None
        self._ends = False  # an epoch, whose end nobody has dealt with

    @property
    def elapsed(self) -> float:
        return self.engine.elapsed - self._before

    def run(
        self, loader: Loader, epochs: int | None, seconds: float | None
    ) -> Iterator[StepReport | None]:
        """Yields each step's report, and None at each epoch's end; the clock stands meanwhile.

        A run that follows another begins with a whole epoch, wherever that one was broken off. One
        that was resumed goes on where the saved run stood. A run over ``seconds`` may end within an
        epoch, and yields no None for it.
        """
        self.step.update.finish()
        self.engine.forget()
        follows, self._loader = self._loader is not None, loader
        if self._resumed is None:
            self._before, self._ends = self.engine.elapsed, False
            if follows:
                loader.source.restart()
        else:
            self._before = self.engine.elapsed - self._resumed["elapsed"]
            loader.load_state_dict(self._resumed["loader"])
            self._ends = self._resumed.get("ends", False)  # unknown to version 1
            self._resumed = None
        return self._guarded(self._steps(loader, epochs or math.inf, seconds or math.inf))

    def _guarded(self, events: Iterator[StepReport | None]) -> Iterator[StepReport | None]:
        """Ctrl-C waits for the end of an update."""
        update = self.step.update
        with self.guarded():
            while True:
                INTERRUPTS.hold()
                event = next(events, DONE)
                if update.pending == 0:
                    INTERRUPTS.release()
                if isinstance(event, Done):
                    return
                yield event

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Ctrl-C is held until it is released; after an exception nothing is half done."""
        with INTERRUPTS.handled(), undone_after_failure():
            try:
                yield
            except GeneratorExit:  # of a caller that goes on, or begins another run
                if self.step.update.pending:
                    INTERRUPTS.release()
                raise
            except BaseException:
                self.engine.put_back()
                self.step.update.discard()
                INTERRUPTS.release()
                raise

    @contextmanager
    def ending(self) -> Iterator[None]:
        """What follows an epoch is done once, though Ctrl-C comes or the run is resumed."""
        INTERRUPTS.hold()
        yield
        self._ends = False
        INTERRUPTS.release()

    def _steps(self, loader: Loader, epochs: float, seconds: float) -> Iterator[StepReport | None]:
        clock = self.engine.steps.clock
        clock.restart()
        if self._ends:  # the saved run was broken off at the end of an epoch
            with clock.paused():
                yield None
            self._ends = False
        while loader.epoch < epochs and self.elapsed < seconds:
            begun, length = loader.batches, length_of(loader.loader)
            for batch in loader.tickets():
                report = self.step(batch)
                elapsed = report.elapsed = self.elapsed
                done = loader.epoch + (loader.batches / length if length else 0.0)
                self.progress = min(1.0, max(done / epochs, elapsed / seconds))
                with clock.paused():
                    yield report
                if elapsed >= seconds:
                    self._stop()
                    return
                begun = loader.batches
            if begun == 0:
                raise ValueError("loader must yield at least one batch an epoch; got an empty one")
            self.step.update.finish()
            self._ends = True
            with clock.paused():
                yield None
            self._ends = False
        self._stop()
        self.progress = 1.0

    def _stop(self) -> None:
        self.step.update.finish()
        self.engine.steps.stop()

    def state_dict(self) -> dict[str, Any]:
        if self._resumed is not None:
            return self._resumed  # no run has taken it up yet
        loader = None if self._loader is None else self._loader.state_dict()
        return {"loader": loader, "elapsed": self.elapsed, "ends": self._ends}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._resumed = state if state["loader"] is not None else None


def check_budget(
    loader: Iterable[Any], epochs: int | None, seconds: float | None, batch_size: int
) -> None:
    check_loader("loader", loader)
    if (epochs is None) == (seconds is None):
        raise ValueError(
            "exactly one of epochs and seconds must be given; "
            f"got epochs={epochs}, seconds={seconds}"
        )
    if epochs is not None:
        check_count("epochs", epochs)
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be > 0; got {seconds}")
    if length_of(loader) == 0:
        raise ValueError("loader must yield at least one batch an epoch; got an empty one")
    given = getattr(loader, "batch_size", None)
    if given is not None and given != batch_size:
        raise ValueError(
            f"loader's batch_size must be the trainer's ({batch_size}); got {given} "
            f"(build Trainer with batch_size={given})"
        )

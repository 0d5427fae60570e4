"""The loop around the engine: epochs, time, and the place to resume from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any

from isample.engine import Engine
from isample.sources.loader import Loader
from isample.support.checks import check_count, check_loader
from isample.values import Batch, StepReport

Train = Callable[[Batch], StepReport]


class Loop:
    """Trains by ``train`` on the batches of a loader, for so many epochs or seconds.

    ``progress`` is the spent share of the budget, ``elapsed`` the present run's training time in
    seconds.
    """

    def __init__(self, engine: Engine, train: Train):
        self.engine: Engine = engine
        self.train: Train = train
        self.progress: float = 0.0
        self._before = 0.0  # the engine's seconds when the run began
        self._loader: Loader | None = None
        self._resumed: dict[str, Any] | None = None

    @property
    def elapsed(self) -> float:
        return self.engine.elapsed - self._before

    @property
    def epoch(self) -> int:
        """The present one; 0 before the first run."""
        return 0 if self._loader is None else self._loader.epoch

    def run(
        self, loader: Loader, epochs: int | None, seconds: float | None
    ) -> Iterator[StepReport]:
        """Yields each step's report; the clock stands while the caller holds it."""
        self._loader = loader
        if self._resumed is None:
            self._before = self.engine.elapsed
        else:
            self._before = self.engine.elapsed - self._resumed["elapsed"]
            loader.load_state_dict(self._resumed["loader"])
            self._resumed = None
        return self._steps(loader, epochs or math.inf, seconds or math.inf)

    def _steps(self, loader: Loader, epochs: float, seconds: float) -> Iterator[StepReport]:
        clock = self.engine.steps.clock
        clock.tick()
        while loader.epoch < epochs and self.elapsed < seconds:
            begun, length = loader.batches, length_of(loader.loader)
            for batch in loader.tickets():
                report = self.train(batch)
                elapsed = report.elapsed = self.elapsed
                done = loader.epoch + (loader.batches / length if length else 0.0)
                self.progress = min(1.0, max(done / epochs, elapsed / seconds))
                clock.pause()
                try:
                    yield report
                finally:
                    clock.resume()
                if elapsed >= seconds:
                    self.engine.steps.stop()
                    return
                begun = loader.batches
            if begun == 0:
                raise ValueError("loader must yield at least one batch an epoch; got an empty one")
        self.engine.steps.stop()
        self.progress = 1.0

    def with_epoch_ends(
        self, steps: Iterator[StepReport]
    ) -> Iterator[tuple[StepReport | None, bool]]:
        """(report, False) for a step, (None, True) for the end of an epoch.

        An end shows when the next epoch begins.
        """
        epoch = None
        for report in steps:
            if epoch is not None and self.epoch != epoch:
                yield None, True
            epoch = self.epoch
            yield report, False
        yield None, True

    def state_dict(self) -> dict[str, Any]:
        loader = None if self._loader is None else self._loader.state_dict()
        return {"loader": loader, "elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._resumed = state if state["loader"] is not None else None


def length_of(loader: Iterable[Any]) -> int | None:
    """The loader's batches an epoch, where it knows them: a DataLoader over a stream does not."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:
        return None


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

"""The clocks and counters of a run, which drive its method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from .training import Method, Training


class Meter:
    """Makes the method of ``training`` and lets it work, a unit at a time.

    Wall-clock time counts from when the method is asked for its next unit of work until it has done
    it, data loading and whatever the method prepares there included; nothing else counts.
    ``elapsed`` are those seconds, ``cpu_seconds`` those of them that the process had a core,
    ``active_seconds`` those of importance-sampled units, None for a method that tells of none;
    ``updates`` are the optimizer's steps.
    """

    def __init__(self, training: Training, make: Callable[[Training], Method]):
        self.training = training
        self.elapsed = self.cpu_seconds = 0.0
        self.active_seconds: float | None = None
        self.updates = 0
        self.method: Method = make(training)
        self._steps: Iterator[bool | None] = iter(self.method)
        training.optimizer.register_step_post_hook(
            self._count
        )  # a method may have put another in its place

    def _count(self, *_) -> None:
        self.updates += 1

    def advance(self) -> bool | None:
        """Lets the method work until it yields, on the clock; what it yielded."""
        cpu_began, began = (
            time.process_time(),
            time.perf_counter(),
        )  # in this order: the former is slow on some
        try:
            active = next(self._steps)
        except StopIteration:
            message = (
                f"a method must go on until its time is spent; it ended after {self.elapsed:.1f} s"
            )
            raise RuntimeError(message) from None
        seconds = time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began
        self.elapsed += seconds
        if active is not None:
            self.active_seconds = (self.active_seconds or 0.0) + seconds * active
        training = self.training
        spent = (
            self.elapsed / training.seconds
            if training.updates is None
            else self.updates / training.updates
        )
        training.progress = min(1.0, spent)
        return active

    def state_dict(self) -> dict[str, Any]:
        """The method's state and the counters; for methods that can be resumed."""
        counters = [
            self.elapsed,
            self.cpu_seconds,
            self.active_seconds,
            self.updates,
            self.training.progress,
        ]
        return {"method": self.method.state_dict(), "counters": counters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """To be called before the first ``advance``."""
        self.method.load_state_dict(state["method"])
        (
            self.elapsed,
            self.cpu_seconds,
            self.active_seconds,
            self.updates,
            self.training.progress,
        ) = state["counters"]

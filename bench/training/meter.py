"""The clocks and counters of a run, which drive its method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

import isample
from bench.common import machine

from .runfile import Point
from .training import Method, Told, Training

KINDS = ("plain", "memory", "thinned", "presample")  # of steps


class Meter:
    """Makes the method of ``training`` and lets it work, a unit at a time.

    Wall-clock time counts from when the method is asked for its next unit of work until it has done
    it, data loading and whatever the method prepares there included; nothing else counts. A GPU is
    waited for before each reading of a clock, so that its work counts where it was asked for.
    ``elapsed`` are those seconds, ``cpu_seconds`` those of them that the process had a core,
    ``active_seconds`` those of importance-sampled units, None for a method that tells of none,
    ``kinds`` those of each of `KINDS`, of a method that yields reports; ``updates`` are the
    optimizer's steps.
    """

    saved = ("elapsed", "cpu_seconds", "active_seconds", "kinds", "updates")

    def __init__(self, training: Training, make: Callable[[Training], Method]):
        self.training = training
        self.elapsed = self.cpu_seconds = 0.0
        self.active_seconds: float | None = None
        self.kinds: dict[str, float] = {}
        self.updates = 0
        self.method: Method = make(training)
        self._steps: Iterator[Told] = iter(self.method)
        # A method may have put another optimizer in its place.
        training.optimizer.register_step_post_hook(self._count)

    def _count(self, *_) -> None:
        self.updates += 1

    def _wait(self) -> None:
        device = self.training.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def advance(self) -> bool | None:
        """Lets the method work until it yields, on the clock; whether that was importance-sampled,
        None where the method does not tell."""
        self._wait()
        # In this order: the former is slow on some systems.
        cpu_began, began = time.process_time(), time.perf_counter()
        try:
            told = next(self._steps)
        except StopIteration:
            message = (
                f"a method must go on until its time is spent; it ended after {self.elapsed:.1f} s"
            )
            raise RuntimeError(message) from None
        self._wait()
        seconds = time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu_began
        self.elapsed += seconds
        active = told.active if isinstance(told, isample.StepReport) else told
        if active is not None:
            self.active_seconds = (self.active_seconds or 0.0) + seconds * active
        if isinstance(told, isample.StepReport):
            kind = kind_of(told, self.training.batch_size)
            self.kinds[kind] = self.kinds.get(kind, 0.0) + seconds
        training = self.training
        spent = (
            self.elapsed / training.seconds
            if training.updates is None
            else self.updates / training.updates
        )
        training.progress = min(1.0, spent)
        return active

    def point(self, **measured: Any) -> Point:
        """The clocks and counters now, and what was ``measured``."""
        return Point(
            elapsed=self.elapsed,
            updates=self.updates,
            cpu_seconds=self.cpu_seconds,
            load=machine.load(),
            active_seconds=self.active_seconds,
            kinds=dict(self.kinds),
            **measured,
        )

    def state_dict(self) -> dict[str, Any]:
        """The method's state and the counters; for methods that can be resumed."""
        counters = {name: getattr(self, name) for name in self.saved}
        return {
            "method": self.method.state_dict(),
            "counters": {**counters, "kinds": dict(self.kinds)},
            "progress": self.training.progress,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """To be called before the first ``advance``."""
        self.method.load_state_dict(state["method"])
        for name in self.saved:
            setattr(self, name, state["counters"][name])
        self.kinds = dict(self.kinds)
        self.training.progress = state["progress"]


def kind_of(report: isample.StepReport, batch_size: int) -> str:
    """The first of these that a step was: out of a scored presample, on fewer samples than a batch,
    drawn by remembered scores, plain."""
    if report.scored > batch_size:
        return "presample"
    if 0 < report.kept < batch_size:  # 0: the report does not say
        return "thinned"
    return "memory" if report.active else "plain"

"""Clocks: whole steps from batch to batch, and stretches of work on a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


class StepClock:
    """Times what lies between two ticks, pauses left out, in seconds of the host.

    A stopwatch around isample's own code misses most of its cost: emptied caches, woken threads. So
    this clock times whole steps.

    ``began`` is the time of the last tick by ``time.perf_counter()``, pauses added.
    """

    def __init__(self) -> None:
        self.began: float = 0.0
        self._runs = False
        self._stands_at: float | None = None  # in a pause
        self._pauses = 0  # of which one may hold another

    @property
    def running(self) -> float:
        """Seconds since the last tick; 0 before the first."""
        now = time.perf_counter() if self._stands_at is None else self._stands_at
        return now - self.began if self._runs else 0.0

    def tick(self) -> float:
        """Seconds since the last tick; 0 for the first."""
        now = time.perf_counter() if self._stands_at is None else self._stands_at
        seconds = now - self.began if self._runs else 0.0
        self.began, self._runs = now, True
        return seconds

    def stop(self) -> None:
        """The next tick is a first one."""
        self._runs = False

    def restart(self) -> None:
        """A first tick, after pauses that an exception may have broken off."""
        self._stands_at, self._pauses, self._runs = None, 0, False
        self.tick()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands within it; it may be nested."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def pause(self) -> None:
        """The clock stands until :meth:`resume`."""
        if self._pauses == 0:
            self._stands_at = time.perf_counter()
        self._pauses += 1

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and self._stands_at is not None:
            self.began += time.perf_counter() - self._stands_at
            self._stands_at = None


def start_timer(device: torch.device) -> Callable[[], Callable[[], float]]:
    """Starts a clock. A call of what is returned stops it and returns a reader of the seconds.

    On a GPU the clock is a pair of events, and nothing waits. Call the reader once the work is
    done.
    """
    if device.type != "cuda":
        begin = time.perf_counter()

        def stop():
            seconds = time.perf_counter() - begin
            return lambda: seconds

        return stop
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()

    def stop_events():
        last.record()
        return lambda: first.elapsed_time(last) / 1e3

    return stop_events

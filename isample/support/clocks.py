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


class Lap:
    """A stretch of a device's time, in parts between two events each; some may be under way."""

    def __init__(self, parts: list[tuple[torch.cuda.Event, torch.cuda.Event]]):
        self._parts = parts

    @property
    def is_over(self) -> bool:
        return not self._parts or self._parts[-1][1].query()

    def seconds(self) -> float:
        """Waits for its end."""
        for _, last in self._parts:
            last.synchronize()
        return sum(first.elapsed_time(last) for first, last in self._parts) / 1e3


class DeviceClock(StepClock):
    """A host's clock, and beside it a GPU's: a host that queues work ahead of a device sees the
    time of queueing, and of a later wait.

    The device's time is told in laps, pauses left out. Nothing here waits.
    """

    def __init__(self, device: torch.device):
        super().__init__()
        self._device = device
        self._begun: torch.cuda.Event | None = None  # the part of a lap that is under way
        self._parts: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def lap(self) -> Lap:
        """What the device took since the last one, or since the first tick."""
        parts, self._parts = self._parts, []
        if self._begun is not None:
            now = recorded(self._device)  # ends this one and begins the next
            parts.append((self._begun, now))
            self._begun = now
        return Lap(parts)

    def tick(self) -> float:
        seconds = super().tick()
        if self._begun is None:
            self._go_on()
        return seconds

    def stop(self) -> None:
        super().stop()
        self._begun, self._parts = None, []

    def restart(self) -> None:
        self._begun, self._parts = None, []
        super().restart()

    def pause(self) -> None:
        self._break_off()
        super().pause()

    def resume(self) -> None:
        super().resume()
        if self._begun is None:
            self._go_on()

    def _break_off(self) -> None:
        if self._begun is not None:
            self._parts.append((self._begun, recorded(self._device)))
            self._begun = None

    def _go_on(self) -> None:
        if self._runs and self._stands_at is None:
            self._begun = recorded(self._device)


def clock_of(device: torch.device) -> StepClock:
    """Of the steps on ``device``."""
    return DeviceClock(device) if device.type == "cuda" else StepClock()


def recorded(device: torch.device) -> torch.cuda.Event:
    """An event on the present stream of ``device``, which need not be the current device."""
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def start_timer(device: torch.device) -> Callable[[], Callable[[], float]]:
    """Starts a clock. A call of what is returned stops it and returns a reader of the seconds.

    On a GPU the clock is a pair of events, and nothing waits but the reader, where the work is not
    done.
    """
    if device.type != "cuda":
        begin = time.perf_counter()

        def stop():
            seconds = time.perf_counter() - begin
            return lambda: seconds

        return stop
    first = recorded(device)
    return lambda: Lap([(first, recorded(device))]).seconds

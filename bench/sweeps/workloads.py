"""The trainings that are simulated: what a step takes, what there is to gain, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bench.sweeps.scores import BATCH
from isample.control.base import Choices

BY_MEMORY = (1, 1.5, 2, 3, 5, 8, 12)
STREAMED = (1, 2, 3, 5)


def level(value: float) -> Callable[[float], float]:
    return lambda progress: value


def from_to(start: float, end: float) -> Callable[[float], float]:
    return lambda progress: start + (end - start) * progress


def falling_rate(progress: float) -> float:
    """u of a learning rate that falls linearly to 0, may be raised to twice the highest, and ten
    times at most."""
    return min(2.0 / max(1.0 - progress, 0.2), 10.0)


@dataclass(frozen=True)
class Workload:
    """Times are in milliseconds; what changes is a function of the progress, from 0 to 1."""

    name: str
    width: Callable[[float], float]
    """Of the scores."""
    quality: float | None = 0.9
    """The memory's draws are worth exp(quality width^2); None: there is no memory."""
    use: Callable[[float], float] = falling_rate
    """u."""
    gained: float = 1.0
    """The part of a gain beyond 1 that is really gained in time."""
    fixed: float = 0.5
    remember: float = 0.1
    score: float = 1.5
    """Of a batch."""
    train: float = 4.5
    """Of a batch."""
    ratios: tuple[float, ...] = BY_MEMORY
    thins: bool = True
    with_replacement: bool = False
    told: float = 0.6
    """The part of ``remember`` that isample's own clocks see."""
    jitter: float = 0.08
    pauses: float = 0.005
    """The share of steps that take twenty times as long."""
    busy: float = 0.0
    """By how much all else slows a step, in every other stretch of some fifty steps."""
    slows: float = 1.0
    """By what all steps take longer from the middle on."""
    cold: float = 1.0
    """By how much the first step of another kind takes longer."""
    delay: int = 0
    """Steps from a plan to the step that it was made for."""
    coarse: float = 1.05
    """C: by how much scored draws are noisier than foretold."""
    bounded: bool = False
    epoch: int = 200
    """Scored steps before a memory foretells anything."""
    steps: int = 3000

    @property
    def choices(self) -> Choices:
        sizes = tuple(int(BATCH * ratio) for ratio in self.ratios)
        remembers = self.quality is not None
        return Choices(BATCH, remembers, sizes, self.thins, self.with_replacement)


def workloads() -> list[Workload]:
    digits = Workload("digits", from_to(0.8, 2.0))
    pictures = Workload("pictures", from_to(0.3, 0.65), fixed=1.0, score=3.3, train=9.0)
    nothing = Workload("nothing", level(0.15), fixed=0.6, score=0.5, train=1.4)
    stream = Workload("stream", from_to(0.8, 2.0), quality=None, ratios=STREAMED, score=0.8)
    return [
        nothing,
        replace(nothing, name="nothing, 1 ms", fixed=0.3, score=0.3, train=0.7),
        replace(nothing, name="nothing, stream", quality=None, ratios=STREAMED),
        replace(nothing, name="nothing, hidden overhead", remember=2.0, told=0.04),
        digits,
        replace(digits, name="digits, no use of gain", use=level(1.0)),
        replace(digits, name="digits, 30 % jitter", jitter=0.3),
        replace(digits, name="digits, busy machine", busy=0.3, jitter=0.15),
        replace(digits, name="digits, slower by half", slows=1.5),
        replace(digits, name="digits, workers ahead", delay=48),
        replace(digits, name="digits, no thinning", thins=False),
        pictures,
        replace(pictures, name="pictures, no use of gain", use=level(1.0)),
        Workload("wrong labels", level(0.55), gained=0.0, bounded=True, use=level(2.0)),
        stream,
        replace(stream, name="stream, with replacement", with_replacement=True, thins=False),
        replace(stream, name="stream, thinning", width=level(2.0), use=level(1.0), score=1.5),
        replace(stream, name="stream, workers ahead", delay=64, width=level(0.8), score=12.0),
        replace(stream, name="stream, scoring dear", width=level(1.5), score=6.0),
        replace(stream, name="stream, thinning dear", use=level(1.0), width=level(2.0), score=4.6),
    ]

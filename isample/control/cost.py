"""What a step takes, by what is done in it.

    T = t0 + o [scores are remembered] + f (scored / b) + c (kept / b)

o is what isample's own clocks see of it, an average, and a rest that they miss. The other numbers
are fitted to measured steps by recursive least squares, in the form of a Kalman filter: between two
steps all four may drift together, as where a machine becomes slower, and each a little by itself.
So what was not tried for long is known less and less, and by how much is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from isample.control.base import Settings

SIZE = 4
NOISE = 0.1  # of a step's time, before it was seen
LEAST = 1e-9  # seconds, in place of 0 as a divisor


class Kind(NamedTuple):
    """What T is linear in."""

    fixed: float
    remembers: float
    scored: float
    kept: float


class CostState(NamedTuple):
    parts: tuple[float, ...] = ()
    """t0, rest of o, f, c in seconds; empty before a step was believed."""
    spread: tuple[float, ...] = ()
    """Their covariance, row by row."""
    noise: float = NOISE
    """A step's standard error, in units of the step."""
    overhead: float = 0.0
    """Seconds, an average."""
    kind: Kind = Kind(0.0, 0.0, 0.0, 0.0)
    """Of the last step."""
    alike: int = 0
    """Steps of that kind in a row."""
    count: int = 0
    """Of them, those that wait to be told to the filter."""
    total: float = 0.0
    """Their seconds."""


class Cost:
    """T of any kind of step, and how well it is known; see the module."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.slowly: float = 1.0 / (1.0 - settings.decay)

    def clock(self, state: CostState, kind: Kind, seconds: float, overhead: float) -> CostState:
        """A step of a ``kind`` that took so many ``seconds``."""
        parts, spread, noise, known, last, alike, count, total = state
        if kind != last:
            if count:
                parts, spread = self._told(parts, spread, noise, last, count, total)
            alike = count = 0
            total = 0.0
        alike += 1
        if kind.remembers and not kind.scored:
            known = known + (overhead - known) / min(alike, self.slowly) if known else overhead
        own = seconds - known * kind.remembers
        if alike <= self.settings.cold:
            if parts:
                parts, spread = self._told(parts, spread, self.settings.cold_noise, kind, 1, own)
            return CostState(parts, spread, noise, known, kind, alike, count, total)
        if not parts:
            parts, spread = self._begun(max(own, LEAST))
        expected, error = foretell(parts, spread, kind)
        error = self.settings.clip * math.sqrt(error * error + (noise * expected) ** 2)
        residual = min(max(own - expected, -error), error)
        noise += (abs(residual) / max(expected, LEAST) * 1.25 - noise) / self.slowly
        count, total = count + 1, total + expected + residual
        if count >= self.settings.every:
            parts, spread = self._told(parts, spread, noise, kind, count, total)
            count, total = 0, 0.0
        return CostState(parts, spread, noise, known, kind, alike, count, total)

    def seconds(self, state: CostState, kind: Kind) -> float:
        """T; NaN before a step was believed."""
        if not state.parts:
            return math.nan
        known = state.overhead * kind.remembers
        return max(known + sum([max(a, 0.0) * b for a, b in zip(state.parts, kind)]), LEAST)

    def doubt(self, state: CostState, one: Kind, other: Kind) -> float:
        """The standard error of the difference of their T, in seconds."""
        apart = [a - b for a, b in zip(one, other)]
        return math.sqrt(max(quadratic(state.spread, apart), 0.0))

    def _begun(self, seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Parts and spread by the first step that is believed, whose scale may be off by itself."""
        parts = tuple([share * seconds for share in self.settings.prior])
        alone = [(share * seconds) ** 2 for share in self.settings.prior_spread]
        spread = [
            parts[i] * parts[j] + (alone[i] if i == j else 0.0)
            for i in range(SIZE)
            for j in range(SIZE)
        ]
        return parts, tuple(spread)

    def _told(self, parts, spread, noise, kind, count, total):
        """Parts and spread after ``count`` steps of a ``kind`` that took ``total`` seconds."""
        together = count * self.settings.drift**2
        scale = sum(max(part, 0.0) for part in (parts[0], parts[3]))
        alone = 1.0 + count * self.settings.fading
        spread = [
            spread[SIZE * i + j] * (alone if i == j else 1.0) + together * parts[i] * parts[j]
            for i in range(SIZE)
            for j in range(SIZE)
        ]
        for i in range(SIZE):  # no part is known less than before anything was
            most = max(self.settings.prior_spread[i] * scale, parts[i]) ** 2
            if spread[SIZE * i + i] > most > 0:
                shrink = math.sqrt(most / spread[SIZE * i + i])
                for j in range(SIZE):
                    spread[SIZE * i + j] *= shrink
                    spread[SIZE * j + i] *= shrink
        residual = total / count - sum(a * b for a, b in zip(parts, kind))
        known = (noise * total / count) ** 2 / count + 1e-30
        surprise = residual**2 - self.settings.clip**2 * (quadratic(spread, kind) + known)
        if surprise > 0:  # which part of it changed is not known
            for i in range(SIZE):
                spread[(SIZE + 1) * i] += surprise * (kind[i] > 0)
        along = [sum(spread[SIZE * i + j] * kind[j] for j in range(SIZE)) for i in range(SIZE)]
        variance = sum(a * b for a, b in zip(along, kind)) + known
        parts = [part + a * residual / variance for part, a in zip(parts, along)]
        spread = [
            spread[SIZE * i + j] - along[i] * along[j] / variance
            for i in range(SIZE)
            for j in range(SIZE)
        ]
        for i in range(SIZE):
            if parts[i] < 0.0 < spread[(SIZE + 1) * i]:  # nothing takes less than no time
                less = parts[i] / spread[(SIZE + 1) * i]
                parts = [part - less * spread[SIZE * i + j] for j, part in enumerate(parts)]
        return tuple(parts), tuple(spread)


def foretell(parts: Sequence[float], spread: Sequence[float], kind: Kind) -> tuple[float, float]:
    """Seconds without what the clocks see, and their standard error."""
    expected = parts[0] * kind[0] + parts[1] * kind[1] + parts[2] * kind[2] + parts[3] * kind[3]
    return expected, math.sqrt(max(quadratic(spread, kind), 0.0))


def quadratic(spread: Sequence[float], vector: Sequence[float]) -> float:
    """v S v of a symmetric S, row by row."""
    a, b, c, d = vector
    p = spread
    return (
        a * (a * p[0] + 2.0 * (b * p[1] + c * p[2] + d * p[3]))
        + b * (b * p[5] + 2.0 * (c * p[6] + d * p[7]))
        + c * (c * p[10] + 2.0 * d * p[11])
        + d * d * p[15]
    )

"""How noisy a batch would be under any plan, from the moments of those that were seen.

V is the noise in units of a uniform batch of b samples, and 1 / V the gain. Of k samples that the
memory draws, whose draws are worth m uniform ones each, and of k that are kept of B candidates of a
prior gain m (1 where they are dealt):

    V = (b / k) / m                        drawn by memory
    V = C (b / B) / m * v(k / B)           scored, kept without replacement
    V = (b / B) / m + C rho b / k          scored, drawn with replacement

v is what :class:`isample.values.Thinning` measures, rho = E[g]^2 / E[g^2]. C is by how much drawn
batches were found to be noisier than foretold: scores of a scoring pass are not quite those of
training.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import NamedTuple

from isample.control.base import Choices, Settings
from isample.values import KEEP_FRACTIONS, Observation, Thinning


class Ratio(NamedTuple):
    """Decayed sums of two moments; they fade with every step, seen or not."""

    above: float = 0.0
    below: float = 0.0
    weight: float = 0.0
    step: int = 0
    """The last one that was seen."""


class Parts(NamedTuple):
    """Decayed sums of :class:`isample.values.Thinning`."""

    whole: float = 0.0
    parts: tuple[float, ...] = (0.0,) * len(KEEP_FRACTIONS)
    weight: float = 0.0
    step: int = 0


class NoiseState(NamedTuple):
    step: int = 0
    memory: Ratio = Ratio()
    """E[(w g)^2] over E[g^2] of what the memory draws: 1 / m."""
    rho: Ratio = Ratio()
    dealt: Parts = Parts()
    recalled: Parts = Parts()
    found: Ratio = Ratio()
    """E[(w g)^2] over E[g^2] of batches drawn from candidates."""
    foretold: Ratio = Ratio()
    """The same as their candidates foretold it."""
    bounded: bool = False
    gain_cap: float = 1.0
    informed: bool = True
    """Whether a gain is of use yet: a memory's first epoch raises no rate."""


class Noise:
    """V of any plan; see the module."""

    def __init__(self, choices: Choices, settings: Settings):
        self.choices: Choices = choices
        self.decay: float = settings.decay
        self.enough: float = settings.enough

    def pass_by(self, state: NoiseState, seen: Observation) -> NoiseState:
        """:meth:`observe` of a step that told nothing."""
        sums = state[1:7]
        return NoiseState(state.step + 1, *sums, seen.bounded, seen.gain_cap, seen.informed)

    def observe(self, state: NoiseState, seen: Observation) -> NoiseState:
        step = state.step + 1
        memory, rho, dealt, recalled = state.memory, state.rho, state.dealt, state.recalled
        found, foretold = state.found, state.foretold
        moments, thinning = seen.memory, seen.thinning
        if moments is not None:
            if seen.informed:
                memory = self._add(memory, moments.importance, moments.uniform, step)
            rho = self._add(rho, moments.mean**2, moments.uniform, step)
        elif seen.tau == seen.tau:
            rho = self._add(rho, 1.0, seen.tau**2, step)
        if thinning is not None and thinning.whole > 0:
            if seen.by_memory:
                recalled = self._thin(recalled, thinning, step)
            else:
                dealt = self._thin(dealt, thinning, step)
        if seen.fresh is not None and seen.scored:
            moment, left = self._left(seen)
            if moment > 0 and left > 0 and seen.fresh.importance > 0:
                # These fade with draws only: what scoring is like changes little.
                at = found.step + 1
                found = self._add(found, seen.fresh.importance, seen.fresh.uniform, at)
                foretold = self._add(foretold, left, moment, at)
        return NoiseState(
            step,
            memory,
            rho,
            dealt,
            recalled,
            found,
            foretold,
            seen.bounded,
            seen.gain_cap,
            seen.informed,
        )

    def memory_gain(self, state: NoiseState) -> float:
        """m, NaN before enough was seen."""
        memory = state.memory
        return memory.below / memory.above if self._known(memory, state.step) else math.nan

    def coarseness(self, state: NoiseState) -> float:
        """C, which is 1 until draws show otherwise: as many of them as make the noise known."""
        found, foretold = state.found, state.foretold
        if not found.weight:
            return 1.0
        ratio = (found.above / found.below) / (foretold.above / foretold.below)
        return (self.enough + found.weight * ratio) / (self.enough + found.weight)

    def of_memory(self, state: NoiseState, keep: int) -> float:
        """V of ``keep`` draws by memory; NaN before it is known."""
        return self.choices.batch_size / keep / self.memory_gain(state)

    def of_scored(self, state: NoiseState, by_memory: bool, candidates: int, keep: int) -> float:
        """V of ``keep`` out of scored candidates; NaN before it is known."""
        prior = self.memory_gain(state) if by_memory else 1.0
        share, coarse = self.choices.batch_size / candidates / prior, self.coarseness(state)
        if self.choices.with_replacement:
            if not self._known(state.rho, state.step):
                return math.nan
            rho = state.rho.above / state.rho.below
            return share + coarse * rho * self.choices.batch_size / keep
        parts = state.recalled if by_memory else state.dealt
        if not self._known(parts, state.step):
            return math.nan
        return coarse * share * growth(parts, keep / candidates)

    def most_gained(self, state: NoiseState, by_memory: bool) -> float:
        """1 / V per b of scored candidates, however many are kept, at most; NaN before it is
        known."""
        sums = state.recalled if by_memory else state.dealt
        if not self._known(state.rho if self.choices.with_replacement else sums, state.step):
            return math.nan
        prior = self.memory_gain(state) if by_memory else 1.0
        return prior if self.choices.with_replacement else prior / self.coarseness(state)

    def gain(self, state: NoiseState, seen: Observation) -> float:
        """1 / V of the step seen; NaN before it is known."""
        if seen.scored:
            return 1.0 / self.of_scored(state, seen.by_memory, seen.scored, seen.kept)
        return 1.0 / self.of_memory(state, seen.kept) if seen.by_memory else 1.0

    def _left(self, seen: Observation) -> tuple[float, float]:
        """E[g^2] of the candidates seen, and E[(w g)^2] that they foretell for what is drawn."""
        moments, thinning = seen.memory, seen.thinning
        if self.choices.with_replacement:
            return (seen.tau**2, 1.0) if moments is None else (moments.uniform, moments.mean**2)
        if thinning is None:
            return 0.0, 0.0
        kept = seen.kept / seen.scored
        moment = moments.uniform if moments is not None and seen.by_memory else thinning.whole
        return moment, kept * thinning.whole * growth(thinning, kept)

    def _known(self, sums: Ratio | Parts, step: int) -> bool:
        weight = sums.weight
        return weight >= self.enough and weight * self.decay ** (step - sums.step) >= self.enough

    def _add(self, sums: Ratio, above: float, below: float, step: int) -> Ratio:
        kept = self.decay ** (step - sums.step)
        if not (above > 0 and below > 0):
            return sums
        return Ratio(
            kept * sums.above + above, kept * sums.below + below, kept * sums.weight + 1.0, step
        )

    def _thin(self, sums: Parts, seen: Thinning, step: int) -> Parts:
        kept = self.decay ** (step - sums.step)
        parts = tuple([kept * old + new for old, new in zip(sums.parts, seen.parts)])
        return Parts(kept * sums.whole + seen.whole, parts, kept * sums.weight + 1.0, step)


def growth(of: Thinning | Parts, fraction: float) -> float:
    """v(r): by how much the noise grows where a ``fraction`` is kept.

    r v(r) is nearly linear between the fractions that were measured, and constant below the least.
    """
    if fraction >= 1.0:
        return 1.0
    right = bisect_left(KEEP_FRACTIONS, fraction)
    if right == 0:
        return KEEP_FRACTIONS[0] * of.parts[0] / of.whole / fraction
    last = right == len(KEEP_FRACTIONS)
    high = 1.0 if last else KEEP_FRACTIONS[right]
    at_high = of.whole if last else of.parts[right]
    low, at_low = KEEP_FRACTIONS[right - 1], of.parts[right - 1]
    part = (fraction - low) / (high - low)
    return (low * at_low * (1.0 - part) + high * at_high * part) / of.whole / fraction

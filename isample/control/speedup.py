"""The controller that takes, of all plans, the one that trains fastest.

Of every plan the noise V and the time T are foretold, see :mod:`isample.control.noise` and
:mod:`isample.control.cost`, and the best has the largest

    min(1 / V, u) / T

with u what the learning rate has a use for. Not all of a gain in noise is gained in time, so only a
part of what 1 / V is above 1 counts. No plan is taken whose V is clearly above 1: the result is to
be that of uniform batches.

What is not known is tried, in short rows of steps, where it would pay if its time were a standard
error less than foretold; and it is taken where it pays with a standard error more. So what turned
out well or badly is not tried again soon, and what was not tried for long is. Plain steps are tried
by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from isample.control.base import Choices, Settings
from isample.control.cost import Cost, CostState, Kind
from isample.control.noise import Noise, NoiseState
from isample.values import Observation, Plan


class Option(NamedTuple):
    """A plan but for its gain cap, and what the formulas take of it."""

    index: int
    by_memory: bool
    candidates: int
    """0: none scored."""
    keep: int
    fewer: int
    """The next smaller choice of it, or itself."""
    kind: Kind


class SpeedupState(NamedTuple):
    noise: NoiseState = NoiseState()
    cost: CostState = CostState()
    seen: Kind = Kind(1.0, 0.0, 0.0, 1.0)
    """Of the step under way."""
    chosen: int = 0
    """The option that is taken, 0 for plain steps."""
    tried: int = 0
    """The option of the last trial."""
    row: int = 0
    """Steps of a trial that are left to ask for."""
    waiting: int = 0
    """Steps to the next trial, at least."""
    credit: float = 0.0
    """What a step of the last trial may take without loss, seconds."""
    watching: bool = False
    """Whether plain steps are observed."""
    steps: int = 0
    elapsed: float = 0.0
    spent: float = 0.0
    """On trials, seconds."""
    watched: float = 0.0
    """On observing plain steps, seconds."""
    asked: Plan = Plan(observe=False)


PLAIN = 0
WATCHED, ONLY_REMEMBERS = Kind(1.0, 1.0, 0.0, 1.0), Kind(0.0, 1.0, 0.0, 0.0)


class Speedup:
    """See the module."""

    def __init__(self, choices: Choices, settings: Settings | None = None):
        self.choices: Choices = choices
        self.settings: Settings = settings or Settings()
        self.noise: Noise = Noise(choices, self.settings)
        self.cost: Cost = Cost(self.settings)
        self.groups: list[list[Option]] = list_groups(choices, self.settings.keeps)
        self.options: list[Option] = [option for group in self.groups for option in group]

    def init(self) -> SpeedupState:
        return SpeedupState()

    def observe(self, state: SpeedupState, seen: Observation) -> SpeedupState:
        size = self.choices.batch_size
        remembers = 1.0 if seen.observed or seen.by_memory else 0.0
        kind = Kind(1.0, remembers, seen.scored / size, (seen.kept or size) / size)
        told_nothing = seen.memory is None and seen.tau != seen.tau and not seen.scored
        hear = self.noise.pass_by if told_nothing else self.noise.observe
        return SpeedupState(hear(state.noise, seen), state.cost, kind, *state[3:])

    def clock(self, state: SpeedupState, seconds: float, overhead: float) -> SpeedupState:
        settings, seen, row = self.settings, state.seen, state.row
        cost = self.cost.clock(state.cost, seen, seconds, overhead)
        steps, elapsed = state.steps + 1, state.elapsed + seconds
        spent, watched, waiting = state.spent, state.watched, state.waiting
        if waiting:
            waiting -= 1
            if state.tried != state.chosen and seen == self.options[state.tried].kind:
                spent += max(0.0, seconds - state.credit)
                waiting = min(waiting, settings.row)
        if seen == WATCHED:
            watched += max(overhead, self.cost.seconds(cost, ONLY_REMEMBERS))  # of a NaN the first
        broken_off = spent > settings.trials * elapsed
        ended = row > 0 and (row == 1 or broken_off)
        watching = state.watching and watched <= settings.watching * elapsed
        state = SpeedupState(
            state.noise,
            cost,
            seen,
            state.chosen,
            state.tried,
            0 if broken_off else max(row - 1, 0),
            waiting,
            state.credit,
            watching,
            steps,
            elapsed,
            spent,
            watched,
            state.asked,
        )
        if steps % settings.every == 0 and not state.row and len(self.options) > 1:
            return self._decide(state)
        if ended or (state.asked.observe and not watching and state.chosen == PLAIN):
            return state._replace(
                asked=self._plan(state, state.tried if state.row else state.chosen)
            )
        return state

    def plan(self, state: SpeedupState) -> Plan:
        return state.asked

    def gain(self, state: SpeedupState, seen: Observation) -> float:
        return self.noise.gain(state.noise, seen)

    def _decide(self, state: SpeedupState) -> SpeedupState:
        """The best plan, or a trial of one that may be better."""
        if not state.cost.parts:
            return state
        settings, chosen, tried, row = self.settings, state.chosen, state.tried, 0
        value = self._value(state, chosen)
        if value != value:
            chosen, value = PLAIN, 1.0
        kind = self.options[chosen].kind
        seconds = self.cost.seconds(state.cost, kind)
        least = value / seconds
        surest, likeliest = (least, chosen), (least, chosen)
        waiting, credit = state.waiting, state.credit
        left = settings.trials * state.elapsed - state.spent
        may_try = left >= 0 and not waiting
        for index in self._worth_a_look(state, kind, least, may_try):
            other = self._value(state, index)
            took = self.cost.seconds(state.cost, self.options[index].kind)
            if index == chosen or not other > 0.1 * took * least:  # NaN is not known
                continue
            hoped = self._hoped(state, took, self.options[index].kind, kind)
            doubt = settings.doubt * self.cost.doubt(state.cost, self.options[index].kind, kind)
            surest = max(surest, (other / (took + doubt), index))
            allowed = seconds * min(1.0, other / value)
            if may_try and settings.row * (took - allowed) <= left:
                likeliest = max(likeliest, (other / hoped, index))
        if surest[0] > least:
            chosen = surest[1]
        elif likeliest[0] > least:
            tried, row, waiting = likeliest[1], settings.row, settings.patience
            credit = seconds * min(1.0, self._value(state, tried) / value)
        share = 1.0 if state.watching else settings.resume
        watching = state.watched <= settings.watching * share * state.elapsed
        state = state._replace(
            chosen=chosen, tried=tried, row=row, waiting=waiting, credit=credit, watching=watching
        )
        return state._replace(asked=self._plan(state, tried if row else chosen))

    def _worth_a_look(
        self, state: SpeedupState, kind: Kind, least: float, may_try: bool
    ) -> Iterator[int]:
        """The options of groups that could exceed ``least``, by a bound on the best of each."""
        most = [self.noise.most_gained(state.noise, by_memory) for by_memory in (False, True)]
        for group in self.groups:
            last = group[-1]
            if last.candidates:
                value = self._worth(state, last.kind.scored * most[last.by_memory], False)
                took = self.cost.seconds(state.cost, last.kind)
                if may_try and value == value:
                    took = self._hoped(state, took, last.kind, kind)
                if not value > least * took:  # NaN is not known
                    continue
            for option in group:
                yield option.index

    def _hoped(self, state: SpeedupState, took: float, kind: Kind, than: Kind) -> float:
        """What a step of a ``kind`` may take instead, seen from one of another; if it does all
        that the other does, not less than that."""
        doubt = self.settings.hope * self.cost.doubt(state.cost, kind, than)
        more = all(a >= b for a, b in zip(kind, than))
        return max(took - doubt, self.cost.seconds(state.cost, than) if more else 0.1 * took)

    def _value(self, state: SpeedupState, index: int) -> float:
        """What a step is worth in plain ones; NaN where that is not known or may not be."""
        option, noise = self.options[index], state.noise
        if index == PLAIN:
            return 1.0
        if option.candidates:
            v = self.noise.of_scored(noise, option.by_memory, option.candidates, option.keep)
        else:
            v = self.noise.of_memory(noise, option.keep)
        is_chosen = index == state.chosen
        return (
            self._worth(state, 1.0 / v, is_chosen) if v <= self.settings.noise_limit else math.nan
        )

    def _worth(self, state: SpeedupState, gain: float, is_chosen: bool) -> float:
        """The part of a ``gain`` that counts."""
        if state.noise.bounded and not is_chosen and gain < self.settings.doubtful_gain:
            gain = min(gain, 1.0)
        useful = state.noise.gain_cap if state.noise.informed else 1.0
        surplus = min(gain, useful) - 1.0
        return 1.0 + (self.settings.gain_share * surplus if surplus > 0 else surplus)

    def _plan(self, state: SpeedupState, index: int) -> Plan:
        option = self.options[index]
        every = self.settings.every
        stands = 1 if state.row else every - state.steps % every
        if index == PLAIN:
            return Plan(observe=state.watching and not state.row, stands=stands)
        cap = state.noise.gain_cap * self.choices.batch_size / option.fewer
        return Plan(
            importance=option.by_memory,
            candidates=option.candidates or None,
            keep=option.keep,
            gain_cap=cap if option.by_memory else math.inf,
            stands=stands,
        )


def list_groups(choices: Choices, keeps: tuple[float, ...]) -> list[list[Option]]:
    """All plans that there are, plain steps first; those of a group differ in what is kept, and the
    least comes last."""
    size = choices.batch_size
    kept = sorted({max(1, round(size * share)) for share in keeps}, reverse=True)
    kept = kept if choices.thins else [size]
    groups, count = [[Option(PLAIN, False, 0, size, size, Kind(1.0, 0.0, 0.0, 1.0))]], 1
    priors = (False, True) if choices.remembers else (False,)
    for by_memory in priors:
        for candidates in (0, *choices.candidates) if by_memory else choices.candidates:
            group = []
            for keep, fewer in zip(kept, (*kept[1:], kept[-1])):
                if keep == candidates:
                    continue
                kind = Kind(1.0, 1.0, candidates / size, keep / size)
                group.append(Option(count, by_memory, candidates, keep, fewer, kind))
                count += 1
            if group:
                groups.append(group)
    return groups

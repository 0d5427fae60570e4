"""Controllers of one rule each: the paper's threshold, every step, no step."""

from __future__ import annotations

import math
from typing import NamedTuple

from isample.control.base import Choices, Settings
from isample.control.noise import Noise, NoiseState
from isample.values import Observation, Plan


def break_even_tau(batch_size: int, candidates: int) -> float:
    """(B + 3b) / 3b: from this tau on, a step over B candidates pays if a backward pass costs
    two forward passes (section 3.3 of the paper)."""
    return (candidates + 3 * batch_size) / (3 * batch_size)


class RuleState(NamedTuple):
    noise: NoiseState = NoiseState()
    tau_ema: float = 0.0


class Rule:
    """What the three have in common: they know what a step is worth, and read no clock."""

    def __init__(self, choices: Choices, settings: Settings | None = None):
        self.choices: Choices = choices
        self.settings: Settings = settings or Settings()
        self.noise: Noise = Noise(choices, self.settings)

    def init(self) -> RuleState:
        return RuleState()

    def observe(self, state: RuleState, seen: Observation) -> RuleState:
        known = seen.tau_ema == seen.tau_ema
        return RuleState(
            self.noise.observe(state.noise, seen), seen.tau_ema if known else state.tau_ema
        )

    def clock(self, state: RuleState, seconds: float, overhead: float) -> RuleState:
        return state

    def gain(self, state: RuleState, seen: Observation) -> float:
        return self.noise.gain(state.noise, seen)

    def plan(self, state: RuleState) -> Plan:
        raise NotImplementedError

    def _presample(self) -> Plan:
        if not self.choices.candidates:
            return Plan()
        return Plan(candidates=self.choices.presample, keep=self.choices.batch_size)


class Threshold(Rule):
    """Algorithm 1, line 5: candidates are scored while the moving average of tau is above a
    threshold."""

    def __init__(
        self, choices: Choices, threshold: float | None = None, settings: Settings | None = None
    ):
        super().__init__(choices, settings)
        if threshold is None:
            threshold = break_even_tau(choices.batch_size, choices.presample)
        self.threshold = threshold

    def plan(self, state: RuleState) -> Plan:
        return self._presample() if state.tau_ema > self.threshold else Plan()


class Always(Rule):
    def plan(self, state: RuleState) -> Plan:
        if not self.choices.remembers:
            return self._presample()
        useful = state.noise.gain_cap
        # Where no gain is of use, this rule draws all the same: flat draws would be none.
        return Plan(importance=True, gain_cap=useful if useful > 1.0 else math.inf)


class Never(Rule):
    def __init__(self, choices: Choices, settings: Settings | None = None):
        super().__init__(choices, settings)
        self._plan = Plan(observe=False, stands=self.settings.every)

    def observe(self, state: RuleState, seen: Observation) -> RuleState:
        return state  # nothing is done by what was seen

    def plan(self, state: RuleState) -> Plan:
        return self._plan

"""Whether the next step is to be an importance-sampled one.

=========  ================================================================================================
threshold  the paper's rule (Algorithm 1, line 5): while the moving average of tau is above a threshold
speedup    while the noise that importance sampling removes, as measured, outweighs the time that it takes
always     every step
never      no step: plain uniform training, and no score is computed
=========  ================================================================================================
"""

from __future__ import annotations

import math
from typing import Any, Union

from isample.registry import look_up


def break_even_tau(batch_size: int, presample: int) -> float:
    """(B + 3b) / 3b: from this tau on, a step over a presample of B pays if a backward pass costs two forward passes
    (section 3.3 of the paper)."""
    return (presample + 3 * batch_size) / (3 * batch_size)


def effective_batch(batch_size: int, presample: int, tau: float) -> float:
    """The size of the uniform batch that would be as noisy: b / (b/B + 1/tau^2), at most B.

    A draw with replacement carries two noises, that of the presample (1/B) and that of the draw (1/(b tau^2)).
    """
    return batch_size / (batch_size / presample + 1.0 / tau**2)


class Gate:
    """What every gate answers, and what it is told.

    ``needs_tau``: uniform steps must score their batch for it; ``needs_moments``: it wants to be told what was drawn.
    """

    needs_tau, needs_moments = True, False

    def is_open(self, tau_ema: float) -> bool:
        """Whether the next step should be an importance-sampled one."""
        raise NotImplementedError

    def observe(self, active: bool, uniform_moment: float, importance_moment: float, share: float) -> None:
        """A step's unbiased estimates of the mean squared score, and of the mean squared weighted score under
        importance; ``share`` is b/B, of the batch in what it was drawn from."""

    def clock(self, active: bool, seconds: float) -> None:
        """A step's wall-clock time, loading included."""

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class ThresholdGate(Gate):
    def __init__(self, threshold: float):
        self.threshold = threshold

    def is_open(self, tau_ema: float) -> bool:
        return tau_ema > self.threshold


class ConstantGate(Gate):
    needs_tau = False

    def __init__(self, open: bool):
        self.open = open

    def is_open(self, tau_ema: float) -> bool:
        return self.open


class SpeedupGate(Gate):
    """Open while b_eff / b > t_active / t_uniform (beyond the paper: section 3.3 assumes both sides).

    The left side is measured on what was drawn: with fresh scores g and weights w, mean(w g^2) estimates the second
    moment of a uniform batch and mean(w^2 g^2) that of an importance-sampled one, whatever stale or noisy scores led to
    the weights; b_eff / b = 1 / (b/B + ratio of the two). The right side is the median of the clock. A closed gate
    probes: it takes an active step as long as all probes together cost at most ``probe_share`` of the time. It opens
    with a margin of 5 %, and closes when there is no gain left.
    """

    needs_moments = True
    MARGIN, DECAY, LEAST = 1.05, 0.98, 12

    def __init__(self, probe_share: float = 0.01, free: bool = False):
        self.probe_share, self.free = probe_share, free  # free: an active step takes no longer, as in memory mode
        self.opened = False
        self.uniform_moment = self.importance_moment = self.weight = 0.0
        self.share = 0.0
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self.elapsed = self.probing = 0.0

    @property
    def gain(self) -> float:
        """b_eff / b as measured; NaN before enough was seen."""
        if self.weight < self.LEAST * 0.8 or not self.importance_moment > 0:
            return math.nan
        return 1.0 / (self.share + self.importance_moment / self.uniform_moment)

    @property
    def cost(self) -> float:
        """t_active / t_uniform as measured; NaN before enough was seen."""
        if self.free:
            return 1.0
        if min(len(self.times[False]), len(self.times[True])) < self.LEAST:
            return math.nan
        return _median(self.times[True]) / _median(self.times[False])

    def is_open(self, tau_ema: float) -> bool:
        need = self.cost if self.opened else self.cost * self.MARGIN
        self.opened = self.gain > need  # NaN is no
        return self.opened or self._may_probe()

    def observe(self, active: bool, uniform_moment: float, importance_moment: float, share: float) -> None:
        if importance_moment > 0:
            self.uniform_moment = self.DECAY * self.uniform_moment + uniform_moment
            self.importance_moment = self.DECAY * self.importance_moment + importance_moment
            self.weight = self.DECAY * self.weight + 1
        self.share = share

    def clock(self, active: bool, seconds: float) -> None:
        kept = self.times[active]
        kept.append(seconds)
        del kept[:-51]
        self.elapsed += seconds
        if active and not self.opened:
            self.probing += max(0.0, seconds - _median(self.times[False]))

    def _may_probe(self) -> bool:
        if self.free or len(self.times[False]) < self.LEAST:
            return False
        expected = _median(self.times[True]) if self.times[True] else 10 * _median(self.times[False])
        return self.probing + expected - _median(self.times[False]) < self.probe_share * self.elapsed


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


GATES = {
    "threshold": lambda threshold, free: ThresholdGate(threshold),
    "speedup": lambda threshold, free: SpeedupGate(free=free),
    "always": lambda threshold, free: ConstantGate(True),
    "never": lambda threshold, free: ConstantGate(False),
}


def make_gate(
    gate: Union[str, Gate, None], mode: str, batch_size: int, presample: int, tau_threshold: float | None
) -> Gate:
    """The gate of a name, or a :class:`Gate`; None is ``threshold``, and ``speedup`` in memory mode.

    ``tau_threshold`` defaults to :func:`break_even_tau`; only the ``threshold`` gate takes one. Memory mode has no
    presample, which that gate is about.
    """
    memory = mode == "memory"
    if gate is None:
        gate = "speedup" if memory else "threshold"
    if memory and (gate == "threshold" or isinstance(gate, ThresholdGate)):
        raise ValueError("gate must be one of always, never, speedup for mode='memory'; got 'threshold'")
    if tau_threshold is not None and gate != "threshold":
        raise ValueError(f"tau_threshold must be given with gate='threshold' only; got gate={gate!r}")
    if tau_threshold is not None and not tau_threshold >= 0:
        raise ValueError(f"tau_threshold must be >= 0; got {tau_threshold}")
    if isinstance(gate, str):
        threshold = break_even_tau(batch_size, presample) if tau_threshold is None else float(tau_threshold)
        return look_up(GATES, gate, "gate")(threshold, memory)
    if not isinstance(gate, Gate):
        raise TypeError(f"gate must be a name or an isample.gate.Gate; got {type(gate).__name__}")
    return gate

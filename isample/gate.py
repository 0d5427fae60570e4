"""Whether the next step is to be an importance-sampled one.

=========  ================================================================================================
threshold  the paper's rule (Algorithm 1, line 5): while the moving average of tau is above a threshold
speedup    while the noise that importance sampling removes, as measured, outweighs the time that it takes; in memory
           mode, while it removes noise and takes next to no time
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


class Gain:
    """b_eff / b, measured on what was drawn.

    With fresh scores g and importance weights w, mean(w g^2) estimates the second moment of a uniform batch and
    mean(w^2 g^2) that of an importance-sampled one, whatever stale or noisy scores led to the weights. With ``ratio``, the
    latter over the former, b_eff / b = 1 / (b/B + ratio / drawn), where ``drawn`` is the share of b that is really drawn.
    """

    DECAY, LEAST = 0.98, 12

    def __init__(self):
        self.uniform_moment = self.importance_moment = self.weight = self.share = 0.0
        self.drawn = 1.0

    def observe(self, uniform_moment: float, importance_moment: float, share: float) -> None:
        """A step's unbiased estimates of the two moments; ``share`` is b/B, of the batch in what it was drawn from."""
        if importance_moment > 0:
            self.uniform_moment = self.DECAY * self.uniform_moment + uniform_moment
            self.importance_moment = self.DECAY * self.importance_moment + importance_moment
            self.weight = self.DECAY * self.weight + 1
        self.share = share

    @property
    def ratio(self) -> float:
        """NaN before enough was seen."""
        if self.weight < self.LEAST * 0.8 or not self.importance_moment > 0:
            return math.nan
        return self.importance_moment / self.uniform_moment

    @property
    def of_whole_batches(self) -> float:
        """What b draws are worth, however many are really drawn."""
        return 1.0 / (self.share + self.ratio)

    @property
    def value(self) -> float:
        """NaN before enough was seen."""
        return 1.0 / (self.share + self.ratio / self.drawn)


class Gate:
    """What every gate answers, and what it is told.

    ``scores_uniform_steps``: whether the next step is to be scored if it is a uniform one.
    """

    scores_uniform_steps = True

    def __init__(self):
        self.gain = Gain()

    def is_open(self, tau_ema: float) -> bool:
        """Whether the next step should be an importance-sampled one."""
        raise NotImplementedError

    def clock(self, active: bool, seconds: float, overhead: float) -> None:
        """A step's wall-clock time, loading included; ``overhead`` is the part that plain training would not have."""

    def state_dict(self) -> dict[str, Any]:
        return {**vars(self), "gain": dict(vars(self.gain))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self.gain).update(state["gain"])
        vars(self).update({name: value for name, value in state.items() if name != "gain"})


class ThresholdGate(Gate):
    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def is_open(self, tau_ema: float) -> bool:
        return tau_ema > self.threshold


class ConstantGate(Gate):
    scores_uniform_steps = False

    def __init__(self, open: bool):
        super().__init__()
        self.open = open

    def is_open(self, tau_ema: float) -> bool:
        return self.open


class SpeedupGate(Gate):
    """Open while the gain exceeds t_active / t_uniform, both measured (section 3.3 of the paper assumes both).

    The times are medians of the clock. A closed gate probes: it takes an active step as long as all probes together
    cost at most ``probe_share`` of the time. It opens with a margin of 5 %, and closes when there is no gain left.
    """

    scores_uniform_steps = False
    MARGIN, LEAST = 1.05, 12

    def __init__(self, probe_share: float = 0.01):
        super().__init__()
        self.probe_share = probe_share
        self.opened = False
        self.times: dict[bool, list[float]] = {False: [], True: []}
        self.elapsed = self.probing = 0.0

    @property
    def cost(self) -> float:
        """t_active / t_uniform as measured; NaN before enough was seen."""
        if min(len(self.times[False]), len(self.times[True])) < self.LEAST:
            return math.nan
        return _median(self.times[True]) / _median(self.times[False])

    def is_open(self, tau_ema: float) -> bool:
        need = self.cost if self.opened else self.cost * self.MARGIN
        self.opened = self.gain.value > need  # NaN is no
        return self.opened or self._may_probe()

    def clock(self, active: bool, seconds: float, overhead: float) -> None:
        kept = self.times[active]
        kept.append(seconds)
        del kept[:-51]
        self.elapsed += seconds
        if active and not self.opened:
            self.probing += max(0.0, seconds - _median(self.times[False]))

    def _may_probe(self) -> bool:
        if len(self.times[False]) < self.LEAST:
            return False
        expected = _median(self.times[True]) if self.times[True] else 10 * _median(self.times[False])
        return self.probing + expected - _median(self.times[False]) < self.probe_share * self.elapsed


class MemoryGate(Gate):
    """The speedup gate of memory mode, where an active step costs what a uniform one does and the remembering besides.

    Not every gain in noise is one in time, so this gate does not trade the one for the other: it is open while there is
    a gain and the overhead is small: it opens below ``LIMIT`` of a step, and closes above ``MOST``. While it is closed, uniform steps are scored as long as all
    scoring together costs at most ``WATCH`` of the time. So a run loses no more than the larger of the two.
    """

    MARGIN, LIMIT, MOST, WATCH = 1.05, 0.022, 0.028, 0.02
    HORIZON = 50  # steps

    def __init__(self):
        super().__init__()
        self.opened = False
        self.recent = self.recent_overhead = 0.0  # decaying sums over scored steps
        self.elapsed = self.overhead = 0.0

    @property
    def cost(self) -> float:
        """Time of an active step in units of a plain one; NaN before there was a scored step."""
        plain = self.recent - self.recent_overhead
        return self.recent / plain if plain > 0 else math.nan

    @property
    def scores_uniform_steps(self) -> bool:
        return self.overhead <= self.WATCH * self.elapsed

    def is_open(self, tau_ema: float) -> bool:
        most, least = (self.MOST, 1.0) if self.opened else (self.LIMIT, self.MARGIN)
        self.opened = self.cost <= 1.0 + most and self.gain.of_whole_batches > least
        return self.opened

    def clock(self, active: bool, seconds: float, overhead: float) -> None:
        self.elapsed += seconds
        self.overhead += overhead
        if overhead > 0:
            kept = 1.0 - 1.0 / self.HORIZON
            self.recent = kept * self.recent + seconds
            self.recent_overhead = kept * self.recent_overhead + overhead


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


GATES = {
    "threshold": lambda threshold, memory: ThresholdGate(threshold),
    "speedup": lambda threshold, memory: MemoryGate() if memory else SpeedupGate(),
    "always": lambda threshold, memory: ConstantGate(True),
    "never": lambda threshold, memory: ConstantGate(False),
}


def make_gate(
    gate: Union[str, Gate, None], mode: str, batch_size: int, presample: int, tau_threshold: float | None
) -> Gate:
    """The gate of a name, or a :class:`Gate`; None is ``speedup``, or ``threshold`` if there is a ``tau_threshold``.

    ``tau_threshold`` defaults to :func:`break_even_tau`; only the ``threshold`` gate takes one. Memory mode has no
    presample, which that gate is about.
    """
    memory = mode == "memory"
    if gate is None:
        gate = "speedup" if tau_threshold is None else "threshold"
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

"""Whether the next step is to be an importance-sampled one.

=========  ================================================================================================
threshold  the paper's rule (Algorithm 1, line 5): while the moving average of tau is above a threshold
always     every step
never      no step: plain uniform training, and no score is computed
=========  ================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Union

from isample.registry import look_up


class Gate(Protocol):
    """A gate answers for the next step; ``needs_tau`` tells whether uniform steps must score their batch for it."""

    needs_tau: bool

    def is_open(self, tau_ema: float) -> bool: ...


def break_even_tau(batch_size: int, presample: int) -> float:
    """(B + 3b) / 3b: from this tau on, a step over a presample of B pays if a backward pass costs two forward passes
    (section 3.3 of the paper)."""
    return (presample + 3 * batch_size) / (3 * batch_size)


def effective_batch(batch_size: int, presample: int, tau: float) -> float:
    """The size of the uniform batch that would be as noisy: b / (b/B + 1/tau^2), at most B.

    A draw with replacement carries two noises, that of the presample (1/B) and that of the draw (1/(b tau^2)).
    """
    return batch_size / (batch_size / presample + 1.0 / tau**2)


@dataclass(frozen=True)
class ThresholdGate:
    threshold: float
    needs_tau: bool = True

    def is_open(self, tau_ema: float) -> bool:
        return tau_ema > self.threshold


@dataclass(frozen=True)
class ConstantGate:
    open: bool
    needs_tau: bool = False

    def is_open(self, tau_ema: float) -> bool:
        return self.open


GATES = {
    "threshold": lambda threshold: ThresholdGate(threshold),
    "always": lambda threshold: ConstantGate(True),
    "never": lambda threshold: ConstantGate(False),
}


def make_gate(gate: Union[str, Gate], batch_size: int, presample: int, tau_threshold: float | None) -> Gate:
    """The gate of a name, or an object with ``is_open`` and ``needs_tau``.

    ``tau_threshold`` defaults to :func:`break_even_tau`; only the ``threshold`` gate takes one.
    """
    if tau_threshold is not None and gate != "threshold":
        raise ValueError(f"tau_threshold must be given with gate='threshold' only; got gate={gate!r}")
    if tau_threshold is not None and not tau_threshold >= 0:
        raise ValueError(f"tau_threshold must be >= 0; got {tau_threshold}")
    if isinstance(gate, str):
        threshold = break_even_tau(batch_size, presample) if tau_threshold is None else float(tau_threshold)
        return look_up(GATES, gate, "gate")(threshold)
    if not hasattr(gate, "is_open") or not hasattr(gate, "needs_tau"):
        raise TypeError(f"gate must be a name or an object with is_open and needs_tau; got {type(gate).__name__}")
    return gate

"""What every controller is told, what it answers, and the constants that it goes by.

A controller turns numbers into a plan: it holds no tensor, reads no clock, and changes no state
that it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, TypeVar

from isample.values import Observation, Plan

DEFAULT_RATIO = 5
"""Candidates for each sample that is kept, where nobody says how many (section 4 of the paper)."""

State = TypeVar("State")


@dataclass(frozen=True, slots=True)
class Choices:
    """What a source and a network make possible.

    Raises:
        ValueError: a batch size below 1; a number of candidates below it.
    """

    batch_size: int
    remembers: bool = False
    """Whether the source has a memory to draw by."""
    candidates: tuple[int, ...] = ()
    """How many a scoring pass may look at; empty where nothing can score."""
    thins: bool = False
    """Whether fewer than a batch may be trained on."""
    with_replacement: bool = False
    """Whether draws from scored candidates may repeat one."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1; got {self.batch_size}")
        if any(size < self.batch_size for size in self.candidates):
            raise ValueError(
                f"candidates must be at least batch_size ({self.batch_size}) each; "
                f"got {self.candidates}"
            )

    @property
    def presample(self) -> int:
        """How many candidates a controller takes that does not choose."""
        one = len(self.candidates) == 1
        return self.candidates[0] if one else DEFAULT_RATIO * self.batch_size


@dataclass(frozen=True, slots=True)
class Settings:
    """The constants of the controllers. Each line names its page in bench/sweeps/results."""

    decay: float = 0.98
    """Of what was seen of the noise, a step (decay.md)."""
    enough: float = 9.6
    """The weight of steps seen, of at most 1 / (1 - decay), from which the noise is known
    (enough.md)."""
    keeps: tuple[float, ...] = (1.0, 3 / 4, 1 / 2, 3 / 8, 1 / 4)
    """The shares of a batch that may be trained on (keeps.md)."""
    noise_limit: float = 1.1
    """The noise V up to which a plan gives the same result as a uniform batch (noise_limit.md)."""
    gain_share: float = 0.7
    """The part of a gain beyond 1 that counts as time (gain_share.md)."""
    doubtful_gain: float = 1.5
    """The gain below which nothing is made of it where many labels are contradicted
    (doubtful_gain.md)."""
    hope: float = 0.5
    """Standard errors by which a plan may take less time than foretold, for a trial (hope.md)."""
    doubt: float = 1.0
    """Standard errors by which it may take more, for it to be taken (doubt.md)."""
    every: int = 16
    """Steps from one choice to the next (every.md)."""
    row: int = 6
    """Steps of a trial (row.md)."""
    cold: int = 2
    """Steps that tell little of the time, after one of another kind (cold.md)."""
    patience: int = 128
    """Steps after which a trial is given up that did not come back (patience.md)."""
    trials: float = 0.005
    """The share of the time that all trials may cost (trials.md)."""
    watching: float = 0.01
    """The share of the time that it may cost to observe uniform steps (watching.md)."""
    resume: float = 0.75
    """The part of that share below which observing begins anew (resume.md)."""
    drift: float = 0.01
    """By how much of itself the time of all steps may change in a step (drift.md)."""
    fading: float = 1 / 2000
    """By how much more the variance of each part of a step's time grows in a step (fading.md)."""
    clip: float = 3.0
    """Standard errors from the time foretold beyond which a step's time is not believed, and many
    together show that something has changed (clip.md)."""
    prior: tuple[float, ...] = (0.25, 0.0, 0.35, 0.75)
    """t0, the rest of o, f and c in plain steps, before they were seen (prior.md)."""
    prior_spread: tuple[float, ...] = (0.25, 0.3, 0.35, 0.25)
    """Their standard errors (prior_spread.md)."""
    cold_noise: float = 0.5
    """The standard error of a cold step's time, in units of it (cold_noise.md)."""


class Controller(Protocol[State]):
    """Numbers in, a plan out. States are immutable, nested tuples of plain values."""

    settings: Settings

    def init(self) -> State: ...

    def observe(self, state: State, seen: Observation) -> State:
        """The numbers of the step under way, before its update."""
        ...

    def clock(self, state: State, seconds: float, overhead: float) -> State:
        """The time of the last observed step, from batch to batch; ``overhead`` is the part of it
        in isample's own code."""
        ...

    def plan(self, state: State) -> Plan:
        """What the next batch is to be. A question: asking twice is free."""
        ...

    def gain(self, state: State, seen: Observation) -> float:
        """How many uniform batches the step is worth that was just observed; NaN before it is
        known."""
        ...


def to_dict(state: Any) -> Any:
    """``state`` in dicts, lists, numbers and None."""
    if is_dataclass(state):
        return {part.name: to_dict(getattr(state, part.name)) for part in fields(state)}
    if hasattr(state, "_fields"):
        return {name: to_dict(value) for name, value in zip(state._fields, state)}
    return [to_dict(value) for value in state] if isinstance(state, tuple) else state


def from_dict(like: Any, plain: Any) -> Any:
    """What :func:`to_dict` was given, in the types of ``like``, which may be ``init()``.

    Raises:
        KeyError: ``plain`` lacks a part.
    """
    if is_dataclass(like):
        parts = {part.name: part.name for part in fields(like)}
        return type(like)(**{name: from_dict(getattr(like, name), plain[name]) for name in parts})
    if hasattr(like, "_fields"):
        return type(like)(
            **{name: from_dict(old, plain[name]) for name, old in zip(like._fields, like)}
        )
    return tuple(plain) if isinstance(like, tuple) else plain

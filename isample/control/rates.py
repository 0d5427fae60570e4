"""Turns the noise that importance sampling removes into larger steps (the paper's future work).

A schedule lowers the learning rate because of the noise of the gradient. A batch that is as good as
one ``gain`` times larger bears a rate ``gain`` times higher (Goyal et al. 2017). Optimizers that
divide by the gradient's own scale bear its root (Malladi et al. 2022):

    lr' = min(lr * gain, lr * cap, headroom * the highest lr of the schedule)      if gain >= 1.5

and for those the root of the cap, too. The last bound is about curvature, not noise: it does not go
beyond what the user found to be stable by more than ``headroom``. So the rate falls later than the
schedule's, and still to 0 with it. Gains below 1.5 do not raise it: noise is not all that keeps a
rate low.

An optimizer that keeps account of its rate, such as a schedule-free one, would keep the raised one
for good. So the rates of torch's own optimizers are raised, but for those that do the same.

Noise that a rate at its bound has no use for need not be removed: ``gain_cap`` says so.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from isample.support.checks import check_optimizer
from isample.support.registry import look_up


@dataclass(frozen=True, slots=True)
class RateSettings:
    """The constants of raised rates. bench/sweeps/results/rates.md shows what each is worth."""

    least_gain: float = 1.5
    """The gain below which no rate is raised (rates.md)."""
    cap: float = 10.0
    """The most that a rate is multiplied by; its root for optimizers that divide by the gradient's
    scale (rates.md)."""
    headroom: float = 2.0
    """Of the highest rate that the schedule has had, the most that is reached (rates.md)."""


DEFAULT_SETTINGS = RateSettings()
DIVIDES_BY_SCALE = (
    "Adam",
    "Adagrad",
    "RMSprop",
    "Adadelta",
    "Lion",
    "NAdam",
    "RAdam",
)
KEEP_THEIR_RATE = ("ASGD", "Rprop")


class Rates(Protocol):
    """What use an optimizer's learning rates make of a gain."""

    @property
    def gain_cap(self) -> float:
        """The gain, at least 1, above which more is of no use; of the rates that were last
        noted."""
        ...

    def note(self) -> None:
        """To be called before updates, to know the highest rates."""

    def raise_for(self, gain: float) -> None:
        """Sets the rates for batches that are worth ``gain`` of their size; NaN leaves them."""

    def put_back(self) -> None:
        """Sets the user's own."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class LearningRate:
    """Raises the rates of ``optimizer`` for one update at a time; schedulers and state see the
    user's own."""

    def __init__(self, optimizer: torch.optim.Optimizer, settings: RateSettings = DEFAULT_SETTINGS):
        names = {base.__name__ for base in type(optimizer).__mro__}
        self.root: bool = any(name in other for name in DIVIDES_BY_SCALE for other in names)
        self.optimizer: torch.optim.Optimizer = optimizer
        self.settings: RateSettings = settings
        self._highest: list[float] = [0.0] * len(optimizer.param_groups)
        self._gain_cap: float = 1.0
        self._noted: list[float] = []  # rates
        self._own: list[Any] | None = None  # the user's rates, while others are set

    @property
    def gain_cap(self) -> float:
        return self._gain_cap

    def note(self) -> None:
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        if rates == self._noted:  # nothing to learn, and steps may be short
            return
        self._noted = rates
        self._highest += [0.0] * (len(rates) - len(self._highest))  # groups may be added
        self._highest = [max(high, lr) for high, lr in zip(self._highest, rates)]
        rooms = [
            self.settings.headroom * high / lr for high, lr in zip(self._highest, rates) if lr > 0
        ]
        room = max(rooms, default=1.0)
        self._gain_cap = max(1.0, min(self.settings.cap, room**2 if self.root else room))

    def raise_for(self, gain: float) -> None:
        self.put_back()
        if not gain >= self.settings.least_gain:  # NaN is not known yet
            return
        factor = min(gain, self.settings.cap)
        factor = math.sqrt(factor) if self.root else factor
        groups = self.optimizer.param_groups
        self._own = [group["lr"] for group in groups]
        for group, lr, highest in zip(groups, self._own, self._highest):
            group["lr"] = max(lr, min(lr * factor, self.settings.headroom * highest))

    def put_back(self) -> None:
        if self._own is not None:
            for group, lr in zip(self.optimizer.param_groups, self._own):
                group["lr"] = lr
            self._own = None

    def state_dict(self) -> dict[str, Any]:
        return {"highest_lr": list(self._highest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._highest = list(state.get("highest_lr", self._highest))  # others keep none
        self._noted = []


class SteadyRate:
    """Leaves the rates alone. A gain is of use up to ``gain_cap``: 1 where batches are to be as
    noisy as uniform ones in less time, infinite where less noise is wanted for itself."""

    def __init__(self, gain_cap: float):
        self.gain_cap = gain_cap

    def note(self) -> None:
        pass

    def raise_for(self, gain: float) -> None:
        pass

    def put_back(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


ADAPT: dict[str, Callable[[torch.optim.Optimizer], Rates]] = {
    "lr": LearningRate,
    "batch": lambda optimizer: SteadyRate(1.0),
}


def check_rates(adapt: Any) -> None:
    """Raises TypeError for what is no :class:`Rates`."""
    methods = ("note", "raise_for", "put_back", "state_dict", "load_state_dict")
    if not all(callable(getattr(adapt, method, None)) for method in methods):
        raise TypeError(
            "adapt must be 'lr', 'batch', None or an isample.control.rates.Rates, with "
            f"{', '.join(methods)}; got {type(adapt).__name__}"
        )


def make_rates(adapt: str | Rates | None, optimizer: torch.optim.Optimizer) -> Rates:
    """``"lr"`` raises the learning rate, ``"batch"`` draws fewer samples, None does neither; or the
    user's own.

    Raises TypeError for what is no optimizer, ValueError for an unknown name.
    """
    check_optimizer(optimizer)
    if adapt is None:
        return SteadyRate(math.inf)
    if not isinstance(adapt, str):
        check_rates(adapt)
        return adapt
    make = look_up(ADAPT, adapt, "adapt")
    if make is LearningRate and _keeps_its_rate(optimizer):
        warnings.warn(
            f"adapt='lr' leaves the rates of {type(optimizer).__name__} alone, since its state may "
            "keep a raised one for good (if it does not: adapt=isample.control.rates.LearningRate("
            "optimizer))",
            stacklevel=4,
        )
        return SteadyRate(1.0)
    return make(optimizer)


def _keeps_its_rate(optimizer: torch.optim.Optimizer) -> bool:
    """Whether it may do so: torch's own are known, with all that inherit their step."""
    while (inner := getattr(optimizer, "optimizer", None)) is not None:  # as in Accelerate
        optimizer = inner
    step = inspect.unwrap(type(optimizer).step)
    own = step.__module__.startswith(("torch.optim.", "torch.distributed.optim."))
    return not own or step.__qualname__.partition(".")[0] in KEEP_THEIR_RATE

"""Turns the noise that importance sampling removes into larger steps or smaller batches (the
paper's future work).

Larger steps. A schedule lowers the learning rate because of the noise of the gradient. A batch that
is as good as one ``gain`` times larger bears a rate that is ``gain`` times higher (Goyal et al.
2017), or its root for optimizers that divide by the gradient's own scale (Malladi et al. 2022):

    lr' = min(lr * gain, lr * cap, headroom * the highest lr that the schedule has had)        if gain >= 1.5

and for those the root of the cap, too. The last bound is about curvature, not noise: it does not go
beyond what the user found to be stable by more than ``headroom``. So the rate falls later than the
schedule's, and still to 0 with it. Gains below 1.5 do not raise it: noise is not all that keeps a
rate low, and where little of it went, higher rates trained no faster (docs/beyond-the-paper.md).

Smaller batches. With b' draws the noise is b/B + ratio b/b' in units of a uniform batch's, see
:class:`isample.control.gain.Gain`; it is 1 for b' = b ratio / (1 - b/B).

Noise that a rate at its bound has no use for is not removed: less of it does not train better, and
where a training set is learnt by heart the run ends in a worse minimum. See :func:`evened_out`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import ContextManager

import torch

from isample.control.gain import Gain

ADAPT = ("lr", "batch")
LEAST_GAIN, CAP, HEADROOM = 1.5, 10.0, 2.0
LEAST_BATCH = 1 / 4
TINY = 1e-30  # in place of 0 as a divisor
DIVIDES_BY_SCALE = ("Adam", "Adagrad", "RMSprop", "Rprop", "Adadelta", "Lion", "NAdam", "RAdam")


class LearningRate:
    """Raises the rates of ``optimizer`` for one step at a time; schedulers and state see the user's
    own."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, headroom: float = HEADROOM, cap: float = CAP
    ):
        names = {base.__name__ for base in type(optimizer).__mro__}
        self.root = any(name in other for name in DIVIDES_BY_SCALE for other in names)
        self.optimizer, self.headroom, self.cap = optimizer, headroom, cap
        self.highest = [0.0] * len(optimizer.param_groups)

    def note(self) -> None:
        """To be called before every step, to know the highest rates."""
        self.highest += [0.0] * (
            len(self.optimizer.param_groups) - len(self.highest)
        )  # groups may be added
        for index, group in enumerate(self.optimizer.param_groups):
            if group["lr"] > self.highest[index]:
                self.highest[index] = float(group["lr"])

    @property
    def usable(self) -> float:
        """How many of its size a batch may be worth to some use: more would raise no rate
        further."""
        groups = zip(self.optimizer.param_groups, self.highest)
        room = max(
            (
                self.headroom * highest / float(group["lr"])
                for group, highest in groups
                if group["lr"] > 0
            ),
            default=1.0,
        )
        return max(1.0, min(self.cap, room**2 if self.root else room))

    def raised(self, gain: float) -> ContextManager[None]:
        """Within it the optimizer's rates are those for batches that are worth ``gain`` of their
        size."""
        if not gain >= LEAST_GAIN:  # NaN is not known yet
            return nullcontext()
        factor = min(gain, self.cap)
        return self._times(math.sqrt(factor) if self.root else factor)

    @contextmanager
    def _times(self, factor: float) -> Iterator[None]:
        groups, own = (
            self.optimizer.param_groups,
            [group["lr"] for group in self.optimizer.param_groups],
        )
        for group, lr, highest in zip(groups, own, self.highest):
            group["lr"] = max(lr, min(lr * factor, self.headroom * highest))
        try:
            yield
        finally:
            for group, lr in zip(groups, own):
                group["lr"] = lr


def batch_draws(batch_size: int, gain: Gain) -> int:
    """b': as many draws as are no noisier than a uniform batch of ``batch_size``, but a quarter of
    it at least."""
    ratio = gain.ratio / max(1.0 - gain.share, 1e-6)
    return batch_size if not ratio < 1 else math.ceil(batch_size * max(ratio, LEAST_BATCH))


def evened_out(expected: torch.Tensor, usable: float, floor: float) -> torch.Tensor:
    """``expected`` scores e, float32 [N], with as much of the uniform distribution mixed in as
    leaves a batch worth ``usable`` u uniform ones, in units of their mean; as they are if u is
    infinite. ``floor`` is the share of it that draws mix in anyway.

    With the share kappa of draws in proportion to e, and tau^2 = E[e^2] / E[e]^2, a batch is worth
    kappa tau^2 + 1 - kappa where equals carry all of the noise, and more otherwise (Jensen: 1 / (N
    p) is concave in E[e] / e, whose mean weighted by e^2 is 1 / tau^2). Hence kappa = min(1 -
    floor, (u - 1) / (tau^2 - 1)).

    Raises ValueError if ``usable`` is below 1.
    """
    if not usable >= 1:
        raise ValueError(f"usable must be >= 1; got {usable}")
    if usable == math.inf:
        return expected
    relative = expected / expected.mean().clamp(min=TINY)
    surplus = relative.dot(relative) / len(relative) - 1.0
    kept = ((usable - 1.0) / ((1.0 - floor) * surplus).clamp(min=TINY)).clamp(
        max=1.0
    )  # kappa / (1 - floor)
    return relative.mul_(kept).add_(1.0 - kept)

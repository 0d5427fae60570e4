"""What a mean divides by: torch's own means leave out ignored labels and go by class weights.

Such a mean is a ratio of sums, sum s_i / sum n_i, over what a batch holds. Of a uniform batch the
training loss is that ratio. Of a drawn batch sum n_i is another number than of a uniform one, and a
weighted term over it is biased: terms w_i s_i are divided by b n' there, where n' is the mean of n
over what was dealt so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isample.support.devices import is_read_freely

TINY = 1e-30  # in place of 0 as a divisor: of nothing that counts the mean is 0


def is_ratio(loss: Callable[..., Any], targets: Any) -> bool:
    """Whether torch's own mean of ``loss`` divides by what its labels count."""
    return isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) and not targets.is_floating_point()


def counts_of(loss: Callable[..., Any], targets: Tensor) -> Tensor | None:
    """What each sample adds to the divisor, [B]: its labels that are not ignored, by their class
    weights. None where the mean is one over rows. What a label out of range counts has no meaning:
    the loss shows it.
    """
    if not is_ratio(loss, targets):
        return None
    counted = targets != loss.ignore_index
    if loss.weight is not None:
        labels = targets.where(counted, 0).clamp(0, len(loss.weight) - 1)
        counted = loss.weight[labels] * counted
    return counted.flatten(1).sum(1) if counted.dim() > 1 else counted


def shows_at_a_glance(loss: Callable[..., Any]) -> bool:
    """Whether labels >= 0 all count 1, so that their least one tells what a sum would."""
    is_torchs = isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss)
    return is_torchs and loss.weight is None and loss.ignore_index < 0


class MeanCount:
    """n', the mean of a row's count over dealt samples; of those that were cut, by the weights of
    the rest.

    The divisor is the number of samples, not the sum of weights: what never counts is never drawn.
    """

    def __init__(self) -> None:
        self.total: Tensor | float = 0.0
        self.samples: int = 0
        self._value: Tensor | float | None = None  # of them, once it was asked for

    def add(self, counts: Tensor, weights: Tensor | None = None) -> None:
        """Of a batch, [b] each."""
        weighted = counts if weights is None else counts * weights
        self.add_sum(weighted.sum(dtype=torch.float64), len(counts))

    def add_sum(self, total: Tensor | float, samples: int) -> None:
        reads = isinstance(total, Tensor) and is_read_freely(total)
        self.total = self.total + (float(total) if reads else total)
        self.samples += samples
        self._value = None

    @property
    def value(self) -> Tensor | float:
        if self._value is None:
            mean = self.total / self.samples
            self._value = mean.clamp(min=TINY) if isinstance(mean, Tensor) else max(mean, TINY)
        return self._value

    def state_dict(self) -> dict[str, Any]:
        return {"total": float(self.total), "samples": self.samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.samples, self._value = state["total"], state["samples"], None

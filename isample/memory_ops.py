"""The compiled ops of a step that remembers its scores, typed and documented as those in :mod:`isample.ops` are."""

from __future__ import annotations

import torch
from torch import Tensor

from isample.ops import PrefixSum


def draw_weights(table: PrefixSum, indices: Tensor) -> Tensor:
    """The weights 1 / (N p_i), float32 [b], that ``indices``, int64 [b], would have if draws from ``table`` gave them.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
        IndexError: on CPU, an index outside [0, N).
    """
    return torch.ops.isample.draw_weights.default(table.sums, indices)


@torch.library.register_fake("isample::draw_weights")
def _(sums, indices):
    return sums.new_empty(indices.shape, dtype=torch.float32)


def draw_moments(score: Tensor, weights: Tensor, *, drawn: bool) -> Tensor:
    """How noisy a batch's draws were, by its fresh scores g, whatever stale or foreseen ones had led to the weights w.

    Args:
        score: float32 [b].
        weights: float32 [b]: those of importance draws, also where the batch was not drawn by importance.
        drawn: whether it was; if not, it is a uniform batch.

    Returns:
        float64 [5]: ``sum(g)``, which is not finite if some score is not; unbiased estimates of E[g^2] under uniform
        draws and of E[(w g)^2] under importance draws; the least and the largest weight. If drawn, the estimates are
        mean(w g^2) and mean(w^2 g^2); if not, mean(g^2) and mean(w g^2).

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
    """
    return torch.ops.isample.draw_moments.default(score, weights, drawn)


@torch.library.register_fake("isample::draw_moments")
def _(score, weights, drawn):
    return score.new_empty(5, dtype=torch.float64)


def remember(memory: Tensor, indices: Tensor, score: Tensor) -> Tensor:
    """Puts fresh scores, float32 [b], into ``memory``, float32 [N], at ``indices``, int64 [b]; returns those that were
    there, float32 [b].

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
        IndexError: on CPU, an index outside [0, N).
    """
    return torch.ops.isample.remember.default(memory, indices, score)


@torch.library.register_fake("isample::remember")
def _(memory, indices, score):
    return torch.empty_like(score, memory_format=torch.contiguous_format)

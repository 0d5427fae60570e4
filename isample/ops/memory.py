"""The compiled ops of a step that remembers its scores, typed and documented as those in
:mod:`isample.ops` are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, library

from isample.ops.tables import PrefixSum
from isample.values import KEEP_FRACTIONS, Moments, Thinning


def draw_weights(table: PrefixSum, indices: Tensor) -> Tensor:
    """The weights 1 / (N p_i), float32 [b], that ``indices``, int64 [b], would have if draws from
    ``table`` gave them.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
        IndexError: on CPU, an index outside [0, N); on CUDA its weight is NaN.
    """
    return torch.ops.isample.draw_weights.default(table.sums, indices)


@library.register_fake("isample::draw_weights")
def _(sums, indices):
    return sums.new_empty(indices.shape, dtype=torch.float32)


def draw_moments(
    score: Tensor, weights: Tensor, *, drawn: bool, fractions: Sequence[float] = KEEP_FRACTIONS
) -> Tensor:
    """How noisy a batch's draws were, and what it would cost in noise to keep a part of it.

    The fresh scores g tell it, whatever stale or foreseen ones had led to the weights w.

    Args:
        score: float32 [b].
        weights: float32 [b], of importance draws, also where the batch was not drawn by importance.
        drawn: whether it was; if not, it was dealt.
        fractions: of the batch, each in (0, 1], at most 16.

    Returns:
        float64 [6 + K], K the number of fractions; :func:`moments_of` names the numbers. Of a drawn
        batch the unbiased estimates of E[g], E[g^2] and E[(w g)^2] are mean(w g), mean(w g^2) and
        mean(w^2 g^2). Of one that was dealt they are mean(g), mean(g^2) and mean(w g^2). The norms
        x that are thinned are w g, or g. The first is not finite if some score is negative or not
        finite.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a fraction outside (0, 1].
    """
    return torch.ops.isample.draw_moments.default(score, weights, drawn, fractions)


@library.register_fake("isample::draw_moments")
def _(score, weights, drawn, fractions):
    return score.new_empty(6 + len(fractions), dtype=torch.float64)


def moments_of(numbers: Sequence[float]) -> tuple[Moments, Thinning]:
    """The numbers of :func:`draw_moments` or :func:`recall`, by name."""
    mean, uniform, importance, least_weight, largest_weight, whole, *parts = numbers
    moments = Moments(mean, uniform, importance, least_weight, largest_weight)
    return moments, Thinning(whole, tuple(parts))


def remember(memory: Tensor, indices: Tensor, score: Tensor, *, rate: float = 0.5) -> Tensor:
    """Remembers fresh scores, float32 [b], in ``memory``, float32 [N], at ``indices``, int64 [b];
    returns those that were there, float32 [b]. What is kept is old^(1 - rate) fresh^rate, a
    geometric mean, or the fresh score where one of the two is not above 0; a fresh score that is
    negative or not finite is not remembered. Of an index that comes up twice, the last fresh score
    is blended in.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a rate outside (0, 1].
        IndexError: on CPU, an index outside [0, N); on CUDA it is passed over and NaN returned.
    """
    return torch.ops.isample.remember.default(memory, indices, score, rate=rate)


@library.register_fake("isample::remember")
def _(memory, indices, score, *, rate=0.5):
    return torch.empty_like(score, memory_format=torch.contiguous_format)


def meet(met: Tensor, remembered: Tensor, fresh: Tensor) -> None:
    """Adds to ``met``, float32 [256, 3], at the octave of each remembered score, float32 [b], the
    squares of the fresh one, float32 [b], and of itself, and 1. A remembered score below 0 is none,
    and counts for nothing, as does a fresh one that is not finite.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
    """
    torch.ops.isample.meet.default(met, remembered, fresh)


@library.register_fake("isample::meet")
def _(met, remembered, fresh):
    return None


def recall(
    memory: Tensor,
    met: Tensor,
    score: Tensor,
    indices: Tensor,
    *,
    weights: Tensor | None,
    table: PrefixSum | None,
    fractions: Sequence[float] = KEEP_FRACTIONS,
    rate: float = 0.5,
) -> Tensor:
    """:func:`draw_moments`, :func:`remember` and :func:`meet` for a batch and its fresh scores,
    float32 [b], in one call.

    ``weights`` are those of importance draws. None means that the batch was dealt. Its moments are
    then told by the weights that draws from ``table`` would have, or, without a table, by weights
    of 1.

    Returns:
        what draw_moments returns. On CUDA the first number is NaN if an index is out of range.

    Raises:
        ValueError, TypeError, IndexError: as these three. Nothing has changed then.
    """
    sums = None if table is None else table.sums
    return torch.ops.isample.recall.default(
        memory, met, score, indices, weights, sums, fractions, rate=rate
    )


@library.register_fake("isample::recall")
def _(memory, met, score, indices, weights, sums, fractions, *, rate=0.5):
    return score.new_empty(6 + len(fractions), dtype=torch.float64)


def expected_scores(
    score: Tensor, experience: Tensor, *, prior: float, contradicted: float | None, share: float
) -> tuple[Tensor, Tensor]:
    """What remembered scores foretell: :mod:`isample.sources.calibration` and
    :mod:`isample.scoring.contradicted` have the formulas.

    Args:
        score: remembered, float32 [N]; below 0 for a sample that was never seen, which counts as an
        average one.
        experience: decayed sums of what :func:`meet` found, float32 [256, 3].
        prior: samples that are assumed to have shown what the remembered score says.
        contradicted: remembered scores above it get ``share`` of the draws between them at most, or
            their share of the samples if that is more; None sets no bound.

    Returns:
        expected: float32 [N].
        bounded: float32 0-dim, 1 where the bound lowered some of them, else 0.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a prior that is not positive, a share
            outside [0, 1).
    """
    return torch.ops.isample.expected_scores.default(
        score, experience, prior=prior, contradicted=contradicted, share=share
    )


@library.register_fake("isample::expected_scores")
def _(score, experience, *, prior, contradicted, share):
    return torch.empty_like(score, memory_format=torch.contiguous_format), score.new_empty(())

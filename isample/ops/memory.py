"""The compiled ops of a step that remembers its scores, typed and documented as those in
:mod:`isample.ops` are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isample.ops.arguments import check_given
from isample.ops.fakes import register_fake
from isample.ops.tables import PrefixSum, check_table
from isample.values import KEEP_FRACTIONS, Moments, Thinning


def draw_weights(table: PrefixSum, indices: Tensor) -> Tensor:
    """The weights 1 / (N p_i), float32 [b], that ``indices``, int64 [b], would have if draws from
    ``table`` gave them.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
        IndexError: on CPU, an index outside [0, N); on CUDA its weight is NaN.
    """
    check_table(table)
    return torch.ops.isample.draw_weights.default(table.sums, indices)


@register_fake("isample::draw_weights")
def _fake_draw_weights(sums, indices):
    return sums.new_empty(indices.shape, dtype=torch.float32)


def draw_moments(
    score: Tensor, weights: Tensor, *, drawn: bool, fractions: Sequence[float] = KEEP_FRACTIONS
) -> Tensor:
    """Measures the noise of a batch from its fresh scores g and the weights w it was drawn with.

    Also measures what keeping a part of the batch would cost in noise.

    Args:
        score: float32 [b].
        weights: float32 [b], of importance draws, also where the batch was not drawn by importance.
        drawn: whether it was; if not, it was dealt.
        fractions: of the batch, each in (0, 1], at most 16.

    Returns:
        float64 [6 + K], K the number of fractions; :func:`moments_of` names the numbers. A drawn
        batch estimates E[g], E[g^2] and E[(w g)^2] by mean(w g), mean(w g^2) and mean(w^2 g^2), a
        dealt one by mean(g), mean(g^2) and mean(w g^2), all without bias. Thinning sees x = w g, or
        g for a dealt batch. The first number is not finite if some score is negative or not finite.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a fraction outside (0, 1].
    """
    check_given("score", score)
    if not isinstance(drawn, bool):
        raise TypeError(f"drawn must be True or False, got {drawn!r}")
    return torch.ops.isample.draw_moments.default(score, weights, drawn, fractions)


@register_fake("isample::draw_moments")
def _fake_draw_moments(score, weights, drawn, fractions):
    return score.new_empty(6 + len(fractions), dtype=torch.float64)


def moments_of(numbers: Sequence[float]) -> tuple[Moments, Thinning]:
    """The numbers of :func:`draw_moments` or :func:`recall`, by name."""
    mean, uniform, importance, least_weight, largest_weight, whole, *parts = numbers
    moments = Moments(mean, uniform, importance, least_weight, largest_weight)
    return moments, Thinning(whole, tuple(parts))


def remember(memory: Tensor, indices: Tensor, score: Tensor, *, rate: float = 0.5) -> Tensor:
    """Blends fresh scores into ``memory`` at ``indices``, and returns those that were there.

    It keeps the geometric mean old^(1 - rate) fresh^rate, or the fresh score where one of the two
    is not above 0. It leaves out a fresh score that is negative or not finite. If an index comes up
    twice, its last fresh score alone counts, also where that is left out.

    Args:
        memory: float32 [N]; changed in place.
        indices: int64 [b].
        score: fresh, float32 [b].
        rate: in (0, 1].

    Returns:
        float32 [b].

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a rate outside (0, 1].
        IndexError: on CPU, an index outside [0, N); on CUDA it is passed over and NaN returned.
    """
    check_given("memory", memory)
    return torch.ops.isample.remember.default(memory, indices, score, rate=rate)


@register_fake("isample::remember")
def _fake_remember(memory, indices, score, *, rate=0.5):
    return torch.empty_like(score, memory_format=torch.contiguous_format)


def meet(met: Tensor, remembered: Tensor, fresh: Tensor) -> None:
    """Adds fresh^2, remembered^2 and 1 to ``met``, at the octave of each remembered score.

    Leaves out a sample whose remembered score is below 0 (never seen) or whose fresh one is not
    finite.

    Args:
        met: float32 [256, 3]; changed in place.
        remembered, fresh: float32 [b].

    Raises:
        ValueError, TypeError: wrong shape, device or dtype.
    """
    check_given("met", met)
    torch.ops.isample.meet.default(met, remembered, fresh)


@register_fake("isample::meet")
def _fake_meet(met, remembered, fresh):
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

    ``weights`` are those of importance draws; None: the batch was dealt. The moments of a dealt
    batch take the weights that draws from ``table`` would have, or 1 without a table.

    Returns:
        what draw_moments returns. On CUDA the first number is NaN if an index is out of range.

    Raises:
        ValueError, TypeError, IndexError: as these three. Nothing has changed then.
    """
    check_given("memory", memory)
    if table is not None:
        check_table(table)
    sums = None if table is None else table.sums
    return torch.ops.isample.recall.default(
        memory, met, score, indices, weights, sums, fractions, rate=rate
    )


@register_fake("isample::recall")
def _fake_recall(memory, met, score, indices, weights, sums, fractions, *, rate=0.5):
    return score.new_empty(6 + len(fractions), dtype=torch.float64)


def expected_scores(
    score: Tensor,
    experience: Tensor,
    *,
    prior: float,
    contradicted: float | None,
    share: float,
    gain_cap: float | None = None,
    floor: float = 0.0,
    into: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What remembered scores foretell: :mod:`isample.sources.calibration` and
    :mod:`isample.scoring.contradicted` have the formulas.

    Args:
        score: remembered, float32 [N]; below 0 for a sample that was never seen, which counts as an
            average one.
        experience: decayed sums of what :func:`meet` found, float32 [256, 3].
        prior: imagined samples, in each octave, whose fresh score was the remembered one.
        contradicted: the bound on samples with remembered scores above it; None sets no bound.
        share: of the draws that these get together at most, or their share of the samples if that
            is more.
        gain_cap: of a draw in proportion to what is expected, over a uniform one: tau^2. What is
            expected then comes in units of its mean, with as much of the uniform distribution
            mixed in as keeps a draw's gain at the cap (``csrc/core/foretelling.h``). None or
            infinity leaves it as it is.
        floor: in [0, 1]: the share of uniform draws that a table of it will mix in as well.
        into: float32 [N], contiguous, apart from ``score``: becomes what is expected, in place of a
            new tensor.

    Returns:
        expected: float32 [N].
        bounded: float32 0-dim, 1 where the bound lowered some of them, else 0.

    Raises:
        ValueError, TypeError: wrong shape, device or dtype; a prior that is not positive, a share
            outside [0, 1), a ``gain_cap`` below 1, a floor outside [0, 1].
    """
    check_given("score", score)
    options = {"prior": prior, "contradicted": contradicted, "share": share}
    options |= {"gain_cap": gain_cap, "floor": floor}
    if into is None:
        return torch.ops.isample.expected_scores.default(score, experience, **options)
    return into, torch.ops.isample._expected_scores_into(into, score, experience, **options)


@register_fake("isample::expected_scores")
def _fake_expected_scores(
    score, experience, *, prior, contradicted, share, gain_cap=None, floor=0.0
):
    return torch.empty_like(score, memory_format=torch.contiguous_format), score.new_empty(())


@register_fake("isample::_expected_scores_into")
def _fake_expected_scores_into(
    expected, score, experience, *, prior, contradicted, share, gain_cap=None, floor=0.0
):
    return score.new_empty(())


def permuted(places: Tensor, size: int, *, seed: int) -> Tensor:
    """The samples at ``places``, int64 [b], of the shuffled order of ``size`` samples that ``seed``
    selects.

    The order is a permutation of [0, size), the same on CPU and CUDA, and is stored nowhere.

    Raises:
        ValueError, TypeError: wrong shape or dtype; a size outside [1, 2^32].
        IndexError: on CPU, a place outside [0, size); on CUDA its sample is -1.
    """
    check_given("places", places)
    return torch.ops.isample.permuted.default(places, size, seed=seed)


@register_fake("isample::permuted")
def _fake_permuted(places, size, *, seed):
    return torch.empty_like(places, memory_format=torch.contiguous_format)


@register_fake("isample::_pack")
def _fake_pack(values):
    return values[0].new_empty(sum(value.numel() for value in values), dtype=torch.float64)

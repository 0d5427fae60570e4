"""Draws from scores or tables, with their weights; and all stages in one call."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from isample.ops.arguments import check_given, method_name, seed_word, whole_number
from isample.ops.fakes import check_draws, register_fake
from isample.ops.tables import AliasTable, PrefixSum, check_table, raise_if_nan

DrawMethod = Literal["alias", "systematic", "pps", "stratified"]


def draw(
    source: Tensor | AliasTable | PrefixSum,
    count: int,
    *,
    method: DrawMethod | None = None,
    floor: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Draws items in proportion to their scores, with weights that keep the mean unbiased (4).

    For any values G_i, the expectation of ``mean_b(weights * G[indices])`` is the mean of G over
    all N items.

    ============ =============================================================== =========
    method       how                                                             weight
    ============ =============================================================== =========
    alias        independent, with replacement                                   1 / (N p)
    systematic   equal steps through the prefix sum, from one random start       1 / (N p)
    stratified   as systematic, each step with a start of its own (PrefixSum)    1 / (N p)
    pps          without replacement, included with probability q = min(1, c p)  b / (N q)
    ============ =============================================================== =========

    A score of 0 is never drawn. If only m < ``count`` items have a positive score, pps draws each
    of them ``count // m`` times, and the remaining ``count % m`` without replacement.

    Args:
        source: float32 [N] scores ("alias", "systematic", "pps"), or a table, whose floor is fixed:
            an :class:`AliasTable` ("alias") or a :class:`PrefixSum` ("stratified", "systematic").
            N is at most 2^24 for "alias" and, on CUDA, for "pps"; otherwise 2^32.
        count: number of draws b, from 1 to 2^24; for pps at most N, too.
        method: one that ``source`` allows; by default the first of those.
        floor: as in :func:`distribution`.
        seed: in [-2^63, 2^64), as of torch.manual_seed: -1 is 2^64 - 1. With a seed the draws are a
            pure function of (scores, count, seed, offset), bit for bit the same on CPU and CUDA.
        offset: in [0, 2^63), selects one of the seed's streams.
        generator: source of the seed where none is given; by default the device's, which
            torch.manual_seed seeds.

    Returns:
        indices: int64 [b].
        weights: float32 [b].

    Raises:
        NonFiniteScoreError: on CPU. On CUDA all weights are NaN instead, all indices 0.
        ValueError, TypeError: an argument breaks a rule above, or a table was not made by
            :func:`alias_table` or :func:`prefix_sum`. A table from elsewhere is checked once, in
            O(N).
        RuntimeError: under torch.vmap.
    """
    count = whole_number("count", count)
    stream = _stream(seed, offset, generator)
    if isinstance(source, Tensor):
        indices, weights = torch.ops.isample.draw.default(
            source,
            count,
            method="alias" if method is None else method_name("method", method),
            floor=floor,
            **stream,
        )
        raise_if_nan(weights, source)
        return indices, weights
    if not isinstance(source, AliasTable | PrefixSum):
        raise TypeError(
            "source must be a tensor of scores, an AliasTable or a PrefixSum, "
            f"got {type(source).__name__}"
        )
    if floor != 0.0:
        raise ValueError(
            "floor must be given to the table's own function, not to draws from the table, "
            f"got {floor}"
        )
    if isinstance(source, AliasTable) and method not in (None, "alias"):
        raise ValueError(f"method must be 'alias' for draws from an AliasTable, got {method!r}")
    check_table(source)
    if isinstance(source, PrefixSum):
        return torch.ops.isample.draw.prefix_sum(
            source.sums,
            count,
            method="stratified" if method is None else method_name("method", method),
            **stream,
        )
    return torch.ops.isample.draw.table(*source, count, **stream)


def _stream(
    seed: int | None, offset: int, generator: torch.Generator | None
) -> dict[str, int | torch.Generator | None]:
    return {
        "seed": seed_word(seed),
        "offset": whole_number("offset", offset),
        "generator": generator,
    }


@register_fake("isample::draw")
def _fake_draw(score, count, *, method="alias", floor=0.0, seed=None, offset=0, generator=None):
    check_draws("count", count)
    return score.new_empty(count, dtype=torch.int64), score.new_empty(count)


@register_fake("isample::draw.table")
def _fake_draw_table(threshold, alias, mass, total, count, *, seed=None, offset=0, generator=None):
    check_draws("count", count)
    return threshold.new_empty(count), threshold.new_empty(count, dtype=torch.float32)


@register_fake("isample::draw.prefix_sum")
def _fake_draw_prefix_sum(sums, count, *, method="stratified", seed=None, offset=0, generator=None):
    check_draws("count", count)
    return sums.new_empty(count), sums.new_empty(count, dtype=torch.float32)


class Sample(NamedTuple):
    """What :func:`importance_sample` gives."""

    indices: Tensor
    """int64 [b], into the candidates."""
    weights: Tensor
    """float32 [b]: the loss is ``mean(weights * per_sample_loss)``."""
    score: Tensor
    """float32 [B]."""
    loss: Tensor
    """float32 [B]."""
    tau: Tensor
    """float32, 0-dimensional."""


def importance_sample(
    logits: Tensor,
    targets: Tensor,
    batch_size: int,
    tau_ema: Tensor,
    *,
    momentum: float = 0.9,
    draws: DrawMethod = "alias",
    floor: float = 0.0,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    seed: int | None = None,
    offset: int = 0,
    generator: torch.Generator | None = None,
) -> Sample:
    """Lines 6 to 9 and 17 of Algorithm 1 in one call: from the logits of candidates to the batch to
    train on, and tau.

    The same numbers, bit for bit, as :func:`softmax_score`, :func:`distribution` and :func:`draw`
    in a row, whose arguments these are; ``draws`` is the method, ``batch_size`` the count.
    ``tau_ema`` is updated in place.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA tau and all weights are NaN instead. tau_ema keeps its
        value.
        ValueError, TypeError: as those functions.
    """
    check_given("logits", logits)
    sample = Sample(
        *torch.ops.isample.importance_sample.default(
            logits,
            targets,
            whole_number("batch_size", batch_size),
            tau_ema,
            momentum=momentum,
            draws=method_name("draws", draws),
            floor=floor,
            weight=weight,
            ignore_index=whole_number("ignore_index", ignore_index),
            label_smoothing=label_smoothing,
            **_stream(seed, offset, generator),
        )
    )
    raise_if_nan(sample.tau, sample.score)
    return sample


@register_fake("isample::importance_sample")
def _fake_importance_sample(
    logits,
    targets,
    batch_size,
    tau_ema,
    *,
    momentum=0.9,
    draws="alias",
    floor=0.0,
    weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    seed=None,
    offset=0,
    generator=None,
):
    check_draws("batch_size", batch_size)
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    indices = logits.new_empty(batch_size, dtype=torch.int64)
    return indices, score.new_empty(batch_size), score, torch.empty_like(score), score.new_empty(())

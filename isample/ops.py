"""The compiled ops, typed and documented, in pipeline order:

    logits -> softmax_score -> distribution, tau -> alias_table -> draw -> weights

and ``importance_sample``, which does all of it in one call. Each wraps ``torch.ops.isample.<name>``, which
torch.compile, autocast and CUDA graphs see; the fake implementation, which gives shapes alone, stands beside it.

Equation numbers are those of Katharopoulos & Fleuret 2018, "Not All Samples Are Created Equal". B is the size of the
presample, C the number of classes, b the number of draws.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, library

from isample import _C  # noqa: F401  (registers torch.ops.isample)
from isample.errors import NonFiniteScoreError

DrawMethod = Literal["alias", "systematic", "pps", "stratified"]

# ---- Score ----------------------------------------------------------------------------------------------------------


def softmax_score(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Norm of the softmax cross-entropy gradient for each row of logits (19), and the loss of each row.

    Exactly ``||dL_i/dz_i||_2`` and ``L_i`` of ``torch.nn.functional.cross_entropy(..., reduction="none")`` with the
    same arguments. For labels without smoothing the norm is ``w_y * ||softmax(z) - onehot(y)||``, from one read of the
    logits and without cancellation: good to 5e-6 relative down to e^-85. Not differentiable: no gradient flows back.

    Args:
        logits: [B, C], float32, bfloat16, float16 or float64. Arithmetic is in float32, for float64 in double. The
            classes of a row should lie side by side in memory; otherwise a copy is made.
        targets: labels, int64 [B], or probabilities [B, C] of any floating dtype.
        weight: class weights [C], or None.
        ignore_index: rows with this label have score 0 and loss 0. Labels only.
        label_smoothing: in [0, 1].

    Returns:
        score, loss: float32 [B]. A row that holds NaN or +inf gives NaN. One class gives 0.

    Raises:
        ValueError: wrong shape or device, or (on CPU) a label that is out of range; on CUDA its score is NaN.
        TypeError: wrong dtype.
    """
    return torch.ops.isample.softmax_score.default(
        logits, targets, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing
    )


@library.register_fake("isample::softmax_score")
def _(logits, targets, *, weight=None, ignore_index=-100, label_smoothing=0.0):
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return score, torch.empty_like(score)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of ``weights`` times the losses of :func:`softmax_score`, its scores, and the gradient of that mean, in one call,
    for a training step that goes on with ``logits.backward(gradient)``. On CPU only. Not differentiable itself.

    Args:
        weights: importance weights, float32 [B], or None for 1. The others are softmax_score's.

    Returns:
        loss: float32, 0-dim.
        score: float32 [B].
        gradient: of the loss with respect to logits, [B, C], float32, for float64 logits float64.

    Raises:
        ValueError, TypeError: as softmax_score; ``weights`` of a wrong shape, device or dtype.
        NotImplementedError: on CUDA.
    """
    return torch.ops.isample.cross_entropy.default(
        logits, targets, weights, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing
    )


@library.register_fake("isample::cross_entropy")
def _(logits, targets, weights=None, *, weight=None, ignore_index=-100, label_smoothing=0.0):
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    arithmetic = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return score.new_empty(()), score, logits.new_empty(logits.shape, dtype=arithmetic)


# ---- Distribution and tau -------------------------------------------------------------------------------------------


def distribution(
    score: Tensor, *, floor: float = 0.0, tau_ema: Tensor | None = None, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """The distribution that is sampled, ``p = (1 - floor) * g / sum(g) + floor / B``, and tau of it (29).

    tau is in its closed form, ``sqrt(B * sum(p^2))``: between 1 (uniform) and sqrt(B); ``B / tau^2`` is the effective
    sample size of the presample. If all scores are 0 the distribution is uniform.

    Args:
        score: float32 [B], finite and not negative, 1 <= B <= 2^24.
        floor: share of the uniform distribution mixed in, in [0, 1]; it bounds every weight by 1 / floor.
        tau_ema: float32, 0-dimensional, or None. Updated in place, ``momentum * tau_ema + (1 - momentum) * tau``
            (Algorithm 1, line 17).
        momentum: in [0, 1].

    Returns:
        probabilities: float32 [B].
        tau: float32, 0-dimensional, on the device of ``score``.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA tau and the probabilities are NaN instead, and tau_ema keeps its value.
        ValueError, TypeError: an argument breaks a rule above. An empty ``score`` has no distribution: ValueError.
    """
    probabilities, tau = torch.ops.isample.distribution.default(score, floor=floor, tau_ema=tau_ema, momentum=momentum)
    _raise_if_nan(tau, score)
    return probabilities, tau


@library.register_fake("isample::distribution")
def _(score, *, floor=0.0, tau_ema=None, momentum=0.9):
    return torch.empty_like(score, memory_format=torch.contiguous_format), score.new_empty(())


# ---- Table ----------------------------------------------------------------------------------------------------------


class AliasTable(NamedTuple):
    """A distribution over N items, ready for draws in constant time, exact in integers.

    Item i has probability ``mass[i] / total``. Bucket i is drawn with probability 1/N and gives item i for heights
    below ``threshold[i]``, of ``total``, and item ``alias[i]`` above. Made by :func:`alias_table`; draws do not look at
    the values again.
    """

    threshold: Tensor
    """int64 [N], in [0, total]."""
    alias: Tensor
    """int32 [N]."""
    mass: Tensor
    """int32 [N]: the scores, quantised."""
    total: Tensor
    """int64, 0-dimensional: the sum of ``mass``."""


def alias_table(score: Tensor, *, floor: float = 0.0) -> AliasTable:
    """Alias table of the distribution of ``score``, for many draws from the same scores.

    Args:
        score: float32 [N], finite and not negative, 1 <= N <= 2^24.
        floor: as in :func:`distribution`.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA the table's ``total`` is 0 instead, and draws from it have weight NaN.
        ValueError, TypeError: an argument breaks a rule above.
    """
    table = AliasTable(*torch.ops.isample.alias_table(score, floor=floor))
    if _can_look(score) and table.total == 0:
        raise NonFiniteScoreError.from_scores(score)
    return table


@library.register_fake("isample::alias_table")
def _(score, *, floor=0.0):
    n = score.shape[0]
    return (
        score.new_empty(n, dtype=torch.int64),
        score.new_empty(n, dtype=torch.int32),
        score.new_empty(n, dtype=torch.int32),
        score.new_empty((), dtype=torch.int64),
    )


class PrefixSum(NamedTuple):
    """A distribution over N items as the running sums of its masses: a lean table, for draws spread over the items."""

    sums: Tensor
    """int64 [N], inclusive and ascending. Item i has probability ``(sums[i] - sums[i - 1]) / sums[-1]``."""
    tau: Tensor
    """float32, 0-dimensional: as of :func:`distribution`."""


def prefix_sum(score: Tensor, *, floor: float = 0.0) -> PrefixSum:
    """The prefix sums of the distribution of ``score``, for many spread draws from the same scores.

    Arguments and errors are those of :func:`alias_table`; on CUDA invalid scores give sums of 0 and a tau of NaN.
    """
    table = PrefixSum(*torch.ops.isample.prefix_sum(score, floor=floor))
    _raise_if_nan(table.tau, score)
    return table


@library.register_fake("isample::prefix_sum")
def _(score, *, floor=0.0):
    return score.new_empty(score.shape[0], dtype=torch.int64), score.new_empty(())


# ---- Draws ----------------------------------------------------------------------------------------------------------


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

    For any values G_i, the expectation of ``mean_b(weights * G[indices])`` is the mean of G over all N items.

    ============ ================================================================= ==================================
    method       how                                                               weight
    ============ ================================================================= ==================================
    alias        independent, with replacement                                     1 / (N p)
    systematic   equal steps through the prefix sum, from one random start         1 / (N p)
    stratified   as systematic, each step with a start of its own (PrefixSum only) 1 / (N p)
    pps          without replacement, included with probability min(1, c p)        b / (N * inclusion probability)
    ============ ================================================================= ==================================

    A score of 0 is never drawn. If fewer than ``count`` items have a positive score, pps draws each of them as often as
    it divides evenly for sure, and the rest without replacement.

    Args:
        source: float32 [N] scores ("alias", "systematic", "pps"), or a table, whose floor is fixed: an
            :class:`AliasTable` ("alias") or a :class:`PrefixSum` ("stratified", "systematic").
        count: number of draws b >= 1; for pps at most N, otherwise at most 2^24.
        method: one that ``source`` allows; by default the first of those.
        floor: as in :func:`distribution`.
        seed, offset: with a seed the draws are a pure function of (scores, count, seed, offset), bit for bit the same
            on CPU and CUDA. The offset selects one of 2^63 streams.
        generator: source of the seed where none is given; by default the device's, which torch.manual_seed seeds.

    Returns:
        indices: int64 [b].
        weights: float32 [b].

    Raises:
        NonFiniteScoreError: on CPU. On CUDA all weights are NaN instead, all indices 0.
        ValueError, TypeError: an argument breaks a rule above.
    """
    stream = {"seed": seed, "offset": offset, "generator": generator}
    if isinstance(source, Tensor):
        indices, weights = torch.ops.isample.draw.default(source, count, method=method or "alias", floor=floor, **stream)
        _raise_if_nan(weights, source)
        return indices, weights
    if floor != 0.0:
        raise ValueError(f"floor must be given to the table's own function, not to draws from the table, got {floor}")
    if isinstance(source, PrefixSum):
        return torch.ops.isample.draw.prefix_sum(source.sums, count, method=method or "stratified", **stream)
    if method not in (None, "alias"):
        raise ValueError(f"method must be 'alias' for draws from an AliasTable, got {method!r}")
    return torch.ops.isample.draw.table(*source, count, **stream)


@library.register_fake("isample::draw")
def _(score, count, *, method="alias", floor=0.0, seed=None, offset=0, generator=None):
    return score.new_empty(count, dtype=torch.int64), score.new_empty(count)


@library.register_fake("isample::draw.table")
def _(threshold, alias, mass, total, count, *, seed=None, offset=0, generator=None):
    return threshold.new_empty(count), threshold.new_empty(count, dtype=torch.float32)


@library.register_fake("isample::draw.prefix_sum")
def _(sums, count, *, method="stratified", seed=None, offset=0, generator=None):
    return sums.new_empty(count), sums.new_empty(count, dtype=torch.float32)


# ---- All of it ------------------------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """What :func:`importance_sample` gives."""

    indices: Tensor
    """int64 [b], into the presample."""
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
    """Lines 6 to 9 and 17 of Algorithm 1 in one call: logits of a presample to the batch to train on, and tau.

    The same numbers, bit for bit, as :func:`softmax_score`, :func:`distribution` and :func:`draw` in a row, whose
    arguments these are; ``draws`` is the method, ``batch_size`` the count. ``tau_ema`` is updated in place.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA tau and all weights are NaN instead. tau_ema keeps its value.
        ValueError, TypeError: as those functions.
    """
    sample = Sample(
        *torch.ops.isample.importance_sample.default(
            logits,
            targets,
            batch_size,
            tau_ema,
            momentum=momentum,
            draws=draws,
            floor=floor,
            weight=weight,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            seed=seed,
            offset=offset,
            generator=generator,
        )
    )
    _raise_if_nan(sample.tau, sample.score)
    return sample


@library.register_fake("isample::importance_sample")
def _(
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
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    indices = logits.new_empty(batch_size, dtype=torch.int64)
    return indices, score.new_empty(batch_size), score, torch.empty_like(score), score.new_empty(())


# ---- Scores that are not valid --------------------------------------------------------------------------------------


def _can_look(tensor: Tensor) -> bool:
    """Whether a value may be read at once: CUDA would make us wait for it, torch.compile would break its graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _raise_if_nan(status: Tensor, score: Tensor) -> None:
    if _can_look(score) and math.isnan(status.item() if status.dim() == 0 else status[0].item()):
        raise NonFiniteScoreError.from_scores(score)

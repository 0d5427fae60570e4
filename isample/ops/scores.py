"""Logits to scores and losses."""

from __future__ import annotations

import torch
from torch import Tensor

from isample.ops.arguments import check_given, whole_number
from isample.ops.fakes import register_fake


def softmax_score(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The norm of the softmax cross-entropy gradient of each row of logits (19), and its loss.

    Exactly ``||dL_i/dz_i||_2`` and ``L_i`` of ``torch.nn.functional.cross_entropy(...,
    reduction="none")`` with the same arguments. For labels without smoothing the norm is ``w_y *
    ||softmax(z) - onehot(y)||``, from one read of the logits and without cancellation: good to 5e-6
    relative down to e^-85. Not differentiable: no gradient flows back.

    Args:
        logits: [B, C], float32, bfloat16, float16 or float64. Arithmetic is in float32, for float64
            in double. The classes of a row should lie side by side in memory; otherwise a copy is
            made.
        targets: labels, int64 [B], or probabilities [B, C] of any floating dtype; these may be
            negative.
        weight: class weights [C], which may be negative, or None.
        ignore_index: rows with this label have score 0 and loss 0. Labels only.
        label_smoothing: in [0, 1].

    Returns:
        score, loss: float32 [B]. A row that holds NaN or +inf gives NaN. One class gives 0.

    Raises:
        ValueError: wrong shape or device, or (on CPU) a label that is out of range; on CUDA its
        score is NaN.
        TypeError: wrong dtype.
    """
    check_given("logits", logits)
    return torch.ops.isample.softmax_score.default(
        logits,
        targets,
        weight=weight,
        ignore_index=whole_number("ignore_index", ignore_index),
        label_smoothing=label_smoothing,
    )


@register_fake("isample::softmax_score")
def _fake_softmax_score(logits, targets, *, weight=None, ignore_index=-100, label_smoothing=0.0):
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
) -> tuple[Tensor, Tensor]:
    """The mean of ``weights`` times the losses of :func:`softmax_score`, and its scores.

    The loss is differentiable in ``logits``, once. Its gradient is made in the forward pass, where
    ``logits`` require grad, and kept as float32 [B, C], for float64 logits float64. No gradient
    flows back through the score.

    Args:
        weights: importance weights, float32 [B], or None for 1. The others are softmax_score's.

    Returns:
        loss: float32, 0-dim.
        score: float32 [B].

    Raises:
        ValueError, TypeError: as softmax_score; ``weights`` of a wrong shape, device or dtype; an
            argument other than ``logits`` that requires grad.
        RuntimeError: the gradient is differentiated again; ``logits`` have a forward-mode tangent.
    """
    check_given("logits", logits)
    return torch.ops.isample.cross_entropy.default(
        logits,
        targets,
        weights,
        weight=weight,
        ignore_index=whole_number("ignore_index", ignore_index),
        label_smoothing=label_smoothing,
    )


@register_fake("isample::cross_entropy")
def _fake_cross_entropy(
    logits, targets, weights=None, *, weight=None, ignore_index=-100, label_smoothing=0.0
):
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return score.new_empty(()), score


@register_fake("isample::_cross_entropy_with_gradient")
def _fake_cross_entropy_with_gradient(
    logits, targets, weights=None, *, weight=None, ignore_index=-100, label_smoothing=0.0
):
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    arithmetic = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return score.new_empty(()), score, logits.new_empty(logits.shape, dtype=arithmetic)


def mean_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`cross_entropy` without weights, its mean as torch's own: over what the labels count.

    Returns:
        loss: float32, 0-dim; 0 where no label counts.
        score: float32 [B].
        count: float64, 0-dim: of the labels that are not ignored, by their class weights.

    Raises:
        ValueError, TypeError, RuntimeError: as :func:`cross_entropy`.
    """
    check_given("logits", logits)
    return torch.ops.isample._mean_cross_entropy.default(
        logits,
        targets,
        weight=weight,
        ignore_index=whole_number("ignore_index", ignore_index),
        label_smoothing=label_smoothing,
    )


@register_fake("isample::_mean_cross_entropy")
def _fake_mean_cross_entropy(
    logits, targets, *, weight=None, ignore_index=-100, label_smoothing=0.0
):
    score = logits.new_empty(logits.shape[0], dtype=torch.float32)
    return score.new_empty(()), score, score.new_empty((), dtype=torch.float64)


@register_fake("isample::_mean_cross_entropy_with_gradient")
def _fake_mean_cross_entropy_with_gradient(
    logits, targets, *, weight=None, ignore_index=-100, label_smoothing=0.0
):
    loss, score, count = _fake_mean_cross_entropy(logits, targets)
    arithmetic = torch.float64 if logits.dtype == torch.float64 else torch.float32
    gradient = logits.new_empty(logits.shape, dtype=arithmetic)
    ratio = count.new_empty(0 if logits.device.type == "cpu" else ())
    return loss, score, gradient, count, ratio

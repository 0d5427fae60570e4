"""Losses, a value a sample. Weights multiply each sample's own loss, so none may be reduced before.

A loss is one of these:

- a name: ``cross_entropy``, ``bce_with_logits``, ``mse``;
- a torch module with ``reduction="none"``, for class weights, label smoothing, ignore_index or
  pos_weight;
- a callable that maps (logits, targets) to a tensor [B].

The mean of a uniform batch is torch's own ``reduction="mean"``. For cross-entropy and NLL over
labels that leaves out ``ignore_index`` and divides by the class weights, see
:mod:`isample.scoring.counts`. Nothing is broadcast: targets have the shape that the loss asks for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard, TypeVar

import torch
from torch import nn

from isample.scoring.counts import TINY, counts_of, is_ratio
from isample.scoring.shapes import (
    RowsAlone,
    check_targets,
    crosses_rows,
    same_shape,
    shape_of,
)
from isample.support.registry import look_up

Loss: TypeAlias = str | nn.Module | Callable[[torch.Tensor, Any], torch.Tensor]

M = TypeVar("M", bound=nn.Module)

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "cross_entropy": lambda: nn.CrossEntropyLoss(reduction="none"),
    "bce_with_logits": lambda: nn.BCEWithLogitsLoss(reduction="none"),
    "mse": lambda: nn.MSELoss(reduction="none"),
}


def make_loss(loss: Loss) -> Callable[..., Any]:
    """The callable behind a name, a torch loss module or a callable.

    Raises ValueError for an unknown name or a module that reduces, TypeError for anything that
    cannot be called.
    """
    if isinstance(loss, str):
        return look_up(LOSSES, loss, "loss")()
    if isinstance(loss, type) and issubclass(loss, nn.Module):
        raise TypeError(
            f"loss must be a module, not its class; got {loss.__name__} (give "
            f"{loss.__name__}(reduction='none'))"
        )
    if not callable(loss):
        raise TypeError(
            f"loss must be a name, a torch loss module or a callable; got {type(loss).__name__}"
        )
    reduction = getattr(loss, "reduction", "none")
    if reduction != "none":
        raise ValueError(
            f"loss must give one value a sample: build {type(loss).__name__} with "
            f"reduction='none'; got {reduction!r}"
        )
    return loss


def is_exactly(loss: Callable[..., Any], kind: type[M]) -> TypeGuard[M]:
    """Whether ``loss`` is a ``kind`` and no subclass of it, which may compute something else."""
    return type(loss) is kind


def per_sample_loss(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
    """One loss a sample, [B].

    Named and torch losses give a value an element or a position. A sample's loss is torch's own
    mean over its values: positions of ``ignore_index`` are left out, and class weights weigh them.
    It is 0 where none is left. A callable must give [B] itself.

    Raises ValueError for a result of another shape, such as a loss that is already reduced.
    """
    values = _values(loss, logits, targets)
    if values.dim() > 1:
        counts = counts_of(loss, targets)
        values = values.flatten(1)
        values = values.mean(1) if counts is None else values.sum(1) / counts.clamp(min=TINY)
    return values


def terms_of(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
    """What each sample adds to torch's own mean before that is divided, [B]."""
    values = _values(loss, logits, targets)
    return values.flatten(1).sum(1, dtype=_sum_dtype(values)) if values.dim() > 1 else values


def sums(
    loss: Callable[..., Any], logits: torch.Tensor, targets: Any
) -> tuple[torch.Tensor, torch.Tensor | int]:
    """The sum of all values, 0-dim, and what torch's own mean of the batch divides it by."""
    if (
        (is_exactly(loss, nn.CrossEntropyLoss) and loss.label_smoothing == 0.0)
        or is_exactly(loss, nn.NLLLoss)
    ) and (logits.dim() == 2 and targets.dim() == 1 and is_ratio(loss, targets)):
        wide = _sum_dtype(logits)
        is_log = isinstance(loss, nn.NLLLoss)
        log_p = logits.to(wide) if is_log else logits.log_softmax(1, dtype=wide)
        weight = None if loss.weight is None else loss.weight.to(wide)
        return torch.ops.aten.nll_loss_forward.default(  # one pass gives both
            log_p, targets, weight, _SUM, loss.ignore_index
        )
    values = _values(loss, logits, targets)
    counts = counts_of(loss, targets)
    return values.sum(dtype=_sum_dtype(values)), values.numel() if counts is None else counts.sum()


_SUM = 2  # aten's number of reduction="sum"


def _sum_dtype(values: torch.Tensor) -> torch.dtype:
    """float32 for halves: float16 ends at 65504."""
    return torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else values.dtype


def _values(loss: Callable[..., Any], logits: torch.Tensor, targets: Any) -> torch.Tensor:
    """[B], or of a torch loss a value an element or a position, [B, ...]."""
    check_targets(loss, logits, targets)
    values = loss(logits, targets)
    if isinstance(values, torch.Tensor) and values.shape == logits.shape[:1]:
        return values
    if (
        isinstance(values, torch.Tensor)
        and isinstance(loss, nn.Module)
        and values.dim() > 1
        and values.shape[0] == logits.shape[0]
        and values.numel() <= max(logits.numel(), getattr(targets, "numel", int)())
    ):
        return values
    got = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
    batch = logits.shape[0]
    raise ValueError(
        f"loss must give one value a sample, shape ({batch},), not reduced; got {got} of logits "
        f"{tuple(logits.shape)} and targets {shape_of(targets)} "
        f"({_remedy(values, logits, targets)})"
    )


def _remedy(values: Any, logits: torch.Tensor, targets: Any) -> str:
    batch = logits.shape[0]
    if not isinstance(values, torch.Tensor):
        return "return a tensor of the losses"
    if values.dim() < 2 or values.shape[0] != batch:
        return "give torch's losses reduction='none'; average within a sample, not over samples"
    if crosses_rows(logits, targets):
        return "rows were broadcast against each other: " + same_shape(logits, targets)
    return "average within each sample: loss.flatten(1).mean(1)"


def mean_loss(loss: Callable[..., Any]) -> Callable[..., torch.Tensor]:
    """The function (logits, targets, weights=None) -> mean of w times :func:`per_sample_loss`,
    0-dim; w is 1 without ``weights``.

    Without weights, squared error and binary cross-entropy use torch's own ``reduction="mean"``.
    That spares autograd two ops, a twentieth of a step of half a millisecond.
    """
    reduced = None
    if is_exactly(loss, nn.MSELoss) or is_exactly(loss, nn.BCEWithLogitsLoss):
        reduced = copy.copy(loss)
        reduced.reduction = "mean"
    alone = RowsAlone(loss)

    def mean(
        logits: torch.Tensor, targets: Any, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        if (
            weights is None
            and reduced is not None
            and isinstance(targets, torch.Tensor)
            and logits.shape == targets.shape
            and targets.is_floating_point()
        ):
            return reduced(logits, targets)
        alone.check(logits, targets)
        losses = per_sample_loss(loss, logits, targets)
        return losses.mean() if weights is None else (weights * losses).mean()

    return mean

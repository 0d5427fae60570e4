"""Shapes of logits and targets: nothing is broadcast, since that trains another loss in silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ELEMENTWISE = (
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.BCELoss,
    nn.BCEWithLogitsLoss,
    nn.SoftMarginLoss,
    nn.PoissonNLLLoss,
    nn.KLDivLoss,
    nn.HingeEmbeddingLoss,
    nn.MultiLabelMarginLoss,
    nn.MultiLabelSoftMarginLoss,
)
"""Losses whose targets have the logits' shape."""

FLOATING = (nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.KLDivLoss)
"""Those of them that torch does not differentiate with integer targets."""


def check_targets(loss: Callable[..., Any], logits: Tensor, targets: Any) -> None:
    """Raises ValueError or TypeError where torch would broadcast, or refuse without a remedy."""
    if type(loss) not in ELEMENTWISE:  # a subclass may ask for other shapes
        return
    name = type(loss).__name__
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets must be a tensor for {name}; got {type(targets).__name__}")
    if targets.shape != logits.shape:
        raise ValueError(
            f"targets must have the logits' shape {tuple(logits.shape)} so that {name} gives "
            f"one value a sample; got {tuple(targets.shape)} ({same_shape(logits, targets)})"
        )
    takes_integers = type(loss) not in FLOATING and targets.dtype != torch.bool
    if not (targets.is_floating_point() or takes_integers):
        raise TypeError(
            f"targets must be floating-point for {name}; got {targets.dtype} (give targets.float())"
        )


def same_shape(logits: Tensor, targets: Tensor) -> str:
    """How two tensors come to one shape."""
    mine, theirs = tuple(logits.shape), tuple(targets.shape)
    for at in range(1, len(mine)):
        if mine[at] == 1 and mine[:at] + mine[at + 1 :] == theirs:
            return f"give target.unsqueeze({at}), or let the model return output.squeeze({at})"
    for at in range(1, len(theirs)):
        if theirs[at] == 1 and theirs[:at] + theirs[at + 1 :] == mine:
            return f"give target.squeeze({at}), or let the model return output.unsqueeze({at})"
    if len(mine) == len(theirs) and _broadcast(mine, theirs) == mine:
        return "give target.expand_as(output) where that is what is meant"
    return "let the model return an output for each target, or reshape the targets"


def shape_of(targets: Any) -> Any:
    return tuple(targets.shape) if isinstance(targets, Tensor) else type(targets).__name__


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(one, other))
    except RuntimeError:
        return None


def crosses_rows(logits: Tensor, targets: Any) -> bool:
    """Whether logits and targets would broadcast with the samples of one along other dimensions of
    the other, as [B, 1] against [B]."""
    return (
        isinstance(targets, Tensor)
        and logits.dim() != targets.dim()
        and _broadcast(tuple(logits.shape), tuple(targets.shape)) is not None
    )


class RowsAlone:
    """Finds out whether a loss of the user's own broadcasts samples against each other.

    Only where shapes would let it, and until one batch has told: row 0 must not depend on the
    targets of other rows.
    """

    def __init__(self, loss: Callable[..., Any]):
        self.loss = loss
        self._told = type(loss) in (*ELEMENTWISE, nn.CrossEntropyLoss, nn.NLLLoss)

    def check(self, logits: Tensor, targets: Any) -> None:
        """Raises ValueError where it does."""
        if self._told or logits.dim() == 0 or not crosses_rows(logits, targets):
            return
        others = targets.clone()
        others[1:] = targets[0]
        if torch.equal(others, targets):
            return
        if not torch.equal(*(self._first(logits, each) for each in (targets, others))):
            raise ValueError(
                f"loss must give each sample a value of its own; got one that broadcasts logits "
                f"{tuple(logits.shape)} against targets {tuple(targets.shape)} "
                f"({same_shape(logits, targets)})"
            )
        self._told = True

    def _first(self, logits: Tensor, targets: Tensor) -> Tensor:
        devices = [logits.device] if logits.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            values = self.loss(logits.detach(), targets)
        if not isinstance(values, Tensor) or values.shape[:1] != logits.shape[:1]:
            return logits.new_zeros(())  # its shape is refused where it is used
        return values[0].nan_to_num()

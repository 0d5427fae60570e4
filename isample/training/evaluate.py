"""Mean loss and error of a model over a loader, leaving no trace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from isample.scoring.counts import is_ratio
from isample.scoring.losses import sums
from isample.scoring.scores import leaving_no_trace
from isample.scoring.shapes import RowsAlone
from isample.support.pytree import as_pair, batch_length, logits_of, map_tensors


def evaluate(
    model: nn.Module, loss: Callable[..., Any], loader: Iterable[Any], device: torch.device
) -> tuple[float, float]:
    """Mean loss and share of wrong classes over ``loader``.

    The loss is torch's own mean over all data, whatever the batches: a ratio of sums over all of
    them. So ``ignore_index`` is left out, and class weights weigh. The share is that of the labels
    that are not ignored. It is NaN unless the loss is a cross-entropy or NLL over class indices.
    Both are NaN where every label is ignored.
    """
    total, count, wrong, labels = (
        torch.zeros((), dtype=torch.float64, device=device) for _ in range(4)
    )
    alone, batches, classes = RowsAlone(loss), 0, True
    with leaving_no_trace(model, device):
        for batch in loader:
            inputs, targets = map_tensors(
                lambda t: t.to(device, non_blocking=True), as_pair(batch, "evaluate's loader")
            )
            logits = logits_of(model, inputs, batch_length(inputs, "inputs"))
            alone.check(logits, targets)
            of_batch, counted = sums(loss, logits, targets)
            total += of_batch
            count += counted
            classes = classes and is_ratio(loss, targets)
            if classes:
                here = targets != loss.ignore_index
                wrong += _wrong(logits, targets, here)
                labels += here.sum()
            batches += 1
    if batches == 0:
        raise ValueError("loader must yield at least one batch to evaluate; got an empty one")
    return (total / count).item(), (wrong / labels).item() if classes else float("nan")


def _wrong(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    return ((logits.argmax(1) != targets) & counted).sum()

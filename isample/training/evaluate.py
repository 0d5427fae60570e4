"""Mean loss and error of a model over a loader, leaving no trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from isample.scoring.losses import per_sample_loss
from isample.scoring.scores import leaving_no_trace
from isample.support.pytree import batch_length, logits_of, map_tensors


def evaluate(
    model: nn.Module, loss: Any, loader: Iterable[Any], device: torch.device
) -> tuple[float, float]:
    """Mean loss and share of wrong classes over ``loader``.

    The share is NaN unless the loss is a cross-entropy and the targets are class indices.
    """
    total, wrong, samples, classes = (
        torch.zeros((), device=device),
        torch.zeros((), device=device),
        0,
        True,
    )
    with leaving_no_trace(model, device):
        for inputs, targets in loader:
            inputs, targets = map_tensors(
                lambda t: t.to(device, non_blocking=True), (inputs, targets)
            )
            size = batch_length(inputs, "inputs")
            logits = logits_of(model, inputs, size)
            total += per_sample_loss(loss, logits, targets).sum()
            samples += size
            classes = (
                classes
                and isinstance(loss, nn.CrossEntropyLoss)
                and not targets.is_floating_point()
            )
            if classes:
                wrong += (logits.argmax(1) != targets).float().view(size, -1).mean(1).sum()
    if samples == 0:
        raise ValueError("loader must yield at least one batch to evaluate; got an empty one")
    return total.item() / samples, wrong.item() / samples if classes else float("nan")

"""Presamples out of a loader of batches: as many of them joined as the next step has use for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from isample.support.pytree import batch_length, join, map_tensors


@dataclass(frozen=True)
class Presample:
    """``inputs`` and ``targets`` of ``size`` samples, out of ``batches`` of the loader's
    batches."""

    inputs: Any
    targets: Any
    size: int
    batches: int


def next_presample(
    batches: Iterator, wanted: int, batch_size: int, device: torch.device
) -> Presample | None:
    """Takes batches until ``wanted`` samples are there or the epoch ends, and moves them to
    ``device``; None at its end.

    Raises TypeError for a batch that is not (inputs, targets), ValueError for one of more than
    ``batch_size`` samples.
    """
    parts, size = [], 0
    while size < wanted and (batch := next(batches, None)) is not None:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"loader must yield (inputs, targets); got {type(batch).__name__}")
        length = batch_length(batch[0], "inputs")
        if length > batch_size:
            raise ValueError(
                f"loader must yield batches of at most batch_size={batch_size} samples; got {length}"
            )
        parts.append(map_tensors(lambda tensor: tensor.to(device, non_blocking=True), tuple(batch)))
        size += length
    if not parts:
        return None
    inputs, targets = join(parts)
    return Presample(inputs, targets, size, len(parts))

"""Reads numbers from a device on the host, without making the device wait."""

from __future__ import annotations

from collections.abc import Callable

import torch


def as_numbers(value: torch.Tensor) -> list[float]:
    """A vector, or a 0-dim tensor, as numbers; a GPU is waited for."""
    return value.tolist() if value.dim() else [value.item()]


def read_late(values: list[torch.Tensor], device: torch.device) -> Callable[[], list[float]]:
    """A reader of ``values``, 0-dim or vectors, one after the other.

    On a GPU this call queues the copy, and the reader waits for it.
    """
    if device.type != "cuda":
        return lambda: [number for value in values for number in as_numbers(value)]
    joined = torch.ops.isample._pack(values)
    pinned = torch.empty(joined.shape, dtype=joined.dtype, device="cpu", pin_memory=True)
    pinned.copy_(joined, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def read() -> list[float]:
        done.synchronize()
        return pinned.tolist()

    return read

"""What differs by where a tensor lives."""

from __future__ import annotations

from torch import Tensor


def is_read_freely(tensor: Tensor) -> bool:
    """Whether the host reads its numbers without waiting for a device."""
    return tensor.device.type == "cpu"

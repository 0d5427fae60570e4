"""What differs by where a tensor lives."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from isample import _C


def is_read_freely(tensor: Tensor) -> bool:
    """Whether the host reads its numbers without waiting for a device."""
    return tensor.device.type == "cpu"


def why_no_ops(device: torch.device) -> str | None:
    """Where they must be, and what to install or to move, if no compiled op runs on ``device``;
    None if they do. A device of another kind than CUDA is not looked at."""
    if device.type != "cuda":
        return None
    built = _C.build_info()
    architectures, reason = built["cuda_architectures"], built["why_no_cuda"]
    if not architectures:
        return (
            f"on the CPU for an isample without CUDA ({reason}); got {device} "
            "(install the CUDA toolkit and build isample again with ISAMPLE_CUDA=1, or move it)"
        )
    major, minor = torch.cuda.get_device_capability(device)
    has = f"got {device}, which has {major}.{minor}"
    if major < 8:
        return f"on a GPU of compute capability 8.0 or higher, or on the CPU; {has}"
    if not _C.has_code(architectures, major, minor):
        return (
            f"on a GPU that isample was built for, {architectures}; {has} (build isample again "
            f"with TORCH_CUDA_ARCH_LIST={major}.{minor})"
        )
    return None


def check_device(argument: str, device: torch.device) -> None:
    """Raises RuntimeError, with what to install or to move, where no op would run on the ``device``
    of ``argument``."""
    reason = why_no_ops(device)
    if reason is not None:
        raise RuntimeError(f"{argument} must be {reason}")


@cache
def ops_run_on(device: torch.device) -> bool:
    """Whether compiled ops run on ``device``: a CPU, or a GPU that isample was built for."""
    return device.type == "cpu" or (device.type == "cuda" and why_no_ops(device) is None)

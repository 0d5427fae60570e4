"""Whether the compiled ops run on a device."""

from __future__ import annotations

import torch

from isample import _C


def check_device(argument: str, device: torch.device) -> None:
    """Raises RuntimeError, with what to install or to move, where no op would run on the ``device``
    of ``argument``."""
    if device.type != "cuda":
        return
    built = _C.build_info()
    architectures, reason = built["cuda_architectures"], built["why_no_cuda"]
    if not architectures:
        raise RuntimeError(
            f"{argument} must be on the CPU for an isample without CUDA ({reason}); got {device} "
            "(install the CUDA toolkit and build isample again with ISAMPLE_CUDA=1, or move it)"
        )
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise RuntimeError(
            f"{argument} must be on a GPU of compute capability 8.0 or higher, or on the CPU; got "
            f"{device}, which has {major}.{minor}"
        )
    if not _C.has_code(architectures, major, minor):
        raise RuntimeError(
            f"{argument} must be on a GPU that isample was built for, {architectures}; got "
            f"{device}, which has {major}.{minor} (build isample again with "
            f"TORCH_CUDA_ARCH_LIST={major}.{minor})"
        )

"""Numbers between a device and the host, without making either wait for the other."""

from __future__ import annotations

from collections.abc import Callable

import torch

from isample.support.devices import ops_run_on


def as_numbers(value: torch.Tensor) -> list[float]:
    """A vector, or a 0-dim tensor, as numbers; a GPU is waited for."""
    return value.tolist() if value.dim() else [value.item()]


def read_late(values: list[torch.Tensor], device: torch.device) -> Callable[[], list[float]]:
    """A reader of ``values``, 0-dim or vectors, one after the other.

    On a GPU this call queues the copy, and the reader waits for it.
    """
    if device.type != "cuda":
        return lambda: [number for value in values for number in as_numbers(value)]
    read = copy_late(packed(values, device))
    return lambda: read().tolist()


def packed(values: list[torch.Tensor], device: torch.device) -> torch.Tensor:
    """``values``, 0-dim or vectors, one after the other: float64 [n] on ``device``."""
    placed = [value.detach().to(device, non_blocking=True) for value in values]
    if ops_run_on(device):
        return torch.ops.isample._pack(placed)
    return torch.cat([value.double().reshape(-1) for value in placed])


def copy_late(value: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A reader of a copy of ``value`` on the host, which waits for it; the call queues it.

    The stream is that of the tensor's own device, which need not be the current one.
    """
    pinned = torch.empty(value.shape, dtype=value.dtype, device="cpu", pin_memory=True)
    pinned.copy_(value, non_blocking=True)
    done = torch.cuda.Event()
    done.record(torch.cuda.current_stream(value.device))

    def read() -> torch.Tensor:
        done.synchronize()
        return pinned

    return read


def on_device(numbers: list[float], device: torch.device) -> torch.Tensor:
    """``numbers`` of the host as a tensor, float64 [n], on ``device``; the copy is queued."""
    is_cuda = device.type == "cuda"
    held = torch.tensor(numbers, dtype=torch.float64, device="cpu", pin_memory=is_cuda)
    return held.to(device, non_blocking=True)


class BlockReader:
    """Brings parts of larger tensors on a device to the host: with the first part of one comes all
    of it, so that the rest is there already."""

    def __init__(self) -> None:
        self._storage: torch.UntypedStorage | None = None  # of the last one; held, so that its
        self._block = torch.empty(0, device="cpu")  # address is no other's

    def on_host(self, part: torch.Tensor) -> torch.Tensor:
        """``part``, a vector that is written to no more, on the host."""
        if part.is_cpu:
            return part
        storage, begin = part.untyped_storage(), part.storage_offset()
        if self._storage is None or storage.data_ptr() != self._storage.data_ptr():
            length = storage.nbytes() // part.element_size()
            self._block = copy_late(part.as_strided((length,), (1,), 0))()
            self._storage = storage
        return self._block[begin : begin + len(part)]

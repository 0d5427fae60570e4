"""Puts back a model's buffers that a pass in evaluation mode changed: counters, observed ranges.

The first pass over a model finds which ones it writes to, from copies of all of them. Later passes
copy these alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_written: WeakKeyDictionary[nn.Module, set[tuple[int, str]]] = WeakKeyDictionary()


_Kept = tuple[nn.Module, str, tuple[int, str], Tensor, int, Tensor | None]
"""Of a buffer: its owner and name, its place in the model, itself, its version, and a copy."""


def keep_buffers(modules: list[nn.Module]) -> Callable[[], None]:
    """What puts back the buffers of ``modules``, a model and all within it, as they are now.

    It warns where one was written to that was not before: of that there is no copy.
    """
    known, kept = _written.get(modules[0]), []
    for at, owner in enumerate(modules):
        for name, tensor in owner._buffers.items():
            if tensor is None or is_lazy(tensor) or tensor.is_inference():
                continue
            place = (at, name)
            copied = known is None or place in known
            copy = tensor.detach().clone() if copied else None
            kept.append((owner, name, place, tensor, tensor._version, copy))
    return lambda: _put_back(modules[0], kept)


def _put_back(model: nn.Module, kept: list[_Kept]) -> None:
    known = _written.setdefault(model, set())
    for owner, name, place, tensor, version, copy in kept:
        if owner._buffers.get(name, tensor) is not tensor:
            owner._buffers[name] = tensor
        if tensor._version == version:
            continue
        known.add(place)
        if copy is not None:
            with torch.no_grad():
                tensor.copy_(copy)
        else:
            warnings.warn(
                f"a scoring pass changed the buffer {name!r} of a {type(owner).__name__}, "
                "which earlier ones left alone; from now on it is put back (change buffers in "
                "training mode only)",
                stacklevel=2,
            )

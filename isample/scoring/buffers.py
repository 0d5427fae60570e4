"""Puts back a model's buffers that a pass in evaluation mode changed: counters, observed ranges.

The first pass over a model finds which ones it writes to, from copies of all of them. Later passes
copy these alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_written: WeakKeyDictionary[nn.Module, set[tuple[int, str]]] = WeakKeyDictionary()


class _Buffer(NamedTuple):
    place: tuple[int, str]
    owner: nn.Module
    tensor: Tensor
    version: int
    copy: Tensor | None


def keep_buffers(modules: list[nn.Module]) -> Callable[[], None]:
    """What puts back the buffers of ``modules``, a model and all within it, as they are now.

    It warns where one was written to that was not before: of that there is no copy.
    """
    known = _written.get(modules[0])
    kept = []
    for at, owner in enumerate(modules):
        for name, tensor in owner._buffers.items():
            if tensor is None or is_lazy(tensor) or tensor.is_inference():
                continue
            copied = known is None or (at, name) in known
            copy = tensor.detach().clone() if copied else None
            kept.append(_Buffer((at, name), owner, tensor, tensor._version, copy))
    return lambda: _put_back(modules[0], kept)


def _put_back(model: nn.Module, kept: list[_Buffer]) -> None:
    known = _written.setdefault(model, set())
    for place, owner, tensor, version, copy in kept:
        if place[1] in owner._buffers and owner._buffers[place[1]] is not tensor:
            owner._buffers[place[1]] = tensor
        if tensor._version == version:
            continue
        known.add(place)
        if copy is not None:
            with torch.no_grad():
                tensor.copy_(copy)
        else:
            warnings.warn(
                f"a scoring pass changed the buffer {place[1]!r} of a {type(owner).__name__}, "
                "which earlier ones left alone; from now on it is put back (change buffers in "
                "training mode only)",
                stacklevel=2,
            )

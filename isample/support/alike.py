"""What several processes were given, as text, and where it is not alike."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import torch
from torch import nn

from isample.support.states import described

PLAIN = (type(None), bool, int, float, str, torch.dtype)


def version() -> str:
    """That of isample, which must be one and the same."""
    try:
        return metadata.version("isample")
    except metadata.PackageNotFoundError:
        return "not installed"


def describe(value: Any) -> str:
    """``value`` in words that are the same in every process: no address, no tensor."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, nn.Module):  # whose repr hides options, as that of CrossEntropyLoss
        return repr(described(value))
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    settings = {**_slots(value), **getattr(value, "__dict__", {})}
    listed = (f"{k}={v!r}" for k, v in sorted(settings.items()) if isinstance(v, PLAIN))
    return f"{type(value).__qualname__}({', '.join(listed)})"


def _slots(value: Any) -> dict[str, Any]:
    names = getattr(type(value), "__slots__", ())
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def unlike(given: Sequence[dict[str, str]], refused: Sequence[str | None]) -> str | None:
    """What must be alike in all processes and is not, each by its rank; None where all is.

    ``refused`` are the errors of processes that did not come as far.
    """
    faults = [f"process {rank} refused its: {what}" for rank, what in enumerate(refused) if what]
    if faults:
        return f"arguments must be valid in all processes; {'; '.join(faults)}"
    for name in dict.fromkeys(name for one in given for name in one):
        values = [one.get(name, "nothing") for one in given]
        if len(set(values)) > 1:
            listed = ", ".join(f"process {rank} got {one}" for rank, one in enumerate(values))
            faults.append(f"{name} must be the same in all processes; {listed}")
    return "; ".join(faults) or None

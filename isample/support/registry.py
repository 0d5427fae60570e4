"""Look-up by name, with one message for an unknown name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def look_up(registry: Mapping[str, T], name: str, argument: str) -> T:
    """``registry[name]``; raises ValueError that lists the known names, for the argument called
    ``argument``."""
    if not isinstance(name, str) or name not in registry:
        raise ValueError(f"{argument} must be one of {', '.join(sorted(registry))}; got {name!r}")
    return registry[name]

"""What deals a loader's batches beside the loader itself: samplers and data sets, which are told of
epochs and may hold random generators of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sized
from typing import Any

from isample.support.random_state import (
    Generator,
    generator_state,
    is_generator,
    restore_generator,
)

INSIDE = ("sampler", "batch_sampler", "dataset")
DEPTH = 4  # of a sampler in a batch sampler, or of a data set in a Subset of a Subset


def set_epoch(loader: Iterable[Any], number: int) -> None:
    """Tells the loader and all inside that asks for it which epoch comes."""
    for part in _parts(loader).values():
        told = getattr(part, "set_epoch", None)
        if callable(told):
            told(number)


def generator_states(loader: Iterable[Any]) -> dict[str, Any]:
    """The states of the loader's own generators, as plain types, by where they are."""
    return {path: generator_state(each) for path, each in _generators(loader).items()}


def restore_generators(loader: Iterable[Any], states: dict[str, Any]) -> None:
    """Puts back what :func:`generator_states` gave, where ``loader`` has such a generator."""
    for path, generator in _generators(loader).items():
        if path in states:
            restore_generator(generator, states[path])


def length_of(loader: Iterable[Any]) -> int | None:
    """The loader's batches an epoch, where it knows them: a DataLoader over a stream does not."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:
        return None


def _parts(loader: Iterable[Any]) -> dict[str, Any]:
    """The loader and what is inside, by a path such as ``loader.batch_sampler.sampler``."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    queue: deque[tuple[str, Any]] = deque([("loader", loader)])
    while queue:
        path, part = queue.popleft()
        if part is None or id(part) in seen:
            continue
        seen.add(id(part))
        found[path] = part
        if path.count(".") < DEPTH:
            queue.extend((f"{path}.{name}", getattr(part, name, None)) for name in INSIDE)
    return found


def _generators(loader: Iterable[Any]) -> dict[str, Generator]:
    return {
        f"{path}.{name}": value
        for path, part in _parts(loader).items()
        for name, value in getattr(part, "__dict__", {}).items()
        if is_generator(value)
    }

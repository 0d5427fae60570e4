"""States: whether they may be loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any

import torch

from isample.support.describe import told_apart
from isample.support.errors import StateError

VERSION = 2
"""Of the states of Engine and Trainer. Those of version 1 say nothing of their configuration."""

SHOWN = 4  # keys of a dict that is refused


def form_of(state: Any, owner: str, forms: Mapping[str, Iterable[str]]) -> str:
    """Which of ``forms``, {name: its keys}, a state of the class ``owner`` has.

    Raises TypeError for what is no dict, StateError for a dict that has none of them.
    """
    must = f"state must be what {owner}.state_dict() gave"
    if not isinstance(state, Mapping):
        raise TypeError(f"{must}; got {type(state).__name__}")
    for name, keys in forms.items():
        if all(key in state for key in keys):
            return name
    keys = ", ".join(map(repr, islice(state, SHOWN))) + (", ..." if len(state) > SHOWN else "")
    got = f"a dict with the keys {keys}" if state else "an empty dict"
    raise StateError(
        f"{must}; got {got} (give a model's or an optimizer's state to its own load_state_dict, "
        f"and of a checkpoint the entry that is of the {owner})"
    )


def check_keys(state: Any, keys: Collection[str], of: str, optional: Collection[str] = ()) -> None:
    """Raises TypeError for what is no dict, StateError for one of other ``keys``."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be what {of}.state_dict() gave; got {type(state).__name__}")
    unknown = [repr(key) for key in state if key not in keys and key not in optional]
    missing = [repr(key) for key in keys if key not in state]
    if unknown or missing:
        wrong = [f"unknown {', '.join(unknown[:3])}"] * bool(unknown)
        wrong += [f"missing {', '.join(missing[:3])}"] * bool(missing)
        raise StateError(f"state must be what {of}.state_dict() gave; got {' and '.join(wrong)}")


def check_like(state: Any, like: Any, place: str) -> None:
    """Raises StateError where ``state``, the part ``place`` of a state, has not the keys and types
    of ``like``, this one's own. None stands for anything."""
    if state is None or like is None:
        return
    if kind_of(state) != kind_of(like):
        raise StateError(
            f"state's {place} must be {kind_of(like)}; got {kind_of(state)} (the state is damaged, "
            "or of a run of another kind)"
        )
    if isinstance(like, Mapping):
        if state.keys() != like.keys():
            others = ", ".join(repr(key) for key in [*state.keys() ^ like.keys()][:SHOWN])
            raise StateError(
                f"state's {place} must have the keys of this run's; {others} differ (the state is "
                "damaged, or of a run of another kind)"
            )
        for key, value in like.items():
            check_like(state[key], value, f"{place}[{key!r}]")


def load_whole(
    load: Callable[[Any], None], state: Any, before: Any, place: str, free: Collection[str] = ()
) -> None:
    """Calls ``load(state)``, or leaves all as ``before``, which is what there was.

    Raises StateError where ``state``, the part ``place`` of a state, is not like that, but for its
    entries ``free``, or where loading fails.
    """
    check_like(state, {**before, **dict.fromkeys(free)}, place)
    try:
        load(state)
    except Exception as error:
        load(before)
        if isinstance(error, StateError):
            raise
        raise StateError(f"state's {place} must be whole; got a damaged one ({error!r})") from error


def kind_of(value: Any) -> str:
    """What ``value`` is, as far as a part of a state must be the same."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of {value.dtype}"
    for kinds, name in (((bool, int, float), "a number"), ((list, tuple), "a list")):
        if isinstance(value, kinds):
            return name
    return "a dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def check_version(state: Mapping[str, Any]) -> None:
    """Raises StateError for a state of a version that is not known."""
    version = state.get("version")
    if version not in (1, VERSION):
        raise StateError(
            f"state must be of version 1 to {VERSION}; got {version!r} (load it with the isample "
            "that saved it)"
        )


def differing(saved: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the saved run that are not ``own``, by name; what was not known, None, does
    not count as another batch size."""
    unknown = {name for name in ("batch_size",) if None in (saved.get(name), own.get(name))}
    return {k: v for k, v in saved.items() if k in own and k not in unknown and own[k] != v}


def refuse(differs: Mapping[str, Any], own: Mapping[str, Any], remedy: str) -> None:
    """Raises StateError that names what ``differs``, if anything does."""
    if not differs:
        return
    listed = "; ".join(f"{k}={told_apart(v, own[k])}" for k, v in differs.items())
    raise StateError(f"state must be of a run with the same arguments; got {listed} ({remedy})")

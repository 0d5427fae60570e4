"""What a dict must hold to be a state of isample's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

SHOWN = 4  # keys of a dict that is refused


def form_of(state: Any, owner: str, forms: Mapping[str, Iterable[str]]) -> str:
    """Which of ``forms``, {name: its keys}, a state of the class ``owner`` has.

    Raises TypeError for what is no dict, ValueError for a dict that has none of them.
    """
    must = f"state must be what {owner}.state_dict() gave"
    if not isinstance(state, dict):
        raise TypeError(f"{must}; got {type(state).__name__}")
    for name, keys in forms.items():
        if all(key in state for key in keys):
            return name
    keys = ", ".join(map(repr, islice(state, SHOWN))) + (", ..." if len(state) > SHOWN else "")
    got = f"a dict with the keys {keys}" if state else "an empty dict"
    raise ValueError(
        f"{must}; got {got} (give a model's or an optimizer's state to its own load_state_dict, "
        f"and of a checkpoint the entry that is of the {owner})"
    )

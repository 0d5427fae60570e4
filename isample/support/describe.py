"""Arguments in plain types: to be kept in a state, compared with those of another run or process,
and told.

An object is a dict of its type's name, ``of``, and of its ``options``: what a partial function
holds, the fields of a dataclass, of others the public attributes that are plain values. Tensors may
change while they are used, so of modules they are options of torch's own losses alone. A device is
no option: it differs from process to process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import nn

PLAIN = bool | int | float | str | torch.dtype | np.generic | Enum | None


def described(value: Any) -> Any:
    """``value`` in plain types, which files hold and which are the same in every process."""
    if isinstance(value, PLAIN):
        return _plain(value)
    if isinstance(value, torch.Tensor):
        total = None if value.is_meta else _plain(value.detach().double().sum().item())
        return {"of": "torch.Tensor", "options": {"shape": list(value.shape), "sum": total}}
    if isinstance(value, tuple | list):
        return [described(part) for part in value]
    options = {
        name: described(part)
        for name, part in _options(value).items()
        if not isinstance(part, torch.device)
    }
    if isinstance(value, partial):
        inner = described(value.func)
        return {"of": inner["of"], "options": {**inner.get("options", {}), **options}}
    return {"of": _name(value), "options": options} if options else {"of": _name(value)}


def _plain(value: Any) -> Any:
    """Of a type that files hold, and equal to itself."""
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if isinstance(value, np.generic):
        value = value.item()
    for kind in (bool, int, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else repr(float(value))
    return None if value is None else str(value)


def _is_named(value: Any) -> bool:
    """Whether it is a function, a class or the like."""
    return isinstance(getattr(value, "__qualname__", None), str)


def _name(value: Any) -> str:
    named = value if _is_named(value) else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _options(value: Any) -> Mapping[str, Any]:
    if isinstance(value, partial):
        return {**{f"args[{i}]": part for i, part in enumerate(value.args)}, **value.keywords}
    if isinstance(value, Mapping):
        return {str(key): part for key, part in value.items()}
    if _is_named(value):
        return {}
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    held = {**_slots(value), **getattr(value, "__dict__", {})}
    public = {k: held[k] for k in sorted(held) if not k.startswith("_") and _is_option(held[k])}
    if isinstance(value, nn.Module):
        public.pop("training", None)  # a mode, which changes
        public |= dict(value.named_children())
        if type(value).__module__.startswith("torch.nn."):
            public |= dict(value.named_buffers(recurse=False))
    return public


def _slots(value: Any) -> dict[str, Any]:
    slots = [getattr(base, "__slots__", ()) for base in type(value).__mro__]
    names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _is_option(value: Any) -> bool:
    parts = value if isinstance(value, tuple | list) else [value]
    is_plain = all(isinstance(part, PLAIN) or _is_named(part) for part in parts)
    return is_plain or isinstance(value, partial) or is_dataclass(value)


# ---- In words ------------------------------------------------------------------------------------


def told(description: Any) -> str:
    """What :func:`described` gave, in words."""
    if isinstance(description, list):
        return f"[{', '.join(map(told, description))}]"
    if not _is_object(description):
        return repr(description)
    options = ", ".join(f"{k}={told(v)}" for k, v in description.get("options", {}).items())
    return f"{description['of']}({options})" if options else description["of"]


def told_apart(saved: Any, own: Any) -> str:
    """Two descriptions that differ, in words: of what is of one type, the options that do."""
    return f"{told(_less(saved, own))}, here {told(_less(own, saved))}"


def _is_object(description: Any) -> bool:
    """A state may be damaged."""
    return (
        isinstance(description, dict)
        and isinstance(description.get("of"), str)
        and isinstance(description.get("options", {}), dict)
    )


def _less(one: Any, other: Any) -> Any:
    """``one`` without the options that ``other`` has as well."""
    if not (_is_object(one) and _is_object(other) and one["of"] == other["of"]):
        return one
    mine, theirs = one.get("options", {}), other.get("options", {})
    differs = {k: v for k, v in mine.items() if k not in theirs or v != theirs[k]}
    return {"of": one["of"], "options": {k: _less(v, theirs.get(k)) for k, v in differs.items()}}

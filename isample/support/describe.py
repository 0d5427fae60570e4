"""Arguments in plain types: to be kept in a state, compared with those of another run or process,
and told."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

PLAIN = bool | int | float | str | torch.dtype | torch.device | None


def described(value: Any) -> Any:
    """``value`` in plain types, which files hold and which are the same in every process; an object
    as a dict of its type and of those of its public attributes that are options."""
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, torch.Tensor):
        return {"of": "torch.Tensor", "shape": list(value.shape), "sum": value.sum().item()}
    if isinstance(value, tuple | list):
        return [described(part) for part in value]
    if isinstance(value, partial):
        parts = {"args": value.args, **value.keywords}
        return {**described(value.func), **{name: described(v) for name, v in parts.items()}}
    if inspect.isroutine(value) or isinstance(value, type):
        return {"of": _name(value)}
    return {"of": _name(type(value)), **{name: described(v) for name, v in _options(value)}}


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _options(value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value):
        names = [each.name for each in fields(value)]
    else:
        slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
        held = {name for name in slots if hasattr(value, name)} | {*getattr(value, "__dict__", {})}
        names = sorted(name for name in held if _is_option(name, getattr(value, name)))
    for name in names:
        yield name, getattr(value, name)
    if isinstance(value, nn.Module):
        yield from value.named_buffers(recurse=False)


def _is_option(name: str, value: Any) -> bool:
    parts = value if isinstance(value, tuple | list) else [value]
    is_settings = is_dataclass(value) and not isinstance(value, type)
    return not name.startswith("_") and (
        is_settings or all(isinstance(part, PLAIN) for part in parts)
    )


def told(description: Any) -> str:
    """What :func:`described` gave, in words."""
    if isinstance(description, list):
        return f"[{', '.join(map(told, description))}]"
    if not isinstance(description, dict):
        return repr(description)
    options = ", ".join(f"{k}={told(v)}" for k, v in description.items() if k != "of")
    return f"{description['of'].rpartition('.')[2]}({options})" if options else description["of"]


def told_apart(saved: Any, own: Any) -> str:
    """Two descriptions that differ, in words: of what is of one type, the options that do."""
    return f"{told(_less(saved, own))}, here {told(_less(own, saved))}"


def _less(one: Any, other: Any) -> Any:
    if not (isinstance(one, dict) and isinstance(other, dict) and one["of"] == other["of"]):
        return one
    own = {k: v for k, v in one.items() if k == "of" or k not in other or v != other[k]}
    return {k: v if k == "of" else _less(v, other.get(k)) for k, v in own.items()}

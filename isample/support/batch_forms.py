"""What a batch is made of, and of how many samples it can be.

A value in a batch is one of these.

samples    a tensor, or a registered kind: so many samples
structure  a dict, named tuple, dataclass or the like: all its parts have as many samples
list       a list, tuple or deque: structure, or one thing a sample
shared     None, a number, a string or the like: one value for all samples
opaque     any other object: nobody knows its samples

A list of B things is one thing a sample, wherever it cannot be structure: strings, numbers,
objects, tensors of several lengths. Tensors that all have B rows are structure, as in
[inputs, targets]. So is the outermost list. Where both readings fit B, and the parts are alike, a
list is ambiguous.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
from collections import UserDict, deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from isample.support.batch_kinds import Kind, kind_of_type, when_registered

SHARED = (
    *(bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device),
    *(enum.Enum, numpy.generic, type(None)),
)
Lengths = tuple[int, ...] | None
"""Of how many samples a value can be, the likeliest first; None: of any number."""


class Parts(NamedTuple):
    """Of a structure or a list: where its parts are, the parts, and how to make it of others."""

    places: list[str]
    values: list[Any]
    made_of: Callable[[list[Any]], Any]


class Form(NamedTuple):
    """How values of a class are handled. ``kind`` is that of samples, ``open`` gives the parts of a
    structure or a list."""

    name: str
    kind: Kind | None = None
    open: Callable[[Any], Parts] | None = None
    is_list: bool = False


TENSOR, ONE, OPAQUE = Form("tensor"), Form("shared"), Form("opaque")
VALUES = {ONE, OPAQUE}


@cache
def form_of(cls: type) -> Form:
    """How values of a class are handled."""
    if issubclass(cls, Tensor):
        return TENSOR
    kind = kind_of_type(cls)
    if kind is not None:
        return Form("kind", kind=kind)
    if issubclass(cls, SHARED):
        return ONE
    opener = _opener(cls)
    if opener is None:
        return OPAQUE
    if opener in (_open_sequence, _open_deque):
        return Form("list", open=opener, is_list=True)
    return Form(cls.__name__, open=opener)


when_registered(form_of.cache_clear)


def _opener(cls: type) -> Callable[[Any], Parts] | None:
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return _open_named_tuple
    if issubclass(cls, list | tuple):
        is_struct = issubclass(cls, tuple) and hasattr(cls, "n_sequence_fields")
        return _open_struct_sequence if is_struct else _open_sequence
    if issubclass(cls, deque):
        return _open_deque
    if issubclass(cls, dict | UserDict):
        return _open_dict
    if cls in pytree.SUPPORTED_NODES:
        return _open_node
    if issubclass(cls, Mapping):
        return _open_mapping
    return _open_dataclass if dataclasses.is_dataclass(cls) else None


def _open_sequence(value: Any) -> Parts:
    def made_of(parts: list[Any]) -> Any:
        if type(value) is list:
            return parts
        if isinstance(value, tuple):
            return type(value)(parts)
        made = copy.copy(value)  # with what a class of the user's own has beside its items
        made[:] = parts
        return made

    return Parts(_numbered(value), list(value), made_of)


def _numbered(value: Any) -> list[str]:
    return [f"[{i}]" for i in range(len(value))]


def _open_deque(value: deque[Any]) -> Parts:
    return Parts(_numbered(value), list(value), lambda parts: type(value)(parts, value.maxlen))


def _open_named_tuple(value: Any) -> Parts:
    places = [f".{name}" for name in value._fields]
    return Parts(places, list(value), lambda parts: type(value)(*parts))


def _open_struct_sequence(value: Any) -> Parts:
    return Parts(_numbered(value), list(value), type(value))


def _open_dict(value: Any) -> Parts:
    keys = list(value)
    places = [f"[{key!r}]" for key in keys]
    values = [value[key] for key in keys]
    # transformers' BatchEncoding has one of the tokenizer's own a sample beside its items
    beside = vars(value).get("_encodings") if isinstance(value, UserDict) else None

    def made_of(parts: list[Any]) -> Any:
        if type(value) is dict:
            return dict(zip(keys, parts))
        made = copy.copy(value)
        for key, part in zip(keys, parts):
            made[key] = part
        if beside is not None:
            vars(made)["_encodings"] = parts[-1]
        return made

    if beside is not None:
        return Parts([*places, "._encodings"], [*values, beside], made_of)
    return Parts(places, values, made_of)


def _open_node(value: Any) -> Parts:
    """Of a class that was registered with torch's own walk."""
    node = pytree.SUPPORTED_NODES[type(value)]
    values, context = node.flatten_fn(value)
    values = list(values)
    return Parts(_numbered(values), values, lambda parts: node.unflatten_fn(parts, context))


def _open_mapping(value: Any) -> Parts:
    keys = list(value)
    places = [f"[{key!r}]" for key in keys]
    values = [value[key] for key in keys]

    def made_of(parts: list[Any]) -> Any:
        if all(new is old for new, old in zip(parts, values)):
            return value  # not every class can be made of a dict
        return type(value)(dict(zip(keys, parts)))

    return Parts(places, values, made_of)


def _open_dataclass(value: Any) -> Parts:
    names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    names += [name for name in getattr(value, "__dict__", {}) if name not in names]

    def made_of(parts: list[Any]) -> Any:
        made = copy.copy(value)
        for name, part in zip(names, parts):
            object.__setattr__(made, name, part)  # a frozen one, too
        return made

    places = [f".{name}" for name in names]
    return Parts(places, [getattr(value, name) for name in names], made_of)


# ---- Of how many samples ------------------------------------------------------------------------


def lengths(value: Any) -> Lengths:
    """Of how many samples a value within a batch can be."""
    if isinstance(value, Tensor):
        return (value.size(0),) if value.dim() else ()
    form = form_of(type(value))
    if form.kind is not None:
        return (form.kind.length(value),)
    if form.open is None:
        return None
    if not form.is_list:
        return in_common(map(lengths, form.open(value).values))
    forms = _forms_in(value)
    things = (len(value),) if len(forms) == 1 else ()
    if forms <= VALUES:
        return things or None
    as_structure = in_common(map(lengths, value))
    return as_structure if as_structure is None else (*as_structure, *things)


def _forms_in(value: Any) -> set[Form]:
    return {form_of(cls) for cls in set(map(type, value)) if cls is not type(None)}


def in_common(parts: Iterable[Lengths]) -> Lengths:
    """The lengths that all ``parts`` can have."""
    common: Lengths = None
    for part in parts:
        if common is None:
            common = part
        elif part is not None:
            common = tuple(length for length in common if length in part)
    return common


class Reading(NamedTuple):
    """What a list in a batch of so many samples can be. ``alike``: nothing tells its parts from
    samples."""

    structure: bool
    things: bool
    alike: bool


def reading_of(value: Any, size: int) -> Reading:
    """How a list can be read."""
    forms = _forms_in(value)
    things = len(value) == size and len(forms) <= 1
    if not forms:  # nothing, or None alone
        return Reading(not things, things, False)
    if forms <= VALUES:
        return Reading(len(forms) > 1, things, False)
    as_structure = in_common(map(lengths, value))
    structure = as_structure is None or size in as_structure
    return Reading(structure, things, _are_alike(value))


def are_things(readings: list[Reading], is_outermost: bool) -> bool | None:
    """Whether lists, one a batch, are one thing a sample, else structure. None: nothing tells.

    What is ambiguous in one batch is not in another. Structure precedes, but where all are alike.
    """
    structure = all(reading.structure for reading in readings)
    things = all(reading.things for reading in readings)
    if structure and things and (is_outermost or not all(reading.alike for reading in readings)):
        return False
    return things if structure != things else None


def _are_alike(value: Any) -> bool:
    """Tensors are where their shapes are; other parts are not told apart."""
    if not all(isinstance(thing, Tensor) and not thing.is_nested for thing in value):
        return True
    return len({thing.shape for thing in value}) == 1


def placed_lengths(value: Any, place: str = "") -> list[tuple[str, Lengths]]:
    """For messages: the lengths of what holds samples, and where it is."""
    form = form_of(type(value))
    if form.open is None or (place and form.is_list and _forms_in(value) <= VALUES):
        found = lengths(value)
        return [] if found is None else [(place, found)]
    parts = form.open(value)
    inner = zip(parts.places, parts.values)
    return [found for at, part in inner for found in placed_lengths(part, place + at)]

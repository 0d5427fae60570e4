"""Chooses samples of a batch, and joins batches."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from isample.support.batch_forms import (
    OPAQUE,
    Parts,
    are_things,
    form_of,
    lengths,
    reading_of,
)
from isample.support.errors import CannotCutError, CannotJoinError
from isample.support.pytree import batch_length

REGISTER = "see isample.register_batch_kind"


class _Which:
    """Samples of a batch of ``size``, as each kind of value wants them."""

    def __init__(self, which: Tensor | slice, size: int):
        self.given: Tensor | slice = which
        self.size: int = size

    @cached_property
    def indices(self) -> Tensor:
        """int64, on the CPU."""
        if isinstance(self.given, slice):
            return torch.arange(self.size, device="cpu")[self.given]
        return self.given.cpu()

    @cached_property
    def listed(self) -> list[int]:
        return self.indices.tolist()


def take(batch: Any, which: Tensor | slice, size: int | None = None) -> Any:
    """The samples ``which`` of a batch of ``size``; by default of as many as it holds.

    ``which`` is int64 [b] and may repeat samples; or a slice, which gives views of tensors. What
    all samples share stays.

    Raises:
        CannotCutError: a TypeError; something is neither shared nor known to hold samples, or a
            list can be read in two ways.
        ValueError: something holds another number of samples.
    """
    if size is None:
        size = batch_length(batch, "batch")
    return _taken(batch, _Which(which, size), "")


def _taken(value: Any, which: _Which, place: str) -> Any:
    if isinstance(value, Tensor):
        _check_size(lengths(value), which.size, place)
        return _rows(value, which)
    form = form_of(type(value))
    if form.kind is not None:
        _check_size(lengths(value), which.size, place)
        if form.kind.take is None:
            raise _uncuttable(value, place)
        return form.kind.take(value, which.indices)
    if form.open is None:
        if form is OPAQUE:
            raise _uncuttable(value, place)
        return value
    parts = form.open(value)
    if form.is_list:
        reading = reading_of(value, which.size)
        things = are_things([reading], not place)
        if things is None and reading.things:
            raise CannotCutError(f"batch {_either(value, which.size, place)}")
        if things is None:
            _check_size(lengths(value) or (), which.size, place)
        if things:
            return parts.made_of([parts.values[i] for i in which.listed])
    inner = zip(parts.places, parts.values)
    return parts.made_of([_taken(part, which, place + at) for at, part in inner])


def _check_size(found: tuple[int, ...] | None, size: int, place: str) -> None:
    if found is not None and size not in found:
        raise ValueError(
            f"batch must hold its {size} samples in every part; got {_shown(found)}{_at(place)} "
            "(collate_fn must leave none out)"
        )


def _shown(found: tuple[int, ...]) -> str:
    return str(found[0]) if found else "parts that disagree, or a 0-dim tensor"


def _at(place: str) -> str:
    return f" at {place}" if place else ""


def _uncuttable(value: Any, place: str) -> CannotCutError:
    return CannotCutError(
        "batch must hold tensors where samples are chosen of it, or what is known to hold samples; "
        f"got {type(value).__name__}{_at(place)} (make it a tensor or a list of one thing a sample "
        f"in collate_fn, leave it out, or say how it is cut: {REGISTER})"
    )


def _either(value: Any, size: int, place: str) -> str:
    return (
        f"must say whether a list is one thing a sample or structure; got {len(value)} equal parts "
        f"of {size} samples each in a batch of {size}{_at(place)} (stack the samples into a "
        f"tensor, or put structure into a dict)"
    )


def _rows(tensor: Tensor, which: _Which) -> Tensor:
    if tensor.is_nested:
        return _nested([tensor.unbind()[i] for i in which.listed], tensor)
    if tensor.layout is not torch.strided:
        rows = tensor.to_sparse_coo().index_select(0, which.indices.to(tensor.device))
        return rows.to_sparse(layout=tensor.layout)
    given = which.given
    return rows_of(tensor, given) if isinstance(given, Tensor) else tensor[given]


def rows_of(tensor: Tensor, places: Tensor) -> Tensor:
    """``tensor[places]`` of places int64 [b], none below 0, in the layout of ``tensor``."""
    places = places.to(tensor.device)
    if type(tensor) is Tensor and tensor.is_cpu and tensor.dim() > 1 and tensor.is_contiguous():
        rows = tensor.index_select(0, places)  # copies whole rows, which is faster
        if rows.stride()[1:] == tensor.stride()[1:]:  # or sides of 1 hide another layout
            return rows
    return tensor[places]


def _nested(rows: list[Tensor], like: Tensor) -> Tensor:
    return torch.nested.as_nested_tensor(rows, layout=like.layout)


# ---- Joining ------------------------------------------------------------------------------------


def join(batches: list[Any], sizes: list[int] | None = None) -> Any:
    """Batches of one structure, of ``sizes`` samples, one behind the other.

    What all samples share must be equal in all of them.

    Raises:
        CannotJoinError: a ValueError; structure, shapes or what is shared differ, something is not
            known to hold samples, or a list can be read in two ways.
    """
    if len(batches) == 1:
        return batches[0]
    if sizes is None:
        sizes = [batch_length(batch, "batch") for batch in batches]
    return _joined(batches, sizes, "")


def _joined(values: list[Any], sizes: list[int], place: str) -> Any:
    first = values[0]
    form = form_of(type(first))
    if any(form_of(type(value)) != form for value in values):
        raise _another(sorted({type(value).__name__ for value in values}), place)
    if isinstance(first, Tensor):
        return _joined_tensors(values, place)
    if form.kind is not None:
        if form.kind.join is None:
            raise _unjoinable(first, place)
        return form.kind.join(values)
    if form is OPAQUE:
        raise _unjoinable(first, place)
    if form.open is None:
        return _shared(values, place)
    opened = [form.open(value) for value in values]
    if form.is_list and _are_things(values, sizes, place):
        return opened[0].made_of([thing for parts in opened for thing in parts.values])
    return _joined_parts(opened, sizes, place)


def _joined_parts(opened: list[Parts], sizes: list[int], place: str) -> Any:
    first = opened[0]
    columns = [dict(zip(parts.places, parts.values)) for parts in opened]
    if any(column.keys() != columns[0].keys() for column in columns):
        raise _another(sorted({", ".join(parts.places) for parts in opened}), place)
    return first.made_of(
        [_joined([column[at] for column in columns], sizes, place + at) for at in first.places]
    )


def _are_things(values: list[Any], sizes: list[int], place: str) -> bool:
    """How lists are read, by all of them together."""
    readings = [reading_of(value, size) for value, size in zip(values, sizes)]
    things = are_things(readings, not place)
    if things is None and all(reading.things for reading in readings):
        raise CannotJoinError(f"batches {_either(values[0], sizes[0], place)}")
    if things is None:
        found = {f"lists of {len(value)} in {n} samples" for value, n in zip(values, sizes)}
        raise _another(sorted(found), place)
    return things


def _joined_tensors(tensors: list[Tensor], place: str) -> Tensor:
    first = tensors[0]
    if all(tensor.is_nested for tensor in tensors):
        return _nested([row for tensor in tensors for row in tensor.unbind()], first)
    kinds = {_tensor_kind(tensor): None for tensor in tensors}  # in their order
    if len(kinds) > 1 or first.dim() == 0:
        what = f"tensors{_at(place)} of"
        raise CannotJoinError.of_shapes(what, [shown for *_, shown in kinds])
    if first.layout is torch.strided or first.layout is torch.sparse_coo:
        return torch.cat(tensors)
    return torch.cat([tensor.to_sparse_coo() for tensor in tensors]).to_sparse(layout=first.layout)


def _tensor_kind(tensor: Tensor) -> tuple[str, ...]:
    if tensor.is_nested:
        return (str(tensor.layout), "a nested shape")
    shape = ", ".join(["*", *map(str, tensor.shape[1:])])
    return (str(tensor.layout), f"[{shape}] {tensor.dtype} on {tensor.device}")


def _shared(values: list[Any], place: str) -> Any:
    first = values[0]
    for value in values[1:]:
        same = first is value or first == value or (first != first and value != value)
        if not same or type(first) is not type(value):
            raise CannotJoinError(
                f"batches that are joined must share what is one value for all samples; got "
                f"{first!r} and {value!r}{_at(place)} (make it one thing a sample in collate_fn)"
            )
    return first


def _unjoinable(value: Any, place: str) -> CannotJoinError:
    return CannotJoinError(
        f"batches that are joined must hold tensors, or what is known to hold samples; got "
        f"{type(value).__name__}{_at(place)} (make it a tensor or a list of one thing a sample in "
        f"collate_fn, leave it out, use mode='memory', or say how it is joined: {REGISTER})"
    )


def _another(got: list[str], place: str) -> CannotJoinError:
    return CannotJoinError(
        f"batches of a loader must share one structure; got {' and '.join(got)}{_at(place)}"
    )

"""Kinds of values in a batch that hold their samples in a way of their own, beside tensors.

A kind says how many samples a value holds, and how samples are taken of it and values joined. Kinds
of libraries that may not be installed go by the qualified name of their class.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

from isample.support.errors import CannotJoinError

Function = Callable[[Tensor], Tensor]


class Kind(NamedTuple):
    """Arguments of :func:`register_batch_kind`."""

    length: Callable[[Any], int]
    take: Callable[[Any, Tensor], Any] | None
    join: Callable[[list[Any]], Any] | None
    map: Callable[[Function, Any], Any] | None


_kinds: dict[type | str, Kind] = {}
_forget: list[Callable[[], None]] = []  # what was found of types before another kind came


def register_batch_kind(
    kind: type | str,
    *,
    length: Callable[[Any], int],
    take: Callable[[Any, Tensor], Any] | None = None,
    join: Callable[[list[Any]], Any] | None = None,
    map: Callable[[Function, Any], Any] | None = None,
) -> None:
    """Says how isample handles values of a class, and of its subclasses, within batches.

        isample.register_batch_kind(
            Graphs,
            length=len,
            take=lambda graphs, which: Graphs([graphs[i] for i in which.tolist()]),
            join=lambda parts: Graphs([graph for part in parts for graph in part]),
            map=lambda function, graphs: Graphs([graph.apply(function) for graph in graphs]),
        )

    A class that is registered again is handled as said last. A user's kind precedes isample's own.

    Args:
        kind: the class; or its qualified name, ``"package.module.Class"``, where importing it is to
            be left to others.
        length: of how many samples a value is.
        take: ``(value, which)``, the samples ``which`` of a value, in that order. ``which`` is an
            int64 [b] CPU tensor and may repeat samples. None: batches with it cannot be cut.
        join: the samples of a list of values, one behind the other. None: batches with it cannot be
            joined.
        map: ``(function, value)``, a new value with ``function`` applied to every tensor in it.
            None: it holds no tensors.

    Raises:
        TypeError: ``kind`` is neither a class nor a name, or a hook cannot be called.
        ValueError: ``kind`` is ``torch.Tensor``, or a name without a module.
    """
    if not isinstance(kind, type | str):
        raise TypeError(f"kind must be a class or its qualified name; got {kind!r}")
    if kind is Tensor or (isinstance(kind, str) and "." not in kind):
        raise ValueError(f"kind must be a class but Tensor, or 'package.module.Class'; got {kind}")
    if not callable(length):
        raise TypeError(f"length must be callable; got {type(length).__name__}")
    for name, hook in (("take", take), ("join", join), ("map", map)):
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} must be callable or None; got {type(hook).__name__}")
    _kinds[kind] = Kind(length, take, join, map)
    for forget in _forget:
        forget()


def when_registered(forget: Callable[[], None]) -> None:
    """Calls ``forget`` whenever a kind is registered."""
    _forget.append(forget)


def kind_of_type(cls: type) -> Kind | None:
    """The kind of a class's nearest base that has one."""
    for base in cls.__mro__:
        kind = _kinds.get(base) or _kinds.get(f"{base.__module__}.{base.__qualname__}")
        if kind is not None:
            return kind
    return None


# ---- Arrays -------------------------------------------------------------------------------------


def _array_length(array: numpy.ndarray) -> int:
    return len(array) if array.ndim else -1


def _join_arrays(arrays: list[numpy.ndarray]) -> numpy.ndarray:
    kinds = {(array.shape[1:], _comparable(array)) for array in arrays}
    if len(kinds) > 1:
        raise CannotJoinError.of_shapes("arrays", sorted({str(array.shape) for array in arrays}))
    return numpy.concatenate(arrays)


def _comparable(array: numpy.ndarray) -> str:
    """What must agree; strings may be of several lengths."""
    return array.dtype.kind if array.dtype.kind in "US" else array.dtype.str


# ---- Packed sequences ---------------------------------------------------------------------------


def _map_packed(function: Function, packed: PackedSequence) -> PackedSequence:
    """The sizes stay on the CPU, where torch wants them."""
    data, sizes, *order = packed
    mapped = [None if part is None else function(part) for part in order]
    return PackedSequence(function(data), sizes, *mapped)


def _packed(sequences: list[Tensor]) -> PackedSequence:
    return pack_sequence(sequences, enforce_sorted=False)


# ---- Kinds of other libraries -------------------------------------------------------------------


def _graphs_of(graphs: list[Any], like: Any) -> Any:
    """A torch_geometric Batch; its class is made on the fly, beneath the one of that name."""
    base = next(base for base in type(like).__mro__ if base.__qualname__ == "Batch")
    return base.from_data_list(graphs)


def _take_graphs(batch: Any, which: Tensor) -> Any:
    graphs = batch.to_data_list()
    return _graphs_of([graphs[i] for i in which.tolist()], batch)


def _join_graphs(batches: list[Any]) -> Any:
    return _graphs_of([graph for batch in batches for graph in batch.to_data_list()], batches[0])


def _map_graphs(function: Function, batch: Any) -> Any:
    return copy.copy(batch).apply(function)  # apply changes a batch in place


register_batch_kind(
    numpy.ndarray,
    length=_array_length,
    take=lambda array, which: array[which.numpy()],
    join=_join_arrays,
)
register_batch_kind(
    PackedSequence,
    length=lambda packed: int(packed.batch_sizes[0]),
    take=lambda packed, which: _packed([unpack_sequence(packed)[i] for i in which.tolist()]),
    join=lambda parts: _packed([row for part in parts for row in unpack_sequence(part)]),
    map=_map_packed,
)
register_batch_kind(
    "torch_geometric.data.batch.Batch",
    length=lambda batch: batch.num_graphs,
    take=_take_graphs,
    join=_join_graphs,
    map=_map_graphs,
)
register_batch_kind(
    "tensordict.base.TensorDictBase",
    length=lambda batch: batch.batch_size[0],
    take=lambda batch, which: batch[which],
    join=torch.cat,
    map=lambda function, batch: batch.apply(function),
)

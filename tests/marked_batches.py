"""Batches of every kind, whose samples are marked by a number in all that they hold."""

import pathlib
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence

Pair = namedtuple("Pair", "x names")


@dataclass
class Data:
    x: Any
    names: Any
    note: str = "shared"
    made: Any = field(init=False, default=None)

    def __post_init__(self):
        self.beside = self.x  # not a field


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    names: Any


class Encoding(UserDict):
    """Like transformers' BatchEncoding: a UserDict with one thing a sample beside its items."""

    def __init__(self, data, encodings):
        super().__init__(data)
        self._encodings = encodings


class Graph:
    def __init__(self, x):
        self.x = x


class Batch:
    """Like torch_geometric's, under its name."""

    def __init__(self, graphs):
        self.x, self.sizes = torch.cat([g.x for g in graphs]), [len(g.x) for g in graphs]

    @property
    def num_graphs(self):
        return len(self.sizes)

    def to_data_list(self):
        return [Graph(x) for x in self.x.split(self.sizes)]

    @classmethod
    def from_data_list(cls, graphs):
        assert cls.__name__ == "Batch"
        return cls(graphs)

    def apply(self, function):
        self.x = function(self.x)
        return self


Batch.__module__, Batch.__qualname__ = "torch_geometric.data.batch", "Batch"


class GraphBatch(Batch):
    """As the library makes on the fly."""


class Listed(list):
    """A list of the user's own."""


class Opaque:
    def __init__(self, number=0):
        self.number = number


def column(numbers):
    return torch.tensor([[float(i)] * 2 for i in numbers])


def ragged(numbers):
    return [torch.full((i % 3 + 1,), float(i)) for i in numbers]


def names(numbers):
    return [f"id{i}" for i in numbers]


def marks(value):
    """The number of each sample, however it is held."""
    if isinstance(value, torch.Tensor):
        value = list(value.unbind() if value.is_nested else value.to_dense())
    elif isinstance(value, PackedSequence):
        value = unpack_sequence(value)
    elif isinstance(value, Batch):
        value = [graph.x for graph in value.to_data_list()]
    return [mark(thing) for thing in value]


def mark(thing):
    if isinstance(thing, Opaque):
        return thing.number
    if isinstance(thing, dict):
        (number,) = {mark(part) for part in thing.values()}
        return number
    if isinstance(thing, str | pathlib.Path):
        return int(str(thing).removeprefix("id"))
    if isinstance(thing, torch.Tensor):
        return int(thing.flatten()[0])
    return mark(thing[0]) if isinstance(thing, list | tuple | numpy.ndarray) else int(thing)


# What holds a sample for each of so many numbers.
SAMPLES = {
    "tensor": column,
    "vector": torch.tensor,
    "array": lambda ns: numpy.array([[i, i] for i in ns]),
    "strings in an array": lambda ns: numpy.array(names(ns)),
    "strings": names,
    "tuple of strings": lambda ns: tuple(names(ns)),
    "list of a class": lambda ns: Listed(names(ns)),
    "deque": lambda ns: deque(names(ns)),
    "paths": lambda ns: [pathlib.Path(f"id{i}") for i in ns],
    "numbers": list,
    "ragged lists": lambda ns: [[i] * (i % 3 + 1) for i in ns],
    "lists of lists": lambda ns: [[[i] * 2] * (i % 2 + 1) for i in ns],
    "tensors of several lengths": ragged,
    "0-dim tensors": lambda ns: [torch.tensor(i) for i in ns],
    "arrays of several lengths": lambda ns: [numpy.full(i % 3 + 1, i) for i in ns],
    "detections": lambda ns: [
        {"boxes": torch.full((i % 3, 4), i), "id": torch.tensor([i])} | {"boxes": torch.tensor([i])}
        for i in ns
    ],
    "images": lambda ns: [torch.full((3, i % 4 + 5, 8), float(i)) for i in ns],
    "objects": lambda ns: [Opaque(i) for i in ns],
    "packed": lambda ns: pack_sequence(ragged(ns), enforce_sorted=False),
    "nested": lambda ns: torch.nested.nested_tensor(ragged(ns)),
    "jagged": lambda ns: torch.nested.nested_tensor(ragged(ns), layout=torch.jagged),
    "sparse": lambda ns: (column(ns)).to_sparse(),
    "csr": lambda ns: (column(ns)).to_sparse_csr(),
    "graphs": lambda ns: Batch([Graph(x) for x in ragged(ns)]),
    "graphs of a class": lambda ns: GraphBatch([Graph(x) for x in ragged(ns)]),
}
# What is made of a tensor and something beside it, and how the two are found again.
STRUCTURES = {
    "list": (lambda x, y: [x, y], lambda v: v),
    "tuple": (lambda x, y: (x, y), lambda v: v),
    "named tuple": (Pair, lambda v: v),
    "dict": (lambda x, y: {"x": x, "y": y, "n": 3, "none": None}, lambda v: (v["x"], v["y"])),
    "ordered": (lambda x, y: OrderedDict(x=x, y=y), lambda v: v.values()),
    "default": (lambda x, y: defaultdict(list, x=x, y=y), lambda v: v.values()),
    "user's dict": (lambda x, y: UserDict(x=x, y=y), lambda v: v.values()),
    "mapping": (lambda x, y: MappingProxyType({"x": x, "y": y}), lambda v: v.values()),
    "dataclass": (Data, lambda v: (v.x, v.names)),
    "frozen": (Frozen, lambda v: (v.x, v.names)),
    "nested": (lambda x, y: {"a": [x, {"b": (y, 3)}]}, lambda v: (v["a"][0], v["a"][1]["b"][0])),
    "pairs": (lambda x, y: ((x, "shared"), {"y": y}), lambda v: (v[0][0], v[1]["y"])),
}

"""Reads the pickles in which CIFAR is distributed, without unpickling.

A pickle is a program for a stack machine. Of its instructions only those are carried out here that
build plain containers; what it calls becomes a ``Call``, and is never called. So a file from
elsewhere runs nothing, and nothing in it is as large as it claims.
"""

from __future__ import annotations

import io
import pickletools
from typing import Any, NamedTuple

import numpy as np

from .content import shaped
from .images import DataError

MARK = object()
ARRAY = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
ENCODE = "_codecs encode"
PARTS = {*ARRAY, ENCODE, "numpy ndarray", "numpy dtype"}  # of arrays, and of Python 3's bytes

PLAIN = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("BININT", "BININT1", "BININT2", "LONG1"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
STRINGS = {"BINSTRING", "SHORT_BINSTRING"}  # Python 2's, which are bytes
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name(str):
    """``"module name"`` that a pickle asks for."""


class Call:
    """What a pickle calls, with what; ``state`` is what it sets afterwards."""

    def __init__(self, name: Name, arguments: tuple[Any, ...]):
        self.name, self.arguments = name, arguments
        self.state: Any = None


class Reader:
    """Carries out instructions one by one. Raises ValueError for those that no data set needs."""

    def __init__(self, size: int) -> None:
        self.left = size  # characters that may still be encoded; each is in the file once
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is MARK:
            raise ValueError("it takes from an empty stack")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        taken = []
        while self.stack and self.stack[-1] is not MARK:
            taken.append(self.stack.pop())
        if not self.stack:
            raise ValueError("it takes more than there is")
        self.stack.pop()
        return taken[::-1]

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise ValueError(f"it needs a {kind.__name__} and has none")
        return self.stack[-1]

    def result(self, file: io.BytesIO) -> Any:
        """What is left when the pickle that ``file`` holds stops."""
        while code := file.read(1):
            known = INSTRUCTIONS.get(code)
            if known is None:
                raise ValueError(f"it holds {code!r}, which arrays and lists have no need of")
            if known.name == "STOP":
                return self.pop()
            if known.name == "GLOBAL":  # pickletools would read escapes into it
                self.do_global(" ".join(file.readline()[:-1].decode() for _ in range(2)))
            else:
                self.run(known.name, None if known.arg is None else known.arg.reader(file))
        raise ValueError("it ends early")

    def run(self, code: str, argument: Any) -> None:
        if code in PLAIN:
            self.stack.append(PLAIN[code])
        elif code in VALUES:
            self.stack.append(argument)
        elif code in STRINGS:
            self.stack.append(argument.encode("latin1"))
        elif code in TUPLES:
            self.stack.append(tuple([self.pop() for _ in range(TUPLES[code])][::-1]))
        else:
            getattr(self, f"do_{code.lower()}")(argument)

    def do_proto(self, _: Any) -> None:
        """Any version: what is not known is refused where it comes."""

    do_frame = do_proto

    def do_mark(self, _: Any) -> None:
        self.stack.append(MARK)

    def do_empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def do_empty_list(self, _: Any) -> None:
        self.stack.append([])

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    # ---- The memo -----------------------------------------------------------------------------

    def do_binput(self, place: int) -> None:
        self.memo[place] = self.top(object)

    do_long_binput = do_binput

    def do_memoize(self, _: Any) -> None:
        self.do_binput(len(self.memo))

    def do_binget(self, place: int) -> None:
        if place not in self.memo:
            raise ValueError("it asks for what it never kept")
        self.stack.append(self.memo[place])

    do_long_binget = do_binget

    # ---- Containers ---------------------------------------------------------------------------

    def do_append(self, _: Any) -> None:
        value = self.pop()
        self.top(list).append(value)

    def do_appends(self, _: Any) -> None:
        values = self.since_mark()
        self.top(list).extend(values)

    def do_setitem(self, _: Any) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def do_setitems(self, _: Any) -> None:
        self._set(self.since_mark())

    def _set(self, items: list[Any]) -> None:
        keys = items[::2]
        if len(items) % 2 or not all(isinstance(key, bytes | str) for key in keys):
            raise ValueError("its dict has a key that is no name")
        self.top(dict).update(zip(keys, items[1::2]))

    # ---- Calls --------------------------------------------------------------------------------

    def do_global(self, name: str) -> None:
        if name not in PARTS:
            raise ValueError(f"it asks for {name.replace(' ', '.')}, and only arrays are read")
        self.stack.append(Name(name))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("it asks for what has no name")
        self.do_global(f"{module} {name}")

    def do_reduce(self, _: Any) -> None:
        arguments, name = self.pop(), self.pop()
        if not (isinstance(arguments, tuple) and isinstance(name, Name)):
            raise ValueError("it calls what is no function")
        if name == ENCODE:
            if not arguments or not isinstance(arguments[0], str):
                raise ValueError("it encodes what is no text")
            self.left -= len(arguments[0])
            if self.left < 0:
                raise ValueError("it encodes more text than it holds")
            self.stack.append(arguments[0].encode("latin1"))
        else:
            self.stack.append(Call(name, arguments))

    def do_build(self, _: Any) -> None:
        state = self.pop()
        self.top(Call).state = state


INSTRUCTIONS = {
    known.code.encode("latin1"): known
    for known in pickletools.opcodes
    if known.name in {*PLAIN, *VALUES, *STRINGS, *TUPLES, "STOP"}
    or hasattr(Reader, f"do_{known.name.lower()}")
}


def read_pickle(content: bytes, where: str) -> dict[Any, Any]:
    """The dict that ``content`` pickles. Raises DataError where it is none."""
    reader = Reader(len(content))
    try:
        result = reader.result(io.BytesIO(content))
    except ValueError as error:  # pickletools raises no other on any bytes
        raise DataError(f"{where} is not a readable pickle: {error}") from error
    if not isinstance(result, dict):
        raise DataError(f"{where} must hold a dict; got a {type(result).__name__}")
    return result


def rows_of(batch: dict[Any, Any], key: bytes, columns: int, where: str) -> np.ndarray:
    """The bytes that ``batch`` holds under ``key``, uint8 [N, columns]."""
    call = batch.get(key)
    state = call.state if isinstance(call, Call) and call.name in ARRAY else None
    if not isinstance(state, tuple) or len(state) != 5:
        raise DataError(f"{where}: {key.decode()} must be an array [N, {columns}], got none")
    array = Saved(*state)
    if not array.is_of_bytes():
        raise DataError(f"{where}: {key.decode()} must be an array of uint8, got another")
    shape = array.shape
    two = isinstance(shape, tuple) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not two or shape[1] != columns:
        got = shape if two else "another shape"  # which may be nested without end
        raise DataError(f"{where}: {key.decode()} must be an array [N, {columns}], got {got}")
    order = "F" if array.by_columns is True else "C"
    return shaped(np.frombuffer(array.content, np.uint8), shape, order, where)


class Saved(NamedTuple):
    """An array as numpy pickles it."""

    version: Any
    shape: Any
    kind: Any
    by_columns: Any
    content: Any

    def is_of_bytes(self) -> bool:
        kind = self.kind
        known = isinstance(kind, Call) and kind.name == "numpy dtype"
        return known and kind.arguments[:1] in ((b"u1",), ("u1",)) and type(self.content) is bytes


def labels_of(batch: dict[Any, Any], key: bytes, where: str) -> np.ndarray:
    """The integers that ``batch`` holds under ``key``, int64 [N]."""
    labels = batch.get(key)
    if not isinstance(labels, list):
        raise DataError(f"{where}: {key.decode()} must be a list of integers, got none")
    if not all(type(label) is int and label.bit_length() < 64 for label in labels):
        raise DataError(f"{where}: {key.decode()} must be integers, got something else among them")
    return np.array(labels, np.int64)

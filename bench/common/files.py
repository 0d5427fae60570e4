"""Readers of NumPy archives and of IDX files, the format of MNIST."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from .content import read_content, shaped, zip_members
from .images import DataError, Images, IncompleteError

# An array's header as numpy writes it, and the kinds of numbers in it. Objects are not among them.
NPY = re.compile(
    rb"\x93NUMPY(?:\x01\0..|[\x02\x03]\0....)"
    rb"\{'descr': '([|<>=][biuf][1248])', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,18}(?:, \d{1,18})*,?)?)\), \} *\n",
    re.DOTALL,
)


def find_npz(name: str, root: Path, wanted: list[str]) -> Images | None:
    path = root if root.suffix == ".npz" else root / f"{name}.npz"
    wanted.append(f"{path.name} with {', '.join(Images._fields)}")
    return read_npz(path) if path.is_file() else None


def read_npz(path: Path) -> Images:
    """A NumPy archive with the arrays x_train, y_train, x_test, y_test."""
    names = tuple(f"{field}.npy" for field in Images._fields)
    members = zip_members(read_content(path), names, str(path))
    return Images(*(read_npy(members[name], f"{name} in {path}") for name in names))


def read_npy(content: bytes, where: str) -> np.ndarray:
    """One array of numbers as numpy saves it."""
    header = NPY.match(content[:4096])
    if header is None:
        raise DataError(f"{where} is not a readable array of numbers: its header is another's")
    kind, by_columns, sizes = (part.decode() for part in header.groups())
    try:
        dtype = np.dtype(kind)
    except TypeError as error:
        raise DataError(f"{where} is not a readable array of numbers: {error}") from error
    values = content[header.end() :]
    if len(values) % dtype.itemsize:
        raise DataError(f"{where} is damaged: its last number ends early")
    shape = tuple(int(size) for size in sizes.split(",") if size.strip())
    order = "F" if by_columns == "True" else "C"
    return shaped(np.frombuffer(values, dtype), shape, order, where)


def find_idx(name: str, root: Path, wanted: list[str]) -> Images | None:
    stems = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    wanted.append(
        f"{', '.join(stems)} (each plain or .gz; also with '.idx'), there or in MNIST/raw"
    )
    for folder in (root, root / "MNIST" / "raw"):
        spellings = ([stem, stem.replace("-idx", ".idx")] for stem in stems)
        found = [
            next((p for s in pair for p in (folder / s, folder / f"{s}.gz") if p.is_file()), None)
            for pair in spellings
        ]
        if all(found):
            return Images(*(read_idx(path) for path in found))
        if any(found):
            missing = [stem for stem, path in zip(stems, found) if path is None]
            raise IncompleteError(f"{folder} holds part of {name}; missing: {', '.join(missing)}")
    return None


def read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped, as a uint8 array of the shape that its
    header states.

    Layout: two zero bytes, the type (8: unsigned byte), the number of dimensions, each dimension as
    a big-endian 32-bit integer, then the values.
    """
    content = read_content(path)
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path} is not an IDX file of bytes: it must begin with 00 00 08, "
            f"got {content[:3].hex(' ')}"
        )
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} is damaged: its header asks for {expected} bytes, it has {len(content)}"
        )
    return shaped(np.frombuffer(content, np.uint8, offset=header), shape, "C", str(path))

"""Readers of NumPy archives and of IDX files, the format of MNIST."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np

from .images import DataError, Images, IncompleteError


def find_npz(name: str, root: Path, wanted: list[str]) -> Images | None:
    path = root if root.suffix == ".npz" else root / f"{name}.npz"
    wanted.append(f"{path.name} with {', '.join(Images._fields)}")
    return read_npz(path) if path.is_file() else None


def read_npz(path: Path) -> Images:
    """A NumPy archive with the arrays x_train, y_train, x_test, y_test."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files if name in Images._fields}
            names = ", ".join(archive.files) or "nothing"
    except (
        OSError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path} is not a readable .npz archive: {error}") from error
    missing = [field for field in Images._fields if field not in found]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}; it holds {names}")
    return Images(**found)


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
    try:
        raw = path.read_bytes()
        content = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(
            f"{path} is not an IDX file of bytes: it must begin with 00 00 08, "
            f"got {content[:3].hex(' ')}"
        )
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DataError(
            f"{path} is damaged: its header asks for {expected} bytes, it has {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)

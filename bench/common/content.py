"""Bytes of files that nobody vouches for, and of the archives they come in.

Nothing here believes a size that a file claims: what is read is bounded by what is there and by
``LIMIT``. Nothing is unpacked to the disk, and no link is followed.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .images import DataError

LIMIT = 2**28  # bytes of a file, once unpacked; the largest of the data sets has 1.9e8
PIECE = 2**20

BLOCK = 512  # a tar archive's unit
PLAIN_FILES = {b"0", b"\0"}  # a member's type; anything else is a link, a folder, a note, ...

# What zipfile may raise on a damaged archive, by its source: NotImplementedError is a RuntimeError.
UNZIPPING = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_content(path: Path) -> bytes:
    """The content of a file; of a gzipped one what it holds."""
    try:
        with path.open("rb") as file:
            content = read_bounded(file, str(path))
        if content[:2] != b"\x1f\x8b":
            return content
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as unzipped:
            return read_bounded(unzipped, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_bounded(file: BinaryIO | gzip.GzipFile, where: str) -> bytes:
    """All that is left of ``file``; raises DataError beyond ``LIMIT``."""
    content = bytearray()
    while piece := file.read(PIECE):
        content += piece
        if len(content) > LIMIT:
            raise DataError(f"{where} must hold at most {LIMIT:,} bytes, unpacked; got more")
    return bytes(content)


def shaped(values: np.ndarray, shape: tuple[int, ...], order: str, where: str) -> np.ndarray:
    """``values``, one behind the other, in ``shape``; ``order`` is "C" or "F" (by columns)."""
    if math.prod(shape) != len(values):
        raise DataError(
            f"{where} is damaged: its header asks for {math.prod(shape)} values, it has "
            f"{len(values)}"
        )
    try:
        return values.reshape(shape, order=order)
    except ValueError as error:  # too many dimensions, or one too large beside one of 0
        raise DataError(f"{where} is damaged: {error}") from error


def tar_members(content: bytes, where: str) -> dict[str, bytes]:
    """The plain files of a tar archive by the last part of their names, the first of each.

    Names are no longer than the 100 bytes of the header: longer ones are of no data set here.
    """
    members: dict[str, bytes] = {}
    place = 0
    while place < len(content):
        header = content[place : place + BLOCK]
        if not header.strip(b"\0"):  # the end, or the filling behind it
            place += BLOCK
            continue
        size = tar_size(header, where)
        begin, place = place + BLOCK, place + BLOCK + -(-size // BLOCK) * BLOCK
        if begin + size > len(content):
            raise DataError(f"{where} is not a readable archive: a file in it ends early")
        name = header[:100].split(b"\0")[0].decode("latin1").rpartition("/")[2]
        if header[156:157] in PLAIN_FILES:
            members.setdefault(name, content[begin : begin + size])
    return members


def tar_size(header: bytes, where: str) -> int:
    """The size that the ``header`` of a tar archive's member states, in bytes."""
    size, stated = (octal(header[a:b]) for a, b in ((124, 136), (148, 156)))
    # The sum counts its own eight bytes as spaces.
    if size is None or stated != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise DataError(f"{where} is not a readable archive: the header of a file in it is damaged")
    return size


def octal(field: bytes) -> int | None:
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else None


def zip_members(content: bytes, names: tuple[str, ...], where: str) -> dict[str, bytes]:
    """Those members of a zip archive that are called ``names``; raises DataError where one lacks.

    ``zipfile`` reads as many bytes as a header claims; from memory it gets those that are there.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            there = archive.namelist()
            missing = [name for name in names if name not in there]
            if not missing:
                found = {}
                for name in names:
                    with archive.open(name) as member:
                        found[name] = read_bounded(member, f"{name} in {where}")
                return found
    except UNZIPPING as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where} is not a readable .npz archive: {error}") from error
    short = (", ".join(name.removesuffix(".npy") for name in some) for some in (missing, there[:9]))
    raise DataError(
        "{} lacks {}; it holds {}".format(where, *(text or "nothing" for text in short))
    )

"""Readers of CIFAR-10 and CIFAR-100, as files or in the archives they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .content import read_content, tar_members
from .images import DataError, Images, IncompleteError
from .pickled import labels_of, read_pickle, rows_of

CIFAR10_BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
PARTS = ("train", "test")  # of CIFAR-100
PIXELS = 3 * 32 * 32  # bytes of an image: the red, the green and the blue plane

PixelsAndLabels = tuple[np.ndarray, np.ndarray]


def find_cifar10_batches(name: str, root: Path, wanted: list[str]) -> Images | None:
    wanted.append(
        "cifar-10-batches-bin/ or cifar-10-batches-py/ with data_batch_1 … 5 and test_batch"
    )
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            paths = [folder / f"{batch}{suffix}" for batch in CIFAR10_BATCHES]
            missing = [path.name for path in paths if not path.is_file()]
            if not missing:
                return join_batches(
                    [read_cifar10_batch(str(path), read_content(path)) for path in paths]
                )
            if len(missing) < len(paths):
                raise IncompleteError(
                    f"{folder} holds part of {name}; missing: {', '.join(missing)}"
                )
    return None


def find_cifar10_archive(name: str, root: Path, wanted: list[str]) -> Images | None:
    names = ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"]
    wanted.append(" or ".join(names))
    if root.is_file() and root.name.endswith(".tar.gz"):
        return read_cifar10_archive(root)
    there = [root / name for name in names if (root / name).is_file()]
    return read_cifar10_archive(there[0]) if there else None


def read_cifar10_archive(path: Path) -> Images:
    """cifar-10-binary.tar.gz or cifar-10-python.tar.gz, read without unpacking it."""
    members = tar_members(read_content(path), str(path))
    batches = {}
    for batch in CIFAR10_BATCHES:
        for file in (f"{batch}.bin", batch):
            if file in members:
                batches[batch] = read_cifar10_batch(f"{path}, {file}", members[file])
    missing = [batch for batch in CIFAR10_BATCHES if batch not in batches]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return join_batches([batches[batch] for batch in CIFAR10_BATCHES])


def join_batches(batches: list[PixelsAndLabels]) -> Images:
    """Five training batches and the test batch, in that order."""
    pixels, labels = zip(*batches)
    return Images(np.concatenate(pixels[:-1]), np.concatenate(labels[:-1]), pixels[-1], labels[-1])


def read_cifar10_batch(where: str, content: bytes) -> PixelsAndLabels:
    """One batch: pixels uint8 [N, 32, 32, 3] and labels [N]. `where` names the file in errors."""
    planes, labels = (read_binary_batch if where.endswith(".bin") else read_python_batch)(
        where, content
    )
    return images_of(planes), labels


def read_binary_batch(where: str, content: bytes) -> PixelsAndLabels:
    record = 1 + PIXELS  # the label comes first
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{where} is damaged: {len(content)} bytes are not a whole number of "
            f"{record}-byte records"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, 1:], records[:, 0]


def read_python_batch(where: str, content: bytes) -> PixelsAndLabels:
    batch = read_pickle(content, where)
    return rows_of(batch, b"data", PIXELS, where), labels_of(batch, b"labels", where)


def find_cifar100_folder(name: str, root: Path, wanted: list[str]) -> Images | None:
    wanted.append("cifar-100-python/train and test")
    folder = root / "cifar-100-python"
    if not all((folder / part).is_file() for part in PARTS):
        return None
    return join_parts({part: read_content(folder / part) for part in PARTS}, root)


def find_cifar100_archive(name: str, root: Path, wanted: list[str]) -> Images | None:
    path = root if root.name.endswith(".tar.gz") else root / "cifar-100-python.tar.gz"
    wanted.append("cifar-100-python.tar.gz")
    if not path.is_file():
        return None
    members = tar_members(read_content(path), str(path))
    missing = [part for part in PARTS if part not in members]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return join_parts(members, path)


def join_parts(parts: dict[str, bytes], root: Path) -> Images:
    training, test = (
        read_cifar100_part(f"cifar-100-python/{part} in {root}", parts[part]) for part in PARTS
    )
    return Images(*training, *test)


def read_cifar100_part(where: str, content: bytes) -> PixelsAndLabels:
    """Pixels uint8 [N, 32, 32, 3] and the labels of the 100 classes, int64 [N]."""
    part = read_pickle(content, where)
    planes = rows_of(part, b"data", PIXELS, where)
    return images_of(planes), labels_of(part, b"fine_labels", where)


def images_of(planes: np.ndarray) -> np.ndarray:
    """Pixels [N, 32, 32, 3] from rows of the red, green and blue planes, [N, 3072]."""
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

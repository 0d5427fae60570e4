"""Readers of CIFAR-10 and CIFAR-100, as files or in the archives they come in."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from .images import DataError, Images, IncompleteError

CIFAR10_BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
PARTS = ("train", "test")  # of CIFAR-100

# What unpickling may raise.
DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    IndexError,
    AttributeError,
)

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
                    [read_cifar10_batch(str(path), path.read_bytes()) for path in paths]
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
    batches = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                batch = Path(member.name).name
                if member.isfile() and batch.removesuffix(".bin") in CIFAR10_BATCHES:
                    content = archive.extractfile(member).read()
                    batches[batch.removesuffix(".bin")] = read_cifar10_batch(
                        f"{path}, {batch}", content
                    )
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path} is not a readable archive: {error}") from error
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
    record = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{where} is damaged: {len(content)} bytes are not a whole number of "
            f"{record}-byte records"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, 1:], records[:, 0]


def read_python_batch(where: str, content: bytes) -> PixelsAndLabels:
    try:
        batch = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        planes, labels = batch[b"data"], np.asarray(batch[b"labels"])
    except DAMAGED as error:
        raise DataError(
            f"{where} is not a CIFAR-10 Python batch: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(planes, np.ndarray) or planes.ndim != 2 or planes.shape[1] != 3072:
        got = getattr(planes, "shape", type(planes).__name__)
        raise DataError(f"{where}: data must be an array [N, 3072], got {got}")
    return planes, labels


def find_cifar100_folder(name: str, root: Path, wanted: list[str]) -> Images | None:
    wanted.append("cifar-100-python/train and test")
    folder = root / "cifar-100-python"
    if not all((folder / part).is_file() for part in PARTS):
        return None
    return join_parts({part: (folder / part).read_bytes() for part in PARTS}, root)


def find_cifar100_archive(name: str, root: Path, wanted: list[str]) -> Images | None:
    path = root if root.name.endswith(".tar.gz") else root / "cifar-100-python.tar.gz"
    wanted.append("cifar-100-python.tar.gz")
    if not path.is_file():
        return None
    parts = {}
    try:
        with tarfile.open(path) as archive:
            for part in PARTS:
                parts[part] = archive.extractfile(f"cifar-100-python/{part}").read()
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise DataError(f"{path} is not CIFAR-100's Python archive: {error}") from error
    return join_parts(parts, path)


def join_parts(parts: dict[str, bytes], root: Path) -> Images:
    training, test = (
        read_cifar100_part(f"cifar-100-python/{part} in {root}", parts[part]) for part in PARTS
    )
    return Images(*training, *test)


def read_cifar100_part(where: str, content: bytes) -> PixelsAndLabels:
    """Pixels uint8 [N, 32, 32, 3] and the labels of the 100 classes, int64 [N]."""
    try:
        part = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        planes, labels = part[b"data"], np.asarray(part[b"fine_labels"], np.int64)
        return images_of(planes), labels
    except DAMAGED as error:
        raise DataError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def images_of(planes: np.ndarray) -> np.ndarray:
    """Pixels [N, 32, 32, 3] from rows of the red, green and blue planes, [N, 3072]."""
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles arrays and plain containers only: a pickle from elsewhere could otherwise run any
    code."""

    def find_class(self, module: str, name: str):
        rebuild = np.empty(0).__reduce__()[0]
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): rebuild,
            ("numpy._core.multiarray", "_reconstruct"): rebuild,
            ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only arrays are read")
        return allowed[module, name]

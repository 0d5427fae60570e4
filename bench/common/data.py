"""Reads small image data sets from the files in which they are usually found.

Every reader gives the same thing, an `Images`: uint8 pixels [N, height, width, channels] and int64
labels [N], for training and for testing. Nothing is downloaded; a `DataError` says which files were
looked for and where to get them.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

CLASSES = 10
CIFAR_TRAIN = [f"data_batch_{i}" for i in range(1, 6)]
SOURCES = {
    "mnist": "https://storage.googleapis.com/cvdf-datasets/mnist/ (IDX) or "
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
}


class DataError(ValueError):
    """Data that is missing or not what its format says."""


class Images(NamedTuple):
    """A data set: pixels uint8 [N, height, width, channels], labels int64 [N]."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load(name: str, root: Path) -> Images:
    """Reads `name` ("digits", "mnist" or "cifar10"); `root` is a folder, or one archive (.npz,
    .tar.gz)."""
    if name == "digits":
        return read_digits()
    finders = {
        "mnist": [find_npz, find_idx],
        "cifar10": [find_npz, find_cifar_batches, find_cifar_archive],
    }[name]
    wanted: list[str] = []
    for find in finders:
        images = find(name, root, wanted)
        if images is not None:
            return checked(images, name, root)
    raise DataError(
        f"no {name} in {root}: looked for {'; '.join(wanted)}. Get it from {SOURCES[name]}"
    )


def checked(images: Images, name: str, root: Path) -> Images:
    """The arrays in their final types, or an error that says which of them is wrong."""
    result = []
    for split in ("train", "test"):
        pixels, labels = getattr(images, f"x_{split}"), getattr(images, f"y_{split}")
        where = f"{name} in {root}, {split}"
        if pixels.dtype != np.uint8:
            raise DataError(f"{where}: pixels must be uint8, got {pixels.dtype}")
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or min(pixels.shape[1:3]) < 8:
            raise DataError(
                f"{where}: pixels must be [N, H, W] or [N, H, W, 1 or 3] with H, W >= 8, got {pixels.shape}"
            )
        labels = labels.reshape(-1)
        if not np.issubdtype(labels.dtype, np.integer):
            raise DataError(f"{where}: labels must be integers, got {labels.dtype}")
        if len(labels) != len(pixels) or len(labels) == 0:
            raise DataError(f"{where}: {len(pixels)} images but {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise DataError(
                f"{where}: labels must be 0 to {CLASSES - 1}, got {labels.min()} to {labels.max()}"
            )
        result += [np.ascontiguousarray(pixels), labels.astype(np.int64)]
    if result[0].shape[1:] != result[2].shape[1:]:
        raise DataError(
            f"{name} in {root}: training images {result[0].shape[1:]} but test images {result[2].shape[1:]}"
        )
    return Images(*result)


# --- scikit-learn's handwritten digits: 1,797 images of 8 x 8 pixels, inside the package ----------


def read_digits() -> Images:
    """1,437 training and 360 test images; the split is fixed, whatever the seed of the run."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[order, :, :, None]
    labels = digits.target.astype(np.int64)[order]
    train = len(order) * 4 // 5
    return Images(pixels[:train], labels[:train], pixels[train:], labels[train:])


# --- NumPy archives -------------------------------------------------------------------------------


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


# --- IDX, the format of MNIST ---------------------------------------------------------------------


def find_idx(name: str, root: Path, wanted: list[str]) -> Images | None:
    stems = [
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    ]
    folders = [root, root / "MNIST" / "raw", root / "mnist"]
    wanted.append(
        f"{', '.join(stems)} (each plain or .gz; also with '.idx'), there or in MNIST/raw or mnist"
    )
    for folder in folders:
        spellings = ([stem, stem.replace("-idx", ".idx")] for stem in stems)
        found = [
            next((p for s in pair for p in (folder / s, folder / f"{s}.gz") if p.is_file()), None)
            for pair in spellings
        ]
        if all(found):
            return Images(*(read_idx(path) for path in found))
        if any(found):
            missing = [stem for stem, path in zip(stems, found) if path is None]
            raise DataError(
                f"{folder} holds part of {name}; missing: {', '.join(missing)}. Get it from {SOURCES[name]}"
            )
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
            f"{path} is not an IDX file of bytes: it must begin with 00 00 08, got {content[:3].hex(' ')}"
        )
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DataError(
            f"{path} is damaged: its header asks for {expected} bytes, it has {len(content)}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


# --- CIFAR-10, binary and Python batches, as files or in the archives they come in ----------------


def find_cifar_batches(name: str, root: Path, wanted: list[str]) -> Images | None:
    wanted.append(
        "cifar-10-batches-bin/ or cifar-10-batches-py/ with data_batch_1 … 5 and test_batch"
    )
    for folder in (root, root / "cifar-10-batches-bin", root / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            paths = [folder / f"{batch}{suffix}" for batch in [*CIFAR_TRAIN, "test_batch"]]
            missing = [path.name for path in paths if not path.is_file()]
            if not missing:
                return join_batches(
                    [read_cifar_batch(str(path), path.read_bytes()) for path in paths]
                )
            if len(missing) < len(paths):
                raise DataError(
                    f"{folder} holds part of {name}; missing: {', '.join(missing)}. "
                    f"Get it from {SOURCES[name]}"
                )
    return None


def find_cifar_archive(name: str, root: Path, wanted: list[str]) -> Images | None:
    names = ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"]
    wanted.append(" or ".join(names))
    path = next(
        (
            p
            for p in [root, *(root / n for n in names)]
            if p.is_file() and p.name.endswith(".tar.gz")
        ),
        None,
    )
    return read_cifar_archive(path) if path else None


def read_cifar_archive(path: Path) -> Images:
    """cifar-10-binary.tar.gz or cifar-10-python.tar.gz, read without unpacking it."""
    batches = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                batch = Path(member.name).name
                if member.isfile() and batch.removesuffix(".bin") in (*CIFAR_TRAIN, "test_batch"):
                    content = archive.extractfile(member).read()
                    batches[batch.removesuffix(".bin")] = read_cifar_batch(
                        f"{path}, {batch}", content
                    )
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{path} is not a readable archive: {error}") from error
    missing = [batch for batch in [*CIFAR_TRAIN, "test_batch"] if batch not in batches]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}")
    return join_batches([batches[batch] for batch in [*CIFAR_TRAIN, "test_batch"]])


def join_batches(batches: list[tuple[np.ndarray, np.ndarray]]) -> Images:
    """Five training batches and the test batch, in that order."""
    pixels, labels = zip(*batches)
    return Images(np.concatenate(pixels[:-1]), np.concatenate(labels[:-1]), pixels[-1], labels[-1])


def read_cifar_batch(where: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """One batch: pixels uint8 [N, 32, 32, 3] and labels [N]. `where` names the file in errors."""
    planes, labels = (read_binary_batch if where.endswith(".bin") else read_python_batch)(
        where, content
    )
    return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def read_binary_batch(where: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    record = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes
    if len(content) == 0 or len(content) % record:
        raise DataError(
            f"{where} is damaged: {len(content)} bytes are not a whole number of {record}-byte records"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, 1:], records[:, 0]


def read_python_batch(where: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    try:
        batch = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        planes, labels = batch[b"data"], np.asarray(batch[b"labels"])
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
    ) as error:
        raise DataError(
            f"{where} is not a CIFAR-10 Python batch: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(planes, np.ndarray) or planes.ndim != 2 or planes.shape[1] != 3072:
        raise DataError(
            f"{where}: data must be an array [N, 3072], got {getattr(planes, 'shape', type(planes).__name__)}"
        )
    return planes, labels


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

"""What the paper's experiments train on: CIFAR with flips and shifts, and MNIST pixel by pixel."""

from __future__ import annotations

import io
import math
import pickle
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Subset

from bench.common.data import CLASSES, ArrayUnpickler, DataError, Images, read_npz
from bench.common.networks import ImageDataset, pixel_moments

from ..data import Rows, read_images

SHIFT = 4  # pixels by which CIFAR's training images are moved
CIFAR100_CLASSES = 100
CIFAR100_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"


class Sets(NamedTuple):
    """``training`` is drawn from, ``plain`` the same samples in the same order without
    augmentation, ``test`` others; targets are classes 0 to ``classes`` - 1.

    Each has a length and ``__getitems__(indices) -> (inputs, targets)``.
    """

    training: Dataset
    plain: Dataset
    test: Dataset
    classes: int


class AugmentedImages(ImageDataset):
    """An `ImageDataset` whose shifts and flips follow torch's generator, which a checkpoint
    restores."""

    def augmented(self, index: np.ndarray) -> np.ndarray:
        self.random = np.random.default_rng(int(torch.randint(2**62, ())))
        return super().augmented(index)


def cifar10(root: Path) -> Sets:
    return cifar_sets(read_images("cifar10", root), CLASSES)


def cifar100(root: Path) -> Sets:
    return cifar_sets(read_cifar100(root), CIFAR100_CLASSES)


def cifar_sets(images: Images, classes: int) -> Sets:
    moments = pixel_moments(images.x_train)
    return Sets(
        AugmentedImages(images.x_train, images.y_train, moments, SHIFT),
        ImageDataset(images.x_train, images.y_train, moments),
        ImageDataset(images.x_test, images.y_test, moments),
        classes,
    )


def pixel_mnist(root: Path) -> Sets:
    """One pixel a time step, in an order that is the same for all images: inputs float32 [N, 784,
    1] in [0, 1]."""
    images = read_images("mnist", root)
    training = pixel_rows(images.x_train, images.y_train)
    return Sets(training, training, pixel_rows(images.x_test, images.y_test), CLASSES)


def pixel_rows(pixels: np.ndarray, labels: np.ndarray) -> Rows:
    flat = pixels.reshape(len(pixels), -1)
    flat = flat[:, permutation(flat.shape[1])]
    return Rows(torch.from_numpy(flat).float().div_(255).unsqueeze(2), torch.from_numpy(labels))


def permutation(pixels: int) -> np.ndarray:
    """The same for every run. NumPy keeps RandomState's stream as it is; that of its newer
    generators may change."""
    return np.random.RandomState(0).permutation(pixels)


def spread(data: Dataset, count: int) -> Subset:
    """At most ``count`` samples, evenly spaced: a file may be sorted by class."""
    every = math.ceil(len(data) / count)
    return Subset(data, range(0, len(data), every))


def read_cifar100(root: Path) -> Images:
    """From cifar100.npz, the folder cifar-100-python or the archive of it, in ``root`` or in
    cifar100 within it.

    Raises DataError that says where to get it.
    """
    root = root / "cifar100" if (root / "cifar100").is_dir() else root
    archive, folder, arrays = (
        root / "cifar-100-python.tar.gz",
        root / "cifar-100-python",
        root / "cifar100.npz",
    )
    if arrays.is_file():
        return checked_cifar100(read_npz(arrays), arrays)
    if (folder / "train").is_file() and (folder / "test").is_file():
        parts = {name: (folder / name).read_bytes() for name in ("train", "test")}
    elif archive.is_file():
        parts = archive_parts(archive)
    else:
        raise DataError(
            f"no cifar100 in {root}: looked for {arrays.name} with {', '.join(Images._fields)}; {folder.name}/train "
            f"and test; {archive.name}. Get it from {CIFAR100_SOURCE}"
        )
    training, test = (
        cifar100_part(f"cifar-100-python/{name} in {root}", parts[name])
        for name in ("train", "test")
    )
    return checked_cifar100(Images(*training, *test), root)


def archive_parts(path: Path) -> dict[str, bytes]:
    parts = {}
    try:
        with tarfile.open(path) as archive:
            for name in ("train", "test"):
                parts[name] = archive.extractfile(f"cifar-100-python/{name}").read()
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        raise DataError(f"{path} is not CIFAR-100's Python archive: {error}") from error
    return parts


def cifar100_part(where: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [N, 32, 32, 3] and the labels of the 100 classes, int64 [N]."""
    try:
        part = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
        planes, labels = part[b"data"], np.asarray(part[b"fine_labels"], np.int64)
        return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
    ) as error:
        raise DataError(f"{where} is damaged: {type(error).__name__}: {error}") from error


def checked_cifar100(images: Images, path: Path) -> Images:
    for split in ("train", "test"):
        pixels, labels = getattr(images, f"x_{split}"), getattr(images, f"y_{split}")
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (32, 32, 3):
            raise DataError(
                f"{path}, {split}: pixels must be uint8 [N, 32, 32, 3]; got {pixels.dtype} {pixels.shape}"
            )
        if len(labels) != len(pixels) or labels.min() < 0 or labels.max() >= CIFAR100_CLASSES:
            raise DataError(
                f"{path}, {split}: each of {len(pixels)} images must have a label from 0 to {CIFAR100_CLASSES - 1}; "
                f"got {len(labels)} labels from {labels.min()} to {labels.max()}"
            )
    return images._replace(
        y_train=images.y_train.reshape(-1).astype(np.int64),
        y_test=images.y_test.reshape(-1).astype(np.int64),
    )

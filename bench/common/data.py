"""Reads small image data sets from the files in which they are usually found.

Nothing is downloaded; a `DataError` says which files were looked for and where to get them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cifar import (
    find_cifar10_archive,
    find_cifar10_batches,
    find_cifar100_archive,
    find_cifar100_folder,
)
from .files import find_idx, find_npz
from .images import DataError, Images, IncompleteError, checked

CIFAR_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html"

Finder = Callable[[str, Path, list[str]], "Images | None"]


@dataclass(frozen=True)
class Format:
    """A data set's number of ``classes`` and the files that it comes in.

    Each of ``finders`` is called with the data set's name, a folder, and a list to which it adds
    what it looks for. It gives None where its files are not there. ``source`` is where to get them.
    """

    classes: int
    finders: Sequence[Finder]
    source: str


FORMATS = {
    "mnist": Format(
        10,
        (find_npz, find_idx),
        "https://storage.googleapis.com/cvdf-datasets/mnist/ (IDX) or "
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
    ),
    "cifar10": Format(10, (find_npz, find_cifar10_batches, find_cifar10_archive), CIFAR_SOURCE),
    "cifar100": Format(100, (find_npz, find_cifar100_folder, find_cifar100_archive), CIFAR_SOURCE),
}


def load(name: str, root: Path) -> Images:
    """Reads `name`: "digits" or one of `FORMATS`.

    `root` is a folder, in which a folder of that name is preferred, or one archive (.npz, .tar.gz).
    """
    if name == "digits":
        return read_digits()
    kind = FORMATS[name]
    root = root / name if (root / name).is_dir() else root
    wanted: list[str] = []
    try:
        for find in kind.finders:
            images = find(name, root, wanted)
            if images is not None:
                return checked(images, f"{name} in {root}", kind.classes)
    except IncompleteError as error:
        raise DataError(f"{error}. Get it from {kind.source}") from None
    raise DataError(
        f"no {name} in {root}: looked for {'; '.join(wanted)}. Get it from {kind.source}"
    )


def read_digits() -> Images:
    """scikit-learn's handwritten digits: 1,437 training and 360 test images of 8 x 8 pixels.

    The split is fixed, whatever the seed of the run.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.target))
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)[order, :, :, None]
    labels = digits.target.astype(np.int64)[order]
    train = len(order) * 4 // 5
    return Images(pixels[:train], labels[:train], pixels[train:], labels[train:])

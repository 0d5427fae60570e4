"""What every reader of an image data set gives, and the rules that it keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class DataError(ValueError):
    """Data that is missing or not what its format says."""


class IncompleteError(DataError):
    """Some of a data set's files are there and some are not."""


class Images(NamedTuple):
    """A data set: pixels uint8 [N, height, width, channels], labels int64 [N]."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def checked(images: Images, where: str, classes: int) -> Images:
    """The arrays in their final types.

    Raises DataError that says which of them is wrong; `where` names the data set in it.
    """
    training = checked_split(images.x_train, images.y_train, f"{where}, train", classes)
    test = checked_split(images.x_test, images.y_test, f"{where}, test", classes)
    if training[0].shape[1:] != test[0].shape[1:]:
        raise DataError(
            f"{where}: training images {training[0].shape[1:]} but test images {test[0].shape[1:]}"
        )
    return Images(*training, *test)


def checked_split(
    pixels: np.ndarray, labels: np.ndarray, where: str, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    if pixels.dtype != np.uint8:
        raise DataError(f"{where}: pixels must be uint8, got {pixels.dtype}")
    shape = pixels.shape
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or min(pixels.shape[1:3]) < 8:
        raise DataError(
            f"{where}: pixels must be [N, H, W] or [N, H, W, 1 or 3] with H, W >= 8, got {shape}"
        )
    labels = labels.reshape(-1)
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels must be integers, got {labels.dtype}")
    if len(labels) != len(pixels) or len(labels) == 0:
        raise DataError(f"{where}: {len(pixels)} images but {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{where}: labels must be 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
    return np.ascontiguousarray(pixels), labels.astype(np.int64)

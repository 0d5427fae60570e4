"""Data sets in memory that are fetched a batch at a time, and the loaders that do so."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset


class Sets(NamedTuple):
    """``training`` is what a method may draw from, ``plain`` the same samples in the same order
    without augmentation, ``test`` others.

    Each has a length and ``__getitems__(indices) -> (inputs, targets)``. ``classes`` is the number
    of classes, None of a regression.
    """

    training: Dataset
    plain: Dataset
    test: Dataset
    classes: int | None = None


class Rows(Dataset):
    """Samples as they are: inputs [N, ...], targets [N, ...]."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor):
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.as_tensor(indices)
        return self.inputs[index], self.targets[index]


class ImageDataset(Dataset):
    """Normalised images and labels that are fetched a batch at a time: one gather instead of one
    call an image.

    `shift` > 0 augments: each image is moved by up to so many pixels each way (black comes in) and
    mirrored half of the time, by torch's generator, which a checkpoint restores. `moments` are the
    mean and the standard deviation of the training pixels, per channel.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        moments: tuple[torch.Tensor, torch.Tensor],
        shift: int = 0,
    ):
        self.rows, self.columns, channels = pixels.shape[1:]
        edges = ((0, 0), (shift, shift), (shift, shift), (0, 0))
        self.pixels = np.ascontiguousarray(np.pad(pixels, edges) if shift else pixels)
        self.labels = torch.from_numpy(labels)
        # Once for each value of a row of pixels: arithmetic along one or three channels alone takes
        # five times as long.
        mean, deviation = (moment.repeat(self.columns) for moment in moments)
        self.scale, self.offset = 1 / deviation, -mean / deviation
        self.shift = shift
        places = 2 * shift + 1
        self.windows = np.lib.stride_tricks.as_strided(
            self.pixels,
            (len(pixels), places, places, self.rows, self.columns * channels),
            # The last one by the item: numpy gives an axis of length 1 any stride it likes.
            (*self.pixels.strides[:3], self.pixels.strides[1], self.pixels.itemsize),
            writeable=False,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.as_tensor(indices)
        rows = torch.from_numpy(
            self.windows[index.numpy(), 0, 0] if self.shift == 0 else self.augmented(index.numpy())
        )
        inputs = rows.float().mul_(self.scale).add_(self.offset)
        return inputs.unflatten(2, (self.columns, -1)).permute(0, 3, 1, 2), self.labels[index]

    def augmented(self, index: np.ndarray) -> np.ndarray:
        """One window of each padded image, half of them mirrored: [n, rows, columns * channels]."""
        random = np.random.default_rng(int(torch.randint(2**62, ())))
        down, right = random.integers(2 * self.shift + 1, size=(2, len(index)))
        mirrored = random.random(len(index)) < 0.5
        windows = self.windows[index, down, right]
        images = windows.reshape(len(index), self.rows, self.columns, -1)
        images[mirrored] = images[mirrored, :, ::-1]
        return windows


def pixel_moments(pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel over at most 10,000 images."""
    sample = torch.from_numpy(pixels[:: max(1, len(pixels) // 10_000)]).float()
    return sample.mean((0, 1, 2)), sample.std((0, 1, 2)).clamp_min(1.0)


def as_fetched(batch):
    """Collation of batches that are tensors already."""
    return batch


def batches(dataset: Dataset, batch_size: int, shuffle_seed: int | None = None) -> DataLoader:
    """A DataLoader; with `shuffle_seed` it shuffles and leaves out the last, smaller batch."""
    shuffle = shuffle_seed is not None
    generator = torch.Generator().manual_seed(shuffle_seed) if shuffle else None
    return DataLoader(
        dataset,
        batch_size,
        shuffle=shuffle,
        drop_last=shuffle,
        generator=generator,
        collate_fn=as_fetched,
    )


def spread(data: Dataset, count: int) -> Subset:
    """At most ``count`` samples, evenly spaced: a file may be sorted by class."""
    return Subset(data, range(0, len(data), math.ceil(len(data) / count)))

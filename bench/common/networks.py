"""The network of the demonstration and the loaders that feed it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from bench.common.data import CLASSES


def small_cnn(shape: tuple[int, int, int], width: int = 16) -> nn.Module:
    """3 x 3 convolutions and pooling until the image is smaller than 8 pixels, then two linear
    layers.

    `shape` is (height, width, channels) of an image; the network takes [N, channels, height,
    width], channels last in memory, which halves the time of a step on a CPU. It has no batch
    normalisation: a batch that is drawn by importance has other statistics than the data.
    """
    rows, columns, channels = shape
    layers: list[nn.Module] = []
    while min(rows, columns) >= 8:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        rows, columns, channels, width = rows // 2, columns // 2, width, 2 * width
    layers += [
        nn.Flatten(),
        nn.Linear(channels * rows * columns, 128),
        nn.ReLU(),
        nn.Linear(128, CLASSES),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class ImageDataset(Dataset):
    """Normalised images and labels that are fetched a batch at a time: one gather instead of one
    call an image.

    `shift` > 0 augments: each image is moved by up to so many pixels each way (black comes in) and
    mirrored half of the time. `moments` are the mean and the standard deviation of the training
    pixels, per channel.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        labels: np.ndarray,
        moments: tuple[torch.Tensor, torch.Tensor],
        shift: int = 0,
        seed: int = 0,
    ):
        self.rows, self.columns, channels = pixels.shape[1:]
        self.pixels = np.ascontiguousarray(
            np.pad(pixels, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
        )
        self.labels = torch.from_numpy(labels)
        # Once for each value of a row of pixels: arithmetic along one or three channels alone takes
        # five times as long.
        mean, deviation = (moment.repeat(self.columns) for moment in moments)
        self.scale, self.offset = 1 / deviation, -mean / deviation
        self.shift, self.random = shift, np.random.default_rng(seed)
        places = 2 * shift + 1
        self.windows = np.lib.stride_tricks.as_strided(
            self.pixels,
            (len(pixels), places, places, self.rows, self.columns * channels),
            (*self.pixels.strides[:3], *self.pixels.strides[1::2]),
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
        down, right = self.random.integers(2 * self.shift + 1, size=(2, len(index)))
        mirrored = self.random.random(len(index)) < 0.5
        windows = self.windows[index, down, right]
        images = windows.reshape(len(index), self.rows, self.columns, -1)
        images[mirrored] = images[mirrored, :, ::-1]
        return windows


def pixel_moments(pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel over at most 10,000 images."""
    sample = torch.from_numpy(pixels[:: max(1, len(pixels) // 10_000)]).float()
    return sample.mean((0, 1, 2)), sample.std((0, 1, 2)).clamp_min(1.0)


def as_fetched(batch):
    """Collation for `ImageDataset`, whose batches are tensors already."""
    return batch


def batches(dataset: ImageDataset, batch_size: int, shuffle_seed: int | None = None) -> DataLoader:
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

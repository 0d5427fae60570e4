"""What a task trains on and is judged by: data sets in memory, fetched a batch at a time, and their
spoiled variants."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from bench.common.data import CLASSES, Images, load
from bench.common.networks import ImageDataset, pixel_moments

SEEN_SAMPLES = 10_000  # training samples on which the training loss is measured
SPOILING_SEED = 0  # which labels are wrong and which images are left out is the same for all runs


class Sets(NamedTuple):
    """``training`` is what a method may draw from, ``seen`` a fixed part of it without
    augmentation, ``test`` the rest.

    Each has a length and ``__getitems__(indices) -> (inputs, targets)``.
    """

    training: Dataset
    seen: Dataset
    test: Dataset


class Rows(Dataset):
    """Rows of numbers: inputs float32 [N, features], targets float32 [N, 1]."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor):
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.as_tensor(indices)
        return self.inputs[index], self.targets[index]


def read_images(name: str, root: Path) -> Images:
    """The images ``name`` from ``root`` or, where there is one, from the folder of that name within
    it."""
    return load(name, root / name if (root / name).is_dir() else root)


def image_sets(images: Images, shift: int = 0, seed: int = 0) -> Sets:
    """``shift`` > 0 moves each training image by up to so many pixels, and mirrors half of them;
    ``seed`` is of that."""
    moments = pixel_moments(images.x_train)
    every = math.ceil(
        len(images.x_train) / SEEN_SAMPLES
    )  # not the first ones: a file may be sorted by class
    return Sets(
        ImageDataset(images.x_train, images.y_train, moments, shift, seed),
        ImageDataset(images.x_train[::every], images.y_train[::every], moments),
        ImageDataset(images.x_test, images.y_test, moments),
    )


def imbalanced(images: Images, factor: float = 100.0) -> Images:
    """Leaves class c a share of factor^(-c/9) of its training images: the last class is ``factor``
    times rarer than the first (the long-tailed setting of Cui et al. 2019). The test images stay as
    they are."""
    random = np.random.default_rng(SPOILING_SEED)
    kept = []
    for label in range(CLASSES):
        members = np.flatnonzero(images.y_train == label)
        share = factor ** (-label / (CLASSES - 1))
        kept.append(random.permutation(members)[: math.ceil(share * len(members))])
    index = np.sort(np.concatenate(kept))
    return images._replace(x_train=images.x_train[index], y_train=images.y_train[index])


def noisy_labels(images: Images, share: float = 0.2) -> Images:
    """Gives ``share`` of the training images a wrong label, each wrong one equally likely. The test
    labels stay right."""
    random = np.random.default_rng(SPOILING_SEED)
    labels = images.y_train.copy()
    wrong = random.permutation(len(labels))[: round(share * len(labels))]
    labels[wrong] = (labels[wrong] + random.integers(1, CLASSES, size=len(wrong))) % CLASSES
    return images._replace(y_train=labels)


def friedman(training: int = 40_000, test: int = 10_000) -> Sets:
    """Friedman's first regression problem (1991): ten uniform features, of which five matter,
    y = 10 sin(pi x1 x2) + 20 (x3 - 1/2)^2 + 10 x4 + 5 x5 + noise, the noise normal with variance 1.

    Targets are standardised: an error of 1 is that of predicting the mean, and the floor that the
    noise sets is 4.0 %.
    """
    random = np.random.default_rng(SPOILING_SEED)
    x = random.random((training + test, 10))
    y = (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )
    y += random.standard_normal(len(y))
    y = (y - y[:training].mean()) / y[:training].std()
    inputs = torch.from_numpy((x - 0.5) * math.sqrt(12)).float()
    targets = torch.from_numpy(y).float()[:, None]
    every = math.ceil(training / SEEN_SAMPLES)
    return Sets(
        Rows(inputs[:training], targets[:training]),
        Rows(inputs[:training:every], targets[:training:every]),
        Rows(inputs[training:], targets[training:]),
    )

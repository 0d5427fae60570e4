"""What is trained on, by name: the data sets, their spoiled variants, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .data import load
from .datasets import ImageDataset, Rows, Sets, pixel_moments
from .images import Images
from .pictures import Pictures, image_folder

SHIFT = 4  # pixels by which CIFAR's training images are moved
CIFAR_RESOLUTION = 128  # of CIFAR-10 enlarged
SPOILING_SEED = 0  # which labels are wrong and which images are left out is the same for all runs


def image_sets(images: Images, shift: int = 0) -> Sets:
    """``shift`` > 0 moves each training image by up to so many pixels, and mirrors half of them."""
    moments = pixel_moments(images.x_train)
    plain = ImageDataset(images.x_train, images.y_train, moments)
    return Sets(
        ImageDataset(images.x_train, images.y_train, moments, shift) if shift else plain,
        plain,
        ImageDataset(images.x_test, images.y_test, moments),
        class_count(images),
    )


def class_count(images: Images) -> int:
    return 1 + max(int(images.y_train.max()), int(images.y_test.max()))


def imbalanced(images: Images, factor: float = 100.0) -> Images:
    """Leaves class c of C a share of factor^(-c / (C - 1)) of its training images.

    The last class is ``factor`` times rarer than the first (the long-tailed setting of Cui et al.
    2019). The test images stay as they are.
    """
    random = np.random.default_rng(SPOILING_SEED)
    kept = []
    classes = class_count(images)
    for label in range(classes):
        members = np.flatnonzero(images.y_train == label)
        share = factor ** (-label / (classes - 1))
        kept.append(random.permutation(members)[: math.ceil(share * len(members))])
    index = np.sort(np.concatenate(kept))
    return images._replace(x_train=images.x_train[index], y_train=images.y_train[index])


def noisy_labels(images: Images, share: float = 0.2) -> Images:
    """Gives ``share`` of the training images a wrong label, each wrong one equally likely. The test
    labels stay right."""
    random = np.random.default_rng(SPOILING_SEED)
    labels, classes = images.y_train.copy(), class_count(images)
    wrong = random.permutation(len(labels))[: round(share * len(labels))]
    labels[wrong] = (labels[wrong] + random.integers(1, classes, size=len(wrong))) % classes
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
    known = Rows(inputs[:training], targets[:training])
    return Sets(known, known, Rows(inputs[training:], targets[training:]))


def pixel_sets(images: Images) -> Sets:
    """One pixel a time step, in an order that is the same for all images: inputs float32 [N, 784,
    1] in [0, 1]."""
    training = pixel_rows(images.x_train, images.y_train)
    return Sets(training, training, pixel_rows(images.x_test, images.y_test), class_count(images))


def pixel_rows(pixels: np.ndarray, labels: np.ndarray) -> Rows:
    flat = pixels.reshape(len(pixels), -1)
    flat = flat[:, permutation(flat.shape[1])]
    return Rows(torch.from_numpy(flat).float().div_(255).unsqueeze(2), torch.from_numpy(labels))


def permutation(pixels: int) -> np.ndarray:
    """The same for every run. NumPy keeps RandomState's stream as it is; that of its newer
    generators may change."""
    return np.random.RandomState(0).permutation(pixels)


def enlarged_sets(images: Images) -> Sets:
    """Inputs in [0, 1], as networks that were trained on ImageNet want them."""
    training = Pictures(images.x_train, images.y_train, CIFAR_RESOLUTION)
    test = Pictures(images.x_test, images.y_test, CIFAR_RESOLUTION)
    return Sets(training, training, test, class_count(images))


@dataclass(frozen=True)
class Data:
    """``title`` is what readers call it, ``sets(root)`` reads it from the folder of data sets."""

    title: str
    sets: Callable[[Path], Sets]


DATA = {
    "digits": Data("scikit-learn's 8 x 8 digits", lambda root: image_sets(load("digits", root))),
    "mnist": Data("MNIST", lambda root: image_sets(load("mnist", root))),
    "mnist-imbalanced": Data("MNIST", lambda root: image_sets(imbalanced(load("mnist", root)))),
    "mnist-label-noise": Data("MNIST", lambda root: image_sets(noisy_labels(load("mnist", root)))),
    "pixel-mnist": Data("MNIST", lambda root: pixel_sets(load("mnist", root))),
    "cifar10": Data("CIFAR-10", lambda root: image_sets(load("cifar10", root), SHIFT)),
    "cifar10-label-noise": Data(
        "CIFAR-10", lambda root: image_sets(noisy_labels(load("cifar10", root)), SHIFT)
    ),
    "cifar10-enlarged": Data(
        "CIFAR-10 enlarged", lambda root: enlarged_sets(load("cifar10", root))
    ),
    "cifar100": Data("CIFAR-100", lambda root: image_sets(load("cifar100", root), SHIFT)),
    "image-folder": Data("image folder", image_folder),
    "friedman": Data("Friedman's regression problem", lambda root: friedman()),
}

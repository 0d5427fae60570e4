"""Pictures for fine-tuning: a folder of image files, held in memory as bytes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from .content import read_content
from .datasets import Sets
from .images import DataError

RESOLUTION, SHORTER_SIDE = 224, 256  # the usual ones of networks that were trained on ImageNet
SOURCE = "https://web.mit.edu/torralba/www/indoor.html"
SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}

NAME = re.compile(r"(?!\.)[^/\\\0]+")  # of a class or a file: within its folder
LARGEST, SLIMMEST = 2**26, 50  # pixels of an image; its longer side by the shorter

Files = list[tuple[Path, str]]  # a file and the name of its class


class Pictures(Dataset):
    """Inputs float32 [n, 3, resolution, resolution] in [0, 1] from pixels uint8 [N, rows, columns,
    3], enlarged where they are smaller; targets int64 [n]."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, resolution: int):
        self.pixels, self.labels, self.resolution = (
            torch.from_numpy(pixels),
            torch.from_numpy(labels),
            resolution,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.as_tensor(indices)
        inputs = self.pixels[index].permute(0, 3, 1, 2).float().div_(255)
        if inputs.shape[-1] != self.resolution:
            inputs = F.interpolate(inputs, self.resolution, mode="bilinear")
        return inputs, self.labels[index]


def image_folder(root: Path) -> Sets:
    """MIT67 as it is distributed (Images/CLASS/ and the two lists of the official split), or
    ImageFolder's layout: train/CLASS/ and test/CLASS/ or val/CLASS/. No augmentation, as in section
    4.3."""
    training, test = listed_files(root) or split_files(root) or missing(root)
    classes = sorted({name for _, name in training})
    unknown = sorted({name for _, name in test} - set(classes))
    if unknown:
        raise DataError(
            f"{root}: each class of the test images must have training images; "
            f"{', '.join(unknown)} has none"
        )
    sets = [Pictures(*decoded(files, classes), RESOLUTION) for files in (training, test)]
    return Sets(sets[0], *sets, len(classes))


def missing(root: Path):
    raise DataError(
        f"no image folder in {root}: looked for Images/ with TrainImages.txt and TestImages.txt "
        f"(MIT67), or train/ with test/ or val/, a folder a class in each. Get MIT67 from {SOURCE}"
    )


def listed_files(root: Path) -> tuple[Files, Files] | None:
    lists = [root / "TrainImages.txt", root / "TestImages.txt"]
    if not ((root / "Images").is_dir() and all(path.is_file() for path in lists)):
        return None
    names = [listed_names(path) for path in lists]
    training, test = (
        [(root / "Images" / name, name.partition("/")[0]) for name in some] for some in names
    )
    return training, test


def listed_names(path: Path) -> list[str]:
    """The lines of a list, CLASS/FILE each."""
    try:
        lines = [line.strip() for line in read_content(path).decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a list of files: {error}") from error
    names = [line for line in lines if line]
    for name in names:
        parts = name.split("/")
        if len(parts) != 2 or not NAME.fullmatch(parts[0]) or not NAME.fullmatch(parts[1]):
            raise DataError(f"{path}: a line must be CLASS/FILE, got {name[:99]!r}")
    return names


def split_files(root: Path) -> tuple[Files, Files] | None:
    training = files_in(root / "train")
    test = files_in(root / "test") or files_in(root / "val")
    return (training, test) if training and test else None


def files_in(folder: Path) -> Files:
    """Sorted, so that the order is the same everywhere."""
    return [
        (path, path.parent.name)
        for path in sorted(folder.glob("*/*"))
        if path.suffix.lower() in SUFFIXES
    ]


def decoded(files: Files, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [N, 224, 224, 3] and labels int64 [N]."""
    pixels = np.empty((len(files), RESOLUTION, RESOLUTION, 3), np.uint8)
    for place, (path, _) in enumerate(files):
        pixels[place] = centre(path)
    return pixels, np.array([classes.index(name) for _, name in files], np.int64)


def check_size(size: tuple[int, int], path: Path) -> None:
    """Before a decoder makes room for so many pixels as the file claims."""
    if min(size) < 1 or size[0] * size[1] > LARGEST or max(size) > SLIMMEST * min(size):
        raise DataError(
            f"{path} must have at most {LARGEST:,} pixels and sides of at most {SLIMMEST} to 1; "
            f"got {size[0]} x {size[1]}"
        )


def centre(path: Path) -> np.ndarray:
    """The middle 224 x 224 pixels after the shorter side was brought to 256."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            check_size(image.size, path)
            image = image.convert("RGB")
    except DataError:
        raise
    except Exception as error:  # what a decoder raises on damaged bytes is not documented
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    ratio = SHORTER_SIDE / min(image.size)
    image = image.resize([round(side * ratio) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - RESOLUTION) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + RESOLUTION, top + RESOLUTION)))

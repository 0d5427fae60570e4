"""What is trained on a GPU: a wide ResNet by images that lie on the device, or on the host."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bench.common.data import load
from bench.common.networks import wide_resnet

from .packed import PACK
from .processes import ROOT

BATCH, PRESAMPLE, CLASSES, SIDE, SHIFT = 128, 640, 10, 32, 4
CACHE = ROOT / "build/gpu/cifar10.npz"


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The options that both measurements have; small ones run on a CPU in seconds."""
    options = argparse.ArgumentParser(prog=f"python -m bench.gpu.{name}", description=description)
    options.add_argument("--out", type=Path, required=True, help="a file for lines of JSON")
    options.add_argument("--limit", type=float, default=220.0, help="seconds at most")
    options.add_argument("--device", default="cuda")
    options.add_argument("--depth", type=int, default=28)
    options.add_argument("--width", type=int, default=16, help="channels of the first convolution")
    options.add_argument("--rows", type=int, default=50_000, help="images to train on")
    options.add_argument("--seed", type=int, default=0)
    return options


class Augmented(nn.Module):
    """``body`` behind the pixels' normalisation and, where it learns, shifts and mirrors, all on
    the device. Takes uint8 [N, 3, 32, 32]."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.float().div_(255).sub_(0.473).div_(0.251)
        if self.training and torch.is_grad_enabled():
            images = mirrored(shifted(images))
        return self.body(images.contiguous(memory_format=torch.channels_last))


def shifted(images: Tensor) -> Tensor:
    """Each by up to SHIFT places each way; grey comes in."""
    count, device = len(images), images.device
    padded = F.pad(images, (SHIFT,) * 4)
    place = torch.arange(images.shape[2], device=device)
    by = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), device=device)
    rows, columns = (by[0] + place)[:, :, None], (by[1] + place)[:, None, :]
    which = torch.arange(count, device=device)[:, None, None]
    return padded[which, :, rows, columns].permute(0, 3, 1, 2)


def mirrored(images: Tensor) -> Tensor:
    """Half of them, by chance."""
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(chosen, images.flip(3), images)


def network(depth: int, width: int, device: torch.device, seed: int) -> nn.Module:
    """The same parameters for every method of one seed."""
    torch.manual_seed(seed)
    model = Augmented(wide_resnet(depth, 2, CLASSES, "batch", width))
    return model.to(device, memory_format=torch.channels_last)


def optimizer_of(model: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


@dataclass(frozen=True)
class Images:
    """``pixels`` uint8 [N, 3, 32, 32], ``labels`` int64 [N]."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> Images:
        return Images(self.pixels.to(device), self.labels.to(device))

    def loader(self) -> DataLoader:
        """What isample's memory is built around."""
        dataset = TensorDataset(self.pixels, self.labels)
        return DataLoader(dataset, BATCH, shuffle=True, drop_last=True)

    def __len__(self) -> int:
        return len(self.labels) // BATCH

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch of shuffled batches, each gathered by one call: what a plain loop over tensors
        does."""
        order = torch.randperm(len(self.labels), device=self.labels.device)
        for chosen in order[: len(self) * BATCH].split(BATCH):
            yield self.pixels[chosen], self.labels[chosen]


def noise(rows: int, seed: int) -> Images:
    """Images without meaning, of which no sample teaches more than another."""
    random = torch.Generator().manual_seed(seed)
    shape = (rows, 3, SIDE, SIDE)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)
    return Images(pixels, torch.randint(CLASSES, (rows,), generator=random))


def cifar10(folder: Path | None, rows: int) -> tuple[Images, Images]:
    """Training images in an order of their own, and those to test on.

    ``folder`` holds either ``load.py``, whose ``cifar10()`` gives the arrays, or the data set as
    bench.common.data finds it; None: what `make gpu-pack` packed. Raises FileNotFoundError or
    DataError, which say what is missing.
    """
    arrays = decoded(folder or PACK)
    train, test = (
        Images(
            torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
            torch.from_numpy(labels.astype(np.int64)),
        )
        for pixels, labels in arrays
    )
    order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(0))[:rows]
    return Images(train.pixels[order], train.labels[order]), test


def decoded(folder: Path) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    script = folder / "load.py"
    if script.is_file():
        if not CACHE.is_file() or CACHE.stat().st_mtime < script.stat().st_mtime:
            train, test = loader_of(script).cifar10()
            CACHE.parent.mkdir(parents=True, exist_ok=True)
            np.savez(CACHE, *train, *test)
        with np.load(CACHE) as kept:
            parts = [kept[f"arr_{place}"] for place in range(4)]
        return (parts[0], parts[1]), (parts[2], parts[3])
    if folder == PACK:
        raise FileNotFoundError(
            f"CIFAR-10 is missing: {script} is not there; make gpu-pack DATA=FOLDER packs it, and "
            "--data FOLDER names one that is here"
        )
    images = load("cifar10", folder)
    return (images.x_train, images.y_train), (images.x_test, images.y_test)


def loader_of(script: Path):
    spec = importlib.util.spec_from_file_location("packed_load", script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def cast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def plain_steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Images, device: torch.device
) -> Iterator[None]:
    """A loop without isample, a step at a time, without end."""
    while True:
        for inputs, labels in data:
            inputs, labels = (each.to(device, non_blocking=True) for each in (inputs, labels))
            with cast(device):
                loss = F.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

"""The experiments by name, each with the paper's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.common.networks import PixelLSTM, small_cnn, wide_resnet
from bench.common.pretrained import efficientnet_lite0, resnet50
from bench.common.sets import DATA, Data
from isample.support.registry import look_up

from ..methods import METHODS
from ..methods.importance import upper_bound
from ..training import Method, Training
from .measurements import scaled

Entrant = Callable[[Training], Method]

UNIFORM: dict[str, Entrant] = {"uniform": METHODS["uniform"].make}
ENTRANTS: dict[str, Entrant] = {
    name: entry.make for name, entry in METHODS.items() if entry.resumable
}
ABLATION: dict[str, Entrant] = {
    f"B={size}": partial(upper_bound, presample=size) for size in (256, 384, 640, 1024)
}


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def moderate_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


def careful_sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def wide_resnet_28_2(scale: float, normalisation: str, classes: int) -> nn.Module:
    return wide_resnet(28, 2, classes, normalisation, width=scaled(16, scale))


def cifar10_cnn(scale: float, normalisation: None, classes: int) -> nn.Module:
    """The same at any scale: small enough for a CPU to train it to the end."""
    return small_cnn((32, 32, 3))


def pixel_lstm(scale: float, normalisation: None, classes: int) -> nn.Module:
    return PixelLSTM(scaled(128, scale), classes)


@dataclass(frozen=True)
class Experiment:
    """``figure`` is the paper's.

    ``model(scale, normalisation, classes)`` draws its parameters from torch's generator;
    ``normalisation`` is None where the network leaves no choice of it. The learning rate is divided
    by five after each of ``drops``, shares of the budget. The budget is ``seconds`` of training or,
    where ``updates`` is given, that many updates. ``measure`` says what is measured on the way:
    ``progress`` (losses and test error), ``variance`` (figure 1) or ``correlation`` (figure 2);
    ``every`` is the number of updates, or the share of the time, between two measurements.
    ``entrants`` are the methods that can be run, ``methods`` those that are run where none is
    named: those that the paper's figures compare.
    """

    figure: int
    data: Data
    model: Callable[[float, Any, int], nn.Module]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = sgd
    normalisation: str | None = None
    drops: tuple[float, ...] = (0.4, 0.8)
    loss: str = "cross_entropy"
    batch_size: int = 128
    presample: int | None = None
    tau_threshold: float | None = None
    clip_grad_norm: float | None = None
    seconds: float | None = None
    updates: int | None = None
    measure: str = "progress"
    every: float = 1 / 40
    entrants: Mapping[str, Entrant] = field(default_factory=lambda: ENTRANTS)
    methods: tuple[str, ...] = ("uniform", "loss", "upper-bound")


# The text of the paper names no time budget for CIFAR: four hours are a choice.
CIFAR10 = Experiment(
    3,
    DATA["cifar10"],
    wide_resnet_28_2,
    normalisation="layer",
    presample=640,
    tau_threshold=1.5,
    seconds=14_400,
)
CIFAR100 = replace(CIFAR10, data=DATA["cifar100"])

VARIANCE = replace(
    CIFAR100,
    figure=1,
    entrants=UNIFORM,
    methods=("uniform",),
    seconds=None,
    updates=50_000,
    measure="variance",
    every=3_000,
)
CORRELATION = replace(VARIANCE, figure=2, measure="correlation")
ON_A_CPU = {
    "data": DATA["cifar10"],
    "model": cifar10_cnn,
    "optimizer": moderate_sgd,
    "normalisation": None,
}
FINETUNE = Experiment(
    4,
    DATA["image-folder"],
    resnet50,
    careful_sgd,
    drops=(),
    batch_size=16,
    presample=48,
    tau_threshold=2.0,
    seconds=1_800,
    every=1 / 20,
)

EXPERIMENTS = {
    "variance": VARIANCE,
    "variance-cifar10": replace(VARIANCE, data=DATA["cifar10"]),
    "variance-cnn": replace(VARIANCE, **ON_A_CPU),
    "correlation": CORRELATION,
    "correlation-cifar10": replace(CORRELATION, data=DATA["cifar10"]),
    "correlation-cnn": replace(CORRELATION, **ON_A_CPU),
    "cifar10": CIFAR10,
    "cifar100": CIFAR100,
    "finetune": FINETUNE,
    "finetune-lite0": replace(FINETUNE, model=efficientnet_lite0),
    "finetune-cifar10": replace(FINETUNE, data=DATA["cifar10-enlarged"], model=efficientnet_lite0),
    "pixel-mnist": Experiment(
        5,
        DATA["pixel-mnist"],
        pixel_lstm,
        adam,
        drops=(),
        batch_size=32,
        presample=128,
        tau_threshold=1.8,
        clip_grad_norm=1.0,
        seconds=3_600,
    ),
    "ablation-b": replace(CIFAR10, figure=6, entrants=ABLATION, methods=tuple(ABLATION)),
}


def find_experiment(name: str) -> Experiment:
    """Raises ValueError that lists the experiments."""
    return look_up(EXPERIMENTS, name, "experiment")

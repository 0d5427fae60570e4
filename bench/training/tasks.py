"""The tasks, by name: data, network, loss and the settings of plain SGD that all methods share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from bench.common.networks import narrow_resnet18, perceptron, small_cnn
from bench.common.sets import DATA, Data
from isample.support.registry import look_up

# Half of the other tasks': that is too high for this network, which uniform sampling then trains
# worse.
CIFAR10_RATE = 0.025


@dataclass(frozen=True)
class Loss:
    """``losses`` and ``errors`` map (outputs, targets) to one value a sample, [B]."""

    losses: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    errors: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    error_title: str


def squared_errors(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs - targets).square().flatten(1).mean(1)


LOSSES = {
    "cross_entropy": Loss(
        losses=lambda logits, targets: F.cross_entropy(logits, targets, reduction="none"),
        errors=lambda logits, targets: (logits.argmax(1) != targets).float(),
        error_title="share of test samples missed",
    ),
    "mse": Loss(
        squared_errors, squared_errors, "share of the test targets' variance left unexplained"
    ),
}


@dataclass(frozen=True)
class Task:
    """``title`` is what readers call the task beside its data. ``model()`` draws its parameters
    from torch's generator. The optimizer is SGD, its learning rate the highest of the run."""

    data: Data
    title: str
    model: Callable[[], nn.Module]
    loss: str = "cross_entropy"
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    presample: int | None = None
    tau_threshold: float | None = None
    clip_grad_norm: float | None = None

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            model.parameters(),
            self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


def mnist_cnn() -> nn.Module:
    return small_cnn((28, 28, 1))


def cifar10_cnn() -> nn.Module:
    return small_cnn((32, 32, 3))


TASKS = {
    "digits": Task(DATA["digits"], "small CNN", lambda: small_cnn((8, 8, 1))),
    "mnist": Task(DATA["mnist"], "CNN", mnist_cnn),
    "mnist-imbalanced": Task(
        DATA["mnist-imbalanced"], "classes up to 100 times rarer, CNN", mnist_cnn
    ),
    "mnist-label-noise": Task(
        DATA["mnist-label-noise"], "20 % of the training labels wrong, CNN", mnist_cnn
    ),
    "cifar10": Task(
        DATA["cifar10"],
        "shifts and mirroring, small CNN",
        cifar10_cnn,
        learning_rate=CIFAR10_RATE,
    ),
    "cifar10-resnet": Task(
        DATA["cifar10"],
        "shifts and mirroring, narrow ResNet-18",
        narrow_resnet18,
        weight_decay=5e-4,
    ),
    "cifar10-label-noise": Task(
        DATA["cifar10-label-noise"],
        "20 % of the training labels wrong, small CNN",
        cifar10_cnn,
        learning_rate=CIFAR10_RATE,
    ),
    "regression": Task(
        DATA["friedman"],
        "ten features, noise floor 4.0 %, perceptron",
        lambda: perceptron(10),
        loss="mse",
    ),
}


def find_task(name: str) -> Task:
    """Raises ValueError that lists the tasks."""
    return look_up(TASKS, name, "task")

"""A race on a GPU: `python -m bench.gpu.training --out FILE`.

WRN-28-2 with batch normalisation on CIFAR-10, in bfloat16, channels last, data and augmentation on
the device: uniform sampling, the paper's Algorithm 1 and isample's default, one after the other,
from the same parameters and for as many seconds each. The learning rate falls linearly in time from
0.1 to 0. Ten times each, with the clock stopped, a line tells the loss on training images without
augmentation and the share of wrong classes on the test images. Where --limit leaves no room for all
of that, each method races for less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import isample

from .rows import Rows
from .task import (
    BATCH,
    PRESAMPLE,
    Images,
    cast,
    cifar10,
    network,
    optimizer_of,
    parser,
    plain_steps,
    wait_for,
)

RATE, LOOKS = 0.1, 10
EVERY = 10  # steps between two looks at the clock, each of which waits for the device
TAU_THRESHOLD = 1.5
SEEN = 10_000  # training images that a look measures
RESERVE = 5.0  # seconds of a method beside its steps and looks: its network, and its last steps

Steps = Iterator[Any]


def uniform(model: nn.Module, optimizer, data: Images, seed: int) -> Steps:
    return plain_steps(model, optimizer, data, data.labels.device)


def paper(model: nn.Module, optimizer, data: Images, seed: int) -> Steps:
    options = {"presample": PRESAMPLE, "tau_threshold": TAU_THRESHOLD, "seed": seed}
    trainer = isample.Trainer.paper(
        model, optimizer, batch_size=BATCH, autocast=torch.bfloat16, **options
    )
    return trainer.iterate(data, epochs=10**6)


def default(model: nn.Module, optimizer, data: Images, seed: int) -> Steps:
    trainer = isample.Trainer(
        model, optimizer, batch_size=BATCH, autocast=torch.bfloat16, seed=seed
    )
    return trainer.iterate(data.loader(), epochs=10**6)


METHODS: dict[str, Callable[..., Steps]] = {"uniform": uniform, "paper": paper, "default": default}


@torch.no_grad()
def measured(model: nn.Module, data: Images) -> tuple[float, float]:
    """The mean loss, and the share of wrong classes."""
    loss, wrong = 0.0, 0
    for pixels, labels in zip(data.pixels.split(1000), data.labels.split(1000)):
        with cast(labels.device):
            logits = model(pixels)
        loss += F.cross_entropy(logits.float(), labels, reduction="sum").item()
        wrong += (logits.argmax(1) != labels).sum().item()
    return loss / len(data.labels), wrong / len(data.labels)


def look(model: nn.Module, train: Images, test: Images) -> dict[str, float]:
    model.eval()
    (train_loss, train_error), (test_loss, test_error) = (
        measured(model, data) for data in (Images(train.pixels[:SEEN], train.labels[:SEEN]), test)
    )
    model.train()
    return {
        "train_loss": train_loss,
        "train_error": train_error,
        "test_loss": test_loss,
        "test_error": test_error,
    }


def race(
    how: str,
    given,
    seconds: float,
    over: float,
    train: Images,
    test: Images,
    tell: Callable[..., None],
) -> None:
    """One method from the first step to the last of its ``seconds``, or to its last look once the
    monotonic clock says ``over``."""
    device = train.labels.device
    model = network(given.depth, given.width, device, given.seed)
    optimizer = optimizer_of(model, RATE)
    steps = METHODS[how](model, optimizer, train, given.seed)
    spent, updates, active, looks = 0.0, 0, 0, 0
    while looks < LOOKS:
        wait_for(device)
        begin = time.perf_counter()
        for _ in range(EVERY):
            report = next(steps)
            active += report is not None and report.active
        wait_for(device)
        spent += time.perf_counter() - begin
        updates += EVERY
        done = 1.0 if time.monotonic() >= over else min(1.0, spent / seconds)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1.0 - done)
        if LOOKS * done >= looks + 1:
            looks = int(LOOKS * done)
            seen = look(model, train, test)
            tell(how=how, seconds=spent, updates=updates, active=active / updates, **seen)


def warm_up(given, train: Images, test: Images) -> float:
    """Loads the kernels, which would be counted to the first method. How long a look takes."""
    device = train.labels.device
    model = network(given.depth, given.width, device, given.seed)
    steps = plain_steps(model, optimizer_of(model, RATE), train, device)
    for _ in range(EVERY):
        next(steps)
    with torch.no_grad(), cast(device):
        model(train.pixels[:PRESAMPLE])
    look(model, train, test)
    begin = time.monotonic()
    look(model, train, test)
    return time.monotonic() - begin


def main() -> None:
    options = parser("training", __doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="of each method")
    options.add_argument("--data", type=Path, help="a folder with CIFAR-10; by default .gpu")
    given = options.parse_args()
    end = time.monotonic() + given.limit
    rows = Rows(given.out)
    try:
        train, test = (part.to(given.device) for part in cifar10(given.data, given.rows))
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    looking = warm_up(given, train, test)
    share = (end - time.monotonic()) / len(METHODS)
    seconds = min(given.seconds, max(1.0, share - LOOKS * looking - RESERVE))
    for left, how in zip(range(len(METHODS), 0, -1), METHODS):
        begin = time.monotonic()
        over = begin + (end - begin) / left - 2 * looking  # one may just have begun
        race(how, given, seconds, over, train, test, rows.write)


if __name__ == "__main__":
    main()

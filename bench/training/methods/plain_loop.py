"""isample in a loop that is the caller's own, as examples/plain_loop.py has it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import nn
from torch.nn import functional as F

import isample

from ..training import Training

LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


def plain_loop(training: Training) -> Iterator[isample.StepReport | None]:
    """The first yield has no report yet."""
    model, loss_of = training.model, LOSSES[training.task.loss]
    engine = isample.Engine(training.optimizer, head=last_linear(model), seed=training.seed)
    loader = engine.loader(training.loader(training.batch_size))
    for _ in itertools.count():
        for batch in loader:
            inputs, targets = training.on_device(batch)
            training.update(loss_of(model(inputs), targets))
            with engine.paused():  # what the caller does between two steps is no step's time
                yield engine.report


def last_linear(model: nn.Module) -> nn.Linear:
    """The layer whose outputs are the network's."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)][-1]

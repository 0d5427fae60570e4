"""What the variance-reduced methods share: the mean gradient at an anchor, and the estimate that is corrected by it.

    v = g_batch(w) - g_batch(anchor) + mu        mu = mean over the anchor's samples of g_i(anchor)

v is an unbiased estimate of the gradient at w, and its noise vanishes as w and the anchor near the optimum, so the step
need not shrink. It costs two backward passes a batch, and one over the anchor's samples for every anchor.
"""

from __future__ import annotations

import copy
from typing import Generator, Sequence

import torch
from torch import nn

from ..training import Training

Tensors = Sequence[torch.Tensor]  # one a parameter


class Anchor:
    """``network`` is the anchor's own copy of the network, so that no pass through it is seen in the statistics of the
    trained one; ``mean`` is mu."""

    def __init__(self, training: Training, network: nn.Module, mean: Tensors):
        self.training, self.network, self.mean = training, network, mean

    def corrected(self, inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        """v."""
        here = gradient(self.training, self.training.model, inputs, targets)
        there = gradient(self.training, self.network, inputs, targets)
        return [h - t + m for h, t, m in zip(here, there, self.mean)]


def cast_anchor(training: Training, batches: Sequence[torch.Tensor]) -> Generator[None, None, Anchor]:
    """Returns the anchor at the present parameters, over batches of indices; yields after each of them."""
    network = copy.deepcopy(training.model)
    total, count = [torch.zeros_like(p) for p in network.parameters()], 0
    for inputs, targets in training.fetch(batches):
        for part, of_batch in zip(total, gradient(training, network, inputs, targets)):
            part.add_(of_batch, alpha=len(targets))
        count += len(targets)
        yield
    return Anchor(training, network, [part / count for part in total])


def gradient(training: Training, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
    """Of the batch's mean loss."""
    return torch.autograd.grad(training.losses(network(inputs), targets).mean(), tuple(network.parameters()))


def stop_momentum(optimizer: torch.optim.Optimizer) -> None:
    """These methods' steps are w - lr v. With no momentum the optimizer's are that, so it counts the updates, keeps the
    learning rate and treats weight decay as a part of the objective, as for the other methods."""
    for group in optimizer.param_groups:
        group["momentum"] = 0.0


def step(training: Training, direction: Tensors) -> None:
    for parameter, v in zip(training.model.parameters(), direction):
        parameter.grad = v
    training.optimizer.step()

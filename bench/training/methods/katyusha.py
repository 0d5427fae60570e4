"""Katyusha (Allen-Zhu 2017, "Katyusha: The First Direct Acceleration of Stochastic Gradient Methods"), Algorithm 1 with
its Option I, in batches of b:

    x = tau1 z + tau2 anchor + (1 - tau1 - tau2) y        v at x
    z <- (z - (lr / tau1) v) / (1 + (lr / tau1) sigma)
    y <- (x - lr v) / (1 + lr sigma)                      m times, m b = 2 N

The next anchor is the mean of the round's y, the j-th weighted by (1 + (lr / tau1) sigma)^j. lr stands for 1 / (3 L)
and weight decay for the regulariser sigma |x|^2 / 2, whose proximal steps are the divisions. tau2 = 1/2, and so is
tau1, which is its value for all m sigma / L >= 3/4.
"""

from __future__ import annotations

from typing import Iterator

import torch

from ..training import Training
from .anchor import Anchor, Tensors, cast_anchor, step, stop_momentum

TAU1 = 0.5
TAU2 = 0.5
EPOCHS = 2.0  # m b / N


class Iterates:
    """The sequences y and z, and the mean of the y of a round. The network is at x or y while a round lasts."""

    def __init__(self, training: Training, sigma: float, tau1: float):
        self.training, self.sigma, self.tau1 = training, sigma, tau1
        self.parameters = list(training.model.parameters())
        self.y, self.z, self.mean = (self.copies() for _ in range(3))
        self.begin_round()

    def copies(self) -> Tensors:
        return [p.detach().clone() for p in self.parameters]

    def begin_round(self) -> None:
        self.weight, self.total = 1.0, 0.0

    @torch.no_grad()
    def move_to(self, point: Tensors) -> None:
        for parameter, value in zip(self.parameters, point):
            parameter.copy_(value)

    def combined(self, anchor: Anchor) -> Tensors:
        """x."""
        tau1, tau2 = self.tau1, TAU2
        parts = zip(self.z, anchor.network.parameters(), self.y)
        return [tau1 * z + tau2 * a.detach() + (1 - tau1 - tau2) * y for z, a, y in parts]

    def advance(self, v: Tensors) -> None:
        """From x, where the network is and v was taken."""
        rate = self.training.optimizer.param_groups[0]["lr"]
        alpha, sigma = rate / self.tau1, self.sigma
        self.z = [(z - alpha * d) / (1 + alpha * sigma) for z, d in zip(self.z, v)]
        step(self.training, v)
        self.y = [p / (1 + rate * sigma) for p in self.copies()]
        self.move_to(self.y)
        self.total += self.weight
        self.mean = [m.lerp(y, self.weight / self.total) for m, y in zip(self.mean, self.y)]
        self.weight *= 1 + alpha * sigma


def katyusha(training: Training, tau1: float = TAU1, epochs: float = EPOCHS) -> Iterator[None]:
    stop_momentum(training.optimizer)
    iterates = Iterates(training, take_weight_decay(training.optimizer), tau1)
    generator, size, batch_size = training.generator(), len(training.sets.training), training.batch_size
    updates = round(epochs * size / batch_size)
    while True:
        anchor = yield from cast_anchor(training, torch.arange(size).split(batch_size))
        iterates.begin_round()
        drawn = torch.randint(size, (updates, batch_size), generator=generator)
        for inputs, targets in training.fetch(drawn):
            iterates.move_to(iterates.combined(anchor))
            iterates.advance(anchor.corrected(inputs, targets))
            yield
        iterates.move_to(iterates.mean)


def take_weight_decay(optimizer: torch.optim.Optimizer) -> float:
    """sigma, which the proximal steps apply in the optimizer's place."""
    (group,) = optimizer.param_groups
    sigma, group["weight_decay"] = group["weight_decay"], 0.0
    return sigma

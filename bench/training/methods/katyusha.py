"""Katyusha (Allen-Zhu 2017, "Katyusha: The First Direct Acceleration of Stochastic Gradient
Methods"), Algorithm 1 with its Option I, in batches of b:

    x = tau1 z + tau2 anchor + (1 - tau1 - tau2) y        v at x
    z <- (z - (lr / tau1) v) / (1 + (lr / tau1) sigma)
    y <- (x - lr v) / (1 + lr sigma)                      m times, m b = 2 N

The next anchor is the mean of the round's y, the j-th weighted by (1 + (lr / tau1) sigma)^j. lr
stands for 1 / (3 L) and weight decay for the regulariser sigma |x|^2 / 2, whose proximal steps are
the divisions. tau2 = 1/2, and so is tau1, which is its value for all m sigma / L >= 3/4.
"""

from __future__ import annotations

from typing import Any

import torch

from ..training import Training
from .anchor import Anchored, Tensors, step

TAU1 = 0.5
TAU2 = 0.5
EPOCHS = 2.0  # m b / N


class Katyusha(Anchored):
    """``y``, ``z`` are the sequences, ``mean`` that of the round's y so far, whose weights add up
    to ``total``; ``weight`` is the next one's. The network is at x or y while a round lasts."""

    saved = ("y", "z", "mean", "weight", "total")

    def __init__(self, training: Training, tau1: float = TAU1, epochs: float = EPOCHS):
        super().__init__(training)
        self.sigma, self.tau1 = take_weight_decay(training.optimizer), tau1
        self.updates = round(epochs * self.size / self.batch_size)
        self.parameters = list(training.model.parameters())
        self.y, self.z, self.mean = (self.copies() for _ in range(3))

    def copies(self) -> Tensors:
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def move_to(self, point: Tensors) -> None:
        for parameter, value in zip(self.parameters, point):
            parameter.copy_(value)

    def cast_indices(self) -> torch.Tensor:
        self.move_to(self.mean)
        self.weight, self.total = 1.0, 0.0
        return super().cast_indices()

    def train_indices(self) -> torch.Tensor:
        return self.drawn(self.updates, self.size)

    def train(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.move_to(self.combined())
        self.advance(self.anchor.corrected(inputs, targets))

    def combined(self) -> Tensors:
        """x."""
        tau1, tau2 = self.tau1, TAU2
        parts = zip(self.z, self.anchor.network.parameters(), self.y)
        return [tau1 * z + tau2 * a.detach() + (1 - tau1 - tau2) * y for z, a, y in parts]

    def advance(self, v: Tensors) -> None:
        """From x, where the network is and v was taken."""
        rate = self.training.optimizer.param_groups[0]["lr"]
        alpha, sigma = rate / self.tau1, self.sigma
        step(self.training, v)  # first: z goes along the clipped v, too
        self.z = [(z - alpha * d) / (1 + alpha * sigma) for z, d in zip(self.z, v)]
        self.y = [p / (1 + rate * sigma) for p in self.copies()]
        self.move_to(self.y)
        self.total += self.weight
        self.mean = [m.lerp(y, self.weight / self.total) for m, y in zip(self.mean, self.y)]
        self.weight *= 1 + alpha * sigma

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        device = self.training.device
        self.y, self.z, self.mean = (
            [t.to(device) for t in of] for of in (self.y, self.z, self.mean)
        )


def take_weight_decay(optimizer: torch.optim.Optimizer) -> float:
    """sigma, which the proximal steps apply in the optimizer's place."""
    (group,) = optimizer.param_groups
    sigma, group["weight_decay"] = group["weight_decay"], 0.0
    return sigma

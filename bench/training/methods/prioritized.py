"""Prioritized sampling (Schaul et al. 2015, "Prioritized Experience Replay"), its proportional
variant, with a training set in place of the replay memory and a sample's loss in place of the
temporal-difference error.

    priority  q_i = (|loss_i| + epsilon)^alpha      its loss when it was last trained on
    draw      P(i) = q_i / sum(q)                   one from each b-th of their running sum
    weight    w_i = (1 / (N P(i)))^beta / max(w)

A sample that was never drawn has the highest priority of all. The maximum is that of the batch:
over the whole memory it would be the weight of the one easiest sample, which would shrink every
step. Katharopoulos and Fleuret (2018) took the best of alpha in {0.1, 0.5, 1} and beta in {0.5, 1}
and do not say which that was.
"""

from __future__ import annotations

from typing import Any

import torch

import isample

from ..training import Training
from .dealt import Dealt

ALPHA = 0.5
BETA = 1.0  # the mean is unbiased, but for the batch's factor 1 / max(w)
EPSILON = 1e-6


class Priorities:
    """The priority of each of ``size`` samples."""

    def __init__(self, size: int, alpha: float = ALPHA, beta: float = BETA):
        self.alpha, self.beta = alpha, beta
        self.priority = torch.ones(size)
        self.unseen = torch.ones(size, dtype=torch.bool)

    def update(self, index: torch.Tensor, losses: torch.Tensor) -> None:
        """Fresh losses [b] of the samples ``index``, int64 [b]."""
        self.priority[index] = (losses.abs() + EPSILON) ** self.alpha
        self.unseen[index] = False
        # Mostly not, and then nothing but the draw takes time in proportion to the data set.
        if self.unseen.any():
            highest = torch.where(self.unseen, 0.0, self.priority).max()
            self.priority = torch.where(self.unseen, highest, self.priority)

    def draw(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples, int64 [count], and their weights before they are divided by the largest, float32
        [count]."""
        index, weights = isample.draw(
            isample.prefix_sum(self.priority), count, method="stratified", generator=generator
        )
        return index, weights**self.beta


class Prioritized(Dealt):
    def __init__(self, training: Training, alpha: float = ALPHA, beta: float = BETA):
        super().__init__(training)
        self.priorities = Priorities(self.size, alpha, beta)
        self.weights = torch.empty(0)

    def next_phase(self) -> tuple[str, torch.Tensor]:
        """One batch: each is drawn by what the one before it showed."""
        index, self.weights = self.priorities.draw(self.batch_size, self.generator)
        return "train", index

    def train(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        losses = self.training.losses(self.training.model(inputs), targets)
        self.priorities.update(index, losses.detach().cpu())
        self.training.update(
            ((self.weights / self.weights.max()).to(losses.device) * losses).mean()
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "priority": self.priorities.priority,
            "unseen": self.priorities.unseen,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.priorities.priority, self.priorities.unseen = state["priority"], state["unseen"]

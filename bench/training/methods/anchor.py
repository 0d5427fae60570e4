"""What the variance-reduced methods share: the mean gradient at an anchor, and the estimate that is
corrected by it.

    v = g_batch(w) - g_batch(anchor) + mu        mu = mean over the anchor's samples of g_i(anchor)

v is an unbiased estimate of the gradient at w, and its noise vanishes as w and the anchor near the
optimum, so the step need not shrink. It costs two backward passes a batch, and one over the
anchor's samples for every anchor.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..training import Training
from .dealt import Dealt

Tensors = Sequence[torch.Tensor]  # one a parameter


class Anchor:
    """``network`` is the anchor's own copy of the network as it is now, so that no pass through it
    is seen in the statistics of the trained one; ``mean`` is mu of the ``count`` samples that were
    added."""

    def __init__(self, training: Training):
        self.training, self.network = training, copy.deepcopy(training.model)
        self.mean, self.count = [torch.zeros_like(p) for p in self.network.parameters()], 0

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """To the samples of which mu is the mean."""
        self.count += len(targets)
        share, of_batch = (
            len(targets) / self.count,
            gradient(self.training, self.network, inputs, targets),
        )
        self.mean = [m.lerp(g, share) for m, g in zip(self.mean, of_batch)]

    def corrected(self, inputs: torch.Tensor, targets: torch.Tensor) -> Tensors:
        """v."""
        here = gradient(self.training, self.training.model, inputs, targets)
        there = gradient(self.training, self.network, inputs, targets)
        return [h - t + m for h, t, m in zip(here, there, self.mean)]

    def state_dict(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "mean": self.mean, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.mean, self.count = [m.to(self.training.device) for m in state["mean"]], state["count"]


class Anchored(Dealt):
    """Rounds of two phases: ``cast`` makes the anchor, ``train`` updates by it.

    A subclass has ``cast_indices``, called at the beginning of a round, and ``train_indices``:
    samples, int64 [n].
    """

    def __init__(self, training: Training):
        stop_momentum(training)
        super().__init__(training)
        self.anchor: Anchor | None = None

    def next_phase(self) -> tuple[str, torch.Tensor]:
        if self.name == "cast":
            return "train", self.train_indices()
        indices = self.cast_indices()
        self.anchor = Anchor(self.training)
        return "cast", indices

    def cast_indices(self) -> torch.Tensor:
        """The whole training set."""
        return torch.arange(self.size)

    def train_indices(self) -> torch.Tensor:
        raise NotImplementedError

    def drawn(self, updates: int, among: int) -> torch.Tensor:
        """Numbers below ``among`` for so many updates, drawn uniformly with replacement."""
        return torch.randint(among, (updates * self.batch_size,), generator=self.generator)

    def cast(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.anchor.add(inputs, targets)

    def train(self, index: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """w <- w - lr v."""
        step(self.training, self.anchor.corrected(inputs, targets))

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "anchor": None if self.anchor is None else self.anchor.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["anchor"] is not None:
            self.anchor = Anchor(self.training)
            self.anchor.load_state_dict(state["anchor"])
        super().load_state_dict(state)


def gradient(
    training: Training, network: nn.Module, inputs: torch.Tensor, targets: torch.Tensor
) -> Tensors:
    """Of the batch's mean loss."""
    return torch.autograd.grad(
        training.losses(network(inputs), targets).mean(), tuple(network.parameters())
    )


def stop_momentum(training: Training) -> None:
    """Puts plain SGD in the optimizer's place, whatever that is. These methods' steps are w - lr v;
    the optimizer's are that, so it counts the updates, keeps the learning rate and treats weight
    decay as a part of the objective, as for the other methods."""
    (group,) = training.optimizer.param_groups
    rate, decay = group["initial_lr"], group["weight_decay"]
    training.optimizer = torch.optim.SGD(training.model.parameters(), lr=rate, weight_decay=decay)
    training.optimizer.param_groups[0]["initial_lr"] = rate


def step(training: Training, direction: Tensors) -> None:
    """Along ``direction``, which is clipped in place where the task clips."""
    for parameter, v in zip(training.model.parameters(), direction):
        parameter.grad = v
    training.step()

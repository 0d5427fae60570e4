"""The optimizer's side of a step: gradients gathered, scaled and clipped, and the parameters
moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from isample.control.rates import LearningRate
from isample.scoring.losses import BatchLoss


class Update:
    """Moves the parameters every ``accumulate`` losses. Arguments are those of
    :class:`isample.Trainer`.

    ``pending`` counts the losses whose gradients no optimizer step has used yet, ``noise`` sums
    theirs.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        clip_grad_norm: float | None,
        scaler: torch.amp.GradScaler | None,
        accumulate: int,
    ):
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}"
            )
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"clip_grad_norm must be > 0; got {clip_grad_norm}")
        if not isinstance(accumulate, int) or accumulate < 1:
            raise ValueError(f"accumulate must be an integer >= 1; got {accumulate!r}")
        self.model, self.optimizer = model, optimizer
        self.clip_grad_norm, self.scaler, self.accumulate = clip_grad_norm, scaler, accumulate
        self.rates = LearningRate(optimizer)
        self.pending, self.noise = 0, 0.0

    def backward(self, batch: BatchLoss) -> None:
        if self.pending == 0:
            self.optimizer.zero_grad(set_to_none=True)
        scaled = batch.mean if batch.gradient is None else batch.gradient
        if self.accumulate > 1:
            scaled = scaled / self.accumulate
        if self.scaler is not None:
            scaled = self.scaler.scale(scaled)
        if batch.gradient is None:
            scaled.backward()
        else:
            torch.autograd.backward(batch.logits, scaled.to(batch.logits.dtype))

    def discard(self) -> None:
        """Forgets all gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.pending, self.noise = 0, 0.0

    def move(self, gain: float) -> None:
        """The optimizer's step, if it is due, at the rates of what the batches since the last are
        worth; the latest is worth ``gain`` of its size."""
        self.pending = (self.pending + 1) % self.accumulate
        self.noise += 1.0 / gain
        if self.pending:
            return
        gain, self.noise = self.accumulate / self.noise, 0.0
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.rates.note()
        with self.rates.raised(gain):
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """Raises RuntimeError between two accumulated steps, whose gradients no state holds."""
        if self.pending:
            raise RuntimeError(
                f"state_dict must be taken after an optimizer step; {self.pending} of accumulate={self.accumulate} "
                "gradients are pending"
            )
        return {"highest_lr": list(self.rates.highest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rates.highest = list(state["highest_lr"])

"""The optimizer's side of a step: gather, scale and clip gradients, then move the parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isample.engine import Engine
from isample.support.checks import check_count, check_number
from isample.values import StepReport


class Update:
    """Steps the optimizer every ``accumulate`` losses; arguments are those of
    :class:`isample.Trainer`.

    ``pending`` counts the losses since the last optimizer step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        engine: Engine,
        clip_grad_norm: float | None,
        scaler: torch.amp.GradScaler | None,
        accumulate: int,
    ):
        check_count("accumulate", accumulate)
        if clip_grad_norm is not None:
            check_number("clip_grad_norm", clip_grad_norm)
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"clip_grad_norm must be > 0; got {clip_grad_norm}")
        self.model: nn.Module = model
        self.optimizer: torch.optim.Optimizer = optimizer
        self.engine: Engine = engine
        self.clip_grad_norm: float | None = clip_grad_norm
        self.scaler: torch.amp.GradScaler | None = scaler
        self.accumulate: int = accumulate
        self.pending: int = 0

    def backward(self, loss: Tensor) -> None:
        if self.pending == 0:
            self.optimizer.zero_grad(set_to_none=True)
        if self.accumulate > 1:
            loss = loss / self.accumulate
        if self.scaler is not None:
            loss = self.scaler.scale(loss)
        loss.backward()
        self.pending += 1

    def move(self) -> StepReport:
        """The optimizer's step, where it is due; the report of the batch.

        Raises NonFiniteScoreError or NonFiniteLossError, with all gradients forgotten, before a
        parameter has moved.
        """
        try:
            if self.pending < self.accumulate:
                self.engine.settle()
                return self.engine.steps.last_report
            self.engine.before_update()
        except ValueError:
            self.discard()
            raise
        try:
            self._step()
        finally:
            self.engine.after_update()
        self.pending = 0
        return self.engine.steps.last_report

    def _step(self) -> None:
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def discard(self) -> None:
        """Forgets all gradients."""
        self.optimizer.zero_grad(set_to_none=True)
        self.engine.steps.discard()
        self.pending = 0

    def check_nothing_pends(self) -> None:
        """Raises RuntimeError between two accumulated steps, whose gradients no state holds."""
        if self.pending:
            raise RuntimeError(
                f"state_dict must be taken after an optimizer step; {self.pending} of accumulate="
                f"{self.accumulate} gradients are pending"
            )

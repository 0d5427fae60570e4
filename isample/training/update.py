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
        optimizer: torch.optim.Optimizer,
        engine: Engine,
        clip_grad_norm: float | None,
        scaler: torch.amp.GradScaler | None,
        accumulate: int,
    ):
        self.optimizer: torch.optim.Optimizer = optimizer
        self.engine: Engine = engine
        self.scaler: torch.amp.GradScaler | None = scaler
        self.pending: int = 0
        self.configure(clip_grad_norm, accumulate)

    def configure(self, clip_grad_norm: float | None, accumulate: int) -> None:
        """Raises ValueError for what cannot be."""
        check_count("accumulate", accumulate)
        if clip_grad_norm is not None:
            check_number("clip_grad_norm", clip_grad_norm)
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"clip_grad_norm must be > 0; got {clip_grad_norm}")
        self.clip_grad_norm: float | None = clip_grad_norm
        self.accumulate: int = accumulate
        self.engine.steps.processes.note(
            accumulate=accumulate, clip_grad_norm=clip_grad_norm, scaled=self.scaler is not None
        )

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
        self._move()
        return self.engine.steps.last_report

    def finish(self) -> None:
        """Moves by the losses of an epoch's end that ``accumulate`` does not divide, by their own
        mean."""
        if self.pending == 0:
            return
        for parameter in self._parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(self.accumulate / self.pending)
        self.engine.before_update()
        self._move()

    def _move(self) -> None:
        try:
            self._step()
        finally:
            self.engine.after_update()
        self.pending = 0

    def _parameters(self) -> list[Tensor]:
        """The optimizer's: others are none of its business."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _step(self) -> None:
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._parameters(), self.clip_grad_norm)
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

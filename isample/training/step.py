"""A training step: forward pass, loss, backward pass, update."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from isample.engine import Engine
from isample.scoring.overlap import Overlap
from isample.support.pytree import as_pair, check_holds, logits_of
from isample.training.update import Update
from isample.values import Batch, StepReport


class Step:
    """Trains ``model`` on a batch; arguments are those of :class:`isample.Trainer`.

    ``batch`` is the last one. ``overlap`` scores the next candidates during the backward pass.
    """

    def __init__(
        self,
        model: nn.Module,
        engine: Engine,
        update: Update,
        overlap: Overlap | None,
        autocast: torch.dtype | None,
    ):
        self.model: nn.Module = model
        self.engine: Engine = engine
        self.update: Update = update
        self.overlap: Overlap | None = overlap
        self.autocast: torch.dtype | None = autocast
        self.batch: Batch | None = None
        engine.steps.processes.note(autocast=autocast, ahead=overlap is not None)

    def __call__(self, batch: Batch) -> StepReport:
        inputs, targets = as_pair(batch.batch)
        check_holds(inputs, batch.size)
        with self.precision():
            logits = logits_of(self.model, inputs, batch.size)
            loss = self.engine.loss(logits, targets)
        if self.overlap is not None:
            self.overlap.forward_queued()
        self.update.backward(loss)
        if self.overlap is not None:
            with self.precision():
                self.overlap.begin()
            self.overlap.wait()
        self.batch = batch
        return self.update.move()

    def precision(self) -> AbstractContextManager[Any]:
        """The context of forward passes."""
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(self.engine.parts.device.type, self.autocast)

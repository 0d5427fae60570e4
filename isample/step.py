"""A training step between its forward pass and its backward pass, and the report that it ends in."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from isample.gain import effective_batch
from isample.history import StepReport
from isample.sampler import Selection


class Step(NamedTuple):
    """``loss`` is what will be differentiated, 0-dim. ``moments``, see :func:`isample.memory_ops.draw_moments`, are of the batch
    and, where that was drawn again of what the memory drew, of the latter too. ``size`` is how many samples the batch was
    chosen from, ``remembered`` whether remembered scores chose them, ``scored`` how many a scoring pass looked at."""

    loss: torch.Tensor
    selection: Selection | None
    moments: list[torch.Tensor]
    begin: float
    size: int
    active: bool = False
    remembered: bool = False
    scored: int = 0

    def report(
        self, count: int, batch_size: int, replaces: bool, loss: float, tau: float, tau_ema: float, least: float,
        largest: float,
    ) -> StepReport:  # fmt: skip
        """Of the ``count``-th step; ``replaces`` says whether draws were with replacement, ``least`` and ``largest`` are of the
        weights."""
        return StepReport(
            step=count,
            loss=loss,
            tau=tau,
            tau_ema=tau_ema,
            active=self.active,
            presample=self.size,
            effective_batch=effective_batch(batch_size, self.size, tau, replaces) if self.active else float(self.size),
            weight_min=least,
            weight_max=largest,
            scoring_seconds=0.0 if self.selection is None else self.selection.timer(),
            seconds=time.perf_counter() - self.begin,
            scored=self.scored,
        )

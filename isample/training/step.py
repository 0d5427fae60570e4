"""A training step between its forward pass and its backward pass, and the report that it ends
in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import torch

from isample.control.gain import effective_batch
from isample.scoring.losses import BatchLoss
from isample.scoring.select import ImportanceSampler, Selection
from isample.values import StepReport

if TYPE_CHECKING:
    from isample.sources.memory import MemorySampler


class Step(NamedTuple):
    """``moments``, see :func:`isample.ops.memory.draw_moments`, are of the batch and, where that
    was drawn again of what the memory drew, of the latter too. ``size`` is how many samples the
    batch was chosen from, ``remembered`` whether remembered scores chose them, ``scored`` how many
    a scoring pass looked at."""

    loss: BatchLoss
    selection: Selection | None
    moments: list[torch.Tensor]
    begin: float
    size: int
    active: bool = False
    remembered: bool = False
    scored: int = 0

    def tell(
        self,
        sampler: ImportanceSampler,
        memory: MemorySampler | None,
        tau: float,
        moments: list[float],
    ) -> None:
        """Tells the gate what was drawn, of a presample or by the ``memory``; ``moments`` are the
        step's, as numbers, in memory mode followed by its :attr:`MemorySampler.bounded`."""
        gate, draws = sampler.gate, len(self.selection.indices)
        if memory is not None:
            sampler.tau_ema.fill_(tau)
            *moments, bounded = moments
            drawn = moments[-5:]  # by the memory, whether or not a batch was drawn of it again
            gate.foresee(
                drawn[0],
                drawn[1],
                moments[1:3] if self.scored else (),
                self.scored,
                self.remembered,
            )
            if memory.tells:
                gate.bounded = bounded > 0.5  # a mean over processes
                gate.gain.observe(drawn[1], drawn[2], share=0.0)
                gate.gain.drawn = draws / memory.batch_size
        elif self.active:
            share = sampler.batch_size / self.size if sampler.draw.with_replacement else 0.0
            gate.foresee(1.0, tau**2, moments[1:3], self.scored)  # tau^2 = E[g^2] / E[g]^2
            gate.gain.observe(moments[1], moments[2], share)
            gate.gain.drawn = draws / sampler.batch_size

    def report(
        self,
        count: int,
        batch_size: int,
        replaces: bool,
        worth: float,
        loss: float,
        tau: float,
        tau_ema: float,
        least: float,
        largest: float,
    ) -> StepReport:
        """Of the ``count``-th step; ``replaces`` says whether draws were with replacement,
        ``worth`` is what the gate measured, or NaN, ``least`` and ``largest`` are of the
        weights."""
        as_noisy = float(self.size)
        if self.active and self.remembered and worth == worth:
            as_noisy = batch_size * worth
        elif self.active:
            as_noisy = effective_batch(batch_size, self.size, tau, replaces)
        return StepReport(
            step=count,
            loss=loss,
            tau=tau,
            tau_ema=tau_ema,
            active=self.active,
            presample=self.size,
            effective_batch=as_noisy,
            weight_min=least,
            weight_max=largest,
            scoring_seconds=0.0 if self.selection is None else self.selection.timer(),
            seconds=time.perf_counter() - self.begin,
            scored=self.scored,
        )

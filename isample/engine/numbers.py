"""What a step tells: its numbers as an observation, as an error, as a report."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from torch import Tensor

from isample.engine.faults import loss_error, score_error
from isample.ops.memory import moments_of
from isample.values import Batch, Observation, StepReport


def tell_loss(batch: Batch, loss: Tensor) -> None:
    """Puts down the loss, 0-dim."""
    batch.told["loss"] = loss.detach()


def observation(
    batch: Batch, told: dict[str, list[float]], informed: bool, gain_cap: float
) -> Observation:
    """What ``batch`` told, by name, as the controller is told it."""

    def number(name: str, otherwise: float = math.nan) -> float:
        return told[name][0] if name in told else otherwise

    memory, thinning = moments_of(told["candidates"]) if "candidates" in told else (None, None)
    return Observation(
        loss=number("loss"),
        tau=number("tau"),
        tau_ema=number("tau_ema"),
        memory=memory,
        fresh=moments_of(told["fresh"])[0] if "fresh" in told else None,
        thinning=thinning,
        by_memory=batch.by_memory,
        scored=batch.scored,
        kept=batch.size,
        observed=batch.observe,
        bounded=number("bounded", 0.0) > 0.5,  # a mean over processes
        informed=informed,
        gain_cap=gain_cap,
    )


def check_finite(
    batch: Batch, seen: Observation, parameters: Iterable[Tensor], processes: int
) -> None:
    """Raises NonFiniteScoreError or NonFiniteLossError where a number is none; ``parameters`` and
    ``processes`` are those that are trained and that train."""
    moments = [part.mean for part in (seen.memory, seen.fresh) if part is not None]
    valid = all(map(math.isfinite, moments))
    valid = valid and not ("tau" in batch.told and math.isnan(seen.tau))
    if batch.score is not None and not valid:
        raise score_error(batch, parameters, processes)
    if "loss" in batch.told and not math.isfinite(seen.loss):
        raise loss_error(batch, seen.loss, parameters, processes)


def report_of(
    count: int, batch: Batch, seen: Observation, worth: float, elapsed: float
) -> StepReport:
    """``worth`` is the size of a uniform batch that is as noisy; NaN where that is not known."""
    active = batch.by_memory or batch.scored > 0
    weighed = (seen.fresh or seen.memory) if active else None
    return StepReport(
        step=count,
        loss=seen.loss,
        tau=seen.tau,
        tau_ema=seen.tau_ema,
        active=active,
        presample=batch.out_of,
        effective_batch=worth if active and worth == worth else float(batch.size),
        weight_min=weighed.least_weight if weighed else 1.0,
        weight_max=weighed.largest_weight if weighed else 1.0,
        scoring_seconds=batch.overhead
        + (batch.scoring_seconds() if batch.scoring_seconds else 0.0),
        seconds=time.perf_counter() - batch.began,
        elapsed=elapsed,
        scored=batch.scored,
        kept=batch.size,
    )

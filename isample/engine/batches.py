"""A batch on its way: chosen of what a source dealt, and what the scores of its training pass
tell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from isample.engine.faults import candidates_error, score_error
from isample.engine.parts import Parts
from isample.ops.memory import draw_moments
from isample.scoring.scorers import ScoredAhead
from isample.sources.base import Source
from isample.support.batch_cuts import take
from isample.support.clocks import start_timer
from isample.support.errors import NonFiniteScoreError
from isample.support.pytree import as_pair
from isample.values import Batch, Candidates, Plan


def chosen(
    parts: Parts, source: Source, plan: Plan, given: Candidates, ahead: ScoredAhead | None = None
) -> Batch:
    """What is to be trained on of ``given``: all of it, or what a scoring pass keeps.

    ``ahead`` is a scoring pass that was made already.
    """
    by_memory, size = given.weights is not None, given.size
    count = how_many(size, plan, source.batch_size)
    if count >= size:
        return Batch(
            given.batch,
            size,
            source.total if by_memory else size,
            given.weights,
            given.places,
            by_memory,
            observe=plan.observe or plan.importance or by_memory,
            batches=given.batches,
        )
    prior = given.weights
    if prior is None and given.places is not None:
        prior = torch.ones(size, dtype=torch.float32, device=given.places.device)
    known = {} if ahead is None else {"ahead": ahead}
    scorer = parts.scorer_for("a plan with candidates")
    try:
        selection, seconds = scorer.select(given.batch, size, count, prior, **known)
    except NonFiniteScoreError as error:
        raise candidates_error(error, given.places, _parameters(parts)) from None
    stop = start_timer(parts.device)
    if parts.objective is not None and not by_memory:
        parts.objective.note(as_pair(given.batch)[1])
    indices = selection.indices
    batch = Batch(
        take(given.batch, indices, size),
        count,
        size,
        selection.weights,
        None if given.places is None else given.places[indices],
        by_memory,
        scored=size,
        observe=True,
        chosen=indices,
        score=selection.score,
        tau=selection.tau,
        scoring_seconds=seconds,
        batches=given.batches,
    )
    batch.told["candidates"] = source.learn_candidates(given, selection.score)
    batch.told.update(source.facts())
    batch.told.update(tau=selection.tau, tau_ema=parts.selector.tau_ema)
    batch.overheads += (stop(),)
    return batch


def _parameters(parts: Parts) -> Iterable[Tensor]:
    return () if parts.model is None else parts.model.parameters()


def how_many(size: int, plan: Plan, batch_size: int) -> int:
    """How many of ``size`` candidates are trained on.

    More than a batch are cut to what the plan keeps, however many it asked for: workers may bring
    them late. A batch, or a short one, is cut where the plan thins batches.
    """
    keep = min(plan.keep or batch_size, batch_size)
    if size > batch_size:
        return keep
    thins = plan.candidates is not None and plan.candidates <= batch_size
    return max(1, math.ceil(keep * size / batch_size)) if thins else size


def learn_outputs(
    parts: Parts, source: Source, batch: Batch, score: Tensor | None, targets: Any, outputs: Tensor
) -> None:
    """Learns from a training pass by its outputs; ``score``, float32 [b], where it came with the
    loss."""
    stop = start_timer(parts.device)
    objective = parts.known
    if score is None and objective.score.from_logits is not None:
        score = objective.scores(None, None, targets, outputs)
    elif score is None and batch.chosen is not None and batch.score is not None:
        score = batch.score[batch.chosen]  # another pass would tell the same
    elif score is None:
        score = objective.scores(parts.model, batch.batch[0], targets, outputs)
    learn(parts, source, batch, score.to(parts.device))
    batch.overheads += (stop(),)


def learn_rows(parts: Parts, source: Source, batch: Batch) -> None:
    """Learns from a training pass by the gradient rows at its logits."""
    stop = start_timer(parts.device)
    heads = ((part * scale**2).to(parts.device) for part, scale in batch.squares)
    learn(parts, source, batch, reduce(add, heads).sqrt().float())
    batch.overheads += (stop(),)


def learn(parts: Parts, source: Source, batch: Batch, score: Tensor) -> None:
    """Remembers fresh scores, float32 [b], and puts down what they tell."""
    told, weights = batch.told, batch.weights
    if batch.scored and weights is not None:
        told["fresh"] = draw_moments(score, weights, drawn=True)
        return
    batch.score = score
    told["candidates"] = source.learn(batch.places, weights, score)
    facts = source.facts()
    if "tau" not in facts:  # of a stream: of the batch itself
        try:
            told["tau"] = parts.selector.observe(score)
        except NonFiniteScoreError:
            raise score_error(batch, _parameters(parts), 1) from None
        told["tau_ema"] = parts.selector.tau_ema
    told.update(facts)

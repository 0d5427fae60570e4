"""Where a number came from that is not finite: looked for once a step has failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from isample.support.errors import (
    LISTED,
    NonFiniteLossError,
    NonFiniteScoreError,
    listed_numbers,
)
from isample.values import Batch


def loss_error(
    batch: Batch, loss: float, parameters: Iterable[Tensor], processes: int
) -> NonFiniteLossError:
    """Of the training pass of ``batch``."""
    rows = _spoilt_rows(batch.batch, batch.size)
    places = _places(batch.places, rows)
    return NonFiniteLossError(
        loss, rows[:LISTED], places, _found(rows, places, parameters, processes, batch.size)
    )


def score_error(batch: Batch, parameters: Iterable[Tensor], processes: int) -> NonFiniteScoreError:
    """Of the training pass of ``batch``, or of its candidates in another process."""
    assert batch.score is not None
    error = NonFiniteScoreError.from_scores(batch.score)
    if error.count and batch.scored:  # of candidates, whose places are not the batch's
        found = _found([], [], parameters, processes, batch.scored)
        return NonFiniteScoreError(error.count, error.rows, (), found)
    rows = error.rows or _spoilt_rows(batch.batch, batch.size)
    places = _places(batch.places, rows)
    found = _found([] if error.rows else rows, places, parameters, processes, batch.size)
    if not error.count:
        found = _whose(processes) + found
    return NonFiniteScoreError(error.count, rows[:LISTED], places, found)


def candidates_error(
    error: NonFiniteScoreError, places: Tensor | None, parameters: Iterable[Tensor]
) -> NonFiniteScoreError:
    """``error``, of candidates in a scoring pass, with their places."""
    known = _places(places, error.rows)
    found = " of the candidates" + _found([], known, parameters, 1, error.count)
    return NonFiniteScoreError(error.count, error.rows, known, found)


def _whose(processes: int) -> str:
    return " in another process" if processes > 1 else " in the training pass"


def _spoilt_rows(batch: Any, size: int) -> list[int]:
    """Rows of inputs and targets that hold NaN or infinity."""
    spoilt = torch.zeros(size, dtype=torch.bool, device="cpu")
    for leaf in pytree.tree_leaves(batch):
        is_numbers = isinstance(leaf, Tensor) and leaf.is_floating_point()
        if is_numbers and leaf.dim() and leaf.shape[0] == size:
            spoilt |= ~leaf.isfinite().reshape(size, -1).all(1).cpu()
    return spoilt.nonzero().flatten().tolist()


def _places(places: Tensor | None, rows: list[int]) -> list[int]:
    if places is None:
        return []
    return (places[rows] if rows else places)[:LISTED].tolist()


def _found(
    rows: list[int],
    places: list[int],
    parameters: Iterable[Tensor],
    processes: int,
    size: int,
) -> str:
    parts = []
    if processes > 1:
        parts.append(f"over {processes} processes")
    if rows:
        parts.append(f"inputs or targets are not finite in rows {listed_numbers(rows, len(rows))}")
    if places:
        count = len(rows) or size
        parts.append(f"data set indices {listed_numbers(places, count)}")
    if any(not bool(parameter.isfinite().all()) for parameter in parameters):
        parts.append(
            "the parameters are not finite already, so an update before spoilt them (lower the "
            "learning rate, or give clip_grad_norm)"
        )
    return "".join(f"; {part}" for part in parts)

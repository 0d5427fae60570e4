"""What every source of candidates offers the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor

from isample.values import Candidates, Plan


class Source(Protocol):
    """Deals candidates, epoch after epoch, as a plan asks."""

    batch_size: int

    def follow(self, plan: Plan) -> None:
        """What the next batches are to be. Those that are under way stay as they are."""

    def epoch(self, number: int, skip: int = 0) -> Iterator[Candidates]:
        """The candidates of an epoch, behind the first ``skip`` of the user's batches."""

    def learn(self, places: Tensor | None, weights: Tensor | None, scores: Tensor) -> Tensor | None:
        """Remembers fresh ``scores``, float32 [b], of dealt samples (``weights`` None) or drawn.

        Returns the numbers of :func:`isample.ops.memory.recall`, on the device; None where nothing
        is remembered.
        """

    def state_dict(self) -> dict[str, Any] | None:
        """What it remembers; None for nothing."""

"""What every source of candidates offers the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from torch import Tensor

from isample.values import Batch, Candidates, Plan


class Source(Protocol):
    """Deals candidates, epoch after epoch, as a plan asks."""

    @property
    def loader(self) -> Iterable[Any]:
        """What yields the batches of an epoch."""
        ...

    @property
    def batch_size(self) -> int: ...

    @property
    def total(self) -> int:
        """How many samples a memory draws from; 0 where there is none."""
        ...

    @property
    def remembers(self) -> bool:
        """Whether it can draw by remembered scores."""
        ...

    @property
    def replays(self) -> bool:
        """Whether an epoch that goes on is dealt again from its beginning, up to its place."""
        ...

    @property
    def informed(self) -> bool:
        """Whether enough was seen for the moments to foretell something."""
        ...

    def can_deal(self, ratio: float) -> bool:
        """Whether it can deal ``ratio`` batches at once."""
        ...

    def follow(self, plan: Plan) -> None:
        """What the next batches are to be. Those that are under way stay as they are."""

    def epoch(self, number: int, skip: int = 0) -> Iterator[Candidates]:
        """The candidates of an epoch, behind the first ``skip`` of the user's batches."""
        ...

    def learn(self, places: Tensor | None, weights: Tensor | None, scores: Tensor) -> Tensor:
        """Remembers fresh ``scores``, float32 [b], of samples that were dealt (``weights`` None) or
        drawn; the numbers of :func:`isample.ops.memory.draw_moments`, on the device."""
        ...

    def learn_candidates(self, given: Candidates, scores: Tensor) -> Tensor:
        """The same of candidates by a scoring pass, float32 [B]."""
        ...

    def facts(self) -> dict[str, Tensor]:
        """Of its table, 0-dim: tau, its moving average, and whether draws are held down."""
        ...

    def restart(self) -> None:
        """The next epoch begins anew, wherever this one was."""

    def state_dict(self, waiting: list[Batch]) -> dict[str, Any] | None:
        """What it remembers; ``waiting`` batches come again."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

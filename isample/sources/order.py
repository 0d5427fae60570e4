"""The order of samples: shuffled passes, dealt in batches, and batches that come back in order."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple, Union

import torch
from torch import Tensor

from isample.support.errors import IsampleError

BATCHES_AT_ONCE = 64  # dealt or drawn: one at a time would slow small steps down

Indices = Union[Tensor, "list[int]"]


class MemoryOrderError(IsampleError, RuntimeError):
    """A batch came back that is not the one the sampler drew next, so its weights are unknown."""


class Drawn(NamedTuple):
    """A batch: ``indices`` int64 [b] in the data set, ``weights`` float32 [b], or None where it was
    dealt."""

    indices: Tensor
    weights: Tensor | None

    @property
    def by_importance(self) -> bool:
        return self.weights is not None

    def with_weights(self) -> Drawn:
        """The same with weights of 1 where it has none."""
        if self.weights is not None:
            return self
        return self._replace(
            weights=torch.ones(self.indices.shape, dtype=torch.float32, device=self.indices.device)
        )


class Passes:
    """Shuffled passes over ``size`` samples, dealt in batches.

    A pass ends with a short batch where b does not divide it; ``drop_last`` leaves that out.
    """

    def __init__(self, size: int, batch_size: int, drop_last: bool, generator: torch.Generator):
        self.size: int = size
        self.batch_size: int = batch_size
        self.drop_last: bool = drop_last
        self.generator = generator
        self.forget()

    def forget(self) -> None:
        """The next batch begins a new pass."""
        self._order: Tensor | None = None  # what the pass has still to deal, int32 [<= N]
        self._cut: list[Tensor] = []  # batches that are cut off already, the next one last

    def deal(self) -> Tensor:
        """The next batch, int64 [<= batch_size]."""
        if not self._cut:
            self._cut = self._next_block()
        return self._cut.pop()

    def _next_block(self) -> list[Tensor]:
        least = self.batch_size if self.drop_last else 1
        if self._order is None or len(self._order) < least:
            options = {"dtype": torch.int32, "device": self.generator.device}  # N <= 2^24
            self._order = torch.randperm(self.size, generator=self.generator, **options)
        count = BATCHES_AT_ONCE * self.batch_size
        block, self._order = self._order[:count].long(), self._order[count:]
        batches = block.split(self.batch_size)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches = batches[:-1]
        return list(reversed(batches))

    def state_dict(self) -> dict[str, Any]:
        return {"order": self._order, "cut": self._cut}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order, self._cut = state["order"], state["cut"]


class Pending:
    """Batches that were handed out and have not come back, the oldest first."""

    def __init__(self) -> None:
        self._batches: deque[tuple[Indices, Drawn]] = deque()

    def __len__(self) -> int:
        return len(self._batches)

    def add(self, indices: Indices, drawn: Drawn) -> None:
        self._batches.append((indices, drawn))

    def again(self) -> list[list[int]]:
        """The indices of all of them, to be handed out again."""
        batches = [(drawn.indices.tolist(), drawn) for _, drawn in self._batches]
        self._batches = deque(batches)
        return [indices for indices, _ in batches]

    def pop(self) -> Drawn:
        """The oldest."""
        return self._batches.popleft()[1]

    def match(self, indices: Indices) -> Drawn:
        """The oldest; raises MemoryOrderError where ``indices`` are not its."""
        if not self._batches:
            raise MemoryOrderError(
                "indices must be those of a batch of this sampler; got a batch when none is "
                "expected"
            )
        expected, drawn = self._batches[0]
        if expected is not indices and _listed(expected) != _listed(indices):
            raise MemoryOrderError(
                "indices must come in the order in which the sampler drew them; got another batch "
                "(build the DataLoader with batch_sampler=sampler, and shuffle nothing behind it)"
            )
        return self.pop()

    def state(self) -> list[tuple[Indices, tuple[Tensor, Tensor | None]]]:
        """As plain types, which torch.load takes without being told to trust the file."""
        return [(indices, (drawn.indices, drawn.weights)) for indices, drawn in self._batches]

    def load(self, state: list[Any]) -> None:
        self._batches = deque((indices, Drawn(*drawn)) for indices, drawn in state)


def as_pending(drawn: Drawn) -> tuple[Indices, tuple[Tensor, Tensor | None]]:
    """A batch as :meth:`Pending.state` has it."""
    return drawn.indices.tolist(), (drawn.indices, drawn.weights)


def _listed(indices: Indices) -> list[int]:
    return indices.tolist() if isinstance(indices, Tensor) else indices

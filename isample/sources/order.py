"""The order of samples: shuffled passes, dealt in batches, and batches that come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, NamedTuple, Union

import torch
from torch import Tensor

from isample.ops.memory import permuted
from isample.support.errors import IsampleError

BATCHES_AT_ONCE = 64  # dealt or drawn: one at a time would slow small steps down
STORED = 2**16  # samples whose order is stored; that of more would add 4 bytes to each one's 12

Indices = Union[Tensor, "list[int]"]


def epoch_length(size: int, batch_size: int, drop_last: bool) -> int:
    """The batches of an epoch over ``size`` samples."""
    whole, rest = divmod(size, batch_size)
    return whole if drop_last or rest == 0 else whole + 1


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


@dataclass
class KeyedOrder:
    """What a pass has still to deal of the order of ``size`` samples that ``seed`` selects."""

    size: int
    seed: int
    place: int = 0  # of the next sample

    def __len__(self) -> int:
        return self.size - self.place

    def take(self, count: int, device: torch.device) -> Tensor:
        """The next samples, int64 [<= count]."""
        begin, self.place = self.place, min(self.place + count, self.size)
        places = torch.arange(begin, self.place, device=device)
        return permuted(places, self.size, seed=self.seed)


class Passes:
    """Shuffled passes over ``size`` samples, dealt in batches.

    The order of up to STORED samples is stored, that of more computed as it is dealt. A pass ends
    with a short batch where b does not divide it; ``drop_last`` leaves that out. ``order`` gives a
    pass's order, int32 [size]; where it is None, ``generator`` shuffles.
    """

    def __init__(self, size: int, batch_size: int, drop_last: bool, generator: torch.Generator):
        self.generator = generator
        self.order: Callable[[], Tensor] | None = None
        self.resize(size, batch_size, drop_last)

    def resize(self, size: int, batch_size: int, drop_last: bool) -> None:
        """The next batch begins a new pass, of ``size`` samples."""
        self.size: int = size
        self.batch_size: int = batch_size
        self.drop_last: bool = drop_last
        self.forget()

    def forget(self) -> None:
        """The next batch begins a new pass."""
        # what the pass has still to deal; a tensor is int32 [<= N]
        self._order: Tensor | KeyedOrder | None = None
        self._cut: list[Tensor] = []  # batches that are cut off already, the next one last

    def deal(self) -> Tensor:
        """The next batch, int64 [<= batch_size]."""
        if not self._cut:
            self._cut = self._next_block()
        return self._cut.pop()

    def _next_block(self) -> list[Tensor]:
        least = self.batch_size if self.drop_last else 1
        order = self._order
        if order is None or len(order) < least:
            order = self._shuffled()
        count = BATCHES_AT_ONCE * self.batch_size
        if isinstance(order, KeyedOrder):
            block = order.take(count, self.generator.device)
        else:
            block, order = order[:count].long(), order[count:]
        self._order = order
        batches = block.split(self.batch_size)
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches = batches[:-1]
        return list(reversed(batches))

    def _shuffled(self) -> Tensor | KeyedOrder:
        if self.order is not None:
            return self.order().to(self.generator.device)
        options: dict[str, Any] = {"generator": self.generator, "device": self.generator.device}
        if self.size <= STORED:
            return torch.randperm(self.size, dtype=torch.int32, **options)
        return KeyedOrder(self.size, int(torch.randint(2**62, (), **options)))

    def state_dict(self) -> dict[str, Any]:
        order = self._order
        return {
            "order": astuple(order) if isinstance(order, KeyedOrder) else order,
            "cut": self._cut,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        order = state["order"]
        self._order = KeyedOrder(*order) if isinstance(order, tuple) else order
        self._cut = state["cut"]


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


def joined(dealt: list[Tensor]) -> Tensor:
    """Batches, one behind the other; a view where they were cut from one block, which a GPU's
    reader has on the host already."""
    first, end = dealt[0], dealt[0].storage_offset()
    for part in dealt:
        if part.storage_offset() != end or not _share_storage(part, first):
            return torch.cat(dealt)
        end += len(part)
    return first if len(dealt) == 1 else first.as_strided((end - first.storage_offset(),), (1,))


def _share_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def as_pending(drawn: Drawn) -> tuple[Indices, tuple[Tensor, Tensor | None]]:
    """A batch as :meth:`Pending.state` has it."""
    return drawn.indices.tolist(), (drawn.indices, drawn.weights)


def _listed(indices: Indices) -> list[int]:
    return indices.tolist() if isinstance(indices, Tensor) else indices

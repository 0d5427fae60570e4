"""A map-style data set with a memory as a source: it deals shuffled passes, or draws by what it
remembers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from isample.sources.indexed import check_can_be_indexed, indexed_loader, part_of
from isample.sources.sampler import MemorySampler
from isample.support.processes import Processes
from isample.support.pytree import map_tensors
from isample.values import Candidates, Plan


class Dataset:
    """The data set of a user's ``loader``, drawn from by ``memory``.

    Args:
        loader: a DataLoader that shuffles a map-style data set itself.
        memory: of as many samples as this process has of it.
        processes: those that share the data set.
        device: where batches go; None leaves them where they are.
    """

    def __init__(
        self,
        loader: DataLoader,
        memory: MemorySampler,
        processes: Processes,
        device: torch.device | None = None,
    ):
        dataset = part_of(loader, processes)
        size = len(dataset)
        if memory.size > size:
            raise ValueError(
                f"loader's data set must not shrink: its memory holds {memory.size} samples; got "
                f"{size}"
            )
        if memory.size < size:
            memory.resize(size, min(loader.batch_size, size))
        self.memory, self.device = memory, device
        self.loader = indexed_loader(loader, dataset, memory)

    @property
    def batch_size(self) -> int:
        return self.memory.batch_size

    @classmethod
    def around(
        cls,
        loader: DataLoader,
        processes: Processes,
        *,
        contradicted: float | None,
        seed: int,
        memory_device: torch.device,
        device: torch.device | None = None,
    ) -> Dataset:
        """A source with a new memory; raises TypeError or ValueError where there can be none."""
        check_can_be_indexed(loader, loader.batch_size)
        size = len(part_of(loader, processes))
        memory = MemorySampler(
            size,
            min(loader.batch_size, size),
            drop_last=loader.drop_last,
            contradicted=contradicted,
            seed=seed,
            device=memory_device,
        )
        return cls(loader, memory, processes, device)

    def follow(self, plan: Plan) -> None:
        self.memory.follow(plan)

    def epoch(self, number: int, skip: int = 0) -> Iterator[Candidates]:
        """The memory knows itself how far its epoch is; ``skip`` says only that it has begun."""
        if skip > 0 and self.memory.at_end:  # where the memory would begin the next one
            return
        for batch, indices in self.loader:
            drawn = self.memory.match(indices)
            if self.device is not None:
                batch = map_tensors(self._to_device, batch)
            yield Candidates(batch, len(indices), drawn.indices, drawn.weights)

    def learn(self, places: Tensor | None, weights: Tensor | None, scores: Tensor) -> Tensor:
        return self.memory.recall(scores, places, weights)

    def state_dict(self) -> dict[str, Any]:
        return self.memory.state_dict()

    def _to_device(self, tensor: Tensor) -> Tensor:
        same = tensor.device == self.device
        return tensor if same else tensor.to(self.device, non_blocking=True)

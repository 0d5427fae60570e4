"""What a method is given to train with, and the protocol that all methods are driven through.

A method is a generator function over a `Training`. It does one unit of its work, mostly one update, and yields: None,
or, if it switches importance sampling on and off, whether that unit was importance-sampled. The referee's clock runs
only while the method works, and the learning rate is set while it waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader

from .data import Sets
from .tasks import LOSSES, Task

Method = Callable[["Training"], Iterator["bool | None"]]


@dataclass
class Training:
    """One run: ``model`` and ``optimizer`` to train, ``sets.training`` to draw from, and its budget.

    ``progress`` is the share of ``seconds`` that is spent, as the referee's clock has it.
    """

    task: Task
    sets: Sets
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seconds: float
    seed: int
    progress: float = 0.0

    @classmethod
    def begin(cls, task: Task, sets: Sets, seconds: float, seed: int) -> Training:
        """The same initial parameters for every method of one seed."""
        torch.manual_seed(seed)
        model = task.model().train()
        optimizer = task.optimizer(model)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return cls(task, sets, model, optimizer, seconds, seed)

    @property
    def batch_size(self) -> int:
        return self.task.batch_size

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One loss a sample, [B]."""
        return LOSSES[self.task.loss].losses(outputs, targets)

    def update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def loader(self, batch_size: int) -> DataLoader:
        """Shuffled batches, an epoch at a time; the order is the same for every method of one seed."""
        order = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.sets.training, batch_size, shuffle=True, drop_last=True, generator=order, collate_fn=as_fetched
        )

    def batches(self, batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``loader``'s batches, epoch after epoch."""
        loader = self.loader(batch_size)
        while True:
            yield from loader

    def fetch(self, batches: Sequence[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The samples of batches of indices, loaded as those of ``loader`` are, and at the same cost."""
        lists = [indices.tolist() for indices in batches]
        return iter(DataLoader(self.sets.training, batch_sampler=lists, collate_fn=as_fetched))

    def generator(self) -> torch.Generator:
        """Randomness of the method's own."""
        return torch.Generator().manual_seed(self.seed + 1_000_003)

    def scale_learning_rate(self, factor: float) -> None:
        """For the whole run; to be called before the first update."""
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= factor
            group["lr"] *= factor

    def decay_learning_rate(self) -> None:
        """Linear in time: the initial rate at the beginning, 0 when the time is spent."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1.0 - self.progress)


def as_fetched(batch):
    """Collation of batches that are tensors already."""
    return batch

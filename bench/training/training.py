"""What a method is given to train with, and the protocol that all methods are driven through.

A method is made from a `Training` and is iterable. It does one unit of its work, mostly one update,
and yields None. One that switches importance sampling on and off yields whether that unit was
importance-sampled, or isample's report of it, which tells its kind besides. The caller's clock runs
only while the method works, and the learning rate is set while it waits. A method with
``state_dict`` and ``load_state_dict``, see `bench.training.methods.dealt`, can be stopped at any
yield and goes on bit for bit; a plain generator function cannot, but serves where runs are not
resumed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

import isample
from bench.common.datasets import Sets, as_fetched

from .tasks import LOSSES, Task

Told = bool | isample.StepReport | None  # what a method yields
Method = Iterable[Told]
Batch = tuple[torch.Tensor, torch.Tensor]  # inputs and targets


class Settings(Protocol):
    """What a method wants to know of a task or an experiment; None leaves it to isample, or clips
    nothing."""

    loss: str
    batch_size: int
    presample: int | None
    tau_threshold: float | None
    clip_grad_norm: float | None


@dataclass
class Training:
    """One run: ``model`` and ``optimizer`` to train, ``sets.training`` to draw from, and its budget
    of ``seconds`` or, where ``updates`` is given, of so many updates.

    ``progress`` is the share of the budget that is spent, as the `Meter` that drives the method has
    it.
    """

    task: Settings
    sets: Sets
    model: nn.Module
    optimizer: torch.optim.Optimizer
    seconds: float
    seed: int
    updates: int | None = None
    progress: float = 0.0

    def __post_init__(self):
        for group in self.optimizer.param_groups:
            group["initial_lr"] = group["lr"]

    @classmethod
    def begin(cls, task: Task, sets: Sets, seconds: float, seed: int) -> Training:
        """The same initial parameters for every method of one seed."""
        torch.manual_seed(seed)
        model = task.model().train()
        return cls(task, sets, model, task.optimizer(model), seconds, seed)

    @property
    def batch_size(self) -> int:
        return self.task.batch_size

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """One loss a sample, [B]."""
        return LOSSES[self.task.loss].losses(outputs, targets)

    def update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.step()

    def step(self) -> None:
        """The optimizer's step by the gradients that the parameters have; they are clipped in
        place."""
        if self.task.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.task.clip_grad_norm)
        self.optimizer.step()

    def loader(self, batch_size: int) -> DataLoader:
        """Batches shuffled by torch's own generator, an epoch at a time: the order is the same for
        every method of one seed that draws nothing else from it, and a state of that generator
        deals the same batches again."""
        return DataLoader(
            self.sets.training, batch_size, shuffle=True, drop_last=True, collate_fn=as_fetched
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """``loader``'s batches, epoch after epoch."""
        loader = self.loader(batch_size)
        while True:
            yield from map(self.on_device, loader)

    def fetch(self, batches: Sequence[torch.Tensor]) -> Iterator[Batch]:
        """The samples of batches of indices, loaded as those of ``loader`` are, and at the same
        cost."""
        lists = [indices.tolist() for indices in batches]
        # A generator of its own: opening the loader draws a seed, and a resumed run opens it once
        # more.
        options = {"collate_fn": as_fetched, "generator": torch.Generator()}
        return map(self.on_device, DataLoader(self.sets.training, batch_sampler=lists, **options))

    def on_device(self, batch: Batch) -> Batch:
        inputs, targets = batch
        return inputs.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)

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

"""What a step is fed with, in either mode: presamples out of the user's loader, or batches that the
memory drew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DistributedSampler

from isample.scoring.contradicted import contradicted_above
from isample.sources.indexed import check_can_be_indexed, indexed_loader
from isample.sources.memory import MemorySampler
from isample.sources.presample import Presample, next_presample
from isample.support.processes import part_of
from isample.support.pytree import map_tensors
from isample.values import StepReport

if TYPE_CHECKING:
    from isample.training.trainer import Trainer


class PresampleFeed:
    """The user's loader as it is; ``batches`` counts those of this epoch that were taken from
    it."""

    def __init__(self, trainer: Trainer, loader: Iterable):
        self.trainer, self.loader = trainer, loader
        self.batches = 0

    def open(self, epoch: int, batches: int) -> Iterator:
        """An epoch's iterator, ``batches`` into it."""
        sampler = getattr(self.loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(epoch)  # or it would deal every epoch alike
        iterator, self.batches = iter(self.loader), batches
        for _ in range(batches):
            next(iterator)
        if self.trainer.ahead is not None:
            self.trainer.ahead.open(lambda: self._fetch(iterator))
        return iterator

    def _fetch(self, iterator: Iterator) -> Presample | None:
        trainer = self.trainer
        return next_presample(iterator, trainer.next_size, trainer.batch_size, trainer.device)

    def step(self, iterator: Iterator) -> StepReport | None:
        ahead = self.trainer.ahead
        drawn, scored = (self._fetch(iterator), None) if ahead is None else ahead.take()
        if drawn is None:
            return None
        report = self.trainer.train_on(drawn.inputs, drawn.targets, scored)
        self.batches += drawn.batches
        return report


class MemoryFeed:
    """The user's data set, drawn from by the trainer's memory, which knows itself how far the epoch
    is."""

    def __init__(self, trainer: Trainer, loader: Any):
        check_can_be_indexed(loader, trainer.batch_size)
        dataset = part_of(loader, trainer.processes)
        size = len(dataset)
        if trainer.memory is None:
            trainer.memory = MemorySampler(
                size,
                min(trainer.batch_size, size),
                drop_last=loader.drop_last,
                contradicted=contradicted_above(trainer.sampler.score, trainer.sampler.loss),
                seed=trainer.sampler.draw_seed(),
                device=trainer.device,
            )
            trainer.tell_memory()
        if trainer.memory.size < size:
            trainer.memory.resize(size)
            trainer.memory.batch_size = trainer.memory.draw_size = min(trainer.batch_size, size)
        if trainer.memory.size > size:
            raise ValueError(
                f"loader's data set must not shrink: its memory holds {trainer.memory.size} samples; got {size}"
            )
        self.trainer, self.loader = trainer, indexed_loader(loader, dataset, trainer.memory)
        self.batches = 0

    def open(self, epoch: int, batches: int) -> Iterator:
        self.batches = batches
        if batches > 0 and self.trainer.memory.at_end:  # where the memory would begin the next one
            return iter(())
        return iter(self.loader)

    def step(self, iterator: Iterator) -> StepReport | None:
        fetched = next(iterator, None)
        if fetched is None:
            return None
        batch, indices = fetched
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"loader must yield (inputs, targets); got {type(batch).__name__}")
        inputs, targets = (map_tensors(self._to_device, part) for part in batch)
        report = self.trainer.memory_step(inputs, targets, indices)
        self.batches += 1
        return report

    def _to_device(self, tensor: torch.Tensor) -> torch.Tensor:
        device = self.trainer.device
        return tensor if tensor.device == device else tensor.to(device, non_blocking=True)

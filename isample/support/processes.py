"""Several processes that train one model, wrapped in DistributedDataParallel.

Each draws from a part of the data of its own and weighs by its own probabilities: unbiased for its
part. The parts are equally large, so the mean over the processes, which the wrapper forms of the
gradients, is unbiased for the whole.

What moves the parameters beside gradients must be the same everywhere, or the copies of the model
drift apart: the gain that raises the learning rate, the switch, and the time by which a schedule
goes and a run ends. All of it follows from a dozen numbers a step. Their means are taken in one
all-reduce, and what follows is computed alike by all. A step's time is known only when it is over,
so it goes with the next step's numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from isample.support.readback import read_late


class Clocked(NamedTuple):
    """A step as a gate is told of it, see :meth:`isample.control.gate.Gate.clock`."""

    active: bool
    seconds: float
    overhead: float
    scored: int


class Processes:
    """Those that train ``model`` together: ``count`` of them, this one being the ``rank``-th from
    0. Every one of them must take the same steps. ``model`` is the one within the wrapper: a
    forward pass that trains nothing need not be together."""

    def __init__(self, model: nn.Module):
        self.group = model.process_group if isinstance(model, DistributedDataParallel) else None
        self.count = 1 if self.group is None else distributed.get_world_size(self.group)
        self.rank = 0 if self.group is None else distributed.get_rank(self.group)
        self.model = model if self.group is None else model.module
        self._last: Clocked | None = None  # the step of which the others have not heard
        self._agreed: Clocked | None = None

    def seed(self, seed: int | None) -> int | None:
        """Each process's own, so that no two draw the same where they share the data."""
        if self.count == 1:
            return seed
        return (int(torch.randint(2**62, ())) if seed is None else seed) + self.rank

    def read_late(
        self, values: list[torch.Tensor], device: torch.device
    ) -> Callable[[], list[float]]:
        """:func:`isample.support.readback.read_late` of the means over all processes."""
        if self.count == 1:
            return read_late(values, device)
        last = self._last or Clocked(False, 0.0, 0.0, 0)
        times = torch.tensor([last.seconds, last.overhead], dtype=torch.float64, device=device)
        joined = torch.cat([*(value.detach().double().reshape(-1) for value in values), times])
        distributed.all_reduce(joined, group=self.group)
        read = read_late([joined / self.count], device)

        def read_agreed() -> list[float]:
            *numbers, seconds, overhead = read()
            self._agreed = self._last and last._replace(seconds=seconds, overhead=overhead)
            return numbers

        return read_agreed

    def clock(self, step: Clocked) -> Clocked | None:
        """The latest step of which all have heard, with its mean times: ``step`` itself if there is
        one process, else the one before it; None before there was one."""
        if self.count == 1:
            return step
        self._last = step
        return self._agreed


def part_of(loader: DataLoader, processes: Processes) -> Dataset:
    """What of the loader's data set is this process's: where it has a DistributedSampler, the
    samples that this would give it without shuffling, as many as to every other process, for which
    some are given twice or, with ``drop_last``, some to nobody; else all of it.

    Raises ValueError if the model is not trained by several processes.
    """
    sampler = loader.sampler
    if not isinstance(sampler, DistributedSampler):
        return loader.dataset
    if sampler.num_replicas != processes.count:
        raise ValueError(
            f"model must be wrapped in DistributedDataParallel over the {sampler.num_replicas} "
            f"processes among which loader's DistributedSampler shares the data; got one that is "
            f"trained by {processes.count}"
        )
    options = {"shuffle": False, "drop_last": sampler.drop_last}
    return Subset(
        loader.dataset,
        list(DistributedSampler(loader.dataset, sampler.num_replicas, sampler.rank, **options)),
    )

"""Several processes that train one model together.

Each process draws from its own part of the data, with weights that are unbiased for that part. The
parts are equally large. So the mean of the gradients, which DistributedDataParallel forms, is
unbiased for the whole.

Copies of the model drift apart unless gain, plan and time are the same everywhere. All three follow
from a few numbers a step. One all-reduce takes the means of these, and every process computes the
same from them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isample.support.random_state import seed_or_drawn
from isample.support.readback import read_late


class Processes:
    """A process ``group``: ``count`` of them, this one being the ``rank``-th from 0; None is this
    process alone. All of them must take the same steps."""

    def __init__(self, group: distributed.ProcessGroup | None = None):
        self.group = group
        self.count: int = 1 if group is None else distributed.get_world_size(group)
        self.rank: int = 0 if group is None else distributed.get_rank(group)

    @classmethod
    def of_model(cls, model: nn.Module) -> Processes:
        """Those of a model in DistributedDataParallel; any other is trained by one."""
        is_wrapped = isinstance(model, DistributedDataParallel)
        return cls(model.process_group if is_wrapped else None)

    @classmethod
    def running(cls) -> Processes:
        """Those of torch's default process group, where there is one."""
        ready = distributed.is_available() and distributed.is_initialized()
        return cls(distributed.group.WORLD if ready else None)

    def seed(self, seed: int | None) -> int | None:
        """Each process's own, so that no two draw the same where they share the data."""
        if self.count == 1:
            return seed
        return seed_or_drawn(seed) + self.rank

    def read_late(
        self, values: list[torch.Tensor], device: torch.device
    ) -> Callable[[], list[float]]:
        """:func:`isample.support.readback.read_late` of the means over all processes."""
        if self.count == 1:
            return read_late(values, device)
        joined = torch.cat([value.detach().double().reshape(-1) for value in values])
        distributed.all_reduce(joined, group=self.group)
        return read_late([joined / self.count], device)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within DistributedDataParallel, for a pass that trains nothing."""
    return model.module if isinstance(model, DistributedDataParallel) else model

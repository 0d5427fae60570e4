"""What of a user's DataLoader a memory takes over, and what only the loader itself can do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from isample.sources.sampler import MemorySampler

OWN_SAMPLERS = (RandomSampler, SequentialSampler, DistributedSampler)  # of a DataLoader itself
OWN_METHODS = {
    name: value
    for name, value in vars(DataLoader).items()
    if name != "__init__" and (callable(value) or isinstance(value, property))
} | {"__getattribute__": object.__getattribute__}
"""By which a DataLoader deals; where one is another's, its batches are no longer the data set's."""

SETTINGS = (
    "dataset",
    "sampler",
    "batch_sampler",
    "collate_fn",
    "num_workers",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory",
    "pin_memory_device",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
)
LEFT_AS_IT_IS = "use mode='presample', which leaves the loader as it is"


def check_is_ordinary(loader: DataLoader[Any]) -> None:
    """Raises ValueError where the loader's batches are not those of an ordinary DataLoader with its
    settings, in their order."""
    kind = type(loader)
    own = [
        name
        for name, method in OWN_METHODS.items()
        if inspect.getattr_static(kind, name) is not method or name in vars(loader)
    ]
    if own:
        raise ValueError(
            "loader must deal as torch's DataLoader does for a memory, which is put into its "
            f"place; got a {kind.__name__} with {', '.join(own)} of its own ({LEFT_AS_IT_IS})"
        )
    if loader.num_workers > 0 and not getattr(loader, "in_order", True):
        raise ValueError(
            "loader must keep its batches in order for a memory, which matches them with what it "
            f"drew; got in_order=False ({LEFT_AS_IT_IS})"
        )


def check_shuffles(loader: DataLoader[Any]) -> None:
    """Raises ValueError where the user wants the samples in the data set's order."""
    if not _shuffles(loader):
        raise ValueError(
            "loader must shuffle (shuffle=True) for a memory, which draws in an order of its own; "
            f"got a {type(loader.sampler).__name__}, whose batches come in order (give "
            "shuffle=True, or mode='presample' where the order is meant)"
        )


def batch_size_of(loader: DataLoader[Any]) -> int:
    """The loader's batch size; raises ValueError where another than itself draws its samples."""
    size, sampler, batches = loader.batch_size, loader.sampler, loader.batch_sampler
    if (
        size is None
        or type(sampler) not in OWN_SAMPLERS
        or type(batches) is not BatchSampler
        or batches.sampler is not sampler
        or batches.batch_size != size
    ):
        raise ValueError(
            "loader must draw its samples itself (shuffle=True or False) for a memory, whose own "
            f"sampler takes that place; got a {type(sampler).__name__} in a "
            f"{type(batches).__name__} ({LEFT_AS_IT_IS})"
        )
    return size


def drops_last(loader: DataLoader[Any]) -> bool:
    """Whether it leaves out an epoch's last, short batch; that may be changed between epochs."""
    batches = loader.batch_sampler
    return batches.drop_last if isinstance(batches, BatchSampler) else loader.drop_last


def settings_of(loader: DataLoader[Any]) -> tuple[Any, ...]:
    """All that it goes by, each the loader's own object."""
    return tuple(getattr(loader, name, None) for name in SETTINGS)


def order_of(
    loader: DataLoader[Any], size: int, memory: MemorySampler
) -> Callable[[], Tensor] | None:
    """Gives the order of the next epoch, int32 [size], as the loader itself would deal it: in the
    data set's order, or by a generator of the user's.

    None where neither is asked for.
    """
    sampler, seeds = loader.sampler, loader.generator
    if not _shuffles(loader):
        return lambda: torch.arange(size, dtype=torch.int32, device="cpu")
    if not isinstance(sampler, RandomSampler) or sampler.generator is None:
        return None

    def order() -> Tensor:
        # A DataLoader draws its workers' seed first: every epoch, or once where they persist.
        if seeds is not None and not (loader.persistent_workers and memory.epoch):
            torch.empty((), dtype=torch.int64, device="cpu").random_(generator=seeds)
        with torch.device("cpu"):  # whatever torch's default device is
            return torch.from_numpy(numpy.fromiter(sampler, numpy.int32))

    return order


def _shuffles(loader: DataLoader[Any]) -> bool:
    sampler = loader.sampler
    if isinstance(sampler, DistributedSampler):
        return sampler.shuffle
    return not isinstance(sampler, SequentialSampler)

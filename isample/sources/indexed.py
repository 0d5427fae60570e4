"""An ordinary DataLoader made over so that memory mode can drive it: same data set, same workers,
its own sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Union

import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)
from torch.utils.data.dataloader import default_collate

from isample.sources.memory import LARGEST, MemorySampler


class IndexedDataset(Dataset):
    """``dataset`` whose items carry their index."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> tuple[list[int], Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        return indices, fetch(indices) if fetch else [self.dataset[i] for i in indices]


class IndexedCollate:
    """The loader's own collate function, with the batch's indices beside its result: (inputs,
    targets), indices."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, fetched: tuple[list[int], Any]) -> tuple[Any, list[int]]:
        indices, items = fetched
        return self.collate(items), indices


def check_can_be_indexed(loader: Any, batch_size: int) -> None:
    """Raises TypeError or ValueError, with what to do instead, for a loader that memory mode cannot
    take over."""
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"loader must be a torch DataLoader for mode='memory'; got {type(loader).__name__} "
            "(use mode='presample', or drive a MemorySampler in a loop of your own)"
        )
    if isinstance(loader.dataset, IterableDataset) or not hasattr(loader.dataset, "__len__"):
        raise TypeError(
            f"loader's dataset must be map-style for mode='memory', with __getitem__ and __len__; got "
            f"{type(loader.dataset).__name__} (an iterable data set has no indices to remember: use mode='presample')"
        )
    if (
        type(loader.sampler) not in (RandomSampler, SequentialSampler, DistributedSampler)
        or loader.batch_size is None
    ):
        raise ValueError(
            "loader must draw its samples itself (shuffle=True or False) for mode='memory', whose own sampler takes that "
            f"place; got a {type(loader.sampler).__name__} in a {type(loader.batch_sampler).__name__} "
            "(use mode='presample', which leaves the loader as it is)"
        )
    shares = isinstance(loader.sampler, DistributedSampler)
    if not shares and (
        getattr(loader.sampler, "replacement", False) or len(loader.sampler) != len(loader.dataset)
    ):
        raise ValueError(
            f"loader must deal each of its {len(loader.dataset)} samples once an epoch for mode='memory'; got a "
            f"RandomSampler with num_samples={len(loader.sampler)}, replacement={loader.sampler.replacement} "
            "(use mode='presample', which leaves the loader as it is)"
        )
    if len(loader.dataset) > LARGEST:
        raise ValueError(
            f"loader's dataset must hold at most 2^24 samples for mode='memory'; got {len(loader.dataset):,} "
            "(use mode='presample')"
        )
    if loader.batch_size != batch_size:
        raise ValueError(
            f"loader's batch_size must be the trainer's ({batch_size}); got {loader.batch_size}"
        )


def can_be_indexed(loader: Any, batch_size: int) -> bool:
    """Whether memory mode can take over ``loader``."""
    try:
        check_can_be_indexed(loader, batch_size)
    except (TypeError, ValueError):
        return False
    return True


class InProcessLoader:
    """What a DataLoader without workers does, and nothing beyond it: its bookkeeping takes longer
    than a small network's optimizer step. Yields ((inputs, targets), indices)."""

    def __init__(self, dataset: Dataset, collate: Callable, sampler: MemorySampler):
        self.fetch, self.collate, self.sampler = (
            IndexedDataset(dataset),
            IndexedCollate(collate),
            sampler,
        )

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Any, list[int]]]:
        for indices in self.sampler:
            yield self.collate(self.fetch.__getitems__(indices))


class TensorLoader:
    """An :class:`InProcessLoader` of tensors that are gathered from at once: where they live on the
    sampler's device, the indices do not leave it. Yields ([inputs, targets], indices)."""

    def __init__(self, dataset: TensorDataset, sampler: MemorySampler):
        self.tensors, self.sampler = dataset.tensors, sampler
        self.together = all(tensor.device == sampler.score.device for tensor in dataset.tensors)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[list[torch.Tensor], torch.Tensor | list[int]]]:
        for indices in self.sampler.on_device() if self.together else self.sampler:
            index = torch.as_tensor(indices)
            yield [tensor[index] for tensor in self.tensors], indices


Indexed = Union[DataLoader, InProcessLoader, TensorLoader]


def indexed_loader(loader: DataLoader, dataset: Dataset, sampler: MemorySampler) -> Indexed:
    """``loader`` again, over ``dataset``, its own or this process's part of it, and with the same
    collate function, workers and pinning, but drawn by ``sampler`` and yielding ((inputs, targets),
    indices)."""
    if loader.num_workers == 0 and not loader.pin_memory:
        if type(dataset) is TensorDataset and loader.collate_fn is default_collate:
            return TensorLoader(dataset, sampler)
        return InProcessLoader(dataset, loader.collate_fn, sampler)
    options = {}
    if loader.num_workers > 0:
        options = {
            "prefetch_factor": loader.prefetch_factor,
            "persistent_workers": loader.persistent_workers,
        }
    return DataLoader(
        IndexedDataset(dataset),
        batch_sampler=sampler,
        collate_fn=IndexedCollate(loader.collate_fn),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        **options,
    )

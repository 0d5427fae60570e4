"""An ordinary DataLoader made over for a memory: same data set, same workers, another sampler."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sized
from typing import Any, Protocol, TypeGuard

import numpy
import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)
from torch.utils.data.dataloader import default_collate

from isample.sources.arguments import LARGEST
from isample.sources.order import Drawn
from isample.sources.ordinary import (
    LEFT_AS_IT_IS,
    batch_size_of,
    check_is_ordinary,
    check_shuffles,
)
from isample.sources.sampler import MemorySampler
from isample.support.batch_cuts import rows_of
from isample.support.errors import NoMemoryWarning
from isample.support.processes import Processes
from isample.support.readback import BlockReader


class MapStyle(Protocol):
    """A data set of so many items, by their index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class IndexedDataset(Dataset[Any]):
    """``dataset`` whose items carry their index."""

    def __init__(self, dataset: MapStyle):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> tuple[list[int], Any]:
        fetch = getattr(self.dataset, "__getitems__", None)
        return indices, fetch(indices) if fetch else [self.dataset[i] for i in indices]


class IndexedCollate:
    """The loader's own collate function, with the batch's indices beside its result.

    Weights and scores belong to rows, so row i must be item i. The first batch is collated once
    more, backward, to see that; ValueError tells where it is not so. A function whose attribute
    ``keeps_rows`` is True is trusted.
    """

    def __init__(self, collate: Callable[..., Any]):
        self.collate = collate
        self._trusted = collate is default_collate or getattr(collate, "keeps_rows", False)

    def __call__(self, fetched: Any) -> tuple[Any, list[int]]:
        indices, items = fetched  # by IndexedDataset
        if not self._trusted:
            check_keeps_rows(self.collate, items)
            self._trusted = len(items) > 1  # one alone tells nothing
        return self.collate(items), indices


def check_keeps_rows(collate: Callable[..., Any], items: list[Any]) -> None:
    """Raises ValueError where ``collate`` sorts ``items``, mixes them or leaves some out."""
    forward, backward = (_collated(collate, order) for order in (items, items[::-1]))
    for one, other in zip(forward, backward):
        if one.dim() == 0 or one.shape[0] != len(items) or one.shape != other.shape:
            continue
        if not torch.equal(one, other.flip(0)):
            raise ValueError(
                "collate_fn must keep item i in row i, since weights belong to rows; got one that "
                "sorts or mixes the rows of a batch (sort within the model; or set "
                "collate_fn.keeps_rows = True where only random augmentation tells them apart)"
            )


def _collated(collate: Callable[..., Any], items: list) -> list[Tensor]:
    """The tensors of a batch, made with random states that are put back afterwards."""
    ours, numpys = random.getstate(), numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            random.seed(0)
            numpy.random.seed(0)
            leaves = pytree.tree_leaves(collate(list(items)))
    finally:
        random.setstate(ours)
        numpy.random.set_state(numpys)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


def check_can_be_indexed(loader: Any, batch_size: int | None = None) -> DataLoader[Any]:
    """``loader``, if a memory can draw from its data set.

    Raises TypeError or ValueError, with what to do instead, where it cannot. Another ``batch_size``
    than this is a ValueError too.
    """
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"loader must be a torch DataLoader for a memory; got {type(loader).__name__} (use "
            "mode='presample', or drive a MemorySampler in a loop of your own)"
        )
    size, sampler = len(map_style(loader)), loader.sampler
    check_is_ordinary(loader)
    own = batch_size_of(loader)
    replacement = isinstance(sampler, RandomSampler) and sampler.replacement
    alone = isinstance(sampler, RandomSampler | SequentialSampler)
    if alone and (replacement or len(sampler) != size):
        raise ValueError(
            f"loader must deal each of its {size} samples once an epoch for a memory; got a "
            f"{type(sampler).__name__} with num_samples={len(sampler)}, replacement={replacement} "
            f"({LEFT_AS_IT_IS})"
        )
    if size > LARGEST:
        raise ValueError(
            f"loader's dataset must hold at most 2^32 samples for a memory; got {size:,} (use "
            "mode='presample')"
        )
    if batch_size is not None and own != batch_size:
        raise ValueError(f"loader's batch_size must be the trainer's ({batch_size}); got {own}")
    return loader


def map_style(loader: DataLoader[Any]) -> MapStyle:
    """The loader's data set; raises TypeError where it has no indices to remember."""
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        raise TypeError(
            "loader's dataset must be map-style for a memory, with __getitem__ and __len__; got "
            f"{type(dataset).__name__} (an iterable data set has no indices to remember: use "
            "mode='presample')"
        )
    return dataset


def can_be_indexed(loader: Any, batch_size: int | None = None) -> TypeGuard[DataLoader[Any]]:
    """Whether a memory may take the place of ``loader`` where nobody asked for one.

    Warns with NoMemoryWarning, and the reason, where only the loader itself can deal an indexed
    data set as the user wants it.
    """
    try:
        check_shuffles(check_can_be_indexed(loader, batch_size))
    except TypeError:  # no data set to remember
        return False
    except ValueError as reason:
        warnings.warn(
            f"the loader deals as it is, and no memory draws from its data set: {reason}",
            NoMemoryWarning,
            stacklevel=4,
        )
        return False
    return True


def part_of(loader: DataLoader[Any], processes: Processes) -> MapStyle:
    """This process's part of the loader's data set; all of it without a DistributedSampler.

    With one, it is the samples that this would deal to the process without shuffling. All parts are
    equally large: some samples are in two of them or, with ``drop_last``, in none.

    Raises ValueError if other processes train the model, TypeError if no indices can be remembered.
    """
    sampler = loader.sampler
    if not isinstance(sampler, DistributedSampler):
        return map_style(loader)
    if sampler.num_replicas != processes.count:
        raise ValueError(
            f"model must be trained by the {sampler.num_replicas} processes among which loader's "
            "DistributedSampler shares the data (wrap it in DistributedDataParallel); got one that "
            f"is trained by {processes.count}"
        )
    shares = DistributedSampler(
        loader.dataset,
        sampler.num_replicas,
        sampler.rank,
        shuffle=False,
        drop_last=sampler.drop_last,
    )
    return Subset(loader.dataset, list(shares))


class InProcessLoader:
    """A DataLoader without workers and without the bookkeeping.

    That takes longer than a small network's optimizer step. Yields batches as they were drawn, too.
    """

    def __init__(self, dataset: MapStyle, collate: Callable[..., Any], sampler: MemorySampler):
        self.fetch: IndexedDataset = IndexedDataset(dataset)
        self.collate: IndexedCollate = IndexedCollate(collate)
        self.sampler: MemorySampler = sampler
        self._reader = BlockReader()

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Any, Drawn]]:
        for drawn in self.sampler.taken():
            indices = self._reader.on_host(drawn.indices).tolist()
            yield self.collate(self.fetch.__getitems__(indices))[0], drawn


class TensorLoader:
    """Gathers a batch from whole tensors at once. Yields it as it was drawn, too."""

    def __init__(self, dataset: TensorDataset, sampler: MemorySampler):
        self.dataset: TensorDataset = dataset  # whose tensors may be others in the next epoch
        self.sampler: MemorySampler = sampler
        self._reader = BlockReader()

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[list[Tensor], Drawn]]:
        for drawn in self.sampler.taken():
            yield [self._rows(tensor, drawn.indices) for tensor in self.dataset.tensors], drawn

    def _rows(self, tensor: Tensor, indices: Tensor) -> Tensor:
        return rows_of(tensor, self._reader.on_host(indices) if tensor.is_cpu else indices)


Indexed = DataLoader[Any] | InProcessLoader | TensorLoader


def indexed_loader(loader: DataLoader[Any], dataset: MapStyle, sampler: MemorySampler) -> Indexed:
    """``loader`` again, drawn by ``sampler``, yielding (batch, drawn); with workers or pinning
    (batch, indices), whose order is that of ``sampler.match``.

    Collate function, workers and pinning are the loader's. ``dataset`` is its data set, or this
    process's part of it. Workers are seeded by a generator of their own where the loader has one:
    its place is :func:`isample.sources.ordinary.order_of`'s to change.
    """
    if loader.num_workers == 0 and not loader.pin_memory:
        plain = loader.collate_fn is default_collate and not hasattr(dataset, "__getitems__")
        if plain and type(dataset) is TensorDataset:
            return TensorLoader(dataset, sampler)
        return InProcessLoader(dataset, loader.collate_fn, sampler)
    options = {}
    if getattr(loader, "pin_memory_device", ""):
        options["pin_memory_device"] = loader.pin_memory_device
    if loader.num_workers > 0:
        options |= {
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
        generator=None if loader.generator is None else torch.Generator(),
        **options,
    )

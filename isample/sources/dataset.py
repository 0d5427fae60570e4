"""A map-style data set with a memory as a source: it deals shuffled passes, or draws by what it
remembers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from operator import is_
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from isample.ops.memory import draw_moments
from isample.sources.indexed import (
    Indexed,
    InProcessLoader,
    MapStyle,
    TensorLoader,
    check_can_be_indexed,
    indexed_loader,
    part_of,
)
from isample.sources.order import Drawn, Indices
from isample.sources.ordinary import batch_size_of, drops_last, order_of, settings_of
from isample.sources.sampler import MemorySampler
from isample.support.errors import StateError
from isample.support.processes import Processes
from isample.support.pytree import map_tensors
from isample.values import Batch, Candidates, Plan


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
        loader: DataLoader[Any],
        memory: MemorySampler,
        processes: Processes,
        device: torch.device | None = None,
    ):
        self.memory: MemorySampler = memory
        self.device: torch.device | None = device
        self._given, self._processes = loader, processes
        self._settings: tuple[Any, ...] = ()
        self._take_over()

    def _take_over(self) -> None:
        """The loader as it is at present: its data set may have grown, its settings be others."""
        given, memory = self._given, self.memory
        check_can_be_indexed(given)
        settings = settings_of(given)
        if not (self._settings and all(map(is_, settings, self._settings))):
            self._settings = settings
            self._part: MapStyle = part_of(given, self._processes)
            self.loader: Indexed = indexed_loader(given, self._part, memory)
        size = len(self._part)
        memory.deal_in(order_of(given, size, memory))
        if (memory.size, memory.drop_last) != (size, drops_last(given)):
            memory.drop_last = drops_last(given)
            _fit(memory, size, min(batch_size_of(given), size))

    @property
    def batch_size(self) -> int:
        return self.memory.batch_size

    @property
    def replays(self) -> bool:
        return False

    @property
    def total(self) -> int:
        return self.memory.size

    @property
    def remembers(self) -> bool:
        return True

    @property
    def informed(self) -> bool:
        return self.memory.informed

    def can_deal(self, ratio: float) -> bool:
        return True

    @classmethod
    def around(
        cls,
        loader: DataLoader[Any],
        processes: Processes,
        *,
        contradicted: float | None,
        seed: int,
        memory_device: torch.device,
        device: torch.device | None = None,
    ) -> Dataset:
        """A source with a new memory; raises TypeError or ValueError where there can be none."""
        check_can_be_indexed(loader)
        size = len(part_of(loader, processes))
        memory = MemorySampler(
            size,
            min(batch_size_of(loader), size),
            drop_last=drops_last(loader),
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
            return iter(())
        if skip == 0:
            self._take_over()
        self._seed_workers()
        taken = isinstance(self.loader, InProcessLoader | TensorLoader)
        return starmap(self._candidates if taken else self._matched, self.loader)

    def _seed_workers(self) -> None:
        """As the user's loader would: its generator moves on when a pass begins."""
        given, own = self._given.generator, getattr(self.loader, "generator", None)
        if given is not None and own is not None:
            own.set_state(given.get_state())

    def _matched(self, batch: Any, indices: Indices) -> Candidates:
        return self._candidates(batch, self.memory.match(indices))

    def _candidates(self, batch: Any, drawn: Drawn) -> Candidates:
        if self.device is not None:
            batch = map_tensors(self._to_device, batch)
        return Candidates(batch, drawn.indices.size(0), drawn.indices, drawn.weights)

    def learn(self, places: Tensor | None, weights: Tensor | None, scores: Tensor) -> Tensor:
        return self.memory.recall(scores, _known(places), weights)

    def learn_candidates(self, given: Candidates, scores: Tensor) -> Tensor:
        places, weights, drawn = _known(given.places), given.weights, given.weights is not None
        weights = self.memory.implied_weights(places) if weights is None else weights
        numbers = draw_moments(scores, weights, drawn=drawn)
        self.memory.update(places, scores)
        return numbers

    def facts(self) -> dict[str, Tensor]:
        tau = self.memory.tau
        return {"tau": tau, "tau_ema": tau, "bounded": self.memory.bounded}

    def restart(self) -> None:
        self.memory.restart()

    def state_dict(self, waiting: list[Batch]) -> dict[str, Any]:
        drawn = [Drawn(_known(batch.places), batch.weights) for batch in waiting]
        return self.memory.state_dict(drawn)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        size, batch_size = self.memory.size, self.memory.batch_size
        if state["size"] > size:
            raise StateError(_shrunk(state["size"], size))
        self.memory.load_state_dict(state)
        if state["size"] != size:
            _fit(self.memory, size, batch_size)

    def _to_device(self, tensor: Tensor) -> Tensor:
        same = tensor.device == self.device
        return tensor if same else tensor.to(self.device, non_blocking=True)


def _known(places: Tensor | None) -> Tensor:
    """``places``; raises ValueError where a batch has none."""
    if places is None:
        raise ValueError(
            "batch must come from engine.loader where a memory remembers samples by their places; "
            "got one without (give engine.choose an Engine of its own)"
        )
    return places


def _fit(memory: MemorySampler, size: int, batch_size: int) -> None:
    """``memory`` for a data set that has grown; raises ValueError for one that has shrunk."""
    if memory.size > size:
        raise ValueError(_shrunk(memory.size, size))
    memory.resize(size, batch_size)


def _shrunk(before: int, now: int) -> str:
    return (
        f"loader's data set must not shrink: its memory holds {before} samples; got {now} (give a "
        "new trainer or engine, or use mode='presample')"
    )

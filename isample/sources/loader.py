"""A user's loader whose batches are chosen: what an epoch yields, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, islice, starmap
from operator import attrgetter
from typing import Any, Protocol

import torch
from torch import Tensor

from isample.sources.base import Source
from isample.support.random_state import random_state, restore_random_state
from isample.values import Batch, Candidates

Paired = Iterator[tuple[Candidates, Any]]


class Dealer(Protocol):
    """Makes of candidates what is trained on."""

    def begin_epoch(self) -> None: ...

    def counted(self, candidates: Iterator[Candidates]) -> Iterator[Candidates]: ...

    def deal(self, candidates: Candidates, ahead: Any = None) -> Batch: ...

    def end_epoch(self) -> None: ...

    def break_epoch(self, error: BaseException) -> None: ...


def length_of(loader: Iterable[Any]) -> int | None:
    """The loader's batches an epoch, where it knows them: a DataLoader over a stream does not."""
    try:
        return len(loader) if isinstance(loader, Sized) else None
    except TypeError:
        return None


class Loader:
    """Yields batches of the user's own kind, epoch after epoch.

    Args:
        loader: the user's own.
        source: of candidates, around it.
        dealer: makes of candidates, and of a scoring pass ahead of them, what is trained on.
        device: whose random state deals, beside the CPU's.
        pair: an iterator of candidates as one with scoring passes ahead.

    ``epoch`` is the present one, ``batches`` how many of the user's it has dealt. What a DataLoader
    has beside these, such as ``dataset``, is the user's own.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        source: Source,
        dealer: Dealer,
        device: torch.device,
        pair: Callable[[Iterator[Candidates]], Paired] | None = None,
    ):
        self.loader: Iterable[Any] = loader
        self.source: Source = source
        self.epoch: int = 0
        self.batches: int = 0
        self._dealer, self._device, self._pair = dealer, device, pair
        self._epoch_random: dict[str, Tensor] = {}
        self._began = self._resumes = False  # an epoch; one of a saved run

    def __len__(self) -> int:
        if not isinstance(self.loader, Sized):
            raise TypeError(f"loader must have a length; got a {type(self.loader).__name__}")
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("loader", "__setstate__"):
            raise AttributeError(name)
        return getattr(self.loader, name)

    @property
    def batch_size(self) -> int:
        return self.source.batch_size

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is of this epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        """The batches of an epoch; of what is left of one where a state was loaded."""
        if self._began and not self._resumes:
            self.source.restart()
            self.epoch, self.batches = self.epoch + (self.batches > 0), 0
        return map(attrgetter("batch"), self.tickets())

    def tickets(self) -> Iterator[Batch]:
        """The same with what is known of them."""
        self._dealer.begin_epoch()
        candidates = self._dealer.counted(self._open())
        try:
            if self._pair is None:
                yield from map(self._dealt, candidates)  # no frame holds a batch trained on
            else:
                yield from starmap(self._dealt, self._pair(candidates))
            self._dealer.end_epoch()
        except BaseException as error:
            self._dealer.break_epoch(error)
            raise
        self.epoch, self.batches, self._began = self.epoch + 1, 0, False

    def _dealt(self, given: Candidates, ahead: Any = None) -> Batch:
        self.batches += given.batches
        return self._dealer.deal(given, ahead)

    def _open(self) -> Iterator[Candidates]:
        """The source's candidates, behind those that a saved run had.

        Restores the random state of the epoch's beginning, so that the user's loader deals the same
        batches again.
        """
        resumes, self._resumes, self._began = self._resumes, False, True
        if not resumes:
            self._epoch_random = random_state(self._device)
            return self.source.epoch(self.epoch)
        now = random_state(self._device)
        restore_random_state(self._epoch_random, self._device)
        candidates = iter(self.source.epoch(self.epoch, self.batches))
        if self.batches == 0:  # samplers take their order when they are first asked
            candidates = chain(list(islice(candidates, 1)), candidates)
        restore_random_state(now, self._device)
        return candidates

    def state_dict(self, waiting: list[Batch] | None = None) -> dict[str, Any]:
        """Where it stands; ``waiting`` batches were dealt and are to come again."""
        came = self.batches - sum(batch.batches for batch in waiting or ())
        return {
            "epoch": self.epoch,
            "batches": came,
            "began": self._began,
            "epoch_random": dict(self._epoch_random),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.batches = state["epoch"], state["batches"]
        self._epoch_random = dict(state["epoch_random"])
        self._began = self._resumes = state["began"]

"""A user's loader whose batches are chosen: what an epoch yields, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import chain, islice, starmap
from operator import attrgetter
from typing import Any, Protocol

import torch

from isample.sources.base import Source
from isample.sources.epochs import generator_states, length_of, restore_generators, set_epoch
from isample.support.random_state import check_random_state, random_state, restore_random_state
from isample.support.states import check_like
from isample.values import Batch, Candidates

Paired = Iterator[tuple[Candidates, Any]]
OF_BEFORE: dict[str, Any] = {"length": None, "generators": {}}
"""What states of earlier versions do not have."""


class Dealer(Protocol):
    """Makes of candidates what is trained on."""

    def begin_epoch(self) -> None: ...

    def counted(self, candidates: Iterator[Candidates]) -> Iterator[Candidates]: ...

    def deal(self, candidates: Candidates, ahead: Any = None) -> Batch: ...

    def end_epoch(self) -> None: ...

    def break_epoch(self, error: BaseException) -> None: ...


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
        self._epoch_random: dict[str, Any] = {}
        self._epoch_generators: dict[str, Any] = {}  # of the user's loader, when the epoch began
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
        """The next iteration is of this epoch: all of it, or what is left where a state of it was
        loaded."""
        if self._resumes and epoch == self.epoch:
            return
        self.epoch, self.batches, self._resumes = epoch, 0, False
        set_epoch(self.loader, epoch)

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

        Restores the random states of the epoch's beginning, so that the user's loader deals the
        same batches again.
        """
        resumes, self._resumes, self._began = self._resumes, False, True
        if not resumes:
            set_epoch(self.loader, self.epoch)  # or samplers deal every epoch alike
            self._epoch_random = random_state(self._device)
            self._epoch_generators = generator_states(self.loader)
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
        begins = self._began and self.source.replays
        return {
            "epoch": self.epoch,
            "batches": came,
            "began": self._began,
            "length": length_of(self.loader),
            "epoch_random": dict(self._epoch_random),
            "generators": self._epoch_generators if begins else generator_states(self.loader),
        }

    @staticmethod
    def check_form(state: dict[str, Any]) -> None:
        """Raises StateError, or another error, for what is no state of a loader."""
        state = {**OF_BEFORE, **state}
        like = {"epoch": 0, "batches": 0, "began": False, "epoch_random": None}
        check_like(state, {**like, "length": None, "generators": None}, "loader")
        dict(state["generators"])
        if state["began"]:
            check_random_state(state["epoch_random"])

    def check_state(self, state: dict[str, Any]) -> None:
        """Raises ValueError where ``state`` stands in an epoch that this loader does not have."""
        saved, own = state.get("length"), length_of(self.loader)
        if not (self.source.replays and state["batches"] and saved and own is not None):
            return
        if own < saved:
            raise ValueError(
                f"loader must have at least the {saved} batches an epoch of the saved run, which "
                f"had trained on {state['batches']} of them; got {own} (resume with the same "
                "loader)"
            )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave; raises ValueError for a loader that is shorter
        than the one of a state within an epoch."""
        self.check_state(state)
        state = {**OF_BEFORE, **state}
        self.epoch, self.batches = state["epoch"], state["batches"]
        self._epoch_random = dict(state["epoch_random"])
        self._epoch_generators = dict(state["generators"])
        self._began = self._resumes = state["began"]
        if self._began:
            set_epoch(self.loader, self.epoch)
        restore_generators(self.loader, self._epoch_generators)

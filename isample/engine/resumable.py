"""What an engine is made of, and the state that it resumes from."""

from __future__ import annotations

import copy
from typing import Any

from isample.control.rates import make_rates
from isample.engine.arguments import Arguments
from isample.engine.dealer import Dealer
from isample.engine.parts import Parts, Wishes, make_parts
from isample.engine.steps import Steps
from isample.scoring.rows import Rows
from isample.sources.loader import Loader
from isample.support.devices import check_device
from isample.support.errors import StateError
from isample.support.states import VERSION, check_keys, check_like, check_version, differing


class Resumable:
    """The parts of an engine; their state is saved and loaded as one."""

    def __init__(self, arguments: Arguments):
        self._rows = Rows()
        self._make(arguments)
        self._config = arguments.config()  # as given: objects may change while they are used
        self._loader: Loader | None = None
        self._place: dict[str, Any] | None = None  # of a state, until there is a loader

    def _make(self, given: Arguments) -> None:
        rates = make_rates(given.adapt, given.optimizer)
        named = ("loss", "control", "objective", "adapt")
        asked = {name: getattr(given, name) for name in named}
        given.processes.note(**asked, **vars(given.sampling))
        self._arguments = given
        self.parts: Parts = make_parts(
            given.optimizer,
            self._rows,
            given.processes,
            model=given.model,
            loss=given.loss,
            objective=given.objective,
            sampling=given.sampling,
            seed=given.seed,
        )
        if given.control != "never":
            check_device("optimizer's parameters", self.parts.device)
        self.steps: Steps = Steps(given.optimizer, rates, given.processes, self.parts.device)
        wishes = Wishes(given.control, given.sampling, given.batch_size, given.adapt is not None)
        self.dealer: Dealer = Dealer(self.parts, wishes, self.steps)

    @property
    def batch_size(self) -> int | None:
        """b: the one asked for, else that of the loader; None before there is one."""
        source = self.dealer.source
        return self._arguments.batch_size if source is None else source.batch_size

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain types and tensors: memory, controller, random states, the place in
        the epoch. Batches that were fetched and not trained on come again.

        Raises RuntimeError between a batch's forward pass and its update, unless that was left out
        and its gradients are forgotten.
        """
        self.dealer.settle_left_out()
        tickets = self.dealer.tickets
        if tickets.under_way:
            raise RuntimeError(
                "state_dict must be taken between an update and the next forward pass; a batch is "
                "under way"
            )
        loader = self._place  # no loader has taken it up yet
        if self._loader is not None:
            loader = self._loader.state_dict(tickets.waiting)
        state = {"version": VERSION, "config": self.config, "rows": self._rows.state_dict()}
        return copy.deepcopy({**state, "loader": loader, "dealer": self.dealer.state_dict()})

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that a state is saved with, in plain types."""
        return {**self._config, "batch_size": self.batch_size}

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> None:
        """Restores what :meth:`state_dict` gave; before there is a loader, once there is one.

        Another configuration is refused; with ``strict=False`` it is taken over, but for objects.

        Raises StateError, and TypeError for no dict, before anything has changed.
        """
        self.check_state(state)
        saved = state.get("config", {})
        arguments = self._arguments.taking(saved, self.config, strict)
        if arguments != self._arguments:
            if self._loader is not None:
                raise StateError("state of other arguments must be loaded before engine.loader")
            config = {**self._config, **differing(saved, self.config)}
            self._make(arguments)
            self._config = config
        if self._loader is not None and self.dealer.remembers_more(state["dealer"]):
            raise StateError("state of before the first loader must be loaded before engine.loader")
        if self._loader is not None and state["loader"] is not None:
            self._loader.check_state(state["loader"])
        self.dealer.load_state_dict(state["dealer"])
        self._rows.load_state_dict(state["rows"])
        self._place = state["loader"]
        self._load_place()

    @staticmethod
    def check_state(state: Any) -> None:
        """Raises StateError, or TypeError, for what is no state of an engine."""
        check_keys(state, ("version", "rows", "loader", "dealer"), "Engine", optional=("config",))
        check_version(state)
        check_like(state["rows"], [], "rows")
        steps = {"count": 0, "elapsed": 0.0, "rates": None, "controller": None}
        of_all = {"steps": steps, "selector": None, "source": None, "mean_count": None}
        check_like({"mean_count": None, **state["dealer"]}, of_all, "dealer")
        if state["loader"] is not None:
            Loader.check_form(state["loader"])

    def _load_place(self) -> None:
        if self._loader is not None and self._place is not None:
            self._loader.load_state_dict(self._place)
            self._place = None

    def _before_state(self, *_: Any) -> None:
        """The optimizer's state holds the user's rates, also where an exception broke off its
        step."""
        self.steps.rates.put_back()

"""Between a source and the loop: it deals what is trained on, and follows the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from isample.engine.batches import chosen, learn_outputs, learn_rows
from isample.engine.parts import Parts, Wishes, controller_of, limits_of
from isample.engine.steps import Steps
from isample.engine.tickets import Tickets
from isample.scoring.scorers import ScoredAhead
from isample.sources.base import Source
from isample.sources.epochs import length_of
from isample.sources.limits import Limits
from isample.support.batch_cuts import take
from isample.support.errors import CannotCutError, NonFiniteError, StateError
from isample.support.states import check_keys, check_like, load_whole
from isample.values import Batch, Candidates, Plan


class Dealer:
    """Hands batches out, and settles those that were trained on.

    ``source`` is None until :meth:`open`; ``tickets`` says which batch is under way.
    """

    def __init__(self, parts: Parts, wishes: Wishes, steps: Steps):
        self.parts: Parts = parts
        self.wishes: Wishes = wishes
        self.steps: Steps = steps
        self.source: Source | None = None
        self.limits: Limits = limits_of(parts, wishes)
        self.tickets: Tickets = Tickets(steps.processes.count == 1)
        self._followed: Plan | None = None
        self._invalid: NonFiniteError | None = None  # of a batch that no update has used
        self._state: dict[str, Any] | None = None  # until there is a source to load it into

    def open(self, source: Source) -> None:
        """Batches come from ``source`` from now on."""
        self._agree(source)
        before = self.source
        if before is None:
            controller = controller_of(self.parts, self.wishes, source)
            self.steps.control(controller, source.batch_size, lambda: self.opened.informed)
        self.source = source
        self._followed = self.steps.steering.plan
        source.follow(self._followed)
        if self._state is not None:
            state, self._state = self._state, None
            if state["source"] is None:  # a memory has taken its seed since
                state = {**state, "selector": self.parts.selector.state_dict()}
            try:
                self._resume(source, state)
            except BaseException:
                self.source, self._state = before, state  # another one may fit it
                raise

    def _agree(self, source: Source) -> None:
        """Of several processes, before anything changes; raises ValueError where they differ."""
        processes = self.steps.processes
        if processes.count > 1:
            draws = "a memory draws" if source.remembers else "the loader deals"
            processes.note(
                who_draws=draws,
                batch_size=source.batch_size,
                batches_an_epoch=length_of(source.loader),
                samples=source.total,
                steps_so_far=self.steps.count
                if self._state is None
                else self._state["steps"]["count"],
            )
            processes.agree()

    @property
    def opened(self) -> Source:
        """The source; raises RuntimeError before there is one."""
        if self.source is None:
            raise RuntimeError(
                "batches must come from engine.loader or engine.choose; neither was called"
            )
        return self.source

    def begin_epoch(self) -> None:
        """The source deals an epoch from its beginning, or from where it stands."""
        self.tickets.begin_epoch()
        self.steps.processes.begin_epoch()

    def counted(self, candidates: Iterator[Candidates]) -> Iterator[Candidates]:
        """``candidates`` of an epoch, which other processes hear about."""
        return self.steps.processes.counted(candidates)

    def end_epoch(self) -> None:
        """The source has nothing more of it."""
        self.tickets.end_epoch()
        # Other processes' streams may have more.
        self.steps.processes.end_epoch(waits=not self.opened.remembers)

    def break_epoch(self, error: BaseException) -> None:
        """It ends by ``error``; GeneratorExit where the loop was left."""
        self.steps.processes.leave(error)

    def deal(self, candidates: Candidates, ahead: ScoredAhead | None = None) -> Batch:
        """What is to be trained on of ``candidates``: its ticket waits for its logits."""
        plan = self.steps.tick()
        if plan is not self._followed:
            self._follow()
        limits, source = self.limits, self.source or self.opened
        try:
            if limits.looks:
                self._look(candidates)
            within = plan if limits.cuts else limits.within(plan)
            batch = chosen(self.parts, source, within, candidates, ahead)
        except CannotCutError as error:
            if candidates.size > source.batch_size:
                raise
            limits.cannot_cut(error)
            batch = chosen(self.parts, source, limits.within(plan), candidates)
        batch.began = self.steps.clock.began
        self.tickets.add(batch)
        return batch

    def _look(self, candidates: Candidates) -> None:
        """Raises CannotCutError where the first batch cannot be cut and may have to."""
        self.limits.looks = False
        if self.limits.falls_back or not self.opened.remembers:
            take(candidates.batch, slice(1), candidates.size)

    def claim(self, by: str) -> Batch:
        """The batch under way, whose logits ``by`` takes."""
        batch, is_new = self.tickets.claim(by)
        if is_new:  # the gradients of the one before accumulate, or its update was left out
            self._settle_finished(is_update=False)
        return batch

    def learn_outputs(
        self, batch: Batch, score: Tensor | None, targets: Any, outputs: Tensor
    ) -> None:
        """Of a training pass whose loss is known."""
        learn_outputs(self.parts, self.opened, batch, score, targets, outputs)

    def settle(self) -> list[Batch]:
        """Reads the numbers of all batches whose backward pass has run, and follows the plan that
        comes of them; these batches.

        Raises NonFiniteError where a score is no finite number, before a parameter changes.
        """
        finished = self._settle_finished(is_update=True)
        error, self._invalid = self._invalid, None
        if error is not None and not self.steps.gradients_are_finite():
            raise error
        return finished

    def begin_update(self) -> None:
        """:meth:`settle`; raises RuntimeError where no logits came of what was fetched."""
        finished = self.settle()
        if finished:
            self.tickets.begin_update(finished[-1])
            return
        waiting = self.tickets.waiting
        if waiting and not self.tickets.under_way and self.steps.is_idle:
            raise RuntimeError(
                "logits must pass through engine.rows, engine.loss or a head in training mode "
                f"before the update; {len(waiting)} batches were fetched and none did"
            )

    def settle_left_out(self) -> None:
        """No update comes for batches whose gradients are forgotten."""
        if not self.steps.has_gradients():
            self._settle_finished(is_update=False)

    def check_loss(self, plain: Batch) -> None:
        """Raises NonFiniteLossError where the loss of a plain batch is no finite number; no update
        comes for it then."""
        try:
            self.steps.check_loss(plain)
        except NonFiniteError:
            self.tickets.finish_plain()
            raise

    def _follow(self) -> None:
        plan = self.steps.steering.plan
        if plan is not self._followed:
            self._followed = plan
            self.opened.follow(self.limits.within(plan))

    def _settle_finished(self, *, is_update: bool) -> list[Batch]:
        finished = self.tickets.finished()
        for batch in finished:
            try:
                if batch.observe and batch.claimed == "rows":
                    learn_rows(self.parts, self.opened, batch)
                self.steps.settle(batch)
            except NonFiniteError as error:
                if is_update:
                    raise
                self._invalid = error  # a gradient scaler may have left this update out
        if finished:
            self._follow()
        return finished

    def state_dict(self) -> dict[str, Any]:
        if self._state is not None:
            return self._state  # no source has taken it up yet
        waiting, known = self.tickets.waiting, self.parts.objective
        return {
            "steps": self.steps.state_dict(),
            "selector": self.parts.selector.state_dict(),
            "source": None if self.source is None else self.source.state_dict(waiting),
            "mean_count": known and known.mean_count.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Now, or once there is a source. Raises StateError before anything has changed."""
        state = {"mean_count": None, **state}  # states of before have none
        check_keys(state, ("steps", "selector", "source", "mean_count"), "Engine")
        if self.remembers_more(state):
            self.source = None  # that run had not begun
        if self.source is None:
            if state["source"] is None:  # a memory takes its seed from the saved run's generator
                self._load_selector(state["selector"])
            self._state = state
            self.steps.resume(state["steps"])
        else:
            self._resume(self.source, state)

    def remembers_more(self, state: dict[str, Any]) -> bool:
        """Whether there is a memory here, and was none before the first step of ``state``."""
        none_yet = state["source"] is None and state["steps"]["count"] == 0
        return none_yet and self.source is not None and self.source.remembers

    def _resume(self, source: Source, state: dict[str, Any]) -> None:
        is_fresh = state["source"] is None and state["steps"]["controller"] is None
        if (state["source"] is not None) != source.remembers and not is_fresh:
            raise StateError(
                "state must be of a run over the same kind of loader; got one "
                f"{'without' if source.remembers else 'with'} a memory"
            )
        before = self.state_dict()
        check_like(state["steps"], {**before["steps"], "rates": None}, "steps")  # of another use
        load_whole(lambda part: self._load(source, part), state, before, "dealer", free=["steps"])
        self.tickets = Tickets(self.tickets.alone)
        self._followed = None
        self._follow()

    def _load_selector(self, state: dict[str, Any]) -> None:
        selector = self.parts.selector
        load_whole(selector.load_state_dict, state, selector.state_dict(), "selector")

    def _load(self, source: Source, state: dict[str, Any]) -> None:
        if state["source"] is not None:
            source.load_state_dict(state["source"])
        self.parts.selector.load_state_dict(state["selector"])
        if self.parts.objective is not None and state["mean_count"] is not None:
            self.parts.objective.mean_count.load_state_dict(state["mean_count"])
        self.steps.load_state_dict(state["steps"])

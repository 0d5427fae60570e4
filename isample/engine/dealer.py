"""Between a source and the loop: it deals what is trained on, and follows the plan."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from isample.engine.batches import chosen, learn_outputs, learn_rows
from isample.engine.parts import Parts, Wishes, controller_of, limits_of
from isample.engine.steps import Steps
from isample.engine.tickets import Tickets
from isample.scoring.scorers import ScoredAhead
from isample.sources.base import Source
from isample.sources.limits import Limits
from isample.support.batch_cuts import take
from isample.support.errors import CannotCutError, NonFiniteError
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
        is_first = self.source is None
        self.source = source
        if is_first:
            controller = controller_of(self.parts, self.wishes, source)
            self.steps.control(controller, source.batch_size, lambda: self.opened.informed)
        self._followed = self.steps.steering.plan
        source.follow(self._followed)
        if self._state is not None:
            self.load_state_dict(self._state)

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

    def end_epoch(self) -> None:
        """The source has nothing more of it."""
        self.tickets.end_epoch()

    def deal(self, candidates: Candidates, ahead: ScoredAhead | None = None) -> Batch:
        """What is to be trained on of ``candidates``: its ticket waits for its logits."""
        plan = self.steps.tick()
        if plan is not self._followed:
            self._follow()
        batch = self._chosen(self.limits.within(plan), candidates, ahead)
        batch.began = self.steps.clock.began
        self.tickets.add(batch)
        return batch

    def _chosen(self, plan: Plan, candidates: Candidates, ahead: ScoredAhead | None) -> Batch:
        try:
            if self.limits.looks:
                self._look(candidates)
            return chosen(self.parts, self.opened, plan, candidates, ahead)
        except CannotCutError as error:
            if candidates.size > self.opened.batch_size:
                raise
            self.limits.cannot_cut(error)
            return chosen(self.parts, self.opened, self.limits.within(plan), candidates)

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
        waiting = self.tickets.waiting
        return {
            "steps": self.steps.state_dict(),
            "selector": self.parts.selector.state_dict(),
            "source": None if self.source is None else self.source.state_dict(waiting),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Now, or once there is a source."""
        self.limits.foresees = False  # that run's beginning did
        self._state = state if self.source is None else None
        if self.source is None:
            return
        self.parts.selector.load_state_dict(state["selector"])
        if state["source"] is not None:
            self.source.load_state_dict(state["source"])
        self.steps.load_state_dict(state["steps"])
        self.tickets = Tickets(self.tickets.alone)
        self._followed = None
        self._follow()

"""What the controller is told, and the plan that it answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from isample.control.base import Controller, from_dict, to_dict
from isample.values import Observation, Plan

State = TypeVar("State")


class Steering(Generic[State]):
    """Tells ``controller`` each step, in order.

    Plain steps, which tell nothing but their time, are told together, as long as ``plan`` stands
    anyway: code that runs once between two steps of a network finds empty caches, and is slow.
    ``shown`` makes of the size of such a batch what there is to observe of it.
    """

    def __init__(self, controller: Controller[State], shown: Callable[[int], Observation]):
        self.controller: Controller[State] = controller
        self._shown = shown
        self._state = controller.init()
        self.plan: Plan = controller.plan(self._state)
        self._size = 0  # of each plain step that waits to be told
        self._seconds: list[float] = []  # of these steps
        self._stood = 0  # steps of the plan, those that wait left out

    def observe(self, seen: Observation) -> None:
        """The numbers of a step."""
        self._tell()
        self._take(self.controller.observe(self._state, seen))

    def clock(self, seconds: float, overhead: float) -> None:
        """The time of a step that was observed."""
        self._stood += 1
        self._take(self.controller.clock(self._state, seconds, overhead))

    def plain(self, size: int, seconds: float) -> None:
        """A step over so many samples that told nothing but its time."""
        if size != self._size:
            self._tell()
            self._size = size
        self._seconds.append(seconds)
        if self._stood + len(self._seconds) >= self.plan.stands:
            self._tell()

    def gain(self, seen: Observation) -> float:
        """How many uniform batches the step is worth that was observed last."""
        return self.controller.gain(self._state, seen)

    def _tell(self) -> None:
        if not self._seconds:
            return
        state, controller, seen = self._state, self.controller, self._shown(self._size)
        for seconds in self._seconds:
            state = controller.clock(controller.observe(state, seen), seconds, 0.0)
        self._stood += len(self._seconds)
        self._seconds.clear()
        self._take(state)

    def _take(self, state: State) -> None:
        self._state = state
        plan = self.controller.plan(state)
        if plan is not self.plan or self._stood >= plan.stands:
            self.plan, self._stood = plan, 0

    def state_dict(self) -> Any:
        self._tell()
        return to_dict(self._state)

    def load_state_dict(self, state: Any) -> None:
        """Restores what :meth:`state_dict` gave; None begins anew."""
        self._seconds.clear()
        self._stood = 0
        first = self.controller.init()
        self._take(first if state is None else from_dict(first, state))

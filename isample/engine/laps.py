"""What steps took on a GPU, which a controller hears once it is known."""

from __future__ import annotations

from collections import deque

from isample.engine.steering import Steering
from isample.support.clocks import DeviceClock, Lap, StepClock


class Laps:
    """Steps whose time is under way, the oldest first.

    A step's numbers are read behind the device's passing of all laps before it. So the controller
    hears of a step before it observes the next one, as on a CPU.
    """

    def __init__(self, clock: DeviceClock):
        self._clock = clock
        self._steps: deque[tuple[Lap, list[int], int, float]] = deque()

    @classmethod
    def where_needed(cls, clock: StepClock) -> Laps | None:
        """None where the controller goes by the host's clock."""
        return cls(clock) if isinstance(clock, DeviceClock) else None

    def add(self, plain: list[int], others: int, overhead: float) -> None:
        """A lap ends: of plain steps of these sizes, and of ``others``, of ``overhead`` each."""
        self._steps.append((self._clock.lap(), plain, others, overhead))

    def tell(self, steering: Steering, *, waits: bool = False) -> None:
        """Those that are over; ``waits`` for all of them."""
        while self._steps and (waits or self._steps[0][0].is_over):
            lap, plain, others, overhead = self._steps.popleft()
            each = lap.seconds() / (len(plain) + others)
            for size in plain:
                steering.plain(size, each)
            for _ in range(others):
                steering.clock(each, overhead)

    def clear(self) -> None:
        self._steps.clear()

"""The median of a clock's last values, kept at hand: it is asked for at every step, and steps may
take half a millisecond."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable


class Recent:
    """The last ``kept`` of ``values``, oldest first; ``median`` is the upper one of two."""

    def __init__(self, values: Iterable[float] = (), kept: int = 51):
        self.kept = kept
        self.values: list[float] = []
        self._ordered: list[float] = []
        for value in values:
            self.add(value)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def median(self) -> float:
        return self._ordered[len(self._ordered) // 2]

    def add(self, value: float) -> None:
        self.values.append(value)
        insort(self._ordered, value)
        if len(self.values) > self.kept:
            del self._ordered[bisect_left(self._ordered, self.values.pop(0))]

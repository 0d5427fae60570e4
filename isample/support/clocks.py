"""A clock that is stopped and started again."""

from __future__ import annotations

import time


class Stopwatch:
    """``seconds`` is the time spent inside ``with`` blocks, as the host sees it."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self) -> Stopwatch:
        self._began = time.perf_counter()
        return self

    def __exit__(self, *exception) -> None:
        self.seconds += time.perf_counter() - self._began

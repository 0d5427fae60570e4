"""Who of several processes is lost, and an end to waiting for it.

A thread in each process beats, passes notices on and looks after its neighbours in a
:mod:`isample.support.ring`. A process is lost where it has ended, was killed, stands still as a
whole (its thread no longer beats), or has told that its training raised an error. One that is slow,
such as in an evaluation, still beats, and the others wait for it.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from typing import Any

from torch import distributed

from isample.support.errors import IsampleError, LostProcessError, UnevenProcessesError
from isample.support.ring import Address, Line, Listener, hang_up

BEAT = 0.5  # seconds
SILENCE = float(os.environ.get("ISAMPLE_SILENCE", "6"))  # seconds without a beat: it stands still
SETTLED = 0.5  # seconds in which notices come that were sent together
GRACE = 2.0  # seconds for a process to find an error itself that another one raised
EXPLAIN = 2.0  # seconds in which the reason of a failed wait comes to be known

Notice = dict[str, Any]


class Run:
    """Training with one loader: in each of its epochs all processes take the same steps."""

    def __init__(self, number: int):
        self.number: int = number
        self.epoch: int = 0
        self.steps: int = 0  # in this epoch, the one under way included
        self.is_open: bool = False  # whether an epoch is under way
        self.is_waiting: bool = False  # for others to end it
        self.found: float | None = None  # when an error was found, by time.monotonic
        self.is_ended: bool = False  # whether its waits were


class Watch:
    """Looks after the processes of ``group``; made by all of them together."""

    def __init__(self, group: distributed.ProcessGroup):
        self.group: distributed.ProcessGroup = group
        self.count: int = distributed.get_world_size(group)
        self.rank: int = distributed.get_rank(group)
        listener = Listener()
        addresses: list[Any] = [None] * self.count
        distributed.all_gather_object(addresses, listener.address, group=group)
        self._others: list[Address] = [a for r, a in enumerate(addresses) if r != self.rank]
        before, after = (self.rank - 1) % self.count, (self.rank + 1) % self.count
        back, onward = listener.meet(addresses[after])
        self._lines: list[tuple[int, Line]] = [(before, back), (after, onward)]
        self._changed = threading.Condition()
        self._notices: list[Notice] = []
        self._left: dict[tuple[int, int], dict[int, int]] = {}  # run, rank: epoch: steps
        self._lost: dict[int, str] = {}
        self._runs: list[Run] = []
        self._closed = False
        self._thread = threading.Thread(target=self._look, name="isample watch", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def lost(self) -> LostProcessError | None:
        """The first process that is lost to every run."""
        return next((LostProcessError(rank, what) for rank, what in self._lost.items()), None)

    def close(self) -> None:
        """At the end of the program; where an error of torch's ended it, prints the cause."""
        failed = isinstance(getattr(sys, "last_value", None), RuntimeError)
        for run in self._runs[-1:] if failed else ():
            error = None if run.is_ended else self.explain(run, SETTLED)
            if error is not None:
                self._print(error)
        self._closed = True
        self._thread.join()

    # ---- Of this process ------------------------------------------------------------------------

    def open(self) -> Run:
        """A new run; all processes open theirs together."""
        with self._changed:
            self._runs.append(Run(len(self._runs)))
            return self._runs[-1]

    def begin(self, run: Run) -> None:
        """An epoch begins; raises LostProcessError where others cannot take part."""
        with self._changed:
            if not run.is_open:
                run.epoch, run.steps, run.is_open = run.epoch + 1, 0, True
            error = self._error(run)
        if error is not None:
            raise error

    def leave(self, run: Run) -> None:
        """This process takes no more steps of the epoch."""
        if run.is_open:
            run.is_open = False
            self._tell(kind="left", run=run.number, epoch=run.epoch, steps=run.steps)

    def wait(self, run: Run) -> None:
        """Until all others have left the epoch too; raises UnevenProcessesError where they take
        more steps, or LostProcessError."""
        run.is_waiting, found = True, None
        try:
            with self._changed:
                while (error := self._error(run)) or len(self._who_left(run)) < self.count:
                    found = found or (time.monotonic() if error else None)
                    if error is not None and found and time.monotonic() > found + SETTLED:
                        raise error
                    self._changed.wait(BEAT / 5)
        finally:
            run.is_waiting = False

    def tell_raised(self, run: Run, error: BaseException) -> None:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        self._tell(kind="raised", run=run.number, what=what[:500])

    def explain(self, run: Run, seconds: float = EXPLAIN) -> IsampleError | None:
        """Why a wait for the others failed; None where they are well."""
        until = time.monotonic() + seconds
        with self._changed:
            while (error := self._error(run)) is None and time.monotonic() < until:
                self._changed.wait(BEAT)
        return error

    # ---- Of the others --------------------------------------------------------------------------

    def _tell(self, **notice: Any) -> None:
        self._spread({"rank": self.rank, **notice}, None)

    def _spread(self, notice: Notice, source: Line | None) -> None:
        """To this process and, where it is news, to its neighbours."""
        with self._changed:
            if not self._note(notice):
                return
            self._changed.notify_all()
            for _, line in self._lines:
                if line is not source:
                    line.send(notice)

    def _note(self, notice: Notice) -> bool:
        """Whether it is news."""
        if notice["kind"] == "left":
            known = self._left.setdefault((notice["run"], notice["rank"]), {})
            if notice["epoch"] <= max(known, default=0):
                return False
            known.pop(notice["epoch"] - 2, None)  # all others have left that one
            known[notice["epoch"]] = notice["steps"]
            return True
        if notice in self._notices:
            return False
        self._notices.append(notice)
        if notice["kind"] == "lost":
            self._lost.setdefault(notice["lost"], notice["what"])
        return True

    def _who_left(self, run: Run) -> dict[int, int]:
        """The processes that have left the run's present epoch, and after how many steps."""
        known = ((rank, self._left.get((run.number, rank), {})) for rank in range(self.count))
        return {rank: epochs[run.epoch] for rank, epochs in known if run.epoch in epochs}

    def _error(self, run: Run) -> IsampleError | None:
        """What makes the run impossible."""
        left = self._who_left(run)
        own = [n for n in self._notices if n.get("run") == run.number]
        for notice in own:
            if notice["kind"] == "raised" and notice["rank"] != self.rank:
                return LostProcessError(notice["rank"], f"it raised {notice['what']}")
            if notice["kind"] == "uneven" and notice["epoch"] == run.epoch:
                return UnevenProcessesError(notice["what"])
        for rank, what in self._lost.items():
            if rank not in left:
                return LostProcessError(rank, what)
        for rank, steps in left.items():
            if run.steps > steps:
                what = (
                    f"process {rank} ended epoch {run.epoch} after {steps} steps, process "
                    f"{self.rank} goes on"
                )
                return UnevenProcessesError(what)
        for rank, what in self._lost.items():
            if left[rank] != run.steps:
                return LostProcessError(rank, what)
        return None

    # ---- The thread -----------------------------------------------------------------------------

    def _look(self) -> None:
        beat = time.monotonic()
        while not self._closed:
            lines = {line.socket: (rank, line) for rank, line in self._lines}
            ready, _, _ = select.select([*lines], [], [], BEAT / 5)
            for came in ready:
                self._hear(*lines[came])
            if time.monotonic() >= beat:
                beat = time.monotonic() + BEAT  # after a pause of the machine, one for all of it
                self._beat()
            self._end_waits()
        for _, line in self._lines:
            line.socket.close()

    def _hear(self, rank: int, line: Line) -> None:
        notices = line.receive()
        if notices is None:
            self._lines.remove((rank, line))
            line.socket.close()
            self._lose(rank, "it has ended or was killed")
            return
        for notice in notices:
            self._spread(notice, line)

    def _beat(self) -> None:
        with self._changed:
            is_open = any(run.is_open or run.is_waiting for run in self._runs)
            for rank, line in self._lines:
                line.send(None)
                line.silent = line.silent + 1 if is_open else 0
                if line.silent == round(SILENCE / BEAT):
                    self._lose(rank, f"it gave no sign of life for {SILENCE:g} seconds")

    def _lose(self, rank: int, what: str) -> None:
        self._spread({"rank": self.rank, "kind": "lost", "lost": rank, "what": what}, None)

    def _end_waits(self) -> None:
        """Of runs that cannot go on, after a while in which this process may find out itself."""
        with self._changed:
            for run in self._runs:
                error = self._error(run) if run.is_open and not run.is_ended else None
                if error is None:
                    continue
                run.found = run.found or time.monotonic()
                raised = isinstance(error, LostProcessError) and error.rank not in self._lost
                if time.monotonic() > run.found + (GRACE if raised else SETTLED):
                    run.is_ended = True
                    if isinstance(error, UnevenProcessesError):
                        self._tell(kind="uneven", run=run.number, epoch=run.epoch, what=error.what)
                    self._end(error)

    def _end(self, error: IsampleError) -> None:
        self._print(error)
        hang_up(self._others)
        if distributed.get_backend(self.group) != "gloo":  # whose abort does nothing
            self.group.abort()

    def _print(self, error: IsampleError) -> None:
        print(f"isample, process {self.rank}: {error}", file=sys.stderr, flush=True)


WATCHES: dict[distributed.ProcessGroup, Watch] = {}


def watch_of(group: distributed.ProcessGroup) -> Watch:
    """The watch of ``group``; where there is none yet, all its processes make one together."""
    if group not in WATCHES:
        WATCHES[group] = Watch(group)
    return WATCHES[group]

"""The comparison: all runs, each in a process of its own, so many at a time, one core each."""

from __future__ import annotations

import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from .referee import run_alone
from .runfile import Record, Run, read_finished


class RunFailed(RuntimeError):
    """Runs that ended with an error; it is printed where it arose."""


@dataclass(frozen=True)
class Plan:
    """``entrants`` are (method, share of the time), ``data`` is what the results call the data."""

    task: str
    data: str
    entrants: Sequence[tuple[str, float]]
    seconds: float
    seeds: int

    def runs(self) -> list[Run]:
        """All entrants of a seed before the next seed, in shuffled order: what disturbs the machine
        hits all alike."""
        runs: list[Run] = []
        for seed in range(self.seeds):
            of_seed = [
                Run("compare", self.task, method, seed, self.seconds, self.data, share)
                for method, share in self.entrants
            ]
            random.Random(seed).shuffle(of_seed)
            runs += of_seed
        return runs


def compare(
    plan: Plan, root: Path, folder: Path, jobs: int, tell: Callable[[Record, int, int], None]
) -> None:
    """Does the runs of ``plan`` that ``folder`` does not hold already, ``jobs`` at a time.
    ``tell(record, done, all)`` is called after each. A run that is left without others beside it
    gets a copy of itself, which is thrown away: alone it would have caches and memory that the
    others had to share.

    Raises RunFailed at the end if some run failed; RunFileError, before anything runs, if
    ``folder`` holds such a run of another budget. Stopping it stops its runs; those that were not
    finished are done again the next time.
    """
    runs = plan.runs()
    waiting = [run for run in runs if read_finished(run, folder) is None]
    failed: list[Run] = []
    done = len(runs) - len(waiting)
    places: dict[int, tuple[BaseProcess, Run]] = {}
    copies: list[BaseProcess] = []
    free, spare = cores()[:jobs], tempfile.TemporaryDirectory()
    try:
        while waiting or places:
            while waiting and free:
                run, core = waiting.pop(0), free.pop(0)
                places[core] = start(run, root, folder, core), run
            beside = next(run for _, run in places.values())
            copies += [
                start(beside, root, Path(tempfile.mkdtemp(dir=spare.name)), core) for core in free
            ]
            free.clear()
            wait([process.sentinel for process, _ in places.values()])
            for core, (process, run) in list(places.items()):
                if process.is_alive():
                    continue
                process.join()
                del places[core]
                free.append(core)
                record = read_finished(run, folder) if process.exitcode == 0 else None
                if record is None:
                    failed.append(run)
                    continue
                done += 1
                tell(record, done, len(runs))
    finally:
        for process in [*copies, *(process for process, _ in places.values())]:
            process.terminate()
            process.join()
        spare.cleanup()
    if failed:
        names = ", ".join(f"{run.name} (seed {run.seed})" for run in failed)
        raise RunFailed(f"{len(failed)} of {len(runs)} runs failed: {names}")


def start(run: Run, root: Path, folder: Path, core: int) -> BaseProcess:
    can_pin = hasattr(os, "sched_setaffinity")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=run_alone, args=(run, root, folder, core if can_pin else None))
    process.start()
    return process


def cores() -> list[int]:
    """The cores that this process may use."""
    return (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )

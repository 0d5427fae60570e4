"""Run files: one JSON-lines file a run. First line "start" (what was run, where), then "point"
lines, last line "end".

A file without an "end" is of a run that was interrupted, and the run is done again.
"""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


class RunFileError(ValueError):
    """Run files that are missing, damaged, or of other settings than asked for."""


@dataclass(frozen=True)
class Run:
    """One run of the comparison. ``seconds`` is the whole budget, of which the run is given
    ``share``; ``data`` is what the results call the data."""

    task: str
    method: str
    seed: int
    seconds: float
    share: float
    data: str

    @property
    def name(self) -> str:
        """The entrant: the method and, unless it has all the time, its share of it."""
        return self.method if self.share == 1.0 else f"{self.method}@{self.share:g}"

    def path(self, folder: Path) -> Path:
        return folder / f"{self.task}.{self.name}.{self.seed}.jsonl"


@dataclass(frozen=True)
class Point:
    """One evaluation. ``elapsed`` and ``active_seconds`` are seconds of training, ``cpu_seconds``
    those of them that the process really had a core; losses and the error are means, NaN where the
    training diverged."""

    elapsed: float
    updates: int
    training_loss: float
    test_loss: float
    test_error: float
    active_seconds: float | None
    cpu_seconds: float
    load: float

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.training_loss)


@dataclass(frozen=True)
class RunRecord:
    """A finished run: ``machine`` is what :func:`machine` gave when it began."""

    run: Run
    machine: dict[str, Any]
    points: list[Point]

    @property
    def final(self) -> Point:
        return self.points[-1]

    @property
    def core_share(self) -> float:
        """The share of its training time that the run really had its core."""
        return self.final.cpu_seconds / self.final.elapsed


class RunWriter:
    """Writes a run's file line by line, so that it can be watched and an interruption shows."""

    def __init__(self, path: Path, run: Run):
        self._file = path.open("w", encoding="utf-8")
        self._line("start", {"run": asdict(run), "machine": machine()})

    def point(self, point: Point) -> None:
        values = asdict(point)
        self._line(
            "point", {k: v if v is None or math.isfinite(v) else None for k, v in values.items()}
        )

    def end(self) -> None:
        self._line("end", {"date": now()})
        self._file.close()

    def _line(self, event: str, content: dict[str, Any]) -> None:
        self._file.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
        self._file.flush()


def read(path: Path) -> RunRecord | None:
    """The run in ``path``, or None if it was interrupted.

    Raises RunFileError for a file that no run has written.
    """
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines or lines[-1]["event"] != "end":
            return None
        run, points = Run(**lines[0]["run"]), []
        for line in lines[1:-1]:
            values = {k: v for k, v in line.items() if k != "event"}
            for name in ("training_loss", "test_loss", "test_error"):
                values[name] = math.nan if values[name] is None else values[name]
            points.append(Point(**values))
        return RunRecord(run, lines[0]["machine"], points)
    except json.JSONDecodeError:
        return None  # its last line was cut off
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise RunFileError(f"{path} is not a run file: {type(error).__name__}: {error}") from error


def read_finished(run: Run, folder: Path) -> RunRecord | None:
    """``run``'s record from ``folder`` if it is finished.

    Raises RunFileError where the file there is of another budget or other data.
    """
    path = run.path(folder)
    record = read(path) if path.is_file() else None
    if record is not None and record.run != run:
        raise RunFileError(
            f"{path} holds a run of {record.run.seconds:g} s on {record.run.data}, and {run.seconds:g} s on {run.data} "
            "are asked for: choose another output folder"
        )
    return record


def read_all(folder: Path) -> list[RunRecord]:
    """All finished runs in ``folder``; raises RunFileError if there is none."""
    records = [
        record for path in sorted(folder.glob("*.jsonl")) if (record := read(path)) is not None
    ]
    if not records:
        raise RunFileError(f"no finished run in {folder}: looked for TASK.METHOD.SEED.jsonl")
    return records


def machine() -> dict[str, Any]:
    """What the figures depend on, and when they were taken."""
    return {
        "date": now(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "isample": version("isample"),
    }


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")

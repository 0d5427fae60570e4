"""Run files: one JSON-lines file a run. First line "start" (what was run, where), then "point"
lines, last line "end".

A file without an "end" is of a run that was interrupted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.common.machine import machine, now


class RunFileError(ValueError):
    """Run files that are missing, damaged, or of other settings than asked for."""


@dataclass(frozen=True)
class Run:
    """One training, by the command ``compare`` or ``run``.

    ``task`` is the name of the task or the experiment. ``budget`` is in seconds of training or in
    updates, as the experiment has it; the run is given ``share`` of it. ``data`` is what the
    results call the data, ``device`` the type of what trains.
    """

    command: str
    task: str
    method: str
    seed: int
    budget: float
    data: str
    share: float = 1.0
    scale: float = 1.0
    normalisation: str | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The entrant: the method and, unless it has all the time, its share of it."""
        return self.method if self.share == 1.0 else f"{self.method}@{self.share:g}"

    def path(self, folder: Path) -> Path:
        return folder / f"{self.task}.{self.name}.{self.seed}.jsonl"

    def checkpoint(self, folder: Path) -> Path:
        return folder / f"{self.task}.{self.name}.{self.seed}.checkpoint"


@dataclass(frozen=True)
class Point:
    """What was measured at one place of a run; None where it was not.

    ``elapsed`` are seconds of training, ``cpu_seconds`` those of them that the process really had a
    core, ``active_seconds`` those of importance-sampled steps, None for a method that tells of
    none; ``kinds`` has the seconds of each kind of step. Losses and the error are means, NaN where
    the training diverged. The rest is of figures 1 and 2, by the score.
    """

    elapsed: float
    updates: int
    cpu_seconds: float
    load: float
    active_seconds: float | None = None
    kinds: dict[str, float] = field(default_factory=dict)
    training_loss: float | None = None
    test_loss: float | None = None
    test_error: float | None = None
    distance: dict[str, float] | None = None
    squared_error: dict[str, float] | None = None
    probabilities: dict[str, list[float]] | None = None

    @property
    def diverged(self) -> bool:
        return self.training_loss is not None and not math.isfinite(self.training_loss)


@dataclass(frozen=True)
class Record:
    """What a run's file holds: ``machine`` is what `bench.common.machine` gave when it began."""

    run: Run
    machine: dict[str, Any]
    points: list[Point]
    finished: bool = True

    @property
    def final(self) -> Point:
        return self.points[-1]

    @property
    def core_share(self) -> float:
        """The share of its training time that the run really had its core."""
        return self.final.cpu_seconds / self.final.elapsed


class RunWriter:
    """Writes a run's file line by line, so that it can be watched and an interruption shows.

    ``points`` are those of a run that goes on: what was written after its checkpoint is written
    again.
    """

    def __init__(self, run: Run, folder: Path, points: Iterable[Point] = ()):
        self._file = run.path(folder).open("w", encoding="utf-8")
        self._line("start", {"run": asdict(run), "machine": machine()})
        for point in points:
            self.point(point)

    def point(self, point: Point) -> None:
        values = {name: value for name, value in asdict(point).items() if value is not None}
        self._line("point", without_nan(values))

    def end(self) -> None:
        self._line("end", {"date": now()})
        self.close()

    def close(self) -> None:
        self._file.close()

    def _line(self, event: str, content: dict[str, Any]) -> None:
        self._file.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
        self._file.flush()


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {name: without_nan(content) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(content) for content in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def with_nan(value: Any) -> Any:
    """What `without_nan` was given, but that infinities are NaN."""
    if isinstance(value, dict):
        return {name: with_nan(content) for name, content in value.items()}
    if isinstance(value, list):
        return [with_nan(content) for content in value]
    return math.nan if value is None else value


def read(path: Path) -> Record | None:
    """The run in ``path``, or None where it was killed before the first line was whole.

    A last line that was cut off is left out. Raises RunFileError for a file that no run has
    written.
    """
    try:
        texts = path.read_text(encoding="utf-8").splitlines(keepends=True)
        lines = [json.loads(text) for text in texts if text.endswith("\n")]
        if not lines:
            return None
        points = [Point(**with_nan(rest(line))) for line in lines if line["event"] == "point"]
        finished = lines[-1]["event"] == "end"
        return Record(Run(**lines[0]["run"]), lines[0]["machine"], points, finished)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFileError(f"{path} is not a run file: {type(error).__name__}: {error}") from error


def rest(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "event"}


def read_finished(run: Run, folder: Path) -> Record | None:
    """``run``'s record from ``folder`` if it is finished.

    Raises RunFileError where the file there is of other settings.
    """
    path = run.path(folder)
    record = read(path) if path.is_file() else None
    if record is None:
        return None
    there = asdict(record.run)
    differing = [
        f"{name} {there[name]}, not {value}"
        for name, value in asdict(run).items()
        if there[name] != value
    ]
    if differing:
        raise RunFileError(
            f"{path} holds a run with {'; '.join(differing)}: choose another --output"
        )
    return record if record.finished else None


def read_all(folder: Path, command: str) -> list[Record]:
    """The runs of ``command`` in ``folder`` that have a point at least.

    Raises RunFileError if none of them is finished.
    """
    records = [record for path in sorted(folder.glob("*.jsonl")) if (record := read(path))]
    found = [record for record in records if record.run.command == command and record.points]
    if not any(record.finished for record in found):
        raise RunFileError(
            f"no finished run of `{command}` in {folder}: looked for TASK.METHOD.SEED.jsonl"
        )
    return found

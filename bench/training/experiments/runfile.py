"""The files of a run: JSON lines as the referee's (first "start", then "point", last "end"), and
its checkpoint.

A run file without an "end" is of a run that was stopped; it goes on from the checkpoint beside it.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..record import RunFileError, machine, now

Point = dict[str, Any]  # at least "elapsed", seconds of training, and "updates"


@dataclass(frozen=True)
class Run:
    """``budget`` is in seconds of training or in updates, as the experiment has it; ``data`` what
    the results call the data; ``device`` the type of the machine's that trains."""

    experiment: str
    method: str
    seed: int
    budget: float
    scale: float
    normalisation: str | None
    data: str
    device: str

    def path(self, folder: Path) -> Path:
        return folder / f"{self.experiment}.{self.method}.{self.seed}.jsonl"

    def checkpoint(self, folder: Path) -> Path:
        return self.path(folder).with_suffix(".checkpoint")


@dataclass(frozen=True)
class Record:
    run: Run
    machine: dict[str, Any]
    points: list[Point]
    finished: bool


class RunWriter:
    """Writes a run's file line by line. ``points`` are those of a run that goes on: what was
    written after its checkpoint is written again."""

    def __init__(self, run: Run, folder: Path, points: list[Point]):
        self._file = run.path(folder).open("w", encoding="utf-8")
        self._line("start", {"run": asdict(run), "machine": machine()})
        for point in points:
            self.point(point)

    def point(self, point: Point) -> None:
        self._line("point", without_nan(point))

    def end(self) -> None:
        self._line("end", {"date": now()})
        self._file.close()

    def close(self) -> None:
        self._file.close()

    def _line(self, event: str, content: dict[str, Any]) -> None:
        self._file.write(json.dumps({"event": event, **content}, allow_nan=False) + "\n")
        self._file.flush()


def without_nan(value: Any) -> Any:
    """JSON has no NaN: null stands for it."""
    if isinstance(value, dict):
        return {name: without_nan(content) for name, content in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path) -> Record:
    """Raises RunFileError for a file that no run has written. A last line that was cut off is left
    out."""
    try:
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if text.endswith("\n"):
                lines.append(json.loads(text))
        points = [
            {k: v for k, v in line.items() if k != "event"}
            for line in lines
            if line["event"] == "point"
        ]
        return Record(
            Run(**lines[0]["run"]), lines[0]["machine"], points, lines[-1]["event"] == "end"
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RunFileError(f"{path} is not a run file: {type(error).__name__}: {error}") from error


def read_all(folder: Path) -> list[Record]:
    """All runs in ``folder`` that have a point at least; raises RunFileError if there is none."""
    records = [record for path in sorted(folder.glob("*.jsonl")) if (record := read(path)).points]
    if not records:
        raise RunFileError(f"no run in {folder}: looked for EXPERIMENT.METHOD.SEED.jsonl")
    return records


def is_finished(run: Run, folder: Path) -> bool:
    """Raises RunFileError where the file there is of other settings."""
    path = run.path(folder)
    if (
        not path.is_file() or b"\n" not in path.read_bytes()
    ):  # killed before its first line was whole
        return False
    record = read(path)
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
    return record.finished


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all, whenever the process is killed."""
    unfinished = path.with_suffix(".unfinished")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """None where there is none. Raises RunFileError for a file that is not one."""
    if not path.is_file():
        return None
    try:
        return torch.load(path, map_location="cpu")
    except Exception as error:  # torch.load raises whatever its unpickler does
        raise RunFileError(
            f"{path} is not a checkpoint: {type(error).__name__}: {error}"
        ) from error

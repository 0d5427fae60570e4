"""Commands that end in time, with all that they started, and whose output is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/gpu"
# the compilers' own places for them are in the home folder, which may be read-only, or missing
CACHES = {
    "TRITON_CACHE_DIR": str(WORK / "triton"),
    "TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor"),
}
GRACE = 5.0  # seconds in which an interrupted command may still say what it has found
MOST_BYTES = 15 * 2**20  # of an output: what is in the middle of a longer one is cut out

_running: set[subprocess.Popen] = set()
_starting = threading.Lock()
_left = threading.Event()


class Deadline:
    """So many ``seconds`` from now."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """The same, or ``seconds`` from now if that is sooner."""
        return Deadline(min(seconds, self.left))


@dataclass(frozen=True)
class Ended:
    """``code``: the exit status, None of a command whose time was up."""

    code: int | None
    seconds: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.code is None:
            return f"its {self.limit:.0f} s were up"
        return "ok" if self.ok else f"exit status {self.code}"


def run(
    command: Sequence[str | os.PathLike],
    output: Path,
    limit: float,
    *,
    errors: Path | None = None,
    environment: Mapping[str, str] = {},
) -> Ended:
    """Runs ``command`` in the root for at most ``limit`` seconds.

    What it prints goes to ``output`` while it runs, its errors too unless ``errors`` is given. A
    command whose time is up is interrupted as by Ctrl-C, so that it may still say what it found;
    then its whole process group is killed, as is what any command leaves behind. Raises
    RuntimeError after kill_all().
    """
    begin = time.monotonic()
    grace = min(GRACE, limit / 4)
    with open(output, "wb") as out, open(errors or os.devnull, "wb") as err:
        with _starting:
            if _left.is_set():
                raise RuntimeError(f"the runner is being left: {command[0]} was not started")
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=ROOT,
                env={**CACHES, **os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if errors else subprocess.STDOUT,
                start_new_session=True,
            )
            _running.add(process)
        try:
            code = _wait(process, limit - grace)
            if code is None:
                process.send_signal(signal.SIGINT)
                _wait(process, grace)
        finally:
            _kill(process)
    for path in filter(None, (output, errors)):
        shorten(path)
    return Ended(code, time.monotonic() - begin, limit)


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return None


def _kill(process: subprocess.Popen) -> None:
    """The group outlives its leader, so it is killed also where that has ended."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _running.discard(process)


def kill_all() -> None:
    """For a runner that is left early: ends what runs, and lets nothing start any more."""
    with _starting:
        _left.set()
        running = list(_running)
    for process in running:
        _kill(process)


def shorten(path: Path, most: int = MOST_BYTES) -> None:
    """Leaves the first and the last part of a file that is too long to be handed on."""
    if path.stat().st_size <= most:
        return
    with open(path, "rb") as file:
        first = file.read(most // 2)
        file.seek(-(most // 2 - 100), os.SEEK_END)
        last = file.read()
    path.write_bytes(first + b"\n[... the middle of this output is cut out ...]\n" + last)


def last_line(path: Path) -> str:
    """The last line that says something, at most 200 characters of it."""
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    said = [line.strip(" =") for line in lines if line.strip(" =")]
    return said[-1][:200] if said else ""

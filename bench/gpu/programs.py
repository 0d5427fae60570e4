"""The compiled programs of a call: packed ones, or built here once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from . import packed
from .processes import ROOT, Deadline, last_line, run


class NotBuilt(Exception):
    """A program that a stage needs is not there; says why, in one sentence."""


def build_command(part: packed.Part, architecture: str, target: Path) -> list[str]:
    """What makes ``part`` for ``architecture`` (sm_90); the device tests go where they say."""
    if part is packed.DEVICE_TESTS:
        return [sys.executable, "tests/cpp/standin/build.py", "--device", architecture]
    kernels = sorted(str(path) for path in (ROOT / "csrc/cuda").glob("*.cu"))
    flags = ["-std=c++20", "-O3", f"-arch={architecture}", "--threads=0"]
    return ["nvcc", *flags, "bench/kernels/cuda/bench.cu", *kernels, "-o", str(target)]


def built_at(part: packed.Part) -> Path:
    """tests/cpp/standin/build.py puts its program there, and so does the other command."""
    return ROOT / "build/device" / part.file


def architecture(capability: str) -> str:
    return f"sm_{capability.replace('.', '')}"


class Programs:
    """``work`` takes what the compiler says."""

    def __init__(self, facts: dict, work: Path):
        self.facts, self.work = facts, work
        self._lock = threading.Lock()
        self._found: dict[str, Path] = {}

    def get(self, part: packed.Part, until: Deadline) -> Path:
        """The program. Raises NotBuilt."""
        with self._lock:  # two stages want the device tests at once
            if part.file not in self._found:
                self._found[part.file] = self._find(part, until)
            return self._found[part.file]

    def _find(self, part: packed.Part, until: Deadline) -> Path:
        reason = packed.refusal(part, self.facts)
        if reason is None:
            program = packed.PACK / part.file
            program.chmod(0o755)
            return program
        if self.facts["nvcc"] is None:
            raise NotBuilt(f"{reason}, and nvcc is not on the PATH: install the CUDA toolkit")
        target = built_at(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        output = self.work / f"build-{part.file}.txt"
        command = build_command(part, architecture(self.facts["capability"]), target)
        ended = run(command, output, until.left)
        if not ended.ok:
            raise NotBuilt(f"{reason}; the build here failed ({ended}: {last_line(output)})")
        print(f"built {part.file} here in {ended.seconds:.0f} s, since {reason}", flush=True)
        return target

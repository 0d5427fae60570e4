"""What was built ahead, on a machine without a GPU, and whether it may be used here.

`.gpu/pack.json` says of each file which sources it was built from. A file of other sources than
those that lie here is refused, since its results would be another commit's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from .processes import ROOT

PACK = ROOT / ".gpu"
MANIFEST = "pack.json"


@dataclass(frozen=True)
class Part:
    """A file of the pack, and the patterns of the sources that it is built from."""

    file: str
    sources: tuple[str, ...]
    for_torch: bool = False


EXTENSION = Part("_C.cpython-312-x86_64-linux-gnu.so", ("setup.py", "csrc/**/*"), for_torch=True)
DEVICE_TESTS = Part(
    "cuda_tests",
    ("csrc/core/*", "csrc/cpu/*", "csrc/cuda/*", "tests/cpp/cuda_*", "tests/cpp/standin/build.py"),
)
KERNELS = Part("bench", ("csrc/core/*", "csrc/cuda/*", "bench/kernels/cuda/*.cu*"))
PARTS = (EXTENSION, DEVICE_TESTS, KERNELS)


def digest(part: Part) -> str:
    """SHA-256 over the names and the contents of a part's sources."""
    found = {path for pattern in part.sources for path in ROOT.glob(pattern) if path.is_file()}
    if not found:
        raise FileNotFoundError(f"no sources of {part.file} in {ROOT}: {', '.join(part.sources)}")
    total = hashlib.sha256()
    for path in sorted(found):
        content = path.read_bytes()
        total.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def manifest() -> dict | None:
    path = PACK / MANIFEST
    return json.loads(path.read_text()) if path.is_file() else None


def commit() -> str:
    known = manifest()
    return known["commit"][:12] if known else "unknown"


def refusal(part: Part, facts: dict) -> str | None:
    """Why ``part`` of the pack may not be used on the machine of these ``facts``, or None."""
    known = manifest()
    if known is None or part.file not in known["parts"] or not (PACK / part.file).is_file():
        return f"there is no packed {part.file}"
    if known["parts"][part.file] != digest(part):
        return f"the packed {part.file} is stale: it was built from other sources"
    here = facts["capability"]
    if known["capability"] != here:
        return f"the packed {part.file} is for compute capability {known['capability']}, not {here}"
    wanted, there = ((each["tag"], release(each["torch"])) for each in (known, facts))
    if part.for_torch and wanted != there:
        return (
            f"the packed {part.file} is for {wanted[0]} and torch {wanted[1]}, "
            f"not {there[0]} and torch {there[1]}"
        )
    return None


def release(version: str) -> str:
    """2.11.0 of 2.11.0+cu130."""
    return version.split("+")[0]

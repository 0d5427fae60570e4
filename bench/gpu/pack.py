"""Builds what a machine with a GPU is to run, on one without: `make gpu-pack`.

Fills .gpu with the extension for this Python and torch, the kernels' own tests and their benchmark,
for one architecture and stripped; with the wheel of Liger, which the ops are compared with; with
CIFAR-10, where --data names a folder that holds load.py and its file; and with pack.json, which
says what they were built from. Needs nvcc. Ends with 1 where that is more than can be carried.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import packed
from .processes import ROOT
from .programs import architecture, build_command, built_at

CAPABILITY = "9.0"
LIGER = "liger-kernel==0.8.5"
MOST_BYTES = 40_000_000
LOAD = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("isample._C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.build_info())
"""
LIBRARIES, OBJECTS = ROOT / "build/pack", ROOT / "build/pack-objects"


def call(command: Sequence[str | os.PathLike], **environment: str) -> None:
    print("+", " ".join(map(str, command)), flush=True)
    subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=True)


def build_extension(target: Path) -> None:
    """Beside the sources' own build, which is for another torch."""
    folders = ["--build-lib", LIBRARIES, "--build-temp", OBJECTS]
    call(
        [sys.executable, "setup.py", "-q", "build_ext", *folders],
        ISAMPLE_CUDA="1",
        TORCH_CUDA_ARCH_LIST=CAPABILITY,
        MAX_JOBS=str(os.cpu_count()),
    )
    call(["strip", "-o", target, LIBRARIES / "isample" / packed.EXTENSION.file])
    call([sys.executable, "-c", LOAD, target])


def build_program(part: packed.Part, target: Path) -> None:
    built = built_at(part)
    built.parent.mkdir(parents=True, exist_ok=True)
    call(build_command(part, architecture(CAPABILITY), built))
    call(["strip", "-o", target, built])


def add_data(folder: Path, pack: Path) -> None:
    """load.py and the files that it reads; the user's own, so nothing is downloaded."""
    found = sorted(folder.glob("cifar10*.npz"))
    if not (folder / "load.py").is_file() or not found:
        raise SystemExit(
            f"--data must be a folder with load.py, whose cifar10() gives the arrays, and "
            f"cifar10*.npz, which it reads; got {folder}"
        )
    for path in (folder / "load.py", *found):
        shutil.copyfile(path, pack / path.name)


def add_liger(pack: Path) -> None:
    options = ["-q", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    call([sys.executable, "-m", "pip", "download", *options, "-d", pack, LIGER])


def commit() -> str:
    """For a reader alone: what is refused goes by the digests."""
    if shutil.which("git") is None:
        return "unknown"
    command = ["git", "rev-parse", "HEAD"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return said.stdout.strip() or "unknown"


def write_manifest(pack: Path, digests: dict[str, str]) -> None:
    import torch  # here alone: the rest needs no torch

    known = {
        "commit": commit(),
        "tag": sys.implementation.cache_tag,
        "torch": torch.__version__,
        "capability": CAPABILITY,
        "parts": digests,
    }
    (pack / packed.MANIFEST).write_text(json.dumps(known, indent=1) + "\n")


def check_size(pack: Path, most: int = MOST_BYTES) -> None:
    sizes = {path.name: path.stat().st_size for path in pack.rglob("*") if path.is_file()}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / 1e6:8.2f} MB  {name}")
    total = sum(sizes.values())
    print(f"{total / 1e6:8.2f} MB in all, in {pack}")
    if total > most:
        raise SystemExit(f"the pack must be under {most / 1e6:.0f} MB; it has {total / 1e6:.2f}")


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.pack", description=__doc__)
    parser.add_argument("--data", type=Path, help="a folder with load.py and cifar10*.npz")
    data, pack = parser.parse_args(words).data, packed.PACK
    if packed.EXTENSION.file != f"_C.{sys.implementation.cache_tag}-x86_64-linux-gnu.so":
        wanted, here = packed.EXTENSION.file, sys.implementation.cache_tag
        raise SystemExit(f"the pack holds {wanted}; got {here}: run make gpu-pack PY312=python3.12")
    if shutil.which("nvcc") is None:
        raise SystemExit("make gpu-pack needs nvcc on the PATH: install the CUDA toolkit")
    digests = {part.file: packed.digest(part) for part in packed.PARTS}  # before the builds read
    pack.mkdir(exist_ok=True)
    (pack / packed.MANIFEST).unlink(missing_ok=True)  # until all of it is there
    if data is not None:
        add_data(data, pack)
    add_liger(pack)
    build_extension(pack / packed.EXTENSION.file)
    for part in (packed.DEVICE_TESTS, packed.KERNELS):
        build_program(part, pack / part.file)
    write_manifest(pack, digests)
    check_size(pack)


if __name__ == "__main__":
    main(sys.argv[1:])

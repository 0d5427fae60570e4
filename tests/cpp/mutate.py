"""Breaks the kernels, one place at a time, and demands that the tests on the stand-in notice.

    python tests/cpp/mutate.py [--only WORD] [--jobs 2]

Tried are: every __syncthreads and every __threadfence of csrc/cuda without it, and the merges and
bounds checks of mutations.py. Prints one line a mutant; ends with 1 if one survived. A mutant takes
half a minute, a survivor a few times that.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "standin"))

import build
from mutations import EDITS

CUDA = build.ROOT / "csrc/cuda"


def mutants():
    for path in sorted(CUDA.glob("*.cu*")):
        text = path.read_text()
        for call in ("__syncthreads();", "__threadfence();"):
            for number, place in enumerate(re.finditer(re.escape(call), text), 1):
                line = text.count("\n", 0, place.start()) + 1
                yield (
                    f"{path.name}:{line} without {call} ({number})",
                    path.name,
                    text[: place.start()] + text[place.end() :],
                )
    for name, old, new in EDITS:
        text = (CUDA / name).read_text()
        if old not in text:
            raise SystemExit(f"{name} no longer holds: {old}")
        for place in re.finditer(re.escape(old), text):
            line = text.count("\n", 0, place.start()) + 1
            yield (
                f"{name}:{line} {old!r} -> {new!r}",
                name,
                text[: place.start()] + new + text[place.end() :],
            )


def run_tests(tests, seconds=None):
    return subprocess.run(
        [tests, "1", "2", "all"], capture_output=True, text=True, check=False, timeout=seconds
    )


def verdict(mutant, test_objects, seconds):
    title, name, text = mutant
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("csrc", "tests/cpp/standin"):
            shutil.copytree(build.ROOT / part, root / part)
        (root / "csrc/cuda" / name).write_text(text)
        try:
            tests = build.link(
                build.compile_kernels(root, root) + test_objects, root / "cuda_tests"
            )
        except RuntimeError as error:
            return title, f"DOES NOT COMPILE\n{error}"
        try:
            done = run_tests(tests, seconds)
        except subprocess.TimeoutExpired:
            return title, f"caught: does not end within {seconds:.0f} s"
        if done.returncode == 0:
            return title, "SURVIVED"
        first, *_ = done.stderr.strip().splitlines() or [f"ends with {done.returncode}"]
        return title, f"caught: {first[:110]}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only mutants whose title holds this word")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    build.FLAGS[build.FLAGS.index("-O2")] = "-O1"
    build.FLAGS[build.FLAGS.index("-Werror")] = "-w"
    chosen = [mutant for mutant in mutants() if arguments.only in mutant[0]]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        test_objects = build.compile_tests(Path(folder))
        start = time.monotonic()
        if (
            run_tests(
                build.link(
                    build.compile_kernels(Path(folder)) + test_objects, Path(folder) / "cuda_tests"
                )
            ).returncode
            != 0
        ):
            raise SystemExit("the tests fail before anything is broken")
        seconds = 10 * (time.monotonic() - start)  # what takes so long has lost its end
        survivors = 0
        for task in as_completed(
            [pool.submit(verdict, mutant, test_objects, seconds) for mutant in chosen]
        ):
            title, result = task.result()
            survivors += not result.startswith("caught")
            print(f"{result:<14} | {title}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} not caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

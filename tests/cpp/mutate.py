"""Breaks the kernels, one place at a time, and demands that the tests on the stand-in notice.

    python tests/cpp/mutate.py [--only WORD] [--jobs 2] [--page]

mutants.py says what is broken and equivalents.py which mutants cannot be noticed. A header's mutant
is in the kernels alone: what they are compared with keeps the header as it stands. Prints one line
a mutant; ends with 1 if one survived, or if one that is listed as equivalent was caught or is no
longer there. --page writes bench/results/kernel-mutants.{json,md}.
"""

import argparse
import re
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "standin"))

import build
import mutants_page
from equivalents import EQUIVALENT
from mutants import ROOT, all_mutants

# Of each kernel: the suite that is asked first, and all that run it. Kernels in the order in which
# they are asked about a header of several.
SUITES = {
    "pack": ["pack"],
    "rows": ["rows"],
    "memory": ["memory"],
    "score": ["scores", "importance"],
    "cross_entropy": ["cross-entropy"],
    "draws": ["sampling", "importance", "stages"],
    "importance_sample": ["importance"],
    "prefix_sum": ["sampling", "stages"],
    "distribution": ["sampling", "importance", "stages"],
    "alias": ["sampling", "stages"],
}
BY_COST = ["pack", "rows", "memory", "scores", "cross-entropy", "importance", "sampling", "stages"]


def suites_of(kernels):
    own = {suite for kernel in kernels for suite in SUITES[kernel]}
    return sorted(own, key=BY_COST.index)


@cache
def included(path):
    """What a source includes of csrc, headers of headers too, itself among them."""
    found = {path}
    for name in re.findall(r'(?m)^#include "(.*)"', path.read_text()):
        found |= included((path.parent / name).resolve())
    return frozenset(found)


def kernels_with(path):
    """Those that a source is part of, the one of its own name first."""
    names = [name for name in SUITES if path in included(ROOT / f"csrc/cuda/{name}.cu")]
    return sorted(names, key=lambda name: name != path.stem)


def cost(mutant):
    return max(map(BY_COST.index, suites_of(kernels_with(ROOT / mutant.path))), default=0)


def limited(cpu_seconds):
    """For a child: what takes so long has lost its end. Its own time, so a busy machine is none."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def first_failure(tests, seed, suite, cpu_seconds):
    """What the suite says first, or None if it passes."""
    with subprocess.Popen(
        [tests, str(seed), "1", suite],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=lambda: limited(cpu_seconds),
    ) as running:
        said = running.stderr.readline().strip()
        if said:
            running.kill()
            return said
    return f"ends with {running.returncode}" if running.returncode else None


class Bench:
    """The objects of the sources as they stand, and what their tests take."""

    def __init__(self, folder):
        self.folder = folder
        self.tests = build.compile_tests(folder)
        # Kernels are compiled often. What would go past an array ends the run.
        build.FLAGS[build.FLAGS.index("-O2")] = "-O1"
        build.FLAGS.extend(["-fsanitize=bounds,object-size", "-fsanitize-undefined-trap-on-error"])
        build.compile_kernels(folder)
        whole = build.link(self.objects({}), folder / "cuda_tests")
        self.limits = {}
        for suite in BY_COST:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            failure = first_failure(whole, 1, suite, 600)
            if failure:
                raise SystemExit(f"the tests fail before anything is broken: {failure}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            self.limits[suite] = round(4 + 3 * (after.ru_utime - before.ru_utime))

    def objects(self, instead):
        """What is linked, the changed kernels first: of inline functions the first one counts."""
        kept = [self.folder / f"{name}.cu.o" for name in build.KERNELS if name not in instead]
        return [*instead.values(), *kept, *self.tests]

    def broken(self, mutant, root):
        """A copy of csrc with the mutant, of links to all else."""
        for source in (ROOT / "csrc").rglob("*"):
            if source.suffix in (".h", ".cuh", ".cu"):
                place = root / source.relative_to(ROOT)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(source)
        (root / "tests").symlink_to(ROOT / "tests")
        (root / mutant.path).unlink()
        (root / mutant.path).write_text(mutant.text)

    def first_seed(self, kernels, root):
        """The kernels that differ, and (suite, what it said): as they are compiled, and of all in
        the end."""
        objects, asked = {}, set()
        for name in kernels:
            source, target = root / f"csrc/cuda/{name}.cu", root / f"{name}.o"
            made = build.compile_object(source, target, root)
            if made.read_bytes() == (self.folder / f"{name}.cu.o").read_bytes():
                continue
            objects[name] = made
            suite = SUITES[name][0]
            if suite in asked:
                continue
            asked.add(suite)
            tests = build.link(self.objects(objects), root / "cuda_tests")
            said = self.first_of(tests, 1, [suite])
            if said:
                return objects, said
        tests = build.link(self.objects(objects), root / "cuda_tests")
        first = asked if len(objects) == 1 else set()
        return objects, self.first_of(tests, 1, [s for s in suites_of(objects) if s not in first])

    def first_of(self, tests, seed, suites):
        for suite in suites:
            said = first_failure(tests, seed, suite, self.limits[suite])
            if said:
                return suite, f"seed {seed}: {said}"
        return None

    def verdict(self, mutant, seeds):
        """(suite, what it said), or a suite that is "compiler", or (None, "survived")."""
        kernels = kernels_with(ROOT / mutant.path)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            self.broken(mutant, root)
            try:
                kernels, said = self.first_seed(kernels, root)
            except RuntimeError as error:
                return "compiler", next(line for line in str(error).split("\n") if "error" in line)
            later = [] if mutant.key in EQUIVALENT else range(2, 1 + seeds)
            for seed in later:
                said = said or self.first_of(root / "cuda_tests", seed, suites_of(kernels))
        return said or (None, "survived")


def outcome(mutant, suite):
    """(how it is printed, whether that is as it must be)."""
    equivalent = mutant.key in EQUIVALENT
    if suite is None:
        return ("equivalent", True) if equivalent else ("SURVIVED", False)
    if suite == "compiler":
        return "NO MUTANT", False
    return ("NOT EQUIVALENT", False) if equivalent else (suite, True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only mutants whose line holds this word")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="schedules that a survivor survives")
    parser.add_argument("--page", action="store_true", help="write the results' page")
    arguments = parser.parse_args()
    build.FLAGS[build.FLAGS.index("-Werror")] = "-w"
    build.FLAGS.remove("-g")
    chosen = [mutant for mutant in all_mutants() if arguments.only in str(mutant)]
    quick_first = sorted(chosen, key=cost)
    results, wrong, start = {}, 0, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(arguments.jobs) as pool:
        bench = Bench(Path(folder))
        tasks = {
            pool.submit(bench.verdict, mutant, arguments.seeds): mutant for mutant in quick_first
        }
        for task in as_completed(tasks):
            mutant = tasks[task]
            suite, said = task.result()
            word, right = outcome(mutant, suite)
            wrong += not right
            results[mutant.key] = (mutant, suite, said)
            print(f"{word:<14} | {mutant} | {said[:110]}", flush=True)
    minutes = (time.monotonic() - start) / 60
    print(f"{len(chosen)} mutants, {wrong} not as they must be, {minutes:.0f} minutes")
    if arguments.page and not wrong:
        mutants_page.write([results[mutant.key] for mutant in chosen], minutes)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.gpu [first | second | stage ...]`: build, test, sanitize and measure on this
machine's GPU.

    first       is it right, and how fast are its kernels? Stages:
      machine       what is here, and why there is no device if so
      extension     the one that `make gpu-pack` made, or else built here
      tests         tests/test_cuda*.py
      device_tests  the kernels' own tests, tests/cpp
      sanitizer     these and every op under compute-sanitizer
      kernels       the kernels without Python, bench/kernels/cuda
      ops           the ops beside torch, bench/gpu/ops.py
    second      what it is worth in training. Stages: machine, extension,
      overhead      milliseconds a step, bench/gpu/overhead.py
      training      a race of 60 seconds each, bench/gpu/training.py

Without an argument, both calls, one after the other. A call ends within --seconds. Its files go to
the folder $OUT as they come, where that is set, else to bench/results/gpu: one of each stage, and
summary.md. It ends with 1 if a stage failed. It needs a CUDA build of torch, numpy, mpmath, pytest
with pytest-xdist; nvcc too where nothing is packed. With pytest-timeout, a test that hangs loses no
other. It installs nothing.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from .processes import ROOT, WORK, Deadline, kill_all
from .programs import NotBuilt, Programs
from .stages import CALLS, STAGES, Call, Outcome, Stage, tell_failure
from .summary import failures, summary

SECONDS = 360  # of a call
LEAST = 2.0  # seconds that a stage must have left to be begun
MOST_FILES = 8
RESULTS = ROOT / "bench/results/gpu"


def do(name: str, stage: Stage, call: Call, until: Deadline, missing: str | None) -> Outcome:
    """Runs a stage, or says why not; its file is there afterwards in any case."""
    file, begin = call.folder / stage.file, time.monotonic()
    file.unlink(missing_ok=True)
    until = until.within(stage.limit)
    ok, said = False, missing
    if said is None and until.left < LEAST:
        said = "the call's time was up before it began"
    if said is None:
        try:
            ok, said = stage.run(call, file, until)
        except NotBuilt as error:
            said = str(error)
        # one stage's failure must not keep the others from running; it is reported and counted
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
    tell_failure(file, said)
    outcome = Outcome(ok, said, stage.file, time.monotonic() - begin)
    print(f"== {name}: {'pass' if ok else 'FAIL'} in {outcome.seconds:.1f} s: {said}", flush=True)
    return outcome


def groups(chosen: Sequence[str]) -> Iterator[list[str]]:
    """The stages in their order; those that may run at once, together."""
    for _, names in groupby(chosen, lambda name: STAGES[name].group or name):
        yield list(names)


def carry_out(name: str, chosen: Sequence[str], folder: Path, seconds: float) -> bool:
    """One call; whether all of its stages passed."""
    folder.mkdir(parents=True, exist_ok=True)
    WORK.mkdir(parents=True, exist_ok=True)
    facts: dict = {}
    call, until = Call(folder, facts, Programs(facts, WORK)), Deadline(seconds)
    outcomes: dict[str, Outcome] = {}

    def one(stage: str) -> Outcome:
        missing = facts.get("problem")
        if missing is None and STAGES[stage].needs_extension and "extension" in outcomes:
            missing = None if outcomes["extension"].ok else "there is no extension, see that stage"
        return do(stage, STAGES[stage], call, until, missing)

    text = ""
    for names in groups(chosen):
        with ThreadPoolExecutor(len(names)) as pool:
            try:
                done = dict(zip(names, pool.map(one, names)))
            except BaseException:  # the pool waits for its stages, and they for their commands
                kill_all()
                raise
        outcomes.update(done)
        text = summary(outcomes, facts, folder, f"python -m bench.gpu {name}")
        (folder / "summary.md").write_text(text + failures(outcomes, folder))
    print(text, flush=True)
    return all(outcome.ok for outcome in outcomes.values())


def calls_of(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name -> stages. Every call begins by looking at the machine."""
    if set(words) <= set(CALLS):
        return {word: CALLS[word] for word in words or CALLS}
    unknown = [word for word in words if word not in STAGES]
    if unknown:
        known = ", ".join([*CALLS, *STAGES])
        raise SystemExit(f"stage must be one of {known}; got {unknown[0]!r}")
    ordered = tuple(name for name in STAGES if name in {*words, "machine"})
    return {"-".join(ordered[1:] or ordered): ordered}


def leave(number: int, _frame) -> None:
    """By an exception, as Ctrl-C does: commands in sessions of their own would live on."""
    raise SystemExit(128 + number)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("stages", nargs="*", metavar="first | second | stage")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"of a call, {SECONDS} by default"
    )
    given = parser.parse_args(words)
    calls, out = calls_of(given.stages), os.environ.get("OUT")
    if any(len(chosen) + 1 > MOST_FILES for chosen in calls.values()):
        raise SystemExit(f"a call writes at most {MOST_FILES} files: take fewer stages")
    if out and len(calls) > 1:
        raise SystemExit("OUT takes the files of one call: name first or second")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)
    # in the background it is ignored, and commands would not hear that their time is up
    signal.signal(signal.SIGINT, signal.default_int_handler)
    passed = [
        # the commands run in the root
        carry_out(name, chosen, Path(out).absolute() if out else RESULTS / name, given.seconds)
        for name, chosen in calls.items()
    ]
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

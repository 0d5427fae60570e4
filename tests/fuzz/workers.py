"""Plays inputs in processes of their own, so that a crash is told with the input that made it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.play import OPS, PARTS, verdict

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.fuzz", "--worker"]
SEEDS = 10**9  # a run of seed K plays the inputs from K times this on
SLICE = 2000  # inputs that a process plays before the next one takes over
END = 120  # seconds of the processor's time after which a call counts as one without an end
VERDICTS = ("right", "refused", "fault")


def names(seed, ops=tuple(OPS), parts=PARTS):
    """The inputs of a run, without end: all ops and parts in turn."""
    number = seed * SEEDS
    while True:
        for op in ops:
            for part in parts:
                yield f"{part}/{op}/{number}"
        number += 1


# ---- In the process ------------------------------------------------------------------------------


def work(descriptor):
    """Plays the inputs named on stdin; tells each before and after on ``descriptor``."""

    def tell(*words):
        os.write(descriptor, (json.dumps(words) + "\n").encode())

    for line in sys.stdin:
        name = line.strip()
        tell(name)
        # the kernel ends the process, whatever it is in the middle of
        signal.setitimer(signal.ITIMER_VIRTUAL, END)
        tell(name, *verdict(name))


# ---- Outside -------------------------------------------------------------------------------------


class Tally:
    """Counts of verdicts by (op, part), and the faults by input."""

    def __init__(self):
        self.counts = Counter()
        self.faults = {}

    def add(self, name, word, why):
        part, op, _ = name.split("/")
        self.counts[op, part, word] += 1
        if word == "fault":
            self.faults[name] = why

    def tried(self):
        return sum(self.counts.values())


def play_slice(inputs, tally):
    """Plays ``inputs`` in one process after another, a new one after each crash."""
    while inputs:
        inputs = inputs[_play_until_crash(inputs, tally) :]


def _play_until_crash(inputs, tally):
    """The number of inputs that a process played, the one it died of included."""
    told, tell = os.pipe()
    with (
        tempfile.TemporaryFile("w+") as names,  # a pipe would fill while nobody reads the answers
        tempfile.TemporaryFile("w+") as noise,
        open(told, encoding="utf8") as lines,
    ):
        names.writelines(f"{name}\n" for name in inputs)
        names.seek(0)
        process = subprocess.Popen(
            [*COMMAND, str(tell)],
            cwd=ROOT,
            stdin=names,
            stdout=noise,
            stderr=noise,
            pass_fds=[tell],
        )
        os.close(tell)
        begun = None
        played = 0
        for line in lines:
            name, *result = json.loads(line)
            begun = None if result else name
            if result:
                played += 1
                tally.add(name, *result)
        code = process.wait()
        if code == 0:
            return len(inputs)
        noise.seek(0)
        if begun is None:
            raise RuntimeError(f"a worker ended with {code} beside its inputs:\n{noise.read()}")
        tally.add(begun, "fault", f"{_end_of(code)}\n{noise.read()[-3000:]}".strip())
        return played + 1


def _end_of(code):
    if code == -signal.SIGVTALRM:
        return f"the call did not end within {END} seconds of the processor's time"
    return f"the process died of {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def run(inputs, *, jobs=1, seconds=float("inf"), most=None, progress=lambda tally: None):
    """The tally of the first ``most`` of ``inputs``, or of those that ``seconds`` leave time for.

    Time bounds how many are tried, and no verdict.
    """
    tally, begin = Tally(), time.monotonic()
    left = most

    def slices():
        nonlocal left
        while (left is None or left > 0) and time.monotonic() - begin < seconds:
            size = SLICE if left is None else min(SLICE, left)
            yield [next(inputs) for _ in range(size)]
            left = None if left is None else left - size

    supply = slices()
    lock = threading.Lock()

    def draw_on():
        while True:
            with lock:
                part = next(supply, None)
            if part is None:
                return
            play_slice(part, tally)
            progress(tally)

    with ThreadPoolExecutor(jobs) as pool:
        for each in [pool.submit(draw_on) for _ in range(jobs)]:
            each.result()
    return tally

"""Counts as a table, and where it stands on a page of the documentation."""

import platform
import re

import torch

from tests.fuzz.play import OPS, PARTS
from tests.fuzz.workers import VERDICTS


def table(tally):
    """A Markdown table: inputs tried, right, refused and faults, for each op."""
    lines = ["| op | tried | right | refused | faults |", "|---|---:|---:|---:|---:|"]
    sums = [0, 0, 0]
    for op in OPS:
        counts = [sum(tally.counts[op, part, word] for part in PARTS) for word in VERDICTS]
        sums = [a + b for a, b in zip(sums, counts)]
        if sum(counts):
            lines.append(_line(f"`{op}`", counts))
    return "\n".join([*lines, _line("all", sums)]) + "\n"


def _line(title, counts):
    numbers = " | ".join(f"{number:,}" for number in (sum(counts), *counts))
    return f"| {title} | {numbers} |"


def caption(tally, seed):
    return (
        f"{tally.tried():,} inputs of seed {seed}, torch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}."
    )


def as_json(tally, seed):
    """The counts by op, part and verdict, and the faults."""
    counts = {
        op: {part: {word: tally.counts[op, part, word] for word in VERDICTS} for part in PARTS}
        for op in OPS
    }
    return {"about": caption(tally, seed), "counts": counts, "faults": tally.faults}


def put(path, name, text):
    """Replaces what stands between the markers ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.

    Raises ValueError where the page does not hold them once.
    """
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page, found = between.subn(lambda _: f"{begin}\n\n{text}\n{end}", path.read_text())
    if found != 1:
        raise ValueError(f"{path} must hold {begin} ... {end} once, got {found} times")
    path.write_text(page)

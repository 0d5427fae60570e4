"""Counts as a table, and where it stands on a page of the documentation."""

import platform
import re

import torch

PAGE = """# Reliability

Runs are broken off at random moments. Each that does not come out right is counted as mishandled.

    python -m tests.reliability --page docs/reliability.md

<!-- begin runs -->
<!-- end runs -->
"""


def table(rows):
    """A Markdown table of (kind, tried, mishandled, right outcome)."""
    lines = ["| kind | tried | mishandled | right is |", "|---|---:|---:|---|"]
    lines += [f"| {kind} | {tried:,} | {wrong:,} | {right} |" for kind, tried, wrong, right in rows]
    about = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}."
    return "\n".join([*lines, "", about]) + "\n"


def put(path, name, text):
    """Replaces what stands between the markers ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` of
    a page, which is made if it is missing; raises ValueError where it does not hold them once."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    page = path.read_text() if path.exists() else PAGE
    between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page, found = between.subn(lambda _: f"{begin}\n\n{text}\n{end}", page)
    if found != 1:
        raise ValueError(f"{path} must hold {begin} ... {end} once; got {found} times")
    path.write_text(page)

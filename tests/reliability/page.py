"""Counts as a table, and where it stands on a page of the documentation."""

import platform
import re

import torch

SECTION = """
## Runs that are broken off

Runs are interrupted, killed and resumed at random moments. Each that does not come out right counts
as mishandled. `make test` holds a short form, at moments that are the same every time.

```
python -m tests.reliability --page docs/reliability.md
```

<!-- begin runs -->
<!-- end runs -->
"""


def table(rows):
    """A Markdown table of (kind, tried, mishandled, right outcome)."""
    lines = ["| kind | tried | mishandled | right is |", "|---|---:|---:|---|"]
    lines += [f"| {kind} | {tried:,} | {wrong:,} | {right} |" for kind, tried, wrong, right in rows]
    about = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}."
    return "\n".join([*lines, "", about]) + "\n"


def put(path, text):
    """Writes ``text`` between the page's markers; a page without them gets them at its end.

    Raises ValueError where it holds them more than once.
    """
    page = path.read_text() if path.exists() else "# Reliability\n"
    page += SECTION if "<!-- begin runs -->" not in page else ""
    between = re.compile("(<!-- begin runs -->).*?(<!-- end runs -->)", re.DOTALL)
    page, found = between.subn(lambda markers: f"{markers[1]}\n\n{text}\n{markers[2]}", page)
    if found != 1:
        raise ValueError(f"{path} must hold <!-- begin runs --> once; got it {found} times")
    path.write_text(page)

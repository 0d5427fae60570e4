"""Results as lines of JSON, each written as soon as it is known."""

from __future__ import annotations

import json
from pathlib import Path


class Rows:
    """``errors`` are the rows that tell of one."""

    def __init__(self, path: Path):
        self.errors: list[dict] = []
        self._file = open(path, "w")  # noqa: SIM115  (open as long as the process writes)

    def write(self, **row) -> None:
        if "error" in row:
            self.errors.append(row)
        line = json.dumps(row)
        print(line, flush=True)
        self._file.write(line + "\n")
        self._file.flush()

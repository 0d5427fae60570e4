"""`python -m isample` prints what was built, for bug reports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from isample import _C

USAGE = "usage: python -m isample      (prints what was built)"


def main(argv: Sequence[str]) -> int:
    if argv in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if argv:
        print(f"python -m isample: takes no arguments; got {argv[0]!r}", file=sys.stderr)
        return 2
    facts = {"isample": version("isample"), **_C.build_info()}
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            print(f"{name.replace('_', ' '):<{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m isample` prints what was built; `python -m isample demo` runs the demonstration."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version

from . import _C

USAGE = "usage: python -m isample [demo [options]]      (python -m isample demo --help lists the options)"


def main(argv: Sequence[str]) -> int:
    if not argv:
        print_build()
        return 0
    if argv[0] == "demo":
        from .demo.command import main as demo

        try:
            return demo(argv[1:])
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            return 130
    if argv[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    print(f"python -m isample: unknown command {argv[0]!r}; there is: demo", file=sys.stderr)
    return 2


def print_build() -> None:
    facts = {name: value for name, value in {"isample": version("isample"), **_C.build_info()}.items() if value}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name.replace('_', ' '):<{width}}  {value}")
    print(f"\n{USAGE}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

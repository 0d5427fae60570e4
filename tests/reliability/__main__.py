"""Breaks runs off in every way, many times, and says how many were mishandled.

python -m tests.reliability --page docs/reliability.md
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from tests.reliability.page import put, table
from tests.reliability.workers import tried

KINDS = {  # the module and the function that tries one seed
    "interrupts": ("tests.reliability.interrupts", "interrupt"),
    "kills": ("tests.reliability.kills", "kill"),
    "resumes": ("tests.reliability.resumes", "resume"),
}


def main(arguments=None):
    options = parsed(arguments)
    rows = [
        row(kind, *KINDS[kind], count, options) for kind in KINDS if (count := vars(options)[kind])
    ]
    if options.ranks:
        rows.append(ranks_row(options))
    text = table(rows)
    print(text)
    if options.page:
        put(options.page, text)
    return int(any(faults for _, _, faults, _ in rows))


def row(kind, module, function, count, options):
    """The kind, how many were tried and mishandled, and what is right; faults are printed."""
    faults = tried(module, function, range(options.seed, options.seed + count), options.jobs)
    for seed, fault in faults:
        print(f"{fault}\n  {reproduced(kind, seed)}", file=sys.stderr, flush=True)
    return kind, count, len(faults), import_module(module).RIGHT


def ranks_row(options):
    from tests.reliability.ranks import lose_ranks

    counts = lose_ranks(options.ranks, options.seed)
    for fault in counts.faults:
        print(f"{fault}\n  seed {options.seed}", file=sys.stderr, flush=True)
    right = "the processes that are left end soon, with an error that says why"
    return "lost ranks", counts.losses, counts.losses - counts.right, right


def parsed(arguments):
    parser = argparse.ArgumentParser(prog="tests.reliability", description=__doc__)
    counts = (("interrupts", 1000), ("kills", 200), ("resumes", 50), ("ranks", 50))
    for name, count in counts:
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; others follow")
    parser.add_argument("--page", type=Path, help="a page whose table is written anew")
    return parser.parse_args(arguments)


def reproduced(kind, seed):
    """The command for one run of a kind."""
    others = " ".join(f"--{other} 0" for other in (*KINDS, "ranks") if other != kind)
    return f"python -m tests.reliability --{kind} 1 {others} --seed {seed}"


if __name__ == "__main__":
    sys.exit(main())

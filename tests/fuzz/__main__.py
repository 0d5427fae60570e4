"""The command line: see the package."""

import argparse
import json
import sys
from pathlib import Path

from tests import fuzz
from tests.fuzz import page, play, workers


def main():
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=fuzz.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=60, help="for new inputs (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="which inputs (default 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    parser.add_argument("--op", action="append", choices=list(play.OPS), help="this op alone")
    parser.add_argument("--part", action="append", choices=play.PARTS, help="this part alone")
    parser.add_argument("--input", help="plays one input here, and shows it")
    parser.add_argument("--output", type=Path, help="a .json or .md file for the counts")
    parser.add_argument("--page", type=Path, help="a page whose table of counts is replaced")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        return workers.work(arguments.worker)
    if arguments.input:
        return show(arguments.input)
    return fuzz_for(arguments)


def show(name):
    print(play.Play(name), flush=True)
    word, why = play.verdict(name)
    print(f"{word} {why}".strip())
    return word == "fault"


def fuzz_for(arguments):
    inputs = workers.names(
        arguments.seed, arguments.op or tuple(play.OPS), arguments.part or play.PARTS
    )
    shown = set()

    def show_new(tally):
        for name in list(tally.faults.keys() - shown):
            shown.add(name)
            print(f"{name}: {tally.faults[name]}\n    python -m tests.fuzz --input {name}\n")
        sys.stdout.flush()

    tally = workers.run(inputs, jobs=arguments.jobs, seconds=arguments.seconds, progress=show_new)
    table = page.table(tally)
    print(table)
    if arguments.output and arguments.output.suffix == ".json":
        arguments.output.write_text(json.dumps(page.as_json(tally, arguments.seed), indent=1))
    elif arguments.output:
        arguments.output.write_text(table)
    if arguments.page:
        page.put(arguments.page, "fuzz", f"{page.caption(tally, arguments.seed)}\n\n{table}")
    return bool(tally.faults)


if __name__ == "__main__":
    sys.exit(main())

"""Breaks runs off in every way, many times, and says how many were mishandled.

python -m tests.reliability --interrupts 1000 --kills 200 --resumes 50 --page docs/reliability.md
"""

import argparse
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from tests.reliability.page import put, table

CHUNK = 10  # seeds that a worker takes at once


def main(arguments=None):
    options = parsed(arguments)
    rows = []
    for name, module, function in (
        ("interrupts", "tests.reliability.interrupts", "interrupt"),
        ("kills", "tests.reliability.kills", "kill"),
        ("resumes", "tests.reliability.resumes", "resume"),
    ):
        count = getattr(options, name)
        if count:
            seeds = range(options.seed, options.seed + count)
            faults = tried(module, function, seeds, options.jobs)
            for seed, fault in faults:
                reproduced = f"python -m tests.reliability {only(name)} --seed {seed}"
                print(f"{fault}\n  {reproduced}", file=sys.stderr, flush=True)
            rows.append((name, count, len(faults), import_module(module).RIGHT))
    text = table(rows)
    print(text)
    if options.page:
        put(options.page, "runs", text)
    return int(any(faults for _, _, faults, _ in rows))


def parsed(arguments):
    parser = argparse.ArgumentParser(prog="tests.reliability", description=__doc__)
    for name, count in (("interrupts", 1000), ("kills", 200), ("resumes", 50)):
        parser.add_argument(f"--{name}", type=int, default=count, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--seed", type=int, default=0, help="of the first run; others follow")
    parser.add_argument("--page", type=Path, help="a page whose table is written anew")
    return parser.parse_args(arguments)


def only(name):
    """The options that leave one run of a kind."""
    others = [other for other in ("interrupts", "kills", "resumes") if other != name]
    return " ".join([f"--{name} 1", *(f"--{other} 0" for other in others)])


def tried(module, function, seeds, jobs):
    """The faults, each with its seed, in the order of seeds."""
    chunks = [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(min(jobs, len(chunks)), get_context("spawn")) as pool:
        futures = [pool.submit(chunk_of, module, function, chunk) for chunk in chunks]
        return sorted(fault for future in as_completed(futures) for fault in future.result())


def chunk_of(module, function, seeds):
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try_one = getattr(import_module(module), function)
    return [(seed, fault) for seed in seeds if (fault := fault_of(try_one, seed)) is not None]


def fault_of(try_one, seed):
    """What ``try_one(seed)`` found; an exception that it did not expect is a fault, too."""
    try:
        return try_one(seed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())

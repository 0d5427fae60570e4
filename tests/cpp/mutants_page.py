"""The page of a whole run of mutate.py, and its data: bench/results/kernel-mutants.{md,json}."""

import json
from collections import Counter

from equivalents import EQUIVALENT
from mutants import ONE_IN, ROOT

PAGE = ROOT / "bench/results/kernel-mutants"
OPERATORS = {
    "barrier": "a barrier, a fence or the wait for the launch before is left out",
    "boundary": "`<` and `<=`, `>` and `>=` change places",
    "equality": "`==` and `!=` change places",
    "logic": "`&&` and `||` change places",
    "guard": "a condition that leaves is never met, one that does not leave always",
    "one": "`+ 1` or `- 1` is left out",
    "sign": "`+` and `-` change places",
    "product": "`*` and `/` change places; `%` becomes `/`",
    "sum": "what is added to a sum is left out",
    "larger": "a maximum becomes a minimum, or its first argument",
    "stride": "`blockDim` and `gridDim` change places",
    "index": "`threadIdx` and `blockIdx` change places",
    "mark": "a NaN becomes 0",
    "listed": "those of tests/cpp/mutations.py: merges, bounds, orders",
}


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def counted(results, name_of, names=None):
    """A row for each name: mutants, caught, equivalent."""
    every = Counter(name_of(mutant) for mutant, *_ in results)
    alive = Counter(name_of(mutant) for mutant, suite, _ in results if suite is None)
    return [[n, every[n], every[n] - alive[n], alive[n]] for n in names or sorted(every)]


def text(results, minutes):
    caught = Counter(suite for _, suite, _ in results if suite)
    operators = [
        [*row, OPERATORS[row[0]] + (f" (one in {ONE_IN[row[0]]})" if row[0] in ONE_IN else "")]
        for row in counted(results, lambda mutant: mutant.operator, OPERATORS)
    ]
    equivalents = [
        [f"{mutant.path.removeprefix('csrc/')}:{mutant.line}", change(mutant), why(mutant)]
        for mutant, suite, _ in results
        if suite is None
    ]
    numbers = ["mutants", "caught", "equivalent"]
    total = f"{len(results)} mutants: {caught.total()} caught, {len(equivalents)} equivalent"
    return f"""# Mutants of the CUDA kernels

`python tests/cpp/mutate.py --page` breaks the kernels' sources, and the headers of `csrc/core` that
they run, one place at a time. The stand-in's tests then run on the CPU, and must fail.

**{total}, none alive.** A run takes about {minutes:.0f} minutes on two cores.
Mutants of lines that changed, and those that survived at first, were tried again by themselves.

- A mutant of a header is in the kernels alone. What they are compared with keeps the header.
- Caught means that a suite fails, or needs three times its usual processor time.
- A mutant that no suite catches must be in `tests/cpp/equivalents.txt`, with its reason. One that
  is not there is asked under three schedules. The run fails if one of the list is caught or gone.
- Some operators give many mutants and coarse ones. Of these one in so many is tried, chosen by its
  text.

Three things are not broken. No result depends on the shapes of launches. No launch fails on the
stand-in, so the checks of its error have nothing to show. Where one thread writes for all, all have
the same value. And two things are not seen here: reads past the L1 cache, and what only nvcc
compiles.

## By file

{table(["file", *numbers], counted(results, lambda mutant: mutant.path))}

## By operator

{table(["operator", *numbers, "what it does"], operators)}

## By suite

{table(["suite", "mutants that it caught first"], caught.most_common())}

## Equivalent mutants

{table(["place", "change", "why nothing can show it"], equivalents)}
"""


def why(mutant):
    return EQUIVALENT[mutant.key]


def change(mutant):
    before, after = (part.replace("|", "\\|") for part in (mutant.before, mutant.after))
    return f"`{before}` → `{after or ' '}`"


def write(results, minutes):
    PAGE.with_suffix(".md").write_text(text(results, minutes))
    lines = [
        json.dumps([m.path, m.line, m.operator, m.before, m.after, suite or "equivalent"])
        for m, suite, _ in results
    ]
    PAGE.with_suffix(".json").write_text("[\n" + ",\n".join(lines) + "\n]\n")

"""The ops on a GPU beside torch: `python -m bench.gpu.ops --out FILE`.

Each alternative is captured in a graph of many calls, whose inputs rotate past five times the L2
cache ("cold"); where the inputs cannot fill it, they are one and the same ("warm"). A time is the
median over replays, divided by the calls in the graph. `eager_us` is that of a call from Python,
launches included. Shapes with a target come first, other packages' kernels last. What fails or
finds no time loses its own line, which says why.
"""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import isample  # noqa: F401  (registers torch.ops.isample)

from .alternatives import foreign, losses, scorers, torch_score
from .rows import Rows
from .timing import Alternative, Timing, eager, in_turns, repeated

ops = torch.ops.isample

WITH_TARGET = [
    (128, 10, torch.float32),
    (640, 100, torch.float32),
    (1024, 1000, torch.float32),
    (4096, 32000, torch.bfloat16),
    (4096, 32000, torch.float32),
    (8192, 128256, torch.bfloat16),
]
OTHERS = [
    (32768, 256, torch.bfloat16),
    (32768, 1024, torch.bfloat16),
    (32768, 16384, torch.bfloat16),
]
LOSSES = WITH_TARGET[:4]
MOST_COPIES = 64  # of inputs, that rotate
LARGE = 2**30  # bytes of logits of which torch's float32 copies would only measure patience
ITEMS, DRAWS = 1_281_167, 256  # ImageNet's
FOREIGN = 0.15  # of the time, kept for other packages' kernels


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """TimeoutError where a compilation, say, takes longer."""

    def late(*_):
        raise TimeoutError(f"the {seconds:.0f} s of this shape were up")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def told(rows: Rows, **who) -> Iterator[None]:
    """What fails here is a row, and costs no other."""
    try:
        yield
    except Exception as error:
        rows.write(**who, error=first_line(error))


def measure(
    rows: Rows,
    op: str,
    alternatives: list[Alternative],
    inputs: Callable,
    known: dict,
    share: float,
) -> None:
    """A line for each alternative. ``inputs()`` makes what they are called with; ``known`` is what
    all lines say; ``share`` is how many seconds all may take together."""
    end = time.monotonic() + share
    who = {"op": op, "shape": known["shape"]}
    ready: dict[str, tuple] = {}
    common = None
    with told(rows, how=", ".join(each.how for each in alternatives), **who):
        common = inputs()
    if common is None:
        return
    for each in alternatives:
        # whatever a baseline fails by, the others are measured
        with told(rows, how=each.how, **who), at_most(end - time.monotonic()):
            given = inputs() if each.own_inputs else common
            repeat = repeated(each, given), len(given)
            took = eager(each.call, given[0], share / 50)
            known = {**known, f"eager {each.how}": took}
            ready[each.how] = repeat
    timings: dict[str, Timing] = {}
    if ready:
        late = at_most(max(5.0, end - time.monotonic()))
        with told(rows, how=", ".join(ready), **who), late:
            timings = in_turns(ready, min(0.3 * len(ready), share / 4))
    captured = {each.how: each.captured for each in alternatives}
    for how, timing in timings.items():
        rows.write(
            **who,
            how=how,
            cache=known["cache"],
            us=timing.median,
            p20=timing.p20,
            p80=timing.p80,
            gb_per_s=known["megabytes"] / timing.median * 1e3,
            eager_us=known[f"eager {how}"],
            graph=captured[how],
        )


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:300]


def logits_of(shape: tuple, learn: bool) -> tuple[Callable[[], list[tuple]], dict]:
    """What makes the inputs of a shape, and what its lines say."""
    rows, classes, dtype = shape
    size = rows * classes * dtype.itemsize
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    copies = max(2, min(MOST_COPIES, -(-5 * cache // size)))
    warm = size * copies < 5 * cache

    def inputs() -> list[tuple]:
        labels = torch.randint(classes, (rows,), device="cuda")
        third = torch.rand(rows, device="cuda") if learn else torch.zeros((), device="cuda")
        made = [(torch.randn(rows, classes, device="cuda", dtype=dtype) * 3) for _ in range(copies)]
        sets = [(logits.requires_grad_(learn), labels, third) for logits in made]
        return sets[:1] * 20 if warm else sets

    known = {
        "shape": f"({rows}, {classes}) {str(dtype).removeprefix('torch.')}",
        "cache": "warm" if warm else "cold",
        "megabytes": size / 1e6,
    }
    return inputs, known


def read_ceiling() -> float:
    """GB/s of a sum over 4 GB, which only reads: what the score is measured against."""
    data = torch.empty(2**30, dtype=torch.float32, device="cuda").normal_()
    total = Alternative("sum", lambda x: x.sum())
    timing = in_turns({"sum": (repeated(total, [(data,)]), 1)}, 0.3)["sum"]
    return data.numel() * 4 / timing.median / 1e3


def start_compiler(rows: Rows, seconds: float) -> None:
    """The compiler's own start takes longer than a shape may."""
    with told(rows, op="softmax_score", how="torch.compile", shape=""), at_most(seconds):
        logits, labels = torch.randn(2, 3, device="cuda"), torch.zeros(2, dtype=torch.long).cuda()
        torch.compile(torch_score, dynamic=False)(logits, labels)


def memory(rows: Rows, share: float) -> None:
    """A memory's table and draws."""
    score = torch.rand(ITEMS, device="cuda")
    table, (sums, _) = ops.alias_table(score), ops.prefix_sum(score, floor=0.2)
    p = score / score.sum()
    cases = {
        "alias_table": [Alternative("isample", lambda: ops.alias_table(score))],
        "prefix_sum": [Alternative("isample", lambda: ops.prefix_sum(score, floor=0.2))],
        f"draw {DRAWS}": [
            Alternative("isample, alias table", lambda: ops.draw.table(*table, DRAWS)),
            Alternative("isample, stratified", lambda: ops.draw.prefix_sum(sums, DRAWS)),
            Alternative("torch.multinomial", lambda: torch.multinomial(p, DRAWS, replacement=True)),
        ],
    }
    known = {"shape": f"({ITEMS},)", "cache": "warm", "megabytes": 4 * ITEMS / 1e6}
    for op, alternatives in cases.items():
        measure(rows, op, alternatives, lambda: [()] * 10, known, share / len(cases))


def scored(rows: Rows, shape: tuple, share: float) -> None:
    inputs, known = logits_of(shape, learn=False)
    over = time.monotonic() + share
    cases = scorers(known["megabytes"] * 1e6 > LARGE)
    for done, (op, alternatives) in enumerate(cases.items()):
        left = max(0.0, over - time.monotonic()) / (len(cases) - done)
        measure(rows, op, alternatives, inputs, known, left)


def learnt(rows: Rows, shape: tuple, share: float) -> None:
    inputs, known = logits_of(shape, learn=True)
    measure(rows, "cross_entropy and its gradient", losses(), inputs, known, share)


def beside(rows: Rows, shape: tuple, share: float) -> None:
    inputs, known = logits_of(shape, learn=False)
    measure(rows, "softmax_score", foreign(), inputs, known, share)


def take_turns(rows: Rows, who: str, turns: list[tuple[Callable, tuple]], end: float) -> None:
    """Each gets an equal share of what is left until ``end`` when it begins. What fails outside of
    the measurements is told as ``who``'s."""
    for done, (turn, given) in enumerate(turns):
        with told(rows, op=turn.__name__, how=who, shape=str(given)):
            turn(rows, *given, max(0.0, end - time.monotonic()) / (len(turns) - done))
        with told(rows, op="empty_cache", how=who, shape=str(given)):
            torch.cuda.empty_cache()


def measure_all(rows: Rows, limit: float) -> None:
    end = time.monotonic() + limit
    with told(rows, op="read ceiling", how="torch.sum", shape=""):
        torch.manual_seed(0)
        rows.write(op="read ceiling", how="torch.sum", gb_per_s=read_ceiling())
    start_compiler(rows, limit / 5)
    turns = [(scored, (shape,)) for shape in WITH_TARGET]
    turns += [(learnt, (shape,)) for shape in LOSSES]
    turns += [(memory, ()), *((scored, (shape,)) for shape in OTHERS)]
    others = [(beside, (shape,)) for shape in WITH_TARGET + OTHERS] if foreign() else []
    take_turns(rows, "isample", turns, end - FOREIGN * limit * bool(others))
    take_turns(rows, "another package", others, end)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.ops", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a file for lines of JSON")
    parser.add_argument("--limit", type=float, default=125.0, help="seconds at most")
    given = parser.parse_args()
    rows = Rows(given.out)
    measure_all(rows, given.limit)
    own = [row for row in rows.errors if row["how"].startswith("isample")]
    if own:  # a baseline may fail
        raise SystemExit(f"{len(own)} of isample's own failed, the first by {own[0]}")


if __name__ == "__main__":
    main()

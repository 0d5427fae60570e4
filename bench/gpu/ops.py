"""The ops on a GPU beside torch: `python -m bench.gpu.ops --out FILE`.

Each alternative is captured in a graph of many calls, whose inputs rotate past five times the L2
cache ("cold"); where the inputs cannot fill it, they are one and the same ("warm"). A time is the
median over replays, divided by the calls in the graph. `eager_us` is that of a call from Python,
launches included. Shapes with a target come first. What fails or finds no time loses its own line,
which says why.
"""

from __future__ import annotations

import argparse
import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F

import isample  # noqa: F401  (registers torch.ops.isample)
from isample.ops.reference import plain_importance_sample, plain_softmax_score

from .rows import Rows
from .timing import Alternative, eager, in_turns, repeated

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


def scorers(large: bool) -> dict[str, list[Alternative]]:
    """op -> its alternatives, isample first; each is called with (logits, labels, tau_ema)."""
    score = [
        Alternative("isample", lambda z, y, ema: ops.softmax_score(z, y)),
        Alternative(
            "torch cross_entropy alone", lambda z, y, ema: F.cross_entropy(z, y, reduction="none")
        ),
    ]
    sample = [Alternative("isample", lambda z, y, ema: ops.importance_sample(z, y, kept(z), ema))]
    if not large:
        torch._dynamo.reset()  # after eight shapes of one function it would give up, and not say so
        compiled = torch.compile(torch_score, dynamic=False)
        score += [
            Alternative("torch", lambda z, y, ema: torch_score(z, y)),
            Alternative("torch.compile", lambda z, y, ema: compiled(z, y)),
        ]
        sample.append(
            Alternative(
                "torch", lambda z, y, ema: plain_importance_sample(z.float(), y, kept(z), ema)
            )
        )
    if importlib.util.find_spec("liger_kernel"):
        score.append(Alternative("Liger cross_entropy alone", liger(), False, own_inputs=True))
    if importlib.util.find_spec("quack"):
        score.append(Alternative("QuACK cross_entropy alone", quack()))
    return {"importance_sample": sample, "softmax_score": score}


def torch_score(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In float32, as isample's."""
    return plain_softmax_score(logits.float(), labels)


def kept(logits: torch.Tensor) -> int:
    return max(1, min(len(logits), 4096) // 5)


def liger() -> Callable:
    """It writes the gradient over its logits, and reads the number of labels back. Imported by the
    call, so that what keeps it from loading costs its own line alone."""

    def call(z, y, ema):
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction

        return LigerCrossEntropyFunction.apply(z, y, None)

    return call


def quack() -> Callable:
    def call(z, y, ema):
        from quack.cross_entropy import cross_entropy_fwd

        return cross_entropy_fwd(z, y)

    return call


def losses() -> list[Alternative]:
    """A loss and its gradient at the logits; isample's is that of an active step, with weights and
    scores."""

    def ours(z, y, weights):
        loss, score = ops.cross_entropy(z, y, weights)
        return torch.autograd.grad(loss, z)[0], score

    def torchs(z, y, weights):
        return torch.autograd.grad(F.cross_entropy(z, y), z)[0]

    return [Alternative("isample", ours), Alternative("torch", torchs)]


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
    ready: dict[str, tuple] = {}
    common = inputs()
    for each in alternatives:
        try:
            with at_most(end - time.monotonic()):
                given = inputs() if each.own_inputs else common
                ready[each.how] = repeated(each, given), len(given)
                took = eager(each.call, given[0], share / 50)
                known = {**known, f"eager {each.how}": took}
        # whatever a baseline fails by, the others are measured
        except Exception as error:
            ready.pop(each.how, None)
            rows.write(op=op, how=each.how, shape=known["shape"], error=first_line(error))
    if not ready:
        return
    try:
        with at_most(max(5.0, end - time.monotonic())):
            timings = in_turns(ready, min(0.3 * len(ready), share / 4))
    except Exception as error:
        rows.write(op=op, how=", ".join(ready), shape=known["shape"], error=first_line(error))
        return
    captured = {each.how: each.captured for each in alternatives}
    for how, timing in timings.items():
        rows.write(
            op=op,
            how=how,
            shape=known["shape"],
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
    logits, labels = torch.randn(2, 3, device="cuda"), torch.zeros(2, dtype=torch.long).cuda()
    try:
        with at_most(seconds):
            torch.compile(torch_score, dynamic=False)(logits, labels)
    except Exception as error:
        rows.write(op="softmax_score", how="torch.compile", shape="", error=first_line(error))


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


def measure_all(rows: Rows, limit: float) -> None:
    """Every shape gets an equal share of what is left of ``limit`` seconds when its turn comes."""
    end = time.monotonic() + limit
    torch.manual_seed(0)
    rows.write(op="read ceiling", how="torch.sum", gb_per_s=read_ceiling())
    start_compiler(rows, limit / 5)

    def scored(shape: tuple, share: float) -> None:
        inputs, known = logits_of(shape, learn=False)
        over = time.monotonic() + share
        cases = scorers(known["megabytes"] * 1e6 > LARGE)
        for done, (op, alternatives) in enumerate(cases.items()):
            left = max(0.0, over - time.monotonic()) / (len(cases) - done)
            measure(rows, op, alternatives, inputs, known, left)

    def learnt(shape: tuple, share: float) -> None:
        inputs, known = logits_of(shape, learn=True)
        measure(rows, "cross_entropy and its gradient", losses(), inputs, known, share)

    turns = [(scored, shape) for shape in WITH_TARGET] + [(learnt, shape) for shape in LOSSES]
    turns += [(lambda _, share: memory(rows, share), None)]
    turns += [(scored, shape) for shape in OTHERS]
    for done, (turn, shape) in enumerate(turns):
        turn(shape, max(0.0, end - time.monotonic()) / (len(turns) - done))
        torch.cuda.empty_cache()


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

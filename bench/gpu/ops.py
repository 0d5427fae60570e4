"""The ops on a GPU against torch: times by replay of CUDA graphs, cold and warm, beside a read-only
ceiling.

Each alternative is captured once in a graph of many calls, whose inputs rotate past five times the
L2 cache (cold) or are one and the same (warm). A time is the median over replays divided by the
calls in the graph; the alternatives take turns, replay by replay. `eager` is the wall-clock time of
a call from Python, launches included.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from isample.ops import reference

ops = torch.ops.isample

# (rows, classes, dtype, the target in microseconds from scores to draws and weights on an H200)
SHAPES = [
    (128, 10, torch.float32, 5.0),
    (640, 100, torch.float32, 6.0),
    (1024, 1000, torch.float32, 8.0),
    (32768, 256, torch.bfloat16, None),
    (32768, 1024, torch.bfloat16, None),
    (32768, 16384, torch.bfloat16, None),
    (4096, 32000, torch.bfloat16, 66.0),
    (4096, 32000, torch.float32, 130.0),
    (8192, 128256, torch.bfloat16, 510.0),
]
MOST_COPIES = 64  # inputs that rotate


@dataclass
class Timing:
    """Microseconds a call."""

    median: float
    p20: float
    p80: float


@dataclass
class Row:
    """One line of the table. `megabytes` is what the op must read; `target` in microseconds, or
    None."""

    shape: str
    op: str
    how: str
    cache: str
    timing: Timing
    megabytes: float
    eager: float | None
    target: float | None


def graph_of(call: Callable, inputs: list) -> torch.cuda.CUDAGraph:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for each in inputs[:2]:
            call(*each)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for each in inputs:
            call(*each)
    return graph


def replay_times(
    graphs: dict[str, tuple[torch.cuda.CUDAGraph, int]], seconds: float
) -> dict[str, Timing]:
    times: dict[str, list[float]] = {name: [] for name in graphs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 20:
        for name, (graph, calls) in graphs.items():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            graph.replay()
            last.record()
            last.synchronize()
            times[name].append(first.elapsed_time(last) * 1e3 / calls)
    cuts = {name: statistics.quantiles(values, n=10) for name, values in times.items()}
    return {name: Timing(cut[4], cut[1], cut[7]) for name, cut in cuts.items()}


def eager_time(call: Callable, inputs: tuple) -> float:
    """Microseconds from Python, one call after the other, the device kept busy."""
    for _ in range(10):
        call(*inputs)
    torch.cuda.synchronize()
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        for _ in range(30):
            call(*inputs)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / 30 * 1e6)
    return statistics.median(times)


def read_ceiling() -> float:
    """GB/s of a reduction that only reads, over 4 GB: what the score kernel is measured against."""
    data = torch.empty(2**30, dtype=torch.float32, device="cuda").normal_()
    timing = replay_times({"sum": (graph_of(lambda x: x.sum(), [(data,)]), 1)}, 0.5)["sum"]
    return data.numel() * 4 / timing.median / 1e3


def competitors(compiled: bool) -> dict[str, dict[str, Callable]]:
    """op -> name -> call(logits, labels, ema)."""
    calls = {
        "softmax_score": {
            "isample": lambda z, y, ema: ops.softmax_score(z, y),
            "torch": lambda z, y, ema: reference.plain_softmax_score(z.float(), y),
            "torch cross_entropy alone": lambda z, y, ema: F.cross_entropy(z, y, reduction="none"),
        },
        "importance_sample": {
            "isample": lambda z, y, ema: ops.importance_sample(
                z, y, max(1, min(len(z), 4096) // 5), ema
            ),
            "torch": lambda z, y, ema: reference.plain_importance_sample(
                z.float(), y, max(1, min(len(z), 4096) // 5), ema
            ),
        },
    }
    if compiled:
        score = torch.compile(
            lambda z, y: reference.plain_softmax_score(z.float(), y), dynamic=False
        )
        calls["softmax_score"]["torch.compile"] = lambda z, y, ema: score(z, y)
    if importlib.util.find_spec("liger_kernel"):
        from liger_kernel.ops.cross_entropy import LigerCrossEntropyFunction

        calls["softmax_score"]["Liger cross_entropy alone"] = lambda z, y, ema: (
            LigerCrossEntropyFunction.apply(z.clone(), y)
        )
    if importlib.util.find_spec("quack"):
        from quack.cross_entropy import cross_entropy_fwd

        calls["softmax_score"]["QuACK cross_entropy alone"] = lambda z, y, ema: cross_entropy_fwd(
            z, y
        )
    return calls


def rows_of(
    rows: int, classes: int, dtype: torch.dtype, target: float | None, seconds: float
) -> Iterator[Row]:
    size = rows * classes * dtype.itemsize
    cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
    copies = max(2, min(MOST_COPIES, -(-5 * cache_bytes // size)))
    labels, ema = torch.randint(classes, (rows,), device="cuda"), torch.zeros((), device="cuda")
    inputs = [
        (torch.randn(rows, classes, device="cuda").to(dtype) * 3, labels, ema)
        for _ in range(copies)
    ]
    shape = f"({rows}, {classes}) {str(dtype).removeprefix('torch.')}"
    large = size > 2**30  # torch's float copies of it would only measure patience
    for op, calls in competitors(compiled=not large).items():
        calls = {name: call for name, call in calls.items() if not (large and name == "torch")}
        for cache, chosen in (("cold", inputs), ("warm", inputs[:1] * min(copies, 20))):
            if (cache == "cold") == (copies == MOST_COPIES and size * copies < 5 * cache_bytes):
                continue  # too small to leave the cache, or too large to stay
            graphs = {name: (graph_of(call, chosen), len(chosen)) for name, call in calls.items()}
            for name, timing in replay_times(graphs, seconds).items():
                eager = eager_time(calls[name], inputs[0])
                goal = target if (op, name) == ("importance_sample", "isample") else None
                yield Row(shape, op, name, cache, timing, size / 1e6, eager, goal)


def tables_and_draws(seconds: float) -> Iterator[Row]:
    """Memory mode at the size of ImageNet: the table at most 100 us on an H200."""
    n, batch = 1_281_167, 256
    score = torch.rand(n, device="cuda")
    table, sums = ops.alias_table(score), ops.prefix_sum(score, floor=0.2)
    p = score / score.sum()
    calls = {
        ("alias_table", "isample", 100.0): lambda: ops.alias_table(score),
        ("prefix_sum", "isample", None): lambda: ops.prefix_sum(score, floor=0.2),
        ("draw 256", "isample, alias table", None): lambda: ops.draw.table(*table, batch),
        ("draw 256", "isample, stratified", None): lambda: ops.draw.prefix_sum(sums[0], batch),
        ("draw 256", "torch.multinomial", None): lambda: torch.multinomial(
            p, batch, replacement=True
        ),
    }
    graphs = {str(key): (graph_of(call, [()] * 10), 10) for key, call in calls.items()}
    timings = replay_times(graphs, seconds)
    for key, call in calls.items():
        yield Row(
            f"({n},)",
            key[0],
            key[1],
            "warm",
            timings[str(key)],
            n * 4 / 1e6,
            eager_time(call, ()),
            key[2],
        )


def measure_all(seconds: float) -> tuple[float, list[Row]]:
    """The ceiling in GB/s and all rows; about `seconds` a shape and op."""
    torch.manual_seed(0)
    ceiling = read_ceiling()
    rows = [row for shape in SHAPES for row in rows_of(*shape, seconds)]
    return ceiling, rows + list(tables_and_draws(seconds))

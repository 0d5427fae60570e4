"""`python -m bench.kernels`: each op and the fused one against plain torch, on the CPU, in one run.

The alternatives take turns, call by call, so that what else the machine does meets all of them
alike; a time is the median of many, with the 20th and 80th percentile. Writes
bench/results/cpu-kernels.json and .md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
from torch.nn import functional as F

import isample
from isample import _C
from isample.ops import reference

ops = torch.ops.isample
RESULTS = Path(__file__).parents[1] / "results"
SHAPES = [(128, 10), (640, 100), (1024, 1000), (256, 32000)]


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def measure(calls: dict, seconds: float) -> dict:
    """Microseconds of each call: median, p20, p80 and the number of rounds."""
    for call in calls.values():  # warm up: compile, allocate, wake the threads
        for _ in range(3):
            call()
    times = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 20:
        for name, call in calls.items():
            start = time.perf_counter_ns()
            call()
            times[name].append((time.perf_counter_ns() - start) / 1000)
    cuts = {name: statistics.quantiles(values, n=10) for name, values in times.items()}
    return {
        name: {"median": cut[4], "p20": cut[1], "p80": cut[7], "rounds": len(times[name])}
        for name, cut in cuts.items()
    }


def alternatives(rows: int, classes: int, compiled) -> dict:
    """Stage -> name -> call."""
    logits, labels = torch.randn(rows, classes) * 2, torch.randint(classes, (rows,))
    count, ema = rows // 5, torch.zeros(())
    score, _ = isample.softmax_score(logits, labels)
    p, _ = reference.plain_distribution(score)
    table = isample.alias_table(score)
    leaf, weights = logits.clone().requires_grad_(), torch.rand(rows)

    def from_loss_to_logits():
        leaf.grad = None
        (weights * F.cross_entropy(leaf, labels, reduction="none")).mean().backward()

    def from_gradient_to_logits():
        leaf.grad = None
        torch.autograd.backward(leaf, ops.cross_entropy(leaf, labels, weights)[2])

    stages = {
        "softmax_score": {
            "isample": lambda: ops.softmax_score(logits, labels),
            "torch": lambda: reference.plain_softmax_score(logits, labels),
        },
        "weighted loss, its gradient": {
            "isample": from_gradient_to_logits,  # with the scores
            "torch": from_loss_to_logits,  # without
        },
        "distribution": {
            "isample": lambda: ops.distribution(score),
            "torch": lambda: reference.plain_distribution(score),
        },
        "draw": {
            "isample": lambda: ops.draw(score, count),
            "isample, from a table": lambda: ops.draw.table(*table, count),
            "isample, systematic": lambda: ops.draw(score, count, method="systematic"),
            "isample, pps": lambda: ops.draw(score, count, method="pps"),
            "torch": lambda: reference.plain_draw(p, count),
        },
        "importance_sample": {
            "isample": lambda: isample.importance_sample(logits, labels, count, ema),
            "isample, raw op": lambda: ops.importance_sample(logits, labels, count, ema),
            "torch": lambda: reference.plain_importance_sample(logits, labels, count, ema),
        },
    }
    if compiled:
        stages["importance_sample"]["torch.compile"] = lambda: compiled(logits, labels, count, ema)
    return stages


def as_markdown(report: dict) -> str:
    lines = [
        "# The ops on a CPU, against plain torch",
        "",
        f"{report['processor']}, {report['threads']} threads; torch {report['torch']}, "
        f"Python {report['python']}, isample built with {report['build']['compiler']}, "
        f"running {report['build']['cpu']}. "
        f"float32, b = B / 5. Made by `{report['command']}`.",
        "",
        "Microseconds: median (p20 to p80). Ratio: the alternative's median over that of "
        "`isample`, in the same run.",
        "",
        "| (B, C) | op | how | µs | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in report["results"]:
        time_ = f"{row['median']:.1f} ({row['p20']:.1f} to {row['p80']:.1f})"
        lines.append(
            f"| {row['shape']} | {row['op']} | {row['how']} | {time_} | {row['ratio']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m bench.kernels", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="time for each op and shape (default 4)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    report = {
        "command": f"python -m bench.kernels --seconds {options.seconds:g} "
        f"--threads {options.threads}",
        "processor": processor(),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "build": _C.build_info(),
        "results": [],
    }
    for rows, classes in SHAPES:
        torch._dynamo.reset()
        compiled = (
            None
            if options.no_compile
            else torch.compile(reference.plain_importance_sample, dynamic=False)
        )
        for op, calls in alternatives(rows, classes, compiled).items():
            times = measure(calls, options.seconds)
            for how, row in times.items():
                row = {"shape": f"({rows}, {classes})", "op": op, "how": how, **row}
                row["ratio"] = row["median"] / times["isample"]["median"]
                report["results"].append(row)
                print(
                    f"{row['shape']:14} {op:27} {how:22} "
                    f"{row['median']:9.1f} us  x{row['ratio']:.2f}",
                    flush=True,
                )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "cpu-kernels.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "cpu-kernels.md").write_text(as_markdown(report))
    print(f"written to {RESULTS}/cpu-kernels.json and .md")


if __name__ == "__main__":
    main()

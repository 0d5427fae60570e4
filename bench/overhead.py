"""What the engine costs where it has nothing to give: `python -m bench.overhead`.

Two copies of one loop take turns in one process, one with `isample.Engine` and one without. Their
data, network and optimizer are alike, and both fetch a batch at once. A turn is some fifty steps.
The ratio of a turn with the engine to the turn beside it is taken, and the median of all these.
Where their memory lies makes some percent of a short step, so ROUNDS times both are made anew.
Labels are random, so no sample teaches more than another.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

import isample
from bench.common.datasets import Rows, as_fetched
from bench.common.machine import processor

BATCH, SAMPLES, FEATURES, CLASSES = 64, 6400, 64, 10
ROUNDS = 5
RESULTS = Path(__file__).parent / "results"

# (control, milliseconds of a step, the most that isample may add)
CASES = [("never", 10.0, 0.01), ("never", 1.0, 0.03), ("speedup", 2.0, 0.03)]


def network(width: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(FEATURES, width), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES))


def data() -> Rows:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=random)
    return Rows(torch.randn(SAMPLES, FEATURES, generator=random), labels)


def loop(width: int, control: str | None, turn: int) -> Iterator[None]:
    """``turn`` steps at a time, without end; ``control`` None is a loop without isample."""
    model = network(width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    loader = DataLoader(data(), BATCH, shuffle=True, collate_fn=as_fetched)
    paused = nullcontext
    if control is not None:
        engine = isample.Engine(optimizer, head=model[-1], control=control, seed=0)
        loader, paused = engine.loader(loader), engine.paused
    for step in itertools.count(1):
        if (step - 1) % len(loader) == 0:
            batches = iter(loader)
        inputs, labels = next(batches)
        loss = F.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % turn == 0:
            with paused():
                yield


def seconds_of(turns: Iterator[None]) -> float:
    begin = time.perf_counter()
    next(turns)
    return time.perf_counter() - begin


def width_for(milliseconds: float) -> int:
    """The width whose step takes about so long on this machine."""
    width = 32
    while True:
        turns = loop(width, None, 50)
        seconds_of(turns)
        took = 1e3 * seconds_of(turns) / 50
        if took >= milliseconds:
            return width
        width = max(width + 8, int(width * min(2.0, math.sqrt(milliseconds / took))))


def measure(control: str, milliseconds: float, seconds: float) -> dict:
    width = width_for(milliseconds)
    turn = max(10, round(100 / milliseconds))
    without, ratios = [], []
    for _ in range(ROUNDS):
        plain, drawn = loop(width, None, turn), loop(width, control, turn)
        for turns in (plain, drawn, plain, drawn):
            seconds_of(turns)
        end = time.perf_counter() + seconds / ROUNDS
        while time.perf_counter() < end:
            first, second = seconds_of(plain), seconds_of(drawn)
            third, fourth = seconds_of(drawn), seconds_of(plain)
            without += [first / turn, fourth / turn]
            ratios += [second / first, third / fourth]
    added = sorted(ratio - 1 for ratio in ratios)
    return {
        "control": control,
        "width": width,
        "milliseconds": 1e3 * statistics.median(without),
        "turns": len(ratios),
        "added": statistics.median(added),
        "p20": added[len(added) // 5],
        "p80": added[4 * len(added) // 5],
    }


def page(report: dict) -> str:
    lines = [
        "# What the engine adds to a step that it cannot shorten",
        "",
        f"{report['processor']}, one thread; torch {report['torch']}. `{report['command']}`.",
        "A loop with `isample.Engine` and one without take turns in one process.",
        "Added: median (p20 to p80) over turns.",
        "",
        "| control | a step without | added | at most |",
        "|---|--:|--:|--:|",
    ]
    for row, (_, _, most) in zip(report["rows"], CASES):
        lines.append(
            f"| {row['control']} | {row['milliseconds']:.2f} ms "
            f"| {row['added']:+.1%} "
            f"({row['p20']:+.1%} to {row['p80']:+.1%}) | {most:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each case")
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    report = {
        "command": f"python -m bench.overhead --seconds {seconds:g}",
        "processor": processor(),
        "torch": torch.__version__,
        "rows": [measure(control, milliseconds, seconds) for control, milliseconds, _ in CASES],
    }
    (RESULTS / "overhead.json").write_text(json.dumps(report, indent=1) + "\n")
    (RESULTS / "overhead.md").write_text(page(report))
    print(page(report))


if __name__ == "__main__":
    main()

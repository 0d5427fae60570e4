"""What came of a call: each stage's result, and the speeds beside their targets."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from .stages import Outcome, failure
from .targets import compared, targets

PROMISE = 1.03  # what a step without importance sampling may take, beside a plain loop's
TAIL = 40  # lines of a failed stage's file


def summary(outcomes: dict[str, Outcome], facts: dict, folder: Path, title: str) -> str:
    lines = [f"# {title}", "", machine_line(facts), "", *verdicts(outcomes)]
    speeds = list(compared_speeds(folder, facts.get("gpu", "")))
    if speeds:
        head = ["what", "case", "measured", "target", "result"]
        lines += ["", *table(head, speeds)]
    for kind, rows in (("Training", training(folder)), ("Milliseconds a step", overhead(folder))):
        if rows:
            lines += ["", f"{kind}:", "", *table(*rows)]
    return "\n".join(lines) + "\n"


def failures(outcomes: dict[str, Outcome], folder: Path) -> str:
    """The ends of the files of what failed, unless they only repeat the table."""
    parts = []
    for name, outcome in outcomes.items():
        path = folder / outcome.file
        text = path.read_text(errors="replace") if path.is_file() else ""
        if not outcome.ok and text not in ("", failure(path, outcome.said)):
            end = text.rstrip().split("\n")[-TAIL:]
            parts.append(
                "\n".join([f"\n## The end of {path.name} ({name})", "", "```", *end, "```"])
            )
    return "\n".join(parts)


def machine_line(facts: dict) -> str:
    said = [f"torch {facts.get('torch')}, CUDA {facts.get('cuda')}, nvcc {facts.get('nvcc')}"]
    if "gpu" in facts:
        said.insert(0, f"{facts['gpu']}, {facts['driver, clocks, memory']}")
    return f"{'; '.join(said)}, Python {facts.get('python')}, {facts.get('cores')} cores."


def verdicts(outcomes: dict[str, Outcome]) -> list[str]:
    rows = [
        [name, "pass" if each.ok else "FAIL", f"{each.seconds:.1f}", each.said, each.file]
        for name, each in outcomes.items()
    ]
    return table(["stage", "result", "seconds", "what came of it", "file"], rows)


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    cells = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in cells
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def rows_of(path: Path) -> list[dict]:
    """The lines of a file that may end in the middle of one, when its writer was killed."""
    rows = []
    for line in path.read_text(errors="replace").split("\n") if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return [row for row in rows if "error" not in row]


def compared_speeds(folder: Path, gpu: str) -> Iterator[list[str]]:
    goals = targets(gpu)
    for row in rows_of(folder / "kernels.jsonl"):
        shape = row["case"].removeprefix("importance_sample ").split(", ")
        goal = goals.get(", ".join(shape[:2]))
        if row["case"].startswith("importance_sample") and goal:
            yield line("kernels", f"{row['case']}, {row['l2']}", row["us"], goal)
    rows = rows_of(folder / "ops.jsonl")
    for row in rows:
        goal = goals.get(row.get("shape", ""))
        if (row.get("op"), row.get("how")) == ("importance_sample", "isample") and goal:
            yield line("ops", f"importance_sample {row['shape']}, {row['cache']}", row["us"], goal)
    yield from losses_compared(rows)
    yield from promise(folder)


def losses_compared(rows: list[dict]) -> Iterator[list[str]]:
    """The loss of an active step, with its gradient and scores, beside torch's own loss."""
    took = {
        (row["shape"], row["how"]): row["us"]
        for row in rows
        if row.get("op") == "cross_entropy and its gradient"
    }
    for (shape, how), value in took.items():
        if how == "isample" and (shape, "torch") in took:
            yield line(
                "ops", f"cross_entropy and its gradient {shape}", value, took[shape, "torch"]
            )


def line(what: str, case: str, value: float, goal: float) -> list[str]:
    return [what, case, f"{value:.2f} µs", f"{goal:.1f} µs", compared(value, goal)]


def turns(folder: Path) -> dict[tuple[str, str], list[float]]:
    """(where the data are, loop) -> milliseconds a step of each of its turns."""
    blocks = defaultdict(list)
    for row in rows_of(folder / "overhead.jsonl"):
        blocks[row["data"], row["how"]].append(row["ms"])
    return blocks


def ratios(blocks: dict[tuple[str, str], list[float]], data: str, how: str) -> list[float]:
    """A loop's turns beside the plain loop's of the same rounds."""
    return [one / plain for one, plain in zip(blocks[data, how], blocks.get((data, "plain"), []))]


def promise(folder: Path) -> Iterator[list[str]]:
    blocks = turns(folder)
    for data, how in list(blocks):
        beside = ratios(blocks, data, how)
        if how == "never" and beside:
            value = statistics.median(beside)
            row = [f"{value:.3f}", f"{PROMISE:.2f}", compared(value, PROMISE)]
            yield ["overhead", f"never beside a plain loop, data on {data}", *row]


def overhead(folder: Path) -> tuple[list[str], list[list[str]]] | None:
    blocks = turns(folder)
    rows = []
    for (data, how), values in blocks.items():
        beside = ratios(blocks, data, how)
        ratio = f"{statistics.median(beside):.3f}" if beside else ""
        rows.append([data, how, f"{statistics.median(values):.3f}", ratio, str(len(values))])
    return (["data", "loop", "median", "beside plain", "turns"], rows) if rows else None


def training(folder: Path) -> tuple[list[str], list[list[str]]] | None:
    looks = {row["how"]: row for row in rows_of(folder / "training.jsonl")}  # the last of each
    rows = [
        [
            how,
            f"{row['seconds']:.1f}",
            str(row["updates"]),
            f"{row['active']:.0%}",
            f"{row['train_loss']:.4f}",
            f"{row['test_error']:.2%}",
        ]
        for how, row in looks.items()
    ]
    head = ["method", "seconds", "updates", "active", "training loss", "test error"]
    return (head, rows) if rows else None

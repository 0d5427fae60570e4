"""The table of a comparison: to the terminal, as Markdown with all that is needed to repeat it, and
as JSON."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from . import figure
from .methods import METHODS
from .runfile import Record, without_nan
from .statistics import BASELINE, UNDISTURBED, Interval, Row, rows
from .tasks import LOSSES, TASKS

COLUMNS: list[tuple[str, Callable[[Row], str]]] = [
    ("method", lambda row: row.name + (" †" if row.disturbed else "")),
    ("time to uniform's final training loss", lambda row: time_cell(row)),
    ("lead in time", lambda row: percent(row.lead, signed=True)),
    (
        "final training loss",
        lambda row: cell(row.training_loss, significant) if row.training_loss.count else "diverged",
    ),
    ("final test error", lambda row: percent(row.test_error, digits=2)),
    ("test error − uniform's", lambda row: percent(row.error_difference, digits=2, signed=True)),
    ("updates", lambda row: cell(row.updates, lambda value: f"{value:,.0f}")),
    ("active", lambda row: percent(row.active)),
]

LEGEND = """\
All methods of a seed begin with the same parameters and the same seed of the data order. A run's
clock runs while the method trains, data loading included; evaluations count for none. Every run's
learning rate falls to 0, linearly in its own time. `name@s` had a share s of the time. Values are
means over seeds ± the half-width of the 95 % confidence interval (Student's t).

- *time to uniform's final training loss*: share of the whole time until the training loss was first
  as low as uniform's of the same seed at the end.
- *lead in time*: how much earlier than uniform the method was at the lowest training loss that both
  reached, as a share of the whole time; negative where it was later.
- *final training loss*: on a fixed part of the training set, in evaluation mode, without
  augmentation.
- *final test error*: {error_title}; *test error − uniform's*: the difference within each seed, in
  percentage points.
- *active*: share of the time spent in importance-sampled steps, for methods that switch."""


def terminal_table(records: list[Record]) -> Table:
    table = Table(title=title(records), title_justify="left")
    for index, (name, _) in enumerate(COLUMNS):
        table.add_column(name, justify="right" if index else "left", no_wrap=index == 0)
    for row in rows(records):
        style = "bold" if row.method == "isample" else "dim" if row.name == BASELINE else None
        table.add_row(*(text(row) for _, text in COLUMNS), style=style)
    return table


def markdown(records: list[Record], curves: str) -> str:
    """The page of one task; ``curves`` is the file name of its curves."""
    table = rows(records)
    lines = [
        f"# {title(records)}",
        "",
        f"![Training loss and test error against training time]({curves})",
        "",
    ]
    lines += ["| " + " | ".join(name for name, _ in COLUMNS) + " |"]
    lines += ["|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += ["| " + " | ".join(text(row) for _, text in COLUMNS) + " |" for row in table]
    lines += ["", *standings(table), *notes(records), ""]
    lines += [LEGEND.format(error_title=LOSSES[TASKS[records[0].run.task].loss].error_title), ""]
    lines += ["## Methods", ""]
    lines += [
        f"- **{name}**: {METHODS[name].summary}."
        for name in METHODS
        if any(row.method == name for row in table)
    ]
    lines += ["", "## How it was measured", "", *setting(records), ""]
    return "\n".join(lines)


def as_json(records: list[Record]) -> str:
    """Rows and all points; numbers that do not exist are null."""
    content = {
        "task": records[0].run.task,
        "command": command(records),
        "rows": [asdict(row) for row in rows(records)],
        "runs": [asdict(record) for record in records],
    }
    return json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"


def write(records: list[Record], folder: Path) -> list[Path]:
    """Writes the page, the numbers and the curves of one task's runs into ``folder``."""
    name = records[0].run.task
    paths = [folder / f"{name}{suffix}" for suffix in (".md", ".json", ".png")]
    folder.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(markdown(records, paths[2].name), encoding="utf-8")
    paths[1].write_text(as_json(records), encoding="utf-8")
    figure.draw(records, title(records), paths[2])
    return paths


def title(records: list[Record]) -> str:
    run = records[0].run
    seeds = len({record.run.seed for record in records})
    return (
        f"{run.data}, {TASKS[run.task].title}: {run.budget:g} s of training, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


def standings(table: list[Row]) -> list[str]:
    """In plain words: who is before isample with the same time, by either measure."""
    full = [row for row in table if row.share == 1.0 and row.training_loss.count]
    if not any(row.name == "isample" for row in full):
        return []
    lines = []
    for measured, measure in (("training loss", "training_loss"), ("test error", "test_error")):
        means = {row.name: getattr(row, measure).mean for row in full}
        ahead = [name for name in sorted(means, key=means.get) if means[name] < means["isample"]]
        lines.append(
            f"- Lower final {measured} than isample's, on average: {', '.join(ahead) or 'none'}."
        )
    return lines


def notes(records: list[Record]) -> list[str]:
    return [*times_by_kind(rows(records)), *disturbances(records)]


SAID = {
    "memory": "drawn by memory",
    "thinned": "thinned",
    "presample": "drawn from a scored presample",
    "plain": "plain",
}


def times_by_kind(table: list[Row]) -> list[str]:
    """How much of its time each method spent on each kind of step, where the method says so."""
    lines = []
    for row in table:
        shares = {kind: share for kind, share in row.kinds.items() if round(100 * share)}
        told = [f"{100 * shares[kind]:.0f} % {SAID[kind]}" for kind in SAID if kind in shares]
        if told:
            lines.append(f"- {row.name}: {', '.join(told).replace(' % ', ' % of the time ', 1)}.")
    return lines


def disturbances(records: list[Record]) -> list[str]:
    """Which runs were slowed down from outside, so that their figures are worth little."""
    names = [f"{r.run.name} (seed {r.run.seed})" for r in records if r.core_share < UNDISTURBED]
    if not names:
        return []
    least = f"{100 * UNDISTURBED:.0f} %"
    return [
        f"- † Disturbed: {', '.join(names)} had their core for less than {least} of the time. "
        "Delete their run files and repeat the command to do them again."
    ]


def setting(records: list[Record]) -> list[str]:
    task, machine = TASKS[records[0].run.task], records[0].machine
    loads = [point.load for record in records for point in record.points]
    shares = [record.core_share for record in records]
    dates = sorted(record.machine["date"] for record in records)
    settings = (
        f"b = {task.batch_size}, SGD, learning rate {task.learning_rate:g}, "
        f"momentum {task.momentum:g}"
    )
    if task.weight_decay:
        settings += f", weight decay {task.weight_decay:g}"
    return [
        f"- `{command(records)}`",
        f"- {settings}.",
        f"- {machine['cores']} cores ({machine['processor']}), one thread and one core a run; "
        f"Python {machine['python']}, torch {machine['torch']}, isample {machine['isample']}.",
        f"- {dates[0]} to {dates[-1]}; load average {min(loads):.1f} to {max(loads):.1f}. "
        f"The runs had {100 * min(shares):.0f} % to {100 * max(shares):.0f} % of their core.",
    ]


def command(records: list[Record]) -> str:
    run = records[0].run
    present = {record.run.name: record.run for record in records}
    methods = [name for name in METHODS if name in present]
    listed = "all" if methods == list(METHODS) else ",".join(methods)
    shares = "".join(f" --share {r.method}={r.share:g}" for r in present.values() if r.share != 1.0)
    data = "" if run.data == TASKS[run.task].data.title else f" --data-name {shlex.quote(run.data)}"
    seeds = 1 + max(record.run.seed for record in records)
    return (
        f"python -m bench.training compare --task {run.task}{data} --seconds {run.budget:g} "
        f"--seeds {seeds} --methods {listed}{shares} --root DIR --output DIR"
    )


def time_cell(row: Row) -> str:
    if row.time_to_baseline is None:
        return "–" if row.lead is None else "not reached"
    tried = row.lead.count
    return percent(row.time_to_baseline) + (
        "" if row.reached == tried else f" ({row.reached} of {tried} seeds)"
    )


def percent(value: Interval | None, digits: int = 0, signed: bool = False) -> str:
    if value is None or not value.count:
        return "–"
    sign = "+" if signed else ""
    width_text = f"{{:.{digits}f}}".format
    return cell(value.scaled(100), f"{{:{sign}.{digits}f}}".format, width_text) + " %"


def cell(
    value: Interval, text: Callable[[float], str], width_text: Callable[[float], str] | None = None
) -> str:
    if math.isnan(value.half_width):
        return text(value.mean)
    return f"{text(value.mean)} ± {(width_text or text)(value.half_width)}"


def significant(number: float) -> str:
    """Three significant digits, without an exponent."""
    if number == 0:
        return "0"
    return f"{number:.{max(2 - math.floor(math.log10(abs(number))), 0)}f}"

"""What the run shows: a live table while it trains, a closing table, and the same as JSON."""

from __future__ import annotations

import json
import math
import platform
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from bench.common.machine import processor
from isample import StepReport

from .race import Contestant, Point, Race

REFRESH_SECONDS = 0.25


class Display:
    """Live table on a terminal, one line an evaluation elsewhere."""

    def __init__(self, console: Console):
        self.console = console
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self.race: Race | None = None
        self.drawn = 0.0
        self.announced: set[str] = set()  # methods

    def __enter__(self) -> Display:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def after_step(self, contestant: Contestant) -> None:
        """Called after every step: says once when a method's gate first opens, and redraws a few
        times a second."""
        if contestant.steps[-1].active and contestant.name not in self.announced:
            self.announced.add(contestant.name)
            before = contestant.steps[-2]  # the step that opened the gate for this one
            why = f"τ̄ {before.tau_ema:.2f} > {self.race.settings.tau_threshold:.2f}"
            if contestant is self.race.isample:
                gain = contestant.steps[-1].effective_batch / self.race.settings.batch_size
                why = f"a batch is worth {gain:.2f} uniform ones"
            self.console.print(
                f"{before.elapsed:6.1f} s  {contestant.name} switches on "
                f"after update {before.step}: {why}"
            )
        if self.live and time.monotonic() - self.drawn > REFRESH_SECONDS:
            self.drawn = time.monotonic()
            self.live.update(progress_table(self.race), refresh=True)

    def after_evaluation(self, race: Race) -> None:
        if self.live:
            self.live.update(progress_table(race), refresh=True)
            return
        parts = [f"{race.contestants[0].points[-1].seconds:6.1f} s"]
        for contestant in race.contestants:
            point = contestant.points[-1]
            parts.append(
                f"{contestant.name}: loss {point.training_loss:.2e}, error {point.test_error:.2%}"
            )
            if contestant is not race.uniform:
                parts[-1] += f" ({gate_state(contestant)})"
        self.console.print("  ".join(parts), soft_wrap=True)


def gate_state(contestant: Contestant) -> str:
    if not contestant.steps:
        return "off"
    step = contestant.steps[-1]
    return ("on" if step.active else "off") + (
        "" if math.isnan(step.tau_ema) else f", τ̄ {step.tau_ema:.2f}"
    )


def progress_table(race: Race) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "progress", "seconds", "updates", "training loss", "test error", "now"):
        table.add_column(
            heading,
            justify="right"
            if heading in ("seconds", "updates", "training loss", "test error")
            else "left",
        )
    for contestant in race.contestants:
        point = contestant.points[-1] if contestant.points else None
        table.add_row(
            contestant.name,
            ProgressBar(total=race.settings.seconds, completed=contestant.seconds, width=24),
            f"{contestant.seconds:.1f}",
            f"{len(contestant.steps):,}",
            f"{point.training_loss:.2e}" if point else "",
            f"{point.test_error:.2%}" if point else "",
            gate_state(contestant) if contestant is not race.uniform else "",
        )
    return table


def closing_table(race: Race) -> Table:
    settings = race.settings
    table = Table(
        title=f"{settings.data}, {settings.seconds:g} s of training each, seed {settings.seed}"
    )
    table.add_column("sampling", no_wrap=True)
    for heading in ("training loss", "test error", "updates", "active steps", "τ"):
        table.add_column(heading, justify="right")
    for contestant in race.contestants:
        row = summary(contestant)
        table.add_row(
            contestant.name,
            f"{row['training_loss']:.2e}",
            f"{row['test_error']:.2%}",
            f"{row['updates']:,}",
            f"{row['active_share']:.0%}",
            f"{row['tau']:.2f}" if row["tau"] else "–",
        )
    return table


def verdict(race: Race) -> str:
    """The comparison in a sentence, whoever is ahead."""
    isample, paper = against(race.isample, race.uniform), against(race.paper, race.uniform)
    return (
        f"At equal time isample ended with {isample} compared with uniform sampling; "
        f"the paper's algorithm with {paper}."
    )


def against(contestant: Contestant, uniform: Contestant) -> str:
    end, baseline = contestant.points[-1], uniform.points[-1]
    points = 100 * (end.test_error - baseline.test_error)
    error = (
        "the same test error"
        if abs(points) < 0.005
        else (f"a test error {abs(points):.2f} points {'lower' if points < 0 else 'higher'}")
    )
    ratio = end.training_loss / baseline.training_loss if baseline.training_loss > 0 else math.nan
    never = " (it never switched on)" if contestant.switched_on is None else ""
    return f"{ratio:.2g} times the training loss and {error}{never}"


def summary(contestant: Contestant) -> dict:
    """A row of the table. `active_share` is over all steps; `tau` is the moving average at the end,
    None where no step is scored."""
    end, tau, on = contestant.points[-1], contestant.steps[-1].tau_ema, contestant.switched_on
    return {
        "method": contestant.name,
        "training_loss": end.training_loss,
        "test_loss": end.test_loss,
        "test_error": end.test_error,
        "updates": end.updates,
        "seconds": end.seconds,
        "active_share": contestant.active_share,
        "switched_on_seconds": on and on.elapsed,
        "tau": None if math.isnan(tau) else tau,
    }


def thinned(
    steps: list[StepReport], budget: float, bins: int = 200
) -> dict[str, list[float | None]]:
    """Means of the steps over `bins` equal spans of time: thousands of steps make neither a file
    nor a picture. None where no step of a span has a value."""
    groups: dict[int, list[StepReport]] = {}
    for step in steps:
        groups.setdefault(min(bins - 1, int(step.elapsed / budget * bins)), []).append(step)
    names = {"seconds": "elapsed", "tau": "tau", "tau_ema": "tau_ema", "active": "active"}
    return {
        name: [
            mean_of_known([getattr(step, attribute) for step in group]) for group in groups.values()
        ]
        for name, attribute in names.items()
    }


def mean_of_known(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def as_dict(race: Race, command: str) -> dict:
    """Table, curves, and all that is needed to repeat the run."""
    settings = race.settings
    return {
        "command": command,
        "settings": {
            "data": settings.data,
            "seconds": settings.seconds,
            "seed": settings.seed,
            "batch_size": settings.batch_size,
            "presample": settings.presample,
            "tau_threshold": race.settings.tau_threshold,
            "parameters": race.parameters,
        },
        "machine": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": processor(),
        },
        "table": [summary(contestant) for contestant in race.contestants],
        "verdict": verdict(race),
        "curves": {contestant.name: evaluations(contestant) for contestant in race.contestants},
        "steps": {
            each.name: thinned(each.steps, settings.seconds) for each in (race.paper, race.isample)
        },
    }


def evaluations(contestant: Contestant) -> dict[str, list[float]]:
    return {name: list(column) for name, column in zip(Point._fields, zip(*contestant.points))}


def write_json(race: Race, command: str, path: Path) -> None:
    path.write_text(json.dumps(as_dict(race, command), indent=1) + "\n")

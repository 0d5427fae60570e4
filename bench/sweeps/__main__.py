"""python -m bench.sweeps [--only NAME ...] [--seeds N]: what each constant of the controllers is
worth. Writes a page and a record for each to bench/sweeps/results."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.sweeps.simulate import Result, simulate
from bench.sweeps.workloads import workloads
from isample.control import Settings

RESULTS = Path(__file__).parent / "results"
VALUES: dict[str, tuple[Any, ...]] = {
    "decay": (0.95, 0.98, 0.99),
    "enough": (1.0, 4.8, 9.6, 19.2),
    "keeps": ((1.0,), (1.0, 1 / 2), (1.0, 1 / 2, 1 / 4), Settings().keeps),
    "noise_limit": (1.0, 1.05, 1.1, 1.2),
    "gain_share": (0.3, 0.5, 0.7, 1.0),
    "doubtful_gain": (1.0, 1.5, 2.0),
    "hope": (0.0, 0.5, 1.0),
    "doubt": (0.5, 1.0, 2.0),
    "every": (8, 16, 32),
    "row": (3, 6, 12),
    "cold": (0, 2, 4),
    "patience": (16, 64, 128, 256),
    "trials": (0.002, 0.005, 0.01, 0.02),
    "watching": (0.005, 0.01, 0.02, 0.04),
    "resume": (0.5, 0.75, 1.0),
    "drift": (0.003, 0.01, 0.03),
    "fading": (0.0, 1 / 2000, 1 / 500),
    "clip": (1.5, 3.0, 1e9),
    "prior": (Settings().prior, (0.25, 0.0, 0.1, 0.75), (0.25, 0.0, 1.0, 0.75)),
    "prior_spread": (Settings().prior_spread, (0.1, 0.1, 0.2, 0.1), (0.5, 0.6, 0.7, 0.5)),
    "cold_noise": (0.1, 0.5, 2.0),
}
COLUMNS = (
    ("mean regret", "of all workloads, against the best fixed plan of every moment"),
    ("half gained", "the same, if a gain in noise is half gained in time"),
    ("worst", "the workload that loses most"),
    ("idle", "the longest time of plain training's, where there is nothing to gain"),
    ("noisier", "the largest share of steps that were clearly noisier than a uniform batch"),
)


HELD_OUT = range(100, 106)  # seeds that no constant was chosen by
NOISE = "Between other seeds of the same settings mean regrets differ by about 1 %: so may values."


def measure(settings: Settings, seeds: int) -> dict[str, Result]:
    """The mean over seeds, by workload."""
    found = {}
    for workload in workloads():
        runs = [simulate(workload, settings, seed) for seed in range(seeds)]
        found[workload.name] = mean(runs)
    return found


def mean(runs: list[Result]) -> Result:
    return Result(*(sum(values) / len(runs) for values in zip(*runs)))


def idle(name: str) -> bool:
    return name.startswith("nothing") or name.endswith("dear") or name == "stream, workers ahead"


def row(value: str, found: dict[str, Result]) -> str:
    """A line of a page's table."""
    worst = max(found, key=lambda name: found[name].regret)
    cells = (
        value,
        f"{100 * sum(one.regret for one in found.values()) / len(found):.1f} %",
        f"{100 * sum(one.half_gained for one in found.values()) / len(found):.1f} %",
        f"{100 * found[worst].regret:.1f} % ({worst})",
        f"{max(one.slowdown for name, one in found.items() if idle(name)):.3f}",
        f"{100 * max(one.noisier for one in found.values()):.1f} %",
    )
    return f"| {' | '.join(cells)} |"


def show(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{one:g}" for one in value)
    return f"{value:g}"


def write(name: str, found: dict[Any, dict[str, Result]], seeds: int) -> None:
    """The page and the record of one constant."""
    default = getattr(Settings(), name)
    titles = " | ".join([name] + [title for title, _ in COLUMNS])
    lines = [f"# {name}", "", f"| {titles} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for value, results in found.items():
        lines.append(row(show(value) + (" (taken)" if value == default else ""), results))
    lines += ["", *(f"- {title}: {what}" for title, what in COLUMNS), "", NOISE]
    lines += ["", f"`python -m bench.sweeps --only {name} --seeds {seeds}`", ""]
    (RESULTS / f"{name}.md").write_text("\n".join(lines))
    record = [
        {"value": value, "workloads": {each: one._asdict() for each, one in results.items()}}
        for value, results in found.items()
    ]
    text = json.dumps({"constant": name, "seeds": seeds, "values": record}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")


def write_workloads() -> None:
    """The page of the settings as they are, by workload, on seeds held out."""
    titles = ("workload", "regret", "half gained", "speedup", "time", "longest", "used", "noisier")
    lines = ["# workloads", "", f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for workload in workloads():
        runs = [simulate(workload, seed=seed) for seed in HELD_OUT]
        one = mean(runs)
        cells = (
            workload.name,
            f"{100 * one.regret:.1f} %",
            f"{100 * one.half_gained:.1f} %",
            f"{one.speedup:.2f}",
            f"{one.slowdown:.3f}",
            f"{max(run.slowdown for run in runs):.3f}",
            f"{100 * one.share:.0f} %",
            f"{100 * one.noisier:.1f} %",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Means of {len(HELD_OUT)} seeds that no constant was chosen by.",
        "",
        "- regret: progress lost against the best fixed plan of every moment, in the same time",
        "- speedup: progress over that of plain steps in the same time",
        "- time: of a step, in plain ones; longest: of the run where it is longest",
        "- used: steps that were not plain ones",
        "",
        "`python -m bench.sweeps`",
        "",
    ]
    (RESULTS / "workloads.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sweeps", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=tuple(VALUES), default=tuple(VALUES))
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    base = measure(Settings(), arguments.seeds)
    write_workloads()
    for name in arguments.only:
        default = getattr(Settings(), name)
        found = {
            value: base
            if value == default
            else measure(replace(Settings(), **{name: value}), arguments.seeds)
            for value in VALUES[name]
        }
        write(name, found, arguments.seeds)
        print((RESULTS / f"{name}.md").read_text().split("\n\n")[1], flush=True)


if __name__ == "__main__":
    main()

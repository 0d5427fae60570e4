"""`run` and `figures` of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from bench.common.networks import NORMALISATIONS
from isample.support.registry import look_up

from ..runfile import Point, Record, Run, read_all, read_finished
from .registry import EXPERIMENTS, Experiment, find_experiment
from .session import Session, do_run


def run_experiment(arguments: argparse.Namespace, console) -> int:
    """Does the runs that the output folder does not hold finished already, one after the other."""
    experiment = find_experiment(arguments.name)
    runs = planned(arguments, experiment)
    waiting = [run for run in runs if read_finished(run, arguments.output) is None]
    sets = experiment.data.sets(arguments.data) if waiting else None
    arguments.output.mkdir(parents=True, exist_ok=True)
    for number, run in enumerate(runs, 1):
        if run not in waiting:
            continue
        session = Session(run, experiment, sets)
        watch(do_run(session, arguments.output), session, console, f"[{number}/{len(runs)}]")
    told = f"{len(waiting)} of {len(runs)} runs done now, all {len(runs)} in {arguments.output}"
    console.print(told, highlight=False, soft_wrap=True)
    return 0


def planned(arguments: argparse.Namespace, experiment: Experiment) -> list[Run]:
    """Every rule is checked before data is read. All methods of a seed come before the next
    seed."""
    if not 0 < arguments.scale <= 1:
        raise ValueError(f"--scale must be in (0, 1]; got {arguments.scale:g}")
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {arguments.seeds}")
    normalisation = checked_normalisation(experiment, arguments)
    methods = experiment.methods if arguments.methods is None else arguments.methods.split(",")
    for method in methods:
        if method not in experiment.entrants:
            known = ", ".join(experiment.entrants)
            raise ValueError(
                f"--methods must be of {known} for {arguments.name}, which can be resumed; "
                f"got {method!r}"
            )
    if len(set(methods)) < len(methods):
        raise ValueError(f"--methods must name each method once; got {arguments.methods}")
    device = checked_device(arguments.device)
    budget, data = budget_of(experiment, arguments), arguments.data_name or experiment.data.title
    return [
        Run(
            "run",
            arguments.name,
            method,
            seed,
            budget,
            data,
            scale=arguments.scale,
            normalisation=normalisation,
            device=device,
        )
        for seed in range(arguments.seeds)
        for method in methods
    ]


def budget_of(experiment: Experiment, arguments: argparse.Namespace) -> float:
    """Seconds as given, else the paper's budget times ``--scale``."""
    if experiment.updates is not None:
        if arguments.seconds is not None:
            raise ValueError(
                f"--seconds must not be given for {arguments.name}, which counts "
                f"{experiment.updates:,} updates times --scale; got {arguments.seconds:g}"
            )
        return max(1, round(experiment.updates * arguments.scale))
    if arguments.seconds is None:
        return experiment.seconds * arguments.scale
    if not 0 < arguments.seconds < float("inf"):
        raise ValueError(f"--seconds must be positive; got {arguments.seconds:g}")
    return arguments.seconds


def checked_normalisation(experiment: Experiment, arguments: argparse.Namespace) -> str | None:
    if arguments.normalisation is None:
        return experiment.normalisation
    if experiment.normalisation is None:
        raise ValueError(
            f"--normalisation must not be given for {arguments.name}; "
            f"got {arguments.normalisation!r}"
        )
    look_up(NORMALISATIONS, arguments.normalisation, "--normalisation")
    return arguments.normalisation


def checked_device(name: str | None) -> str:
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--device must be one that torch can use; got {name!r}: {reason}"
        ) from error
    return name


def watch(steps: Iterator, session: Session, console, place: str) -> None:
    """Exhausts ``steps`` under a live line; prints one line at the end."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    run = session.run
    title = f"{place} {run.task}, {run.method}, seed {run.seed}"
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:.1f} %"),
        TextColumn("{task.fields[told]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0, told="")
        for active in steps:
            phase = {None: "", False: ", uniform", True: ", importance"}[active]
            told = f"update {session.meter.updates:,}{phase}; {outcome(session.points[-1])}"
            bar.update(task, completed=session.training.progress, told=told)
    console.print(
        f"{title}: {outcome(session.points[-1])}", markup=False, highlight=False, soft_wrap=True
    )


def outcome(point: Point) -> str:
    told = f"{point.updates:,} updates in {point.elapsed:.1f} s"
    if point.training_loss is not None:
        return (
            f"{told}, training loss {point.training_loss:.4g}, "
            f"test error {100 * point.test_error:.2f} %"
        )
    for title, values in (
        ("distance from the presample's gradient", point.distance),
        ("squared error", point.squared_error),
    ):
        if values is not None:
            told += f", {title}: " + ", ".join(f"{k} {value:.4g}" for k, value in values.items())
    return told


def draw_figures(arguments: argparse.Namespace, console) -> int:
    """Figures and the table of claims of the finished runs in a folder, into that folder."""
    from . import claims, figures

    groups: dict[str, list[Record]] = {}
    for record in read_all(arguments.folder, "run"):
        if record.finished:
            groups.setdefault(record.run.task, []).append(record)
        else:
            run = record.run
            console.print(
                f"left out, not finished: {run.task}, {run.method}, seed {run.seed}",
                highlight=False,
            )
    ordered = [groups[name] for name in EXPERIMENTS if name in groups]
    paths = [figures.draw(records, arguments.folder) for records in ordered]
    table = arguments.folder / "claims.md"
    table.write_text(claims.page(ordered, [path.name for path in paths]), encoding="utf-8")
    console.print("\n".join(str(path) for path in [*paths, table]), highlight=False, soft_wrap=True)
    return 0


def add_commands(commands, formatter) -> None:
    run = commands.add_parser(
        "run", help="do one of the paper's experiments", formatter_class=formatter
    )
    add = run.add_argument
    add("name", metavar="NAME", help=", ".join(EXPERIMENTS))
    add(
        "--seconds",
        type=float,
        help="training time of each run (default: the paper's, times --scale)",
    )
    add("--seeds", type=int, default=3, help="runs of each method, with seeds 0, 1, ...")
    add(
        "--methods",
        help="names, by commas (default: those of the paper's figure; an unknown name lists them)",
    )
    add("--data", type=Path, default=Path("data"), metavar="DIR", help="where the data's files are")
    add("--data-name", metavar="NAME", help="what the results call the data, if not its usual name")
    add("--device", help="cpu, cuda, ... (default: cuda where there is one)")
    add(
        "--scale",
        type=float,
        default=1.0,
        metavar="S",
        help="for less time: multiplies the budget, and by its root the "
        "networks' widths and the samples measured on",
    )
    add(
        "--normalisation",
        help="of the wide residual networks: layer, group or batch (default: layer)",
    )
    add(
        "--output",
        type=Path,
        default=Path("out/experiments"),
        metavar="DIR",
        help="where the run files go",
    )
    run.set_defaults(run=run_experiment)

    figures = commands.add_parser(
        "figures", help="draw figures 1 to 6 from run files, and a table of claims"
    )
    figures.add_argument(
        "folder", type=Path, metavar="DIR", help="where the run files are, and the figures go"
    )
    figures.set_defaults(run=draw_figures)

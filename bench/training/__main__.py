"""`python -m bench.training compare` runs the comparison, `... table` makes its table again; `...
run` does one of the paper's experiments, `... figures` draws them."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.common.command import OneLineParser
from bench.common.images import DataError

from .experiments.command import add_commands

RESULTS = Path("bench/results")
FILE_WIDTH = 160  # of a table that goes to a file or a pipe


def main(argv: Sequence[str]) -> int:
    command_line = parser()
    arguments = command_line.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # being killed is being interrupted
    try:
        from rich.console import Console

        console = Console()
        return arguments.run(
            arguments, console if console.is_terminal else Console(width=FILE_WIDTH)
        )
    except ModuleNotFoundError as error:
        command_line.error(f'needs {error.name.partition(".")[0]}: pip install "isample[bench]"')
    except (ValueError, DataError) as error:
        command_line.error(str(error))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on with what is not finished", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    result = OneLineParser(
        prog="python -m bench.training", description="Training methods at equal wall-clock time."
    )
    commands = result.add_subparsers(dest="command", required=True)
    formatter = argparse.ArgumentDefaultsHelpFormatter

    compare = commands.add_parser(
        "compare", help="run a comparison and make its table", formatter_class=formatter
    )
    add = compare.add_argument
    add("--task", required=True, help="digits, mnist, cifar10, ... (an unknown name lists them)")
    add("--seconds", type=float, default=100.0, help="training time of each run")
    add("--seeds", type=int, default=3, help="runs of each method, with seeds 0, 1, ...")
    add("--methods", default="all", help="names separated by commas")
    add(
        "--share",
        action="append",
        default=[],
        metavar="METHOD=S",
        help="one more entrant: the method with a share S of the time; can be repeated",
    )
    add(
        "--root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="where the data sets' files are",
    )
    add("--data-name", metavar="NAME", help="what the results call the data, if not its usual name")
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the run files go, and are resumed from",
    )
    add("--jobs", type=int, default=1, help="runs at a time, one core each")
    add(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="where TASK.md, .json and .png go",
    )
    compare.set_defaults(run=run_compare)

    table = commands.add_parser(
        "table", help="make tables and figures from run files", formatter_class=formatter
    )
    table.add_argument("output", type=Path, metavar="DIR", help="where the run files are")
    table.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="where TASK.md, .json and .png go",
    )
    table.set_defaults(run=run_table)
    add_commands(commands, formatter)
    return result


def run_compare(arguments: argparse.Namespace, console) -> int:
    from .compare import RunFailed, compare

    plan = checked_plan(arguments)
    arguments.output.mkdir(parents=True, exist_ok=True)
    failure = None
    try:
        compare(
            plan,
            arguments.root,
            arguments.output,
            arguments.jobs,
            lambda *told: tell(console, *told),
        )
    except RunFailed as error:
        failure = error
    status = run_table(arguments, console, {plan.task})
    if failure is not None:
        print(f"python -m bench.training compare: {failure}", file=sys.stderr)
        return 1
    return status


def checked_plan(arguments: argparse.Namespace):
    """Every rule is checked, and the data read once, before anything is run."""
    from .compare import Plan, cores
    from .methods import METHODS, find_method
    from .tasks import find_task

    task = find_task(arguments.task)
    if not 0 < arguments.seconds < float("inf"):
        raise ValueError(f"--seconds must be positive; got {arguments.seconds:g}")
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1; got {arguments.seeds}")
    if not 1 <= arguments.jobs <= len(cores()):
        raise ValueError(
            f"--jobs must be from 1 to the number of cores, {len(cores())}; got {arguments.jobs}"
        )
    names = METHODS if arguments.methods == "all" else arguments.methods.split(",")
    entrants = [(name, 1.0) for name in names] + [parsed_share(text) for text in arguments.share]
    for name, _ in entrants:
        find_method(name)
    if len(set(entrants)) < len(entrants):
        raise ValueError(
            f"--methods and --share must name each entrant once; "
            f"got {arguments.methods}, {arguments.share}"
        )
    samples = len(task.data.sets(arguments.root).training)
    if samples < 5 * task.batch_size:
        raise ValueError(
            f"the training set must hold at least five batches of {task.batch_size}; "
            f"got {samples} samples"
        )
    return Plan(
        arguments.task,
        arguments.data_name or task.data.title,
        entrants,
        arguments.seconds,
        arguments.seeds,
    )


def parsed_share(text: str) -> tuple[str, float]:
    method, _, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise ValueError(f"--share must be METHOD=S with S between 0 and 1; got {text!r}")
    return method, value


def tell(console, record, done: int, total: int) -> None:
    run, final = record.run, record.final
    console.print(
        f"[{done}/{total}] {run.task}, {run.name}, seed {run.seed}: "
        f"{final.updates:,} updates in {final.elapsed:.1f} s, "
        f"training loss {final.training_loss:.4g}, test error {100 * final.test_error:.2f} %, "
        f"{100 * record.core_share:.0f} % of a core, load {final.load:.1f}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def run_table(arguments: argparse.Namespace, console, tasks: set[str] | None = None) -> int:
    """Table, page and figure of each of ``tasks``, by default of all that have runs in the
    folder."""
    from .report import notes, terminal_table, write
    from .runfile import read_all

    records = [record for record in read_all(arguments.output, "compare") if record.finished]
    for task in sorted(tasks or {record.run.task for record in records}):
        of_task = [record for record in records if record.run.task == task]
        budgets = {record.run.budget for record in of_task}
        if len(budgets) > 1:
            raise ValueError(
                f"runs of one task must have one budget; "
                f"{arguments.output} holds {task} with {budgets} s"
            )
        console.print(terminal_table(of_task))
        console.print("\n".join(notes(of_task)), soft_wrap=True)
        console.print(
            "\n".join(str(path) for path in write(of_task, arguments.results)), highlight=False
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

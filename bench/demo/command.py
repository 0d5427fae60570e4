"""The command line of the demonstration."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.common.command import OneLineParser
from bench.common.data import load
from bench.common.images import DataError

from .race import Race, Settings


def parser() -> argparse.ArgumentParser:
    defaults = Settings()
    result = OneLineParser(
        prog="python -m bench.demo",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Trains a small convolutional network three times for the same wall-clock "
        "time, by uniform sampling, by the paper's algorithm and by isample, and compares.",
    )
    add = result.add_argument
    add(
        "--data",
        choices=["digits", "mnist", "cifar10"],
        default=defaults.data,
        help="digits needs no files",
    )
    add(
        "--root",
        type=Path,
        default=defaults.root,
        metavar="DIR",
        help="where the files of mnist or cifar10 are",
    )
    add("--seconds", type=float, default=defaults.seconds, help="training time of each method")
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of the parameters, the order of the data and the draws",
    )
    add(
        "--batch-size",
        type=int,
        default=defaults.batch_size,
        metavar="b",
        help="images in an update",
    )
    scored = (
        "images that the paper's algorithm scores for an update; a multiple of b (default: 5 b)"
    )
    add("--presample", type=int, metavar="B", help=scored)
    add(
        "--output",
        type=Path,
        default=Path("isample-demo.png"),
        metavar="PNG",
        help="where the picture goes",
    )
    add("--json", type=Path, metavar="FILE", help="write the table and the curves there")
    return result


def checked_settings(arguments: argparse.Namespace, error) -> Settings:
    """Every rule that can be checked before the data is read; `error` ends the program with its
    message."""
    batch_size = arguments.batch_size
    presample = 5 * batch_size if arguments.presample is None else arguments.presample
    if not 0 < arguments.seconds < float("inf"):
        error(f"--seconds must be positive, got {arguments.seconds:g}")
    if not 0 <= arguments.seed < 2**63:
        error(f"--seed must be from 0 to 2^63 - 1, got {arguments.seed}")
    if batch_size < 1:
        error(f"--batch-size must be at least 1, got {batch_size}")
    if presample < 2 * batch_size or presample % batch_size:
        error(
            f"--presample must be a multiple of --batch-size, at least twice it, "
            f"got {presample} with {batch_size}"
        )
    for option, path in (("--output", arguments.output), ("--json", arguments.json)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            error(f"{option} must be a file in an existing folder, got {path}")
    return Settings(
        arguments.data, arguments.root, arguments.seconds, arguments.seed, batch_size, presample
    )


def main(argv: Sequence[str]) -> int:
    command_line = parser()
    arguments = command_line.parse_args(argv)
    settings = checked_settings(arguments, command_line.error)
    try:
        from rich.console import Console

        from . import picture, report

        images = load(settings.data, settings.root)
    except ModuleNotFoundError as error:
        command_line.error(
            f'the demo needs {error.name.partition(".")[0]}: pip install "isample[demo]"'
        )
    except DataError as error:
        command_line.error(str(error))
    if len(images.x_train) < settings.presample:
        command_line.error(
            f"--presample must be at most the number of training images, {len(images.x_train)}, "
            f"got {settings.presample}"
        )

    if settings.data == "digits":
        # An 8 x 8 image is too little work to share: threads would only wait for each other.
        torch.set_num_threads(1)
    console = Console()
    with report.Display(console) as display:
        race = display.race = Race(images, settings, watch=display.after_step)
        console.print(opening(race, images), soft_wrap=True)
        race.run(after_evaluation=display.after_evaluation)
    console.print(report.closing_table(race))
    console.print(report.verdict(race), soft_wrap=True)
    picture.draw(race, arguments.output)
    console.print(f"picture: {arguments.output}", soft_wrap=True)
    if arguments.json:
        report.write_json(race, f"python -m bench.demo {shlex.join(argv)}".strip(), arguments.json)
        console.print(f"table and curves: {arguments.json}", soft_wrap=True)
    return 0


def opening(race: Race, images) -> str:
    settings = race.settings
    return (
        f"{settings.data}: {len(images.x_train):,} training and {len(images.x_test):,} test images "
        f"of {' x '.join(map(str, images.x_train.shape[1:]))}; "
        f"a network of {race.parameters:,} parameters; {settings.seconds:g} s each, in turns. "
        f"The paper's algorithm draws {settings.batch_size} of {settings.presample} "
        f"and switches on when τ̄ exceeds {settings.tau_threshold:.2f}; "
        f"isample draws from what it remembers, while it measures that this pays."
    )

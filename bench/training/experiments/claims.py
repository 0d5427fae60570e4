"""What the paper claims beside what was measured, as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..report import cell, significant
from ..runfile import Point, Record, RunFileError
from ..statistics import interval
from .gradients import PRESAMPLE
from .measurements import CORRELATION_SAMPLES
from .registry import EXPERIMENTS

REACHED = 0.6  # the training loss that appendix A times
BEGINNING = 0.2  # share of a run that counts as its beginning

LEGEND = """\
Values are means over seeds ± the half-width of the 95 % confidence interval (Student's t). Times
are seconds of training, data loading included, evaluations not. *a* → *b* is uniform sampling → the
paper's upper bound. A scale below 1 means a smaller network, fewer samples measured on and a
smaller budget than the paper's."""


class Claim(NamedTuple):
    said: str
    paper: str
    measured: str


def page(groups: Sequence[list[Record]], figures: Sequence[str]) -> str:
    """``groups`` are the finished runs, an experiment each; ``figures`` the file names of
    theirs."""
    lines = ["# The paper's claims beside what was measured", ""]
    lines += ["| experiment | claim | paper | measured |", "|---|---|---|---|"]
    for records in groups:
        name = records[0].run.task
        lines += [
            f"| {name} | {claim.said} | {claim.paper} | {claim.measured} |"
            for claim in claims(records)
        ]
    lines += ["", LEGEND, "", "## Runs", ""]
    for records, figure in zip(groups, figures):
        lines += [
            f"- **{records[0].run.task}**: {setting(records)}. {machines(records)} "
            f"[Figure]({figure})"
        ]
    return "\n".join(lines) + "\n"


def claims(records: list[Record]) -> list[Claim]:
    name = records[0].run.task
    return {"variance": variance, "correlation": correlation}.get(
        EXPERIMENTS[name].measure, progress
    )(records)


def variance(records: list[Record]) -> list[Claim]:
    def relative(score: str, until: float = math.inf) -> str:
        return mean([np.mean(relative_to_uniform(record, score, until)) for record in records])

    bounds = (
        f"upper bound {relative('upper_bound')}, gradient norm {relative('gradient_norm')} "
        f"of uniform's distance"
    )
    at_first = relative("loss", BEGINNING * records[0].run.budget)
    return [
        Claim(
            "the upper bound reduces the variance as the gradient norm does", "very similar", bounds
        ),
        Claim(
            "so does the loss, but not as much",
            "more than the upper bound",
            f"loss {relative('loss')}",
        ),
        Claim(
            "the loss increases the variance in the beginning of training",
            "above 1",
            f"loss {at_first} over the first {100 * BEGINNING:g} % of the updates",
        ),
    ]


def relative_to_uniform(record: Record, score: str, until: float) -> list[float]:
    points = [
        point for point in record.points if point.updates <= until and point.distance["uniform"]
    ]
    return [point.distance[score] / point.distance["uniform"] for point in points]


def correlation(records: list[Record]) -> list[Claim]:
    return [
        Claim(
            f"sum of squared errors of the probabilities by the {title}, for 16,384 samples",
            paper,
            mean([squared_error(record.final, score) for record in records]),
        )
        for score, title, paper in (
            ("loss", "loss", "0.017"),
            ("upper_bound", "upper bound", "0.002"),
        )
    ]


def squared_error(point: Point, score: str) -> float:
    """What the sum would be of as many samples as in the paper: it grows with their number, and
    falls with the square of the number among which probabilities add up to one."""
    count = len(point.probabilities[score])
    together = min(count, PRESAMPLE)
    return point.squared_error[score] * CORRELATION_SAMPLES / count * (together / PRESAMPLE) ** 2


MIT67 = "0.3374 → 0.2806 (ResNet-50, MIT67)"
TEST_ERRORS = {
    "cifar10": "0.087 → 0.079",
    "cifar100": "0.34 → 0.32",
    "pixel-mnist": "0.1139 → 0.1055",
    "finetune": MIT67,
    "finetune-lite0": MIT67,
    "finetune-cifar10": MIT67,
}
LOSS_RATIOS = {"cifar10": "below 0.1", "cifar100": "about 0.33", "pixel-mnist": "0.8"}


def progress(records: list[Record]) -> list[Claim]:
    name, methods = records[0].run.task, by_method(records)
    if name == "ablation-b":
        return ablation(methods)
    result = []
    if name in TEST_ERRORS:
        result += [
            Claim(
                "lower test error than uniform sampling",
                TEST_ERRORS[name],
                change(methods, "test_error"),
            )
        ]
    if name in LOSS_RATIOS:
        ratio = training_loss_ratio(methods, "upper-bound")
        result += [
            Claim(
                "training loss of the upper bound over uniform sampling's", LOSS_RATIOS[name], ratio
            )
        ]
    hurts = {"cifar100": "no speedup", "pixel-mnist": "above 1"}
    if name in hurts:
        result += [
            Claim(
                "training loss of sampling by the loss over uniform sampling's",
                hurts[name],
                training_loss_ratio(methods, "loss"),
            )
        ]
    return result


def ablation(methods: dict[str, list[Record]]) -> list[Claim]:
    final = ", ".join(
        f"{name} {mean(finals(of_method, 'training_loss'))}" for name, of_method in methods.items()
    )
    times = {
        name: [first_at(record.points, REACHED) for record in runs]
        for name, runs in methods.items()
    }
    told = ", ".join(
        f"{name} {'never' if math.inf in t else mean(t) + ' s'}" for name, t in times.items()
    )
    return [
        Claim("a larger presample gives a lower final training loss", "falls with B", final),
        Claim(f"B=384 reaches a training loss of {REACHED} first", "B=384", told),
    ]


def first_at(points: list[Point], loss: float) -> float:
    """Seconds of training until the training loss was first measured no higher; infinity if it
    never was."""
    return next((point.elapsed for point in points if point.training_loss <= loss), math.inf)


def change(methods: dict[str, list[Record]], measure: str) -> str:
    if not {"uniform", "upper-bound"} <= set(methods):
        return "not run"
    return " → ".join(mean(finals(methods[name], measure)) for name in ("uniform", "upper-bound"))


def training_loss_ratio(methods: dict[str, list[Record]], method: str) -> str:
    """The mean over seeds that both have."""
    if not {"uniform", method} <= set(methods):
        return "not run"
    uniform = {record.run.seed: record.final.training_loss for record in methods["uniform"]}
    pairs = [
        (record.final.training_loss, uniform[record.run.seed])
        for record in methods[method]
        if record.run.seed in uniform
    ]
    return mean([ours / theirs for ours, theirs in pairs])


def by_method(records: Iterable[Record]) -> dict[str, list[Record]]:
    """In the experiment's order of methods."""
    records = list(records)
    order = EXPERIMENTS[records[0].run.task].entrants
    groups = {name: [record for record in records if record.run.method == name] for name in order}
    return {name: group for name, group in groups.items() if group}


def finals(records: list[Record], measure: str) -> list[float]:
    """NaN where a run diverged."""
    return [getattr(record.final, measure) for record in records]


def mean(values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    diverged = (
        f" ({len(values) - len(finite)} of {len(values)} diverged)"
        if len(finite) < len(values)
        else ""
    )
    return (cell(interval(finite), significant) if finite else "–") + diverged


def setting(records: list[Record]) -> str:
    """What the runs of one experiment have in common; raises RunFileError where they differ in
    it."""
    run = records[0].run
    for record in records:
        for name in ("budget", "scale", "normalisation", "data", "device"):
            ours, other = getattr(run, name), getattr(record.run, name)
            if ours != other:
                raise RunFileError(
                    f"runs of {run.task} must have one {name}; got {ours} and {other}"
                )
    seeds = len({record.run.seed for record in records})
    unit = "s of training" if EXPERIMENTS[run.task].updates is None else "updates"
    normalisation = f"{run.normalisation} normalisation, " if run.normalisation else ""
    return (
        f"{run.data}, {run.budget:,g} {unit}, scale {run.scale:g}, {normalisation}on {run.device}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


def machines(records: list[Record]) -> str:
    told = "{processor}, torch {torch}, isample {isample}".format
    return "; ".join(sorted({told(**record.machine) for record in records})) + "."

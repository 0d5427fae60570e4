"""The paper's figures from run files: line or dots of each method, and for lines the mean and the
range over seeds."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot

from .. import figure
from ..runfile import Point, Record
from .claims import by_method, setting
from .gradients import GRADIENT_NORM
from .registry import EXPERIMENTS

COLOURS = {
    **figure.COLOURS,
    "B=256": "#CC79A7",
    "B=384": "#E69F00",
    "B=640": "#0072B2",
    "B=1024": "#009E73",
}
# Where ten methods meet, their families are told apart by their lines, too.
HISTORY_BASED = dict.fromkeys(("online-batch-selection", "prioritized"), "--")
LINES = {**HISTORY_BASED, **dict.fromkeys(("svrg", "scsg", "katyusha"), ":")}


def draw(records: list[Record], folder: Path) -> Path:
    """Draws the figure of one experiment's finished runs into ``folder``."""
    name = records[0].run.task
    experiment = EXPERIMENTS[name]
    path = folder / f"figure{experiment.figure}-{name}.png"
    drawn = {"variance": variance, "correlation": correlation, "progress": progress}[
        experiment.measure
    ](records)
    drawn.suptitle(f"Figure {experiment.figure}, {name}: {setting(records)}", fontsize="small")
    drawn.savefig(path, dpi=150)
    pyplot.close(drawn)
    return path


def variance(records: list[Record]):
    """Figure 1: distance from the large batch's gradient, relative to uniform sampling's, against
    updates."""
    drawn, axes = pyplot.subplots(figsize=(8, 4.8), constrained_layout=True)
    for score in records[0].points[0].distance:
        curve(axes, score, [relative_distances(record, score) for record in records])
    axes.set(
        xlabel="updates", ylabel=r"$\|G_B - G_b\|_2$ relative to uniform sampling's", ylim=(0, None)
    )
    axes.legend(frameon=False, fontsize="small")
    tidy(axes)
    return drawn


def relative_distances(record: Record, score: str) -> np.ndarray:
    """Updates and the distance over that of uniform sampling at the same point, [2, points]."""
    points = [point for point in record.points if point.distance["uniform"]]
    return np.array([(p.updates, p.distance[score] / p.distance["uniform"]) for p in points]).T


def correlation(records: list[Record]):
    """Figure 2: probabilities by loss and by upper bound against those by the gradient norm, of the
    first seed."""
    kept = min(records, key=lambda record: record.run.seed).points[-1].probabilities
    ideal = np.array(kept[GRADIENT_NORM])
    scores = [score for score in kept if score != GRADIENT_NORM]
    top = 1.05 * max(max(kept[score]) for score in kept)
    drawn, panels = pyplot.subplots(
        1, len(scores), figsize=(5 * len(scores), 5), constrained_layout=True
    )
    for axes, score in zip(panels, scores):
        axes.plot([0, top], [0, top], color="black", linewidth=1)
        axes.plot(
            ideal,
            kept[score],
            ".",
            color=COLOURS[method_of(score)],
            markersize=2,
            alpha=0.5,
            rasterized=True,
        )
        axes.set(
            xlabel="probability by the gradient norm",
            ylabel=f"probability by the {score.replace('_', ' ')}",
        )
        axes.set(xlim=(0, top), ylim=(0, top))
        tidy(axes)
    return drawn


def progress(records: list[Record]):
    """Figures 3 to 6: training loss and test error against training time."""
    drawn, panels = pyplot.subplots(1, 2, figsize=(12, 4.8), constrained_layout=True)
    for method, of_method in by_method(records).items():
        for axes, measure in zip(panels, ("training_loss", "test_error")):
            curve(axes, method, [against_time(record.points, measure) for record in of_method])
    for axes, title in zip(panels, ("training loss", "test error")):
        axes.set(xlabel="training time (s)", ylabel=title, yscale="log", xlim=(0, None))
        tidy(axes)
    drawn.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside right center",
        frameon=False,
        fontsize="small",
    )
    return drawn


def against_time(points: list[Point], measure: str) -> np.ndarray:
    """Training time and ``measure`` where it is finite, [2, points]."""
    values = [(point.elapsed, getattr(point, measure)) for point in points]
    return np.array([pair for pair in values if math.isfinite(pair[1])]).T


def curve(axes, name: str, runs: list[np.ndarray]) -> None:
    """Mean and range of ``runs``, each [2, points], at the first one's places as far as all runs
    go."""
    grid = runs[0][0][runs[0][0] <= min(x[-1] for x, _ in runs)]
    values = np.array([np.interp(grid, x, y) for x, y in runs])
    colour, line = COLOURS[method_of(name)], LINES.get(name, "-")
    axes.plot(
        grid,
        values.mean(0),
        label=name.replace("_", " "),
        color=colour,
        linestyle=line,
        linewidth=1.6,
    )
    axes.fill_between(grid, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def method_of(score: str) -> str:
    """The method that goes by a score, whose colour it has; a method's own name is left as it
    is."""
    return score.replace("_", "-")


def tidy(axes) -> None:
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)

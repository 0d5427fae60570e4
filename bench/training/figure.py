"""The curves of a comparison: training loss and test error against training time, mean and range
over seeds."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot

from .runfile import Record
from .statistics import rows

# Okabe and Ito's colours, which stay apart for the colour-blind; the strongest are the baseline's
# and isample's. Below "double-rate" come those of Tol's muted scheme, made for the same purpose.
# The experiments' figures have the same.
COLOURS = {
    "uniform": "#000000",
    "isample": "#D55E00",
    "isample-plain-loop": "#661100",
    "upper-bound": "#0072B2",
    "infobatch": "#009E73",
    "selective-backprop": "#CC79A7",
    "selective-backprop-reweighted": "#E69F00",
    "large-batch": "#56B4E9",
    "random": "#999999",
    "double-rate": "#F0E442",
    "loss": "#332288",
    "gradient-norm": "#88CCEE",
    "online-batch-selection": "#117733",
    "prioritized": "#999933",
    "svrg": "#CC6677",
    "scsg": "#882255",
    "katyusha": "#AA4499",
    "presample": "#44AA99",
}
OTHER_COLOUR = "#DDCC77"


def draw(records: list[Record], title: str, path: Path) -> None:
    figure, (loss, error) = pyplot.subplots(1, 2, figsize=(12, 4.8), constrained_layout=True)
    for row in rows(records):
        of_row = [
            record
            for record in records
            if record.run.name == row.name and not record.final.diverged
        ]
        if not of_row:
            continue
        for axes, measure, scale in ((loss, "training_loss", 1), (error, "test_error", 100)):
            curve(axes, of_row, measure, scale)
    loss.set(xlabel="training time (s)", ylabel="training loss", yscale="log")
    error.set(xlabel="training time (s)", ylabel="test error (%)", yscale="log")
    error.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    error.yaxis.set_minor_formatter(matplotlib.ticker.LogFormatter(minor_thresholds=(2, 0.5)))
    for axes in (loss, error):
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25, which="both", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    error.legend(frameon=False, fontsize="small")
    figure.suptitle(title + " (line: mean, band: range over seeds)", fontsize="medium")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def curve(axes, records: list[Record], measure: str, scale: float) -> None:
    """The evaluations of all seeds are at the same shares of the time, but for one step."""
    run = records[0].run
    length = min(len(record.points) for record in records)
    elapsed = np.mean([[p.elapsed for p in record.points[:length]] for record in records], axis=0)
    values = scale * np.array(
        [[getattr(p, measure) for p in record.points[:length]] for record in records]
    )
    colour = COLOURS.get(run.method, OTHER_COLOUR)
    prominent = run.method in ("uniform", "isample")
    style = {"linewidth": 2.2 if prominent else 1.2, "zorder": 3 if prominent else 2}
    axes.plot(
        elapsed,
        values.mean(0),
        label=run.name,
        color=colour,
        linestyle="-" if run.share == 1.0 else "--",
        **style,
    )
    axes.fill_between(elapsed, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)

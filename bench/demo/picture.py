"""The picture of a run: training loss, test error and tau against seconds of training."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter

from .race import Race
from .report import thinned, verdict

# Of Okabe and Ito's palette, told apart by colour-blind eyes and in grey.
COLOURS = {"uniform": "#000000", "paper": "#0072B2", "isample": "#D55E00"}
STYLES = {"uniform": "--", "paper": "-.", "isample": "-"}
LABELS = {"uniform": "uniform sampling", "paper": "the paper's algorithm", "isample": "isample"}


def draw(race: Race, path: Path) -> None:
    """Writes the picture to `path` as PNG."""
    figure, (loss, error, tau) = plt.subplots(1, 3, figsize=(12.5, 4.2), layout="constrained")
    draw_curves(
        loss, race, [[p.training_loss for p in c.points] for c in race.contestants], "{:.1e}"
    )
    # Half an image stands for none missed: a logarithmic axis has no zero.
    least = 0.5 / len(race.test.dataset)
    draw_curves(
        error,
        race,
        [[100 * max(p.test_error, least) for p in c.points] for c in race.contestants],
        "{:.2f} %",
    )
    draw_tau(tau, race)

    loss.set(title="Training loss (lower is better)", ylabel="mean cross-entropy (nats)")
    loss.legend(frameon=False, loc="upper right")
    error.set(title="Test error (lower is better)", ylabel="test images missed (%)")
    error.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axes in (loss, error, tau):
        axes.set_xlabel("seconds of training")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    settings = race.settings
    title = f"{settings.data}, b = {settings.batch_size}, B = {settings.presample}. {verdict(race)}"
    figure.suptitle(title.replace("; ", ";\n"), fontsize=11)
    figure.savefig(path, format="png", dpi=130)
    plt.close(figure)


def draw_curves(axes, race: Race, columns: list[list[float]], label: str) -> None:
    """One line a method on a logarithmic axis, its last value written beside its end, higher ones
    further up."""
    ends = sorted(column[-1] for column in columns)
    for contestant, column in zip(race.contestants, columns):
        colour = COLOURS[contestant.name]
        seconds = [point.seconds for point in contestant.points]
        axes.semilogy(
            seconds,
            column,
            STYLES[contestant.name],
            color=colour,
            linewidth=2,
            label=LABELS[contestant.name],
        )
        axes.plot(seconds[-1], column[-1], "o", color=colour)
        rank = ends.index(column[-1])
        axes.annotate(
            label.format(column[-1]),
            (seconds[-1], column[-1]),
            (7, 5 * (rank - 1)),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    axes.set_xlim(0, race.settings.seconds * 1.2)


def draw_tau(axes, race: Race) -> None:
    """tau of the two that score, the paper's switching threshold, and grey where its importance
    sampling was on."""
    paper, isample = (
        thinned(each.steps, race.settings.seconds) for each in (race.paper, race.isample)
    )
    threshold = race.settings.tau_threshold
    label = "τ of the paper's presamples"
    axes.plot(
        paper["seconds"], paper["tau"], color=COLOURS["paper"], alpha=0.35, linewidth=1, label=label
    )
    axes.plot(
        paper["seconds"],
        paper["tau_ema"],
        color=COLOURS["paper"],
        linewidth=2,
        label="τ̄, its moving average",
    )
    axes.axhline(
        threshold,
        color="black",
        linestyle=":",
        label=f"the paper's switches on above {threshold:.2f}",
    )
    axes.plot(
        isample["seconds"],
        isample["tau"],
        color=COLOURS["isample"],
        linewidth=2,
        label="τ of isample's memory",
    )
    known = [tau for tau in (*paper["tau"], *isample["tau"]) if tau is not None]
    top = 1.6 * max(threshold, *known)  # room for the legend
    axes.fill_between(
        paper["seconds"],
        0,
        [top * share for share in paper["active"]],
        step="mid",
        color="grey",
        alpha=0.15,
        linewidth=0,
        label="share of the paper's steps with it on",
    )
    axes.set_xlim(0, race.settings.seconds)
    axes.set(
        title="τ, and when importance sampling is on",
        ylabel="τ (1 = uniform scores)",
        ylim=(0, top),
    )
    axes.legend(framealpha=0.8, edgecolor="none", loc="upper right", fontsize="small")

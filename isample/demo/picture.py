"""The picture of a run: training loss, test error and tau against seconds of training."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first: a machine without a display)
from matplotlib.ticker import FuncFormatter  # noqa: E402

from .race import Race  # noqa: E402
from .report import thinned, verdict  # noqa: E402

# Blue and vermilion of Okabe and Ito's palette, told apart by colour-blind eyes and in grey.
COLOURS = {"uniform": "#0072B2", "importance": "#D55E00"}
STYLES = {"uniform": "--", "importance": "-"}


def draw(race: Race, path: Path) -> None:
    """Writes the picture to `path` as PNG."""
    figure, (loss, error, tau) = plt.subplots(1, 3, figsize=(12.5, 4.2), layout="constrained")
    draw_curves(loss, race, [[p.training_loss for p in c.points] for c in race.contestants], "{:.1e}")
    # Half an image stands for none missed: a logarithmic axis has no zero.
    least = 0.5 / len(race.test.dataset)
    draw_curves(error, race, [[100 * max(p.test_error, least) for p in c.points] for c in race.contestants], "{:.2f} %")
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
    figure.suptitle(f"{settings.data}, b = {settings.batch_size}, B = {settings.presample}. {verdict(race)}", fontsize=11)
    figure.savefig(path, format="png", dpi=130)
    plt.close(figure)


def draw_curves(axes, race: Race, columns: list[list[float]], label: str) -> None:
    """One line a method on a logarithmic axis, its last value written beside its end, the higher of the two above."""
    highest = max(columns, key=lambda column: column[-1])
    for contestant, column in zip(race.contestants, columns):
        colour = COLOURS[contestant.name]
        seconds = [point.seconds for point in contestant.points]
        name = "importance sampling" if contestant is race.importance else "uniform sampling"
        axes.semilogy(seconds, column, STYLES[contestant.name], color=colour, linewidth=2, label=name)
        axes.plot(seconds[-1], column[-1], "o", color=colour)
        above = column is highest
        axes.annotate(label.format(column[-1]), (seconds[-1], column[-1]), (7, 1 if above else -1),
                      textcoords="offset points", color=colour, va="bottom" if above else "top")
    axes.set_xlim(0, race.settings.seconds * 1.2)


def draw_tau(axes, race: Race) -> None:
    """tau of the importance run, its switching threshold, and grey where importance sampling was on."""
    steps = thinned(race.importance.steps, race.settings.seconds)
    axes.plot(steps["seconds"], steps["tau"], color=COLOURS["importance"], alpha=0.35, linewidth=1, label="τ")
    axes.plot(steps["seconds"], steps["tau_ema"], color=COLOURS["importance"], linewidth=2, label="τ̄, its moving average")
    axes.axhline(race.settings.tau_threshold, color="black", linestyle=":", label=f"switches on above {race.settings.tau_threshold:.2f}")
    top = max(*steps["tau"], race.settings.tau_threshold) * 1.1
    axes.fill_between(steps["seconds"], 0, [top * share for share in steps["active"]], step="mid", color="grey",
                      alpha=0.15, linewidth=0, label="share of steps with it on")
    axes.set_xlim(0, race.settings.seconds)
    axes.set(title="τ, and when importance sampling is on", ylabel="τ (1 = uniform scores)", ylim=(0, top))
    axes.legend(frameon=False, loc="lower right")

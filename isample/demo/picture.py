"""The picture of a run: training loss, test error and tau against seconds of training."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first: a machine without a display)

from .race import Race  # noqa: E402
from .report import LABELS, thinned, verdict  # noqa: E402

# Blue and vermilion of Okabe and Ito's palette, told apart by colour-blind eyes and in grey.
COLOURS = {"uniform": "#0072B2", "importance": "#D55E00"}
STYLES = {"uniform": "--", "importance": "-"}


def draw(race: Race, path: Path) -> None:
    figure, (loss, error, tau) = plt.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    for contestant in race.contestants:
        colour, style = COLOURS[contestant.name], STYLES[contestant.name]
        seconds = [p.seconds for p in contestant.points]
        losses = [p.training_loss for p in contestant.points]
        errors = [100 * p.test_error for p in contestant.points]
        loss.semilogy(seconds, losses, style, color=colour, linewidth=2, label=LABELS[contestant.name])
        error.plot(seconds, errors, style, color=colour, linewidth=2)
        for axes, values, text in ((loss, losses, f"{losses[-1]:.1e}"), (error, errors, f"{errors[-1]:.2f} %")):
            axes.plot(seconds[-1], values[-1], "o", color=colour)
            axes.annotate(text, (seconds[-1], values[-1]), (7, 0), textcoords="offset points", color=colour, va="center")

    loss.set(title="Training loss", ylabel="mean cross-entropy (nats)")
    loss.legend(frameon=False)
    error.set(title="Test error", ylabel="test images missed (%)")
    draw_tau(tau, race)
    for axes in (loss, error, tau):
        axes.set_xlabel("seconds of training")
        axes.set_xlim(0, race.settings.seconds * (1.18 if axes is not tau else 1.0))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(f"{race.settings.data}, batch {race.settings.batch_size} of {race.settings.presample}. {verdict(race)}",
                    fontsize=11)
    figure.savefig(path, format="png", dpi=130)
    plt.close(figure)


def draw_tau(axes, race: Race) -> None:
    """tau of the importance run, its switching threshold, and grey where importance sampling was on."""
    steps = thinned(race.importance.steps, race.settings.seconds)
    axes.plot(steps["seconds"], steps["tau"], color=COLOURS["importance"], alpha=0.35, linewidth=1, label="τ")
    axes.plot(steps["seconds"], steps["tau_ema"], color=COLOURS["importance"], linewidth=2, label="τ̄, its moving average")
    axes.axhline(race.settings.tau_threshold, color="black", linestyle=":", label=f"switches on above {race.settings.tau_threshold:.2f}")
    top = max(*steps["tau"], race.settings.tau_threshold) * 1.1
    axes.fill_between(steps["seconds"], 0, [top * share for share in steps["active"]], step="mid", color="grey",
                      alpha=0.15, linewidth=0, label="share of steps with it on")
    axes.set(title="Importance sampling: τ and when it is on", ylabel="τ (1 = uniform scores)", ylim=(0, top))
    axes.legend(frameon=False, loc="lower right")

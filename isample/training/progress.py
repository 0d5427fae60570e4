"""A progress bar over a training run's budget."""

from __future__ import annotations

from isample.values import StepReport


class ProgressBar:
    """A bar over the budget, or nothing; called as ``bar(progress, report)``."""

    def __init__(self, show: bool, epochs: int | None, seconds: float | None):
        self._bar = None
        if show:
            try:
                from tqdm.auto import tqdm
            except ImportError as error:
                raise ImportError(
                    "progress=True needs tqdm: pip install isample[progress]"
                ) from error
            unit, total = ("epoch", epochs) if epochs is not None else ("s", seconds)
            form = "{l_bar}{bar}| {n:.1f}/{total} {unit}{postfix}"
            self._bar = tqdm(total=total, unit=unit, bar_format=form, mininterval=0.2)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: float, report: StepReport) -> None:
        if self._bar is not None:
            phase = "importance" if report.active else "uniform"
            self._bar.set_postfix_str(
                f"loss {report.loss:.4f}, tau {report.tau_ema:.2f}, {phase}", refresh=False
            )
            self._bar.update(progress * self._bar.total - self._bar.n)

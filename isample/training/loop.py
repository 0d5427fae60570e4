"""The loop around ``Trainer.step``: epochs, time, joining the loader's batches, and the place to
resume from."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Union

import torch
from torch import nn

from isample.scoring.losses import per_sample_loss
from isample.scoring.select import leaving_no_trace
from isample.sources.indexed import can_be_indexed
from isample.support.pytree import batch_length, logits_of, map_tensors
from isample.support.random_state import random_state, restore_random_state
from isample.training.feed import MemoryFeed, PresampleFeed
from isample.values import History, StepReport

if TYPE_CHECKING:
    from isample.training.trainer import Trainer

Feed = Union[PresampleFeed, MemoryFeed]


@dataclass
class Position:
    """Where a run stands: ``batches`` of epoch ``epoch`` are consumed, ``elapsed`` seconds of
    training time spent.

    ``epoch_random`` is torch's random state at the beginning of the epoch: with it the loader deals
    the same batches again, so that a resumed run can skip those that it had.
    """

    epoch: int = 0
    batches: int = 0
    elapsed: float = 0.0
    epoch_random: dict[str, torch.Tensor] = field(default_factory=dict)


class Loop:
    """Drives one trainer over loaders. ``elapsed`` is the training time of the present run,
    ``progress`` its share."""

    def __init__(self, trainer: Trainer):
        self._trainer = trainer
        self._position = Position()
        self._resuming = False
        self.progress = 0.0

    @property
    def elapsed(self) -> float:
        return self._position.elapsed

    def state_dict(self) -> dict[str, Any]:
        return asdict(self._position)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._position = Position(**state)
        self._resuming = True

    def fit(
        self, loader, epochs, seconds, evaluation_loader, scheduler, callbacks, show_progress
    ) -> History:
        trainer = self._trainer
        with _progress_bar(show_progress, epochs, seconds) as bar:
            epoch = None
            for report in self.iterate(loader, epochs, seconds):
                if epoch is not None and self._position.epoch != epoch:
                    self._end_epoch(evaluation_loader, scheduler)
                epoch = self._position.epoch
                trainer.history.steps.append(report)
                for callback in callbacks:
                    callback(trainer, report)
                bar(self.progress, report)
            self._end_epoch(evaluation_loader, scheduler)
        return trainer.history

    def _end_epoch(self, evaluation_loader: Iterable | None, scheduler: Any) -> None:
        if scheduler is not None:
            scheduler.step()
        if evaluation_loader is not None:
            self._trainer.history.evaluations.append(self._trainer.evaluate(evaluation_loader))

    def iterate(
        self, loader: Iterable, epochs: int | None, seconds: float | None
    ) -> Iterator[StepReport]:
        _check_budget(loader, epochs, seconds, self._trainer.batch_size)
        if not self._resuming:
            self._position = Position()
        self._resuming = False
        self._trainer.enter(
            "memory" if can_be_indexed(loader, self._trainer.batch_size) else "presample"
        )
        feed = (MemoryFeed if self._trainer.mode == "memory" else PresampleFeed)(
            self._trainer, loader
        )
        return self._run(feed, epochs, seconds)

    def _run(self, feed: Feed, epochs: int | None, seconds: float | None) -> Iterator[StepReport]:
        place = self._position
        began = time.perf_counter()
        while place.epoch < epochs if seconds is None else place.elapsed < seconds:
            batches = self._open_epoch(feed)
            while (report := feed.step(batches)) is not None:
                place.batches = feed.batches
                place.elapsed += self._trainer.clock(report, time.perf_counter() - began)
                self.progress = self._share_spent(feed.loader, epochs, seconds)
                report.elapsed = place.elapsed
                yield report
                began = time.perf_counter()
                if seconds is not None and place.elapsed >= seconds:
                    return
            if place.batches == 0:
                raise ValueError("loader must yield at least one batch an epoch; got an empty one")
            place.epoch, place.batches = place.epoch + 1, 0
        self.progress = 1.0

    def _open_epoch(self, feed: Feed) -> Iterator:
        """The feed's batches from where the epoch stands: at its beginning, or behind those a saved
        run had."""
        place, device = self._position, self._trainer.device
        if place.batches == 0:
            place.epoch_random = random_state(device)
            return feed.open(place.epoch, 0)
        now = random_state(device)
        restore_random_state(place.epoch_random, device)
        batches = feed.open(place.epoch, place.batches)
        restore_random_state(now, device)
        return batches

    def _share_spent(self, loader: Iterable, epochs: int | None, seconds: float | None) -> float:
        place = self._position
        if seconds is not None:
            return min(1.0, place.elapsed / seconds)
        length = _length(loader)
        return min(1.0, (place.epoch + (place.batches / length if length else 0.0)) / epochs)


def _length(loader: Iterable) -> int | None:
    """The loader's batches an epoch, where it knows them: a DataLoader over a stream does not."""
    try:
        return len(loader)
    except TypeError:
        return None


def _check_budget(
    loader: Iterable, epochs: int | None, seconds: float | None, batch_size: int
) -> None:
    if (epochs is None) == (seconds is None):
        raise ValueError(
            f"exactly one of epochs and seconds must be given; got epochs={epochs}, seconds={seconds}"
        )
    if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
        raise ValueError(f"epochs must be an integer >= 1; got {epochs!r}")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"seconds must be > 0; got {seconds}")
    if _length(loader) == 0:
        raise ValueError("loader must yield at least one batch an epoch; got an empty one")
    given = getattr(loader, "batch_size", None)
    if given is not None and given != batch_size:
        raise ValueError(f"loader's batch_size must be the trainer's ({batch_size}); got {given}")


def evaluate(
    model: nn.Module, loss: Any, loader: Iterable, device: torch.device
) -> tuple[float, float]:
    """Mean loss and share of wrong classes over ``loader``; the latter NaN unless the targets are
    class indices."""
    total, wrong, samples, classes = (
        torch.zeros((), device=device),
        torch.zeros((), device=device),
        0,
        True,
    )
    with leaving_no_trace(model, device):
        for inputs, targets in loader:
            inputs, targets = map_tensors(
                lambda t: t.to(device, non_blocking=True), (inputs, targets)
            )
            size = batch_length(inputs, "inputs")
            logits = logits_of(model, inputs, size)
            total += per_sample_loss(loss, logits, targets).sum()
            samples += size
            classes = (
                classes
                and isinstance(loss, nn.CrossEntropyLoss)
                and not targets.is_floating_point()
            )
            if classes:
                wrong += (logits.argmax(1) != targets).float().view(size, -1).mean(1).sum()
    if samples == 0:
        raise ValueError("loader must yield at least one batch to evaluate; got an empty one")
    return total.item() / samples, wrong.item() / samples if classes else float("nan")


class _progress_bar:
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

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()

    def __call__(self, progress: float, report: StepReport) -> None:
        if self._bar is not None:
            phase = "importance" if report.active else "uniform"
            self._bar.set_postfix_str(
                f"loss {report.loss:.4f}, tau {report.tau_ema:.2f}, {phase}", refresh=False
            )
            self._bar.update(progress * self._bar.total - self._bar.n)

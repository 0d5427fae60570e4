"""What an engine is made of: its scorer, its source and its controller."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from isample.control import Choices, Controller, check_control, make_controller
from isample.scoring.forward import Scoring, ScoringPass
from isample.scoring.losses import Loss
from isample.scoring.objective import Objective
from isample.scoring.rows import Rows
from isample.scoring.scorers import ModelScorer, ObjectiveScorer, Scorer
from isample.scoring.select import Selector
from isample.sources.arguments import check_joins
from isample.sources.base import Source
from isample.sources.dataset import Dataset
from isample.sources.indexed import can_be_indexed
from isample.sources.limits import Limits
from isample.sources.stream import Stream
from isample.support.processes import Processes, unwrapped

RATIOS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0)  # candidates for each sample of a batch


@dataclass(frozen=True)
class Parts:
    """What choosing and learning need; made once. ``model`` is without a wrapper."""

    model: nn.Module | None
    objective: Objective | None
    scorer: Scorer | None
    selector: Selector
    processes: Processes
    device: torch.device

    @property
    def known(self) -> Objective:
        """The loss that isample knows; raises RuntimeError where Engine was given none."""
        if self.objective is None:
            raise RuntimeError("loss must be given to Engine for engine.loss; got none")
        return self.objective

    def scorer_for(self, what: str) -> Scorer:
        """Who scores candidates for ``what``; raises RuntimeError where nobody can."""
        if self.scorer is None:
            raise RuntimeError(
                f"{what} must have something to score by: give Engine a model with loss= or "
                "objective=; got neither"
            )
        return self.scorer


@dataclass(frozen=True)
class Sampling:
    """How candidates are scored and drawn from; the names are those of :class:`isample.Trainer`."""

    score: str | Callable[..., Any] = "upper_bound"
    draws: str = "pps"
    scoring: Scoring | None = None
    presample: int | None = None
    threshold: float | None = None
    tau_momentum: float = 0.9


@dataclass(frozen=True)
class Wishes:
    """What a user asked of source and controller."""

    control: str | Controller[Any]
    sampling: Sampling
    batch_size: int | None
    thins: bool

    def __post_init__(self) -> None:
        check_control(self.control, self.sampling.threshold)


def make_parts(
    optimizer: torch.optim.Optimizer,
    rows: Rows,
    processes: Processes,
    *,
    model: nn.Module | None,
    loss: Loss | None,
    objective: Callable[[nn.Module, Any], torch.Tensor] | None,
    sampling: Sampling,
    seed: int | None,
) -> Parts:
    """Arguments are those of :class:`isample.Engine`."""
    if objective is not None and model is None:
        raise ValueError("model must be given with objective=, which is called with it; got None")
    if objective is not None and loss is not None:
        raise ValueError("loss must be None with objective=, which is a loss itself; got both")
    device = next(
        (p.device for group in optimizer.param_groups for p in group["params"]),
        torch.device("cpu"),
    )
    selector = Selector(sampling.draws, sampling.tau_momentum, processes.seed(seed), device)
    known = None if loss is None else Objective(loss, sampling.score)
    scorer: Scorer | None = None
    if objective is not None and model is not None:
        scorer = ObjectiveScorer(model, objective, rows, selector)
    elif known is not None and model is not None:
        scoring_pass = ScoringPass(sampling.scoring or Scoring(), device)
        scorer = ModelScorer(model, known, scoring_pass, selector, processes.count > 1)
    trained = None if model is None else unwrapped(model)
    return Parts(trained, known, scorer, selector, processes, device)


def dataset_of(
    parts: Parts, loader: DataLoader[Any], before: Source | None, device: torch.device | None = None
) -> Dataset:
    """A source that draws from the data set of ``loader`` by the memory of the source ``before``
    it, or by a new one."""
    if isinstance(before, Dataset):
        return Dataset(loader, before.memory, parts.processes, device)
    return Dataset.around(
        loader,
        parts.processes,
        contradicted=None if parts.objective is None else parts.objective.contradicted,
        seed=parts.selector.new_seed(),
        memory_device=parts.device,
        device=device,
    )


def make_source(
    parts: Parts, wishes: Wishes, loader: Iterable[Any], before: Source | None, limits: Limits
) -> Source:
    """A memory's source where ``loader`` has a data set that can be drawn from, else a stream.

    Warns where batches can be neither drawn nor scored. Raises ValueError where nobody says how
    large they are.
    """
    if wishes.control != "threshold" and can_be_indexed(loader, wishes.batch_size):
        return dataset_of(parts, loader, before)
    batch_size = wishes.batch_size or getattr(loader, "batch_size", None)
    if batch_size is None:
        raise ValueError(
            "batch_size must be given to Engine for a loader that has no batch_size; got "
            f"{type(loader).__name__}"
        )
    if parts.scorer is None and wishes.control != "never":
        warnings.warn(
            "loader's batches pass as they are: its data set cannot be drawn from, and nothing "
            "scores them (give Engine a model with loss= or objective=, or a DataLoader that "
            "shuffles a map-style data set)",
            stacklevel=3,
        )
    check_joins(wishes.sampling.presample, batch_size)
    return Stream(loader, batch_size, limits=limits)


def limits_of(parts: Parts, wishes: Wishes) -> Limits:
    """What becomes of batches that cannot be joined or cut."""
    presample = wishes.sampling.presample
    if parts.scorer is None or wishes.control == "never":
        return Limits()
    falls_back = wishes.control == "speedup"
    larger = presample is None or presample != wishes.batch_size
    asked = not falls_back and larger and isinstance(wishes.control, str)
    return Limits(falls_back, asked)


def make_choices(parts: Parts, wishes: Wishes, source: Source) -> Choices:
    """What source and scorer make possible."""
    b, scorer = source.batch_size, parts.scorer
    if scorer is None:
        candidates: tuple[int, ...] = ()
    elif wishes.sampling.presample is not None:
        candidates = (wishes.sampling.presample,)
    else:
        candidates = tuple(int(ratio * b) for ratio in RATIOS if source.can_deal(ratio))
    return Choices(
        batch_size=b,
        remembers=source.remembers,
        candidates=candidates,
        thins=wishes.thins,
        with_replacement=parts.selector.draw.with_replacement,
    )


def controller_of(parts: Parts, wishes: Wishes, source: Source) -> Controller[Any]:
    """The controller of a name, or the user's own."""
    if not isinstance(wishes.control, str):
        return wishes.control
    choices = make_choices(parts, wishes, source)
    return make_controller(wishes.control, choices, wishes.sampling.threshold)

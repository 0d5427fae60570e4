"""What ``fit`` is given beside its loader: checked before the first step, called after epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from isample.support.checks import check_loader, required_arguments
from isample.support.pytree import as_pair
from isample.values import Evaluation, History

Scheduler = LRScheduler | ReduceLROnPlateau


def check_fit(
    callbacks: Any,
    evaluate: Any,
    scheduler: Any,
    optimizer: torch.optim.Optimizer,
    epochs: int | None,
) -> tuple[Callable[..., Any], ...]:
    """The callbacks; raises TypeError or ValueError for what would fail after an epoch."""
    if not any(p.requires_grad for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer must hold parameters that require grad; got none (see requires_grad_)"
        )
    check_evaluate(evaluate, epochs)
    check_scheduler(scheduler, optimizer, evaluate)
    return check_callbacks(callbacks)


def check_callbacks(callbacks: Any) -> tuple[Callable[..., Any], ...]:
    """``callbacks``, once each is found to be callable."""
    if callable(callbacks) and not isinstance(callbacks, Iterable):
        name = getattr(callbacks, "__name__", type(callbacks).__name__)
        raise TypeError(f"callbacks must be a list of callables; got {name} (give [{name}])")
    if not isinstance(callbacks, Iterable):
        raise TypeError(
            f"callbacks must be a list of callables; got {type(callbacks).__name__} (leave it out "
            "where there are none)"
        )
    found = tuple(callbacks)
    for callback in found:
        if not callable(callback) or isinstance(callback, type):
            raise TypeError(
                "callbacks must be callable as callback(trainer, report); got one that is "
                f"{callback!r}"
            )
    return found


def check_evaluate(evaluate: Any, epochs: int | None) -> None:
    """Raises TypeError for what cannot be evaluated after each epoch."""
    if evaluate is None:
        return
    check_loader("evaluate", evaluate)
    if isinstance(evaluate, Iterator) and epochs != 1:
        raise TypeError(
            "evaluate must begin anew after each epoch; got an iterator, "
            f"{type(evaluate).__name__} (give a DataLoader or a list)"
        )
    if isinstance(evaluate, list | tuple):
        if not evaluate:
            raise ValueError("evaluate must yield at least one batch; got an empty one")
        as_pair(evaluate[0], "evaluate's loader")


def check_scheduler(scheduler: Any, optimizer: torch.optim.Optimizer, evaluate: Any) -> None:
    """Raises TypeError or ValueError for what could not step once an epoch."""
    if scheduler is None:
        return
    if isinstance(scheduler, type) or not callable(getattr(scheduler, "step", None)):
        got = scheduler.__name__ if isinstance(scheduler, type) else type(scheduler).__name__
        raise TypeError(
            f"scheduler must be a torch.optim.lr_scheduler.LRScheduler; got {got} (give, for one, "
            "torch.optim.lr_scheduler.StepLR(optimizer, 10))"
        )
    theirs = getattr(scheduler, "optimizer", optimizer)
    if theirs.param_groups is not optimizer.param_groups:
        raise ValueError(
            "scheduler must be of the trainer's optimizer; got one of another, whose rates nobody "
            "uses"
        )
    wanted = required_arguments(scheduler.step)
    if wanted is not None and wanted > 1:
        raise TypeError(
            f"scheduler must step without arguments or by a loss; got {type(scheduler).__name__}, "
            f"whose step needs {wanted} (step it in a callback)"
        )
    if wanted == 1 and evaluate is None:
        raise ValueError(
            f"evaluate must be given with a {type(scheduler).__name__}, which steps by the "
            "evaluation's loss; got None (or step it in a callback)"
        )


def end_epoch(
    loader: Iterable[Any] | None,
    scheduler: Scheduler | None,
    evaluate: Callable[[Iterable[Any]], Evaluation],
    history: History,
    ending: Callable[[], AbstractContextManager[None]],
) -> None:
    """Evaluates, and steps the scheduler: by the evaluation's loss where its step needs one.

    An evaluation that is broken off is made anew in a resumed run; ``ending`` sees that what comes
    after it is done once.
    """
    evaluation = None if loader is None else evaluate(loader)
    with ending():
        if evaluation is not None:
            history.evaluations.append(evaluation)
        if scheduler is not None:
            _step(scheduler, evaluation)


def _step(scheduler: Scheduler, evaluation: Evaluation | None) -> None:
    step: Callable[..., Any] = scheduler.step
    if evaluation is not None and required_arguments(step):
        step(evaluation.loss)
    else:
        step()

"""Checks of an engine's arguments, before anything is made of them."""

from __future__ import annotations

from typing import Any

from isample.control import check_control
from isample.engine.parts import Sampling
from isample.support.checks import (
    check_count,
    check_module,
    check_number,
    check_optimizer,
    check_seed,
    needs_closure,
)
from isample.support.processes import Processes


def check_engine(
    optimizer: Any, head: Any, model: Any, objective: Any, attach: Any, seed: Any
) -> None:
    """Raises TypeError or ValueError for an argument of :class:`isample.Engine` that breaks its
    rule."""
    check_optimizer(optimizer)
    for name, module in (("head", head), ("model", model)):
        if module is not None:
            check_module(name, module)
    if objective is not None and not callable(objective):
        raise TypeError(
            "objective must be a callable (model, batch) -> a reduced loss, 0-dim; got "
            f"{type(objective).__name__}"
        )
    if not isinstance(attach, bool):
        raise TypeError(f"attach must be True or False; got {attach!r}")
    if attach and needs_closure(optimizer):
        raise ValueError(
            f"attach must be False for {type(optimizer).__name__}, whose step is given a closure; "
            "got True (call before_update in the closure, after_update behind the step)"
        )
    check_seed(seed)


def check_choices(control: Any, batch_size: Any, sampling: Any, processes: Any) -> None:
    """The same of what says how batches are chosen."""
    if batch_size is not None:
        check_count("batch_size", batch_size)
    if not isinstance(sampling, Sampling):
        raise TypeError(
            f"sampling must be an isample.Sampling; got {type(sampling).__name__} (give "
            "isample.Sampling(...))"
        )
    if sampling.threshold is not None:
        check_number("tau_threshold", sampling.threshold)
    check_number("tau_momentum", sampling.tau_momentum)
    check_control(control, sampling.threshold)
    if processes is not None and not isinstance(processes, Processes):
        raise TypeError(
            "processes must be an isample.support.processes.Processes or None; got "
            f"{type(processes).__name__}"
        )

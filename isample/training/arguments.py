"""Checks of a trainer's arguments, against each other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from isample.control import Controller, Threshold
from isample.scoring.forward import Scoring
from isample.scoring.scores import make_score
from isample.support.checks import (
    check_count,
    check_module,
    check_number,
    check_optimizer,
    needs_closure,
)
from isample.support.registry import look_up

Mode = Literal["auto", "memory", "presample"]
MODES: dict[str, Mode] = {"auto": "auto", "memory": "memory", "presample": "presample"}


def control_of(
    control: str | Controller[Any] | None,
    gate: str | Controller[Any] | None,
    tau_threshold: float | None,
) -> str | Controller[Any]:
    if gate is not None:
        if control is not None:
            raise ValueError(f"gate must be None with control={control!r}, its new name; got both")
        warnings.warn("gate= is called control= now", DeprecationWarning, stacklevel=3)
        control = gate
    if control is None:
        control = "speedup" if tau_threshold is None else "threshold"
    if tau_threshold is not None and control != "threshold":
        raise ValueError(
            f"tau_threshold must be given with control='threshold' only; got control={control!r}"
        )
    if tau_threshold is not None:
        check_number("tau_threshold", tau_threshold)
        if not tau_threshold >= 0:
            raise ValueError(f"tau_threshold must be >= 0; got {tau_threshold}")
    return control


def check_trainer(
    model: Any, optimizer: Any, batch_size: Any, presample: Any, autocast: Any, scaler: Any
) -> None:
    """Raises TypeError or ValueError for what breaks its own rule; Engine checks the others."""
    check_parts(model, optimizer)
    check_sizes(batch_size, presample)
    check_precision(autocast, scaler)


def check_parts(model: Any, optimizer: Any) -> None:
    """Raises TypeError or ValueError for a model and an optimizer that cannot train together."""
    check_module("model", model)
    check_optimizer(optimizer)
    if needs_closure(optimizer):
        raise TypeError(
            f"optimizer must make its step without a closure for Trainer; got a "
            f"{type(optimizer).__name__} (use an isample.Engine with attach=False in a loop of "
            "your own: see its before_update and after_update)"
        )


def check_precision(autocast: Any, scaler: Any) -> None:
    """Raises TypeError or ValueError for what torch would not take at the first step."""
    if autocast is not None and not isinstance(autocast, torch.dtype):
        raise TypeError(
            f"autocast must be a torch.dtype or None; got {autocast!r} (give torch.bfloat16)"
        )
    if autocast not in (None, torch.bfloat16, torch.float16):
        raise ValueError(
            f"autocast must be torch.bfloat16, torch.float16 or None; got {autocast} (other "
            "dtypes are the model's own: model.to(dtype))"
        )
    if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
        got = scaler.__name__ if isinstance(scaler, type) else repr(scaler)
        raise TypeError(
            f"scaler must be a torch.amp.GradScaler or None; got {got} (give "
            "torch.amp.GradScaler())"
        )


def check_sizes(batch_size: int, presample: int | None) -> None:
    check_count("batch_size", batch_size)
    if presample is not None:
        check_count("presample", presample)
    if presample is not None and presample < batch_size:
        raise ValueError(
            f"presample must be >= batch_size; got presample={presample}, batch_size={batch_size}"
        )


def mode_of(
    mode: str,
    score: str | Callable[..., Any],
    control: str | Controller[Any],
    presample: int | None,
    scoring: Scoring | None,
    asks: bool,
) -> Mode:
    """``mode``, or what follows for ``"auto"`` from what else was given.

    ``asks`` says whether candidates were asked for. Raises ValueError for what a mode or a score
    cannot do.
    """
    known = look_up(MODES, mode, "mode")
    if scoring is not None:
        check_scoring(scoring)
    asks = asks or control == "threshold" or isinstance(control, Threshold)
    if known == "auto" and (asks or make_score(score).from_logits is None):
        known = "presample"
    _check_scoring(known, score, control, presample, scoring)
    return known


def scoring_of(
    scoring: Scoring | None, control: str | Controller[Any], autocast: torch.dtype | None
) -> Scoring:
    """The scoring pass that was asked for, in the precision of training where it names none."""
    # Choosing the precision by the clock would spoil runs that go by nothing else of a clock.
    scoring = scoring or Scoring(dtype="auto" if control == "speedup" else None)
    takes_autocast = autocast is not None and scoring.dtype in (None, "auto")
    return replace(scoring, dtype=autocast) if takes_autocast else scoring


def check_scoring(scoring: Any) -> None:
    if not isinstance(scoring, Scoring):
        raise TypeError(
            f"scoring must be an isample.Scoring or None; got {type(scoring).__name__} (give "
            "isample.Scoring(...))"
        )


def _check_scoring(
    mode: Mode,
    score: str | Callable[..., Any],
    control: str | Controller[Any],
    presample: int | None,
    scoring: Scoring | None,
) -> None:
    """Raises ValueError for what a mode or a score cannot do."""
    if scoring is not None and scoring.ahead and make_score(score).from_logits is None:
        raise ValueError(
            f"scoring must not be ahead for score={score!r}, which needs more than logits; got "
            "ahead=True"
        )
    if mode != "memory":
        return
    if control == "threshold" or isinstance(control, Threshold):
        raise ValueError(
            "control must be one of always, never, speedup for mode='memory'; got 'threshold'"
        )
    if presample is not None and control in ("always", "never"):
        raise ValueError(
            f"presample must be None for control={control!r} in mode='memory'; got {presample}"
        )
    if scoring is not None and scoring.proxy is not None:
        raise ValueError(
            "scoring must have no proxy in mode='memory', which remembers the model's scores; got "
            "one"
        )
    if scoring is not None and scoring.ahead:
        raise ValueError(
            "scoring must not be ahead in mode='memory', whose draws wait for the scores; got "
            "ahead=True"
        )


def check_trains(optimizer: torch.optim.Optimizer, model: nn.Module, loss: Any) -> None:
    """Raises ValueError where ``optimizer`` holds parameters that no loss of ``model`` reaches."""
    parts = [part for part in (model, loss) if isinstance(part, nn.Module)]
    known = {id(parameter) for part in parts for parameter in part.parameters()}
    held = [p for group in optimizer.param_groups for p in group["params"]]
    others = [parameter for parameter in held if id(parameter) not in known]
    if others:
        raise ValueError(
            f"optimizer must be of the model's parameters; {len(others)} of its {len(held)} are "
            f"not the model's, the first of shape {tuple(others[0].shape)} (make the optimizer "
            "after the model's last change: a copy or a new layer has parameters of its own)"
        )

"""Checks of single arguments: each names argument, rule, value and remedy."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset


def check_count(name: str, value: Any) -> None:
    """Raises ValueError for what is no integer >= 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1; got {value!r}")


def check_number(name: str, value: Any) -> None:
    """Raises TypeError for what is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number; got {value!r}")


def check_seed(seed: Any) -> None:
    """Raises TypeError or ValueError for what is neither None nor an integer in [0, 2^63)."""
    if seed is None:
        return
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(
            f"seed must be an int, or None for one of torch's generator; got {seed!r} (give "
            "seed=int(...))"
        )
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must be in [0, 2^63); got {seed}")


def check_module(name: str, value: Any) -> None:
    """Raises TypeError for what is no module."""
    if isinstance(value, type) and issubclass(value, nn.Module):
        raise TypeError(f"{name} must be a module, not its class; got {value.__name__}")
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module; got {type(value).__name__}")


def check_optimizer(optimizer: Any) -> None:
    """Raises TypeError for what is no optimizer, ValueError for one of parameters without data."""
    if isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer):
        raise TypeError(
            "optimizer must be a torch.optim.Optimizer, not its class; got "
            f"{optimizer.__name__} (give {optimizer.__name__}(model.parameters(), lr=...))"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__} (give, for "
            "one, torch.optim.SGD(model.parameters(), lr=0.1))"
        )
    if any(p.is_meta for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "optimizer must hold parameters on a device with data; got some on 'meta' (call "
            "model.to_empty(device=...), initialise it, and build the optimizer again)"
        )


def required_arguments(function: Any) -> int | None:
    """How many arguments a call must give; None where nobody can tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters)


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step evaluates the model itself, as that of LBFGS."""
    # The class's own: a scheduler puts another in its place, whose signature names `self`.
    return (required_arguments(type(optimizer).step) or 0) > 1


def check_loader(name: str, loader: Any) -> None:
    """Raises TypeError for what does not yield batches."""
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise TypeError(
            f"{name} must yield batches; got a data set, {type(loader).__name__} (wrap it: "
            "torch.utils.data.DataLoader(dataset, batch_size=...))"
        )
    is_iterable = isinstance(loader, Iterable) or hasattr(loader, "__getitem__")
    if not is_iterable or isinstance(loader, torch.Tensor | str | dict):
        raise TypeError(
            f"{name} must be an iterable of (inputs, targets) batches, such as a DataLoader; got "
            f"{type(loader).__name__}"
        )

"""How the ops' fake implementations are registered, which give shapes alone.

torch sends a call to them wherever one argument is on the meta device. So they, too, must refuse
arguments on several devices and None for a tensor, or memory that nobody wrote would come back.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, library

from isample.ops.arguments import check_given

MOST_DRAWS = 2**24  # kMaxDraws in csrc/core/draws.h


def check_one_device(arguments: dict[str, Any]) -> None:
    """Raises ValueError if a tensor among ``arguments`` is not on the device of the first one."""
    tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    for name, values in arguments.items():
        if isinstance(values, list):
            each = [value for value in values if isinstance(value, Tensor)]
            tensors |= {f"{name}[{i}]": value for i, value in enumerate(each)}
    first = next(iter(tensors))
    for name, tensor in tensors.items():
        if tensor.device != tensors[first].device:
            raise ValueError(
                f"{name} must be on the device of {first}, {tensors[first].device}, "
                f"got {tensor.device}: move one of them"
            )


def check_draws(argument: str, count: Any) -> None:
    """Raises ValueError for a number of draws that no op makes, unless it is symbolic."""
    if isinstance(count, int) and not 1 <= count <= MOST_DRAWS:
        raise ValueError(f"{argument} must lie in [1, 2^24 = {MOST_DRAWS}], got {count}")


def tensor_arguments(op: str) -> list[str]:
    """The names of the arguments of ``op`` that must be tensors."""
    packet, _, overload = op.removeprefix("isample::").partition(".")
    schema = getattr(getattr(torch.ops.isample, packet), overload or "default")._schema
    return [each.name for each in schema.arguments if isinstance(each.type, torch.TensorType)]


def register_fake(op: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers the decorated function as the fake of ``op``, all of whose tensors have to be
    tensors, on one device."""
    required = tensor_arguments(op)

    def register(fake: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(fake)

        @functools.wraps(fake)
        def checked(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs).arguments
            for name in required:
                check_given(name, arguments[name])
            check_one_device(arguments)
            return fake(*args, **kwargs)

        library.register_fake(op)(checked)
        return fake

    return register

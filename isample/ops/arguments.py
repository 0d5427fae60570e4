"""Checks of numbers and names that the ops' schemas would let pass, or refuse without a name."""

from __future__ import annotations

import operator
from typing import Any

import torch

WORD = 2**64


def whole_number(argument: str, value: Any, end: int = WORD // 2) -> Any:
    """``value`` as an int in [-2^63, end). A size that torch.compile does not know stays one.

    Raises:
        TypeError: it is no whole number; a bool is none.
        ValueError: it lies outside.
    """
    if type(value) is not int and not isinstance(value, torch.SymInt):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(
                f"{argument} must be an int, got {value!r} of type {type(value).__name__}"
            )
        try:
            value = operator.index(value)
        except TypeError as error:
            raise TypeError(f"{argument} must be an int, got {value!r}") from error
    if end == WORD // 2 and torch.compiler.is_compiling():
        return value  # a size: to compare it would bind the graph to the range
    if not -WORD // 2 <= value < end:
        power = end.bit_length() - 1
        raise ValueError(f"{argument} must lie in [-2^63, 2^{power}), got {value}")
    return value


def seed_word(seed: int | None) -> int | None:
    """A seed, as torch.manual_seed takes it, as the signed int of the same 64 bits for the ops."""
    if seed is None:
        return None
    number = whole_number("seed", seed, WORD)
    return number if number < WORD // 2 else number - WORD


def method_name(argument: str, value: str | None, default: str) -> str:
    """``value``, or ``default`` for None; the op knows which names there are."""
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, got {value!r}")
    return value

"""The forward hook at a head, which stays behind where its module is copied or saved."""

from __future__ import annotations

from functools import partial
from typing import Any


def leave_alone(*_: Any) -> None:
    """What a copy of a head does with its outputs."""


class HeadHook(partial[Any]):
    """Calls a function of the engine's after the forward passes of a head.

    A copy of the module, such as the mean of its parameters over time, is not trained by the
    engine. So a copied or unpickled hook leaves all alone, and holds no engine. A shallow copy of
    the module shares its hook; so the function must look which module called it.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return HeadHook, (leave_alone,)

"""The forward hook at a head, which stays behind where its module is copied or saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

AtHead = Callable[[nn.Module, Any, Any], Any]


class HeadHook:
    """Calls ``at_head`` after the forward passes of ``head``.

    A copy of the module, such as the mean of its parameters over time, is not trained by the
    engine. So a copied or unpickled hook does nothing, and holds no engine; nor does one that a
    shallow copy of the module shares.
    """

    def __init__(self, head: nn.Module | None = None, at_head: AtHead | None = None):
        self._head, self._at_head = head, at_head

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if self._at_head is None or module is not self._head:
            return None
        return self._at_head(module, args, output)

    def __reduce__(self) -> tuple[type[HeadHook], tuple[()]]:
        return HeadHook, ()

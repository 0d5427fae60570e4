"""Lends batches to a scoring pass, which must leave them as they were.

A model may write to its inputs, as ``x.add_(1)`` does, or take items out of a dict. The training
pass would then see other inputs than without importance sampling. So a pass gets containers of its
own, and at first copies of all tensors. Where these are not what they were it gets copies ever
after. Else the tensors' version counters are watched, which costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from isample.support.errors import WrittenInputsError
from isample.support.pytree import copy_arrays


class Lending:
    """Lends batches to one kind of pass, again and again.

    Objects that isample knows nothing about are lent as they are.
    """

    def __init__(self) -> None:
        self._copies = True
        self._is_checked = False

    @contextmanager
    def lent(self, batch: Any) -> Iterator[Any]:
        """``batch`` for a pass that ends with the context.

        Raises WrittenInputsError where the pass wrote to it, though none had done so before.
        """
        watched: list[tuple[Tensor, int, Tensor]] = []

        def lend(tensor: Tensor) -> Tensor:
            if tensor.is_inference():  # it has no version counter
                return tensor.clone()
            lent = tensor.clone() if self._copies else tensor
            watched.append((lent, lent._version, tensor))
            return lent

        yield copy_arrays(lend, batch)
        written = any(lent._version != version for lent, version, _ in watched)
        if written and not self._copies:
            raise WrittenInputsError(
                "model, loss or score must write to a batch in every scoring pass or in none; got "
                "a pass that wrote to it after one that did not, so its samples are damaged (clone "
                "what it writes to)"
            )
        if not self._is_checked:
            self._is_checked = True
            self._copies = written or any(differ(lent, tensor) for lent, _, tensor in watched)


def differ(lent: Tensor, tensor: Tensor) -> bool:
    """Whether a copy was written to behind its version counter's back, as through ``x.data``."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        return False
    return not torch.equal(lent, tensor)

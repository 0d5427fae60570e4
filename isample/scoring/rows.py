"""The identity at the logits: in its backward pass rows are scored and weighted, whatever the loss.

The row that comes back there is dL/dz_i. Its norm is the upper bound of sample i, and multiplying
it by w_i is the weighting. A loss that is a mean over tokens, pixels or class weights divides by
what the batch holds: L = sum s_i / D with D = sum n_i. Of a drawn batch D is another number than of
a uniform one, and a weighted term over it is biased. With ``counts`` n the row is multiplied by
w_i D / (b n') instead, where n' is the mean of n over what was dealt so far: the estimate
of E[s] / E[n] is then as unbiased as n' is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor

from isample.ops.rows import rows
from isample.scoring.counts import MeanCount
from isample.support.pytree import map_tensors, tensors_in
from isample.values import Batch


class Marked:
    """Logits of a scoring pass over ``size`` samples, where a graph begins: of each head the leaves
    and the scale."""

    def __init__(self, size: int):
        self.size = size
        self._heads: list[tuple[list[Tensor], Tensor | float]] = []

    def mark(self, z: Any, scale: Tensor | float | None) -> Any:
        """``z`` as leaves of a new graph; what follows is recorded. None: of a mean over rows."""
        fresh = map_tensors(_as_leaf, z)
        marked = [leaf for leaf in tensors_in(fresh) if leaf.requires_grad]
        check_rows("logits", marked, self.size)
        self._heads.append((marked, float(self.size) if scale is None else scale))
        torch.set_grad_enabled(True)
        return fresh

    def scores(self, loss: Tensor) -> Tensor:
        """Of the rows, float32 [B], by a reduced ``loss``."""
        leaves = [leaf for head, _ in self._heads for leaf in head]
        scales = [scale for head, scale in self._heads for _ in head]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True) if leaves else ()
        squares = [_squares(g) * scale**2 for g, scale in zip(gradients, scales) if g is not None]
        if not squares:
            raise RuntimeError(
                "objective must compute its loss of logits that pass through the module given as "
                "head, or engine.rows; it did not"
            )
        return reduce(add, squares).sqrt().float()


def _as_leaf(leaf: Tensor) -> Tensor:
    return leaf.detach().requires_grad_(True) if leaf.is_floating_point() else leaf


def _squares(gradient: Tensor) -> Tensor:
    return gradient.float().flatten(1).square().sum(1) if gradient.dim() > 1 else gradient**2


class Rows:
    """Passes logits through, and marks those of the batch that is under way.

    A head is a call of :meth:`through` within one batch; each has a mean count of its own.
    ``marked`` is None outside of :meth:`scoring`.
    """

    def __init__(self) -> None:
        self._mean_counts: list[MeanCount] = []
        self.marked: Marked | None = None
        self._heads_scored = 0

    @contextmanager
    def scoring(self, size: int) -> Iterator[Marked]:
        """Within it logits of ``size`` samples begin a graph in place of belonging to a batch."""
        self.marked, self._heads_scored = Marked(size), 0
        try:
            with torch.no_grad():
                yield self.marked
        finally:
            self.marked = None

    def mark(self, z: Any, counts: Tensor | None) -> Any:
        """Logits of a scoring pass; raises RuntimeError outside of :meth:`scoring`."""
        marked = self.marked
        if marked is None:
            raise RuntimeError("mark must be called within scoring(); no scoring pass is under way")
        mean_count = self._mean_count(self._heads_scored)
        self._heads_scored += 1
        if counts is None:
            return marked.mark(z, None)
        _check_counts(counts, marked.size)
        if mean_count.samples == 0:
            mean_count.add(counts)
        return marked.mark(z, counts.sum() / mean_count.value)

    def through(self, z: Any, batch: Batch, counts: Tensor | None) -> Any:
        """Logits of the training pass of ``batch``, a tensor or a tuple, list or dict of tensors,
        [b, ...] each.

        Raises ValueError where they have not a row a sample, or counts are not [b].
        """
        check_rows("logits", z, batch.size)
        relative = self._relative_count(batch, counts)
        batch.heads += 1
        factors = batch.weights
        if factors is not None or batch.observe:
            device = next(leaf.device for leaf in tensors_in(z) if leaf.is_floating_point())
            factors = batch.weights_on(device)
        if factors is not None and relative is not None:
            factors = (factors * (relative / batch.size)).float()
        squares = None
        if batch.observe:
            squares = torch.zeros(batch.size, dtype=torch.float32, device=device)
            scale = float(batch.size) if relative is None else relative
            batch.squares.append((squares, scale))

        def passed(leaf: Tensor) -> Tensor:
            if not (leaf.is_floating_point() and leaf.requires_grad):
                return leaf
            out = rows(leaf, factors, squares)  # ``leaf`` itself where neither is asked for
            out.register_hook(batch.saw_backward)
            return out

        return map_tensors(passed, z)

    def _relative_count(self, batch: Batch, counts: Tensor | None) -> Tensor | None:
        """D / n', 0-dim; None for a mean over rows."""
        if counts is None:
            return None
        _check_counts(counts, batch.size)
        mean_count = self._mean_count(batch.heads)
        if not batch.by_memory or mean_count.samples == 0:  # a memory's data set was dealt before
            mean_count.add(counts.detach(), batch.weights)
        return counts.sum() / mean_count.value

    def _mean_count(self, head: int) -> MeanCount:
        while len(self._mean_counts) <= head:
            self._mean_counts.append(MeanCount())
        return self._mean_counts[head]

    def state_dict(self) -> list[dict[str, Any]]:
        return [mean_count.state_dict() for mean_count in self._mean_counts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        self._mean_counts = []
        for head, of_head in enumerate(state):
            self._mean_count(head).load_state_dict(of_head)


def check_rows(name: str, z: Any, size: int) -> None:
    """Raises ValueError where a tensor of ``z`` has not ``size`` rows."""
    for leaf in (z,) if isinstance(z, Tensor) else tensors_in(z):
        if leaf.is_floating_point():
            _check_length(name, leaf, size)


def _check_length(name: str, tensor: Tensor, size: int) -> None:
    if tensor.dim() == 0 or tensor.shape[0] != size:
        raise ValueError(
            f"{name} must have a row for each of the batch's {size} samples along dim 0; got shape "
            f"{tuple(tensor.shape)} (call rows before tokens or pixels are flattened)"
        )


def _check_counts(counts: Tensor, size: int) -> None:
    if counts.shape != (size,):
        raise ValueError(
            f"counts must be [{size}], one for each row of the logits; got shape "
            f"{tuple(counts.shape)}"
        )

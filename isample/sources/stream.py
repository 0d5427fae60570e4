"""Any iterable of batches as a source: it deals what comes, joined to as many as a plan scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from isample.ops.memory import draw_moments
from isample.sources.limits import Limits
from isample.support.batch_cuts import join
from isample.support.errors import CannotJoinError
from isample.support.pytree import batch_length, map_tensors
from isample.values import Batch, Candidates, Plan

FORESEEN = 8  # batches; of two some are alike that others are not


class Stream:
    """The user's ``loader`` as it is: batches of at most ``batch_size`` samples.

    Args:
        loader: an iterable of batches, each with its samples along dim 0 of every tensor.
        batch_size: b.
        device: where batches go; None leaves them where they are.
        limits: what is known of batches that cannot be joined.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        batch_size: int,
        device: torch.device | None = None,
        limits: Limits | None = None,
    ):
        self.loader: Iterable[Any] = loader
        self.batch_size: int = batch_size
        self.device: torch.device | None = device
        self.limits: Limits = limits or Limits()
        self._wanted = batch_size
        self._apart: deque[Candidates] = deque()  # could not be joined

    @property
    def total(self) -> int:
        return 0

    @property
    def remembers(self) -> bool:
        return False

    @property
    def informed(self) -> bool:
        return True

    def can_deal(self, ratio: float) -> bool:
        return ratio == int(ratio)  # batches are joined whole

    def follow(self, plan: Plan) -> None:
        self._wanted = plan.candidates or self.batch_size

    def epoch(self, number: int, skip: int = 0) -> Iterator[Candidates]:
        sampler = getattr(self.loader, "sampler", None)
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(number)  # or it would deal every epoch alike
        batches = iter(self.loader)
        for _ in range(skip):
            next(batches)
        self._apart.clear()
        if self.limits.foresees:
            self.limits.foresees = False
            batches = self._foreseen(batches)
        return self._joined(batches)

    def _foreseen(self, batches: Iterator) -> Iterator:
        """``batches`` again, of which the first can be joined; raises CannotJoinError."""
        first = list(islice(batches, FORESEEN))
        if first:
            join(first)
        return chain(first, batches)

    def learn(self, places: Tensor | None, weights: Tensor | None, scores: Tensor) -> Tensor:
        return draw_moments(scores, torch.ones_like(scores), drawn=False)

    def learn_candidates(self, given: Candidates, scores: Tensor) -> Tensor:
        return self.learn(None, None, scores)

    def facts(self) -> dict[str, Tensor]:
        return {}

    def restart(self) -> None:
        pass

    def state_dict(self, waiting: list[Batch]) -> None:
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def _joined(self, batches: Iterator) -> Iterator[Candidates]:
        while (candidates := self._next(batches)) is not None:
            yield candidates

    def _next(self, batches: Iterator) -> Candidates | None:
        """Takes batches until enough samples are there or the epoch ends; None at its end.

        Raises ValueError for a batch of more than ``batch_size`` samples.
        """
        if self._apart:
            return self._apart.popleft()
        wanted = self._wanted if self.limits.joins else 1
        parts, sizes = [], []
        while sum(sizes) < wanted and (batch := next(batches, None)) is not None:
            length = batch_length(batch, "batch")
            if length > self.batch_size:
                raise ValueError(
                    f"loader must yield batches of at most batch_size={self.batch_size} samples; "
                    f"got {length}"
                )
            parts.append(batch if self.device is None else map_tensors(self._to_device, batch))
            sizes.append(length)
        if not parts:
            return None
        try:
            return Candidates(join(parts, sizes), sum(sizes), batches=len(parts))
        except CannotJoinError as error:
            self.limits.cannot_join(error)
        self._apart.extend(map(Candidates, parts, sizes))
        return self._apart.popleft()

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

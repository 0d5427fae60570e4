"""Any iterable of batches as a source: it deals what comes, joined to as many as a plan scores."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from isample.ops.memory import draw_moments
from isample.sources.limits import Limits
from isample.support.batch_cuts import join
from isample.support.errors import CannotJoinError
from isample.support.pytree import batch_length, map_tensors
from isample.values import Batch, Candidates, Plan

_END = object()


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
        self._wanted = 1  # samples at least, of batches that are joined
        self._apart: deque[Candidates] = deque()  # could not be joined

    @property
    def total(self) -> int:
        return 0

    @property
    def remembers(self) -> bool:
        return False

    @property
    def replays(self) -> bool:
        return True

    @property
    def informed(self) -> bool:
        return True

    def can_deal(self, ratio: float) -> bool:
        return ratio == int(ratio)  # batches are joined whole

    def follow(self, plan: Plan) -> None:
        candidates = plan.candidates or 0
        self._wanted = candidates if candidates > self.batch_size else 1

    def epoch(self, number: int, skip: int = 0) -> Iterator[Candidates]:
        batches = iter(self.loader)
        is_one_shot = batches is self.loader
        for taken in range(skip):
            if next(batches, _END) is _END:
                raise ValueError(
                    f"loader must yield the {skip} batches of the epoch that were trained on when "
                    f"the state was saved; got {taken} (resume with the same loader)"
                )
        self._apart.clear()
        return self._joined(batches, is_one_shot and skip == 0)

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

    def _joined(self, batches: Iterator[Any], is_one_shot: bool) -> Iterator[Candidates]:
        candidates = self._next(batches)
        if candidates is None and is_one_shot:
            raise ValueError(
                "loader must yield at least one batch an epoch; got an exhausted one-shot iterator:"
                f" {type(self.loader).__name__} (give a list or a DataLoader)"
            )
        while candidates is not None:
            yield candidates
            candidates = None  # no frame holds a batch that was trained on
            candidates = self._next(batches)

    def _next(self, batches: Iterator[Any]) -> Candidates | None:
        """A batch as it comes; where the plan scores more, as many as that takes. None at the end.

        A batch of no samples, or None, is what a ``collate_fn`` makes that leaves all of them out:
        it is passed over. Raises ValueError for a batch of more than ``batch_size`` samples.
        """
        if self._apart:
            return self._apart.popleft()
        wanted = self._wanted if self.limits.joins else 1
        parts, sizes, count = [], [], 0
        while sum(sizes) < wanted and (batch := next(batches, _END)) is not _END:
            count += 1
            length = 0 if batch is None else batch_length(batch, "batch")
            if length > self.batch_size:
                raise ValueError(
                    f"loader must yield batches of at most batch_size={self.batch_size} samples; "
                    f"got {length}"
                )
            if length == 0:
                continue
            parts.append(batch if self.device is None else map_tensors(self._to_device, batch))
            sizes.append(length)
        if not parts:
            return None
        try:
            return Candidates(join(parts, sizes), sum(sizes), batches=count)
        except CannotJoinError as error:
            self.limits.cannot_join(error)
        passed_over = count - len(parts)
        self._apart.append(Candidates(parts[0], sizes[0], batches=1 + passed_over))
        self._apart.extend(map(Candidates, parts[1:], sizes[1:]))
        return self._apart.popleft()

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

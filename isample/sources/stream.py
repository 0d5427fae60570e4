"""Any iterable of batches as a source: it deals what comes, joined to as many as a plan scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from isample.ops.memory import draw_moments
from isample.support.pytree import batch_length, join, map_tensors
from isample.values import Batch, Candidates, Plan

_END = object()


class Stream:
    """The user's ``loader`` as it is: batches of at most ``batch_size`` samples.

    Args:
        loader: an iterable of batches, each with its samples along dim 0 of every tensor.
        batch_size: b.
        device: where batches go; None leaves them where they are.
    """

    def __init__(self, loader: Iterable[Any], batch_size: int, device: torch.device | None = None):
        self.loader: Iterable[Any] = loader
        self.batch_size: int = batch_size
        self.device: torch.device | None = device
        self._wanted = 1  # samples at least, of batches that are joined

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
        for taken in range(skip):
            if next(batches, _END) is _END:
                raise ValueError(
                    f"loader must yield the {skip} batches of the epoch that were trained on when "
                    f"the state was saved; got {taken} (resume with the same loader)"
                )
        return self._joined(batches, skip)

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

    def _joined(self, batches: Iterator[Any], skipped: int) -> Iterator[Candidates]:
        candidates = self._next(batches)
        if candidates is None and skipped == 0 and batches is self.loader:
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
        parts, size, count = [], 0, 0
        while size < self._wanted and (batch := next(batches, _END)) is not _END:
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
            size += length
        if not parts:
            return None
        return Candidates(join(parts), size, batches=count)

    def _to_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

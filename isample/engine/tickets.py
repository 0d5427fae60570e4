"""Which batch is under way: batches wait in the order in which they were handed out, and the
forward pass of each takes the oldest."""

from __future__ import annotations

from collections import deque
from typing import Any

from torch import Tensor

from isample.values import Batch, backward_pass


class Tickets:
    """Batches from their fetching to their update.

    A loop may fetch batches ahead, as long as it trains on each of them, in their order. The first
    forward pass of an epoch shows how many it fetches ahead; where it falls behind further, a batch
    was left out, and weights would be those of others: RuntimeError.

    ``alone``: whether no other process trains, so that a batch may have nothing to tell.
    """

    def __init__(self, alone: bool = True) -> None:
        self.alone: bool = alone
        self.waiting: deque[Batch] = deque()
        self.under_way: list[Batch] = []
        self._updating: Batch | None = None
        self._plain: Batch | None = None  # the same, of a plain update
        self._ahead: int | None = None
        self._exhausted = False

    def begin_epoch(self) -> None:
        """Raises RuntimeError where an epoch that was dealt to its end was not trained on."""
        if self._exhausted and self.waiting:
            raise RuntimeError(_left_out(len(self.waiting)))
        self.waiting.clear()
        self.under_way = [batch for batch in self.under_way if batch.backward]
        self._ahead, self._exhausted = None, False

    def end_epoch(self) -> None:
        self._exhausted = True

    def skip(self) -> None:
        """The batch under way is left out, if it had no backward pass; else the oldest waiting."""
        last = self.under_way[-1] if self.under_way else None
        if last is not None and (last.left_alone or not last.backward):
            self.under_way.pop()
        elif self.waiting:
            self.waiting.popleft()
        else:
            raise RuntimeError("skip must follow a batch of the engine's loader; none is waiting")

    def claim(self, by: str) -> tuple[Batch, bool]:
        """The batch whose logits these are, and whether it is a new one.

        Raises RuntimeError if there is none, or where its logits were taken by the other call.
        """
        batch = self._present()
        if batch is None:
            return self._next(by), True
        if batch.claimed != by:
            raise RuntimeError(
                f"a batch's logits must pass through engine.rows (or head=) or engine.loss, not "
                f"both; got engine.{by} after engine.{batch.claimed}"
            )
        return batch, False

    def _present(self) -> Batch | None:
        """The batch under way, unless these are the logits of the next one."""
        batch = self._updating or (self.under_way[-1] if self.under_way else None)
        if batch is None:
            return None
        within = backward_pass()
        if within is not None:  # checkpointing makes a forward pass once more
            same = batch.left_alone or not batch.backward or within == batch.backward_pass
            return batch if same else None
        if not batch.backward:
            if self._ahead is not None and len(self.waiting) > self._ahead:
                raise RuntimeError(_left_out(1))  # another one was fetched since
            return batch
        if self.waiting and batch is not self._updating:
            return None
        batch.again()  # a closure evaluates it once more
        return batch

    def _next(self, by: str) -> Batch:
        if not self.waiting:
            raise RuntimeError(
                f"engine.{by} must be called on the logits of a batch of the engine's loader; none "
                "is under way (call it within engine.paused() to let others pass)"
            )
        batch = self.waiting.popleft()
        if self._ahead is None:
            self._ahead = len(self.waiting)
        if len(self.waiting) > self._ahead:
            raise RuntimeError(_left_out(len(self.waiting) - self._ahead))
        batch.claimed, batch.backward_pass = by, backward_pass()
        self.under_way.append(batch)
        return batch

    def claim_plain(self, by: str, z: Any) -> Batch | None:
        """:meth:`claim` for logits ``z``, where nothing waits for the backward pass of their batch:
        it is neither weighted nor scored, and the next one is fetched after its update; else None.

        A hook at its logits would take 10 microseconds.
        """
        waiting = self.waiting
        if self._ahead != 0 or len(waiting) != 1 or self.under_way or self._updating is not None:
            return None
        batch = waiting[0]
        if batch.weights is not None or batch.observe or not self.alone:
            return None
        if not (isinstance(z, Tensor) and z.dim() and z.size(0) == batch.size):
            return None
        waiting.clear()
        batch.claimed, batch.left_alone, batch.backward = by, True, True
        self.under_way.append(batch)
        return batch

    def is_settled(self, batch: Batch) -> bool:
        """Whether its numbers were read already, by the update that is under way."""
        return batch is self._updating

    def begin_update(self, batch: Batch) -> None:
        """Until :meth:`end_update` logits are of ``batch``: a closure's, that evaluates it at
        several parameters."""
        self._updating = batch

    def begin_plain_update(self) -> Batch | None:
        """:meth:`begin_update` of the batch under way, if it is the only one and was left alone."""
        under_way = self.under_way
        if len(under_way) != 1 or not under_way[0].left_alone:
            return None
        self._updating = self._plain = under_way.pop()
        return self._plain

    def end_update(self) -> Batch | None:
        """The batch of a plain update."""
        plain, self._plain, self._updating = self._plain, None, None
        return plain

    def finished(self) -> list[Batch]:
        """Takes out those whose backward pass has run."""
        done = [batch for batch in self.under_way if batch.backward]
        self.under_way = [batch for batch in self.under_way if not batch.backward]
        return done


def _left_out(count: int) -> str:
    return (
        f"every batch of the engine's loader must be trained on, in order; got {count} that "
        "were not (call engine.skip() for a batch that is left out)"
    )

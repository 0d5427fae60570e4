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

    ``plain`` is the only batch there is, where it is neither weighted nor scored and the next one
    is fetched after its update. Nothing waits for its backward pass then, and it goes a short way:
    a hook at its logits would take 10 microseconds, the other calls as much. It is None where
    another batch waits or is under way, or where other processes train (not ``alone``).
    """

    def __init__(self, alone: bool = True) -> None:
        self.alone: bool = alone
        self.plain: Batch | None = None
        self._waiting: deque[Batch] = deque()
        self._under_way: list[Batch] = []
        self._updating: Batch | None = None
        self._ahead: int | None = None
        self._exhausted = False
        self._accumulates = False  # some are finished, and no update came yet

    @property
    def waiting(self) -> list[Batch]:
        """Batches without a forward pass, the oldest first."""
        self._unfold()
        return [*self._waiting]

    @property
    def under_way(self) -> list[Batch]:
        """Batches with a forward pass and without an update, the oldest first."""
        self._unfold()
        return self._under_way

    def add(self, batch: Batch) -> None:
        """It was fetched."""
        if self.plain is not None:
            self._unfold()
        self._updating = None  # an exception may have broken that update off
        self._waiting.append(batch)
        if (
            self._ahead == 0
            and len(self._waiting) == 1
            and not self._under_way
            and not (batch.observe or batch.weights is not None)
            and not self._accumulates
            and self.alone
        ):
            self.plain = batch

    def forget(self) -> None:
        """Batches that wait are not trained on."""
        self._unfold()
        self._waiting.clear()

    def put_back(self) -> None:
        """Batches under way wait again, as before their forward pass; but for those of an update
        that began."""
        self._unfold()
        if self._updating is None:
            self._waiting.extendleft(reversed(self._under_way))
        self._under_way.clear()
        self.end_update()

    # ---- The short way --------------------------------------------------------------------------

    def pass_plain(self, by: str, z: Any) -> Batch | None:
        """The plain batch, if ``z`` are its logits; they need no mark."""
        plain = self.plain
        if plain is None or not (isinstance(z, Tensor) and z.dim() and z.size(0) == plain.size):
            return None
        if not plain.left_alone:
            plain.claimed, plain.left_alone, plain.backward = by, True, True
        return plain if plain.claimed == by else None

    def finish_plain(self) -> Batch | None:
        """The plain batch, whose update is over; None where there is none."""
        plain = self.plain
        if plain is None or not plain.left_alone:
            return None
        self.plain = None
        self._waiting.clear()
        return plain

    def _unfold(self) -> None:
        """The plain batch goes the long way."""
        plain, self.plain = self.plain, None
        if plain is not None and plain.left_alone:
            self._waiting.clear()
            self._under_way.append(plain)

    # ---- The long way ---------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Raises RuntimeError where an epoch that was dealt to its end was not trained on."""
        self._unfold()
        if self._exhausted and self._waiting:
            raise RuntimeError(_left_out(len(self._waiting)))
        self._waiting.clear()
        self._under_way = [batch for batch in self._under_way if batch.backward]
        self._ahead, self._exhausted = None, False

    def end_epoch(self) -> None:
        self._exhausted = True

    def skip(self) -> None:
        """The batch under way is left out, if it had no backward pass; else the oldest waiting."""
        self._unfold()
        last = self._under_way[-1] if self._under_way else None
        if last is not None and (last.left_alone or not last.backward):
            self._under_way.pop()
        elif self._waiting:
            self._waiting.popleft()
        else:
            raise RuntimeError("skip must follow a batch of the engine's loader; none is waiting")

    def claim(self, by: str) -> tuple[Batch, bool]:
        """The batch whose logits these are, and whether it is a new one.

        Raises RuntimeError if there is none, or where its logits were taken by the other call.
        """
        self._unfold()
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
        batch = self._updating or (self._under_way[-1] if self._under_way else None)
        if batch is None:
            return None
        within = backward_pass()
        if within is not None:  # checkpointing makes a forward pass once more
            same = batch.left_alone or not batch.backward or within == batch.backward_pass
            return batch if same else None
        if not batch.backward:
            if self._ahead is not None and len(self._waiting) > self._ahead:
                raise RuntimeError(_left_out(1))  # another one was fetched since
            return batch
        if self._waiting and batch is not self._updating:
            return None
        batch.again()  # a closure evaluates it once more
        return batch

    def _next(self, by: str) -> Batch:
        if not self._waiting:
            raise RuntimeError(
                f"engine.{by} must be called on the logits of a batch of the engine's loader; none "
                "is under way (call it within engine.paused() to let others pass)"
            )
        batch = self._waiting.popleft()
        if self._ahead is None:
            self._ahead = len(self._waiting)
        if len(self._waiting) > self._ahead:
            raise RuntimeError(_left_out(len(self._waiting) - self._ahead))
        batch.claimed, batch.backward_pass = by, backward_pass()
        self._under_way.append(batch)
        return batch

    def is_settled(self, batch: Batch) -> bool:
        """Whether its numbers were read already, by the update that is under way."""
        return batch is self._updating

    def begin_update(self, batch: Batch) -> None:
        """Until :meth:`end_update` logits are of ``batch``: a closure's, that evaluates it at
        several parameters."""
        self._updating = batch

    def end_update(self) -> None:
        self._updating, self._accumulates = None, False

    def finished(self) -> list[Batch]:
        """Takes out those whose backward pass has run."""
        self._unfold()
        done = [batch for batch in self._under_way if batch.backward]
        self._accumulates = self._accumulates or bool(done)
        self._under_way = [batch for batch in self._under_way if not batch.backward]
        return done


def _left_out(count: int) -> str:
    return (
        f"every batch of the engine's loader must be trained on, in order; got {count} that "
        "were not (call engine.skip() for a batch that is left out)"
    )

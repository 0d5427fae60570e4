"""The exceptions of isample. Bad arguments are the built-in ValueError and TypeError."""

from __future__ import annotations

from torch import Tensor


class IsampleError(Exception):
    """Base of every exception that is isample's own."""


class CannotCutError(IsampleError, TypeError):
    """Samples cannot be chosen of a batch, since something in it cannot be cut; nothing was
    changed."""


class CannotJoinError(IsampleError, ValueError):
    """Batches cannot be made one, since something in them cannot be joined; nothing was changed."""

    @classmethod
    def of_shapes(cls, what: str, kinds: list[str]) -> CannotJoinError:
        """Of tensors or arrays whose samples differ, with what ``kinds`` there are."""
        return cls(
            f"batches that are joined must hold samples of one shape and dtype; got {what} "
            f"{' and '.join(kinds)} (pad all batches to one size in collate_fn, hand samples over "
            "as a list of tensors, use mode='memory', which joins nothing, or say how to join "
            "them: isample.register_batch_kind)"
        )


class WrittenInputsError(IsampleError, ValueError):
    """A scoring pass wrote to a batch that is to be trained on; no parameter was changed."""


class NonFiniteError(IsampleError, ValueError):
    """What a step told is no finite number; no parameter was changed."""


class NonFiniteLossError(NonFiniteError):
    """A batch's loss is NaN or infinite; no parameter was changed."""

    def __init__(self, loss: float):
        self.loss: float = loss
        super().__init__(
            f"loss must be finite, got {loss} (look for what is not finite in the batch or in the "
            "model's parameters)"
        )

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[float]]:
        return type(self), (self.loss,)


class NonFiniteScoreError(NonFiniteError):
    """Scores that are NaN, infinite or negative: no distribution follows from them, and nothing was
    changed.

    Attributes:
        count: how many scores are not valid; 0 where they are another process's.
        rows: their indices, ascending; at most the first ten.
    """

    def __init__(self, count: int, rows: list[int]):
        self.count: int = count
        self.rows: list[int] = rows
        listed = ", ".join(map(str, rows)) + (", ..." if count > len(rows) else "")
        got = (
            f"got {count} that are not, in rows {listed}"
            if count
            else "got some in another process that are not"
        )
        super().__init__(f"scores must be finite and not negative, {got}")

    @classmethod
    def from_scores(cls, score: Tensor) -> NonFiniteScoreError:
        """The error that tells which of ``score``, a tensor [B], are not valid."""
        rows = (~(score.isfinite() & (score >= 0))).nonzero().flatten()
        return cls(len(rows), rows[:10].tolist())

    def __reduce__(self) -> tuple[type[NonFiniteScoreError], tuple[int, list[int]]]:
        return type(self), (self.count, self.rows)

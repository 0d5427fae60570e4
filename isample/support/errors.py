"""The exceptions and the warning of isample. Bad arguments are built-in ValueErrors and
TypeErrors."""

from __future__ import annotations

from torch import Tensor


class IsampleError(Exception):
    """Base of every exception that is isample's own."""


class StateError(IsampleError, ValueError):
    """A saved state is not one that may be loaded here; nothing was changed."""


class NoMemoryWarning(UserWarning):
    """A loader is dealt as it is, without a memory that could have drawn from its data set."""


class ProcessesError(IsampleError):
    """Several processes that train one model cannot go on together."""


class LostProcessError(ProcessesError, RuntimeError):
    """Another process has ended, was killed, stands still or raised an error.

    Attributes:
        rank: which one, of its process group.
        what: what has happened to it.
    """

    def __init__(self, rank: int, what: str):
        self.rank: int = rank
        self.what: str = what
        super().__init__(
            f"process {rank} is lost: {what}; look at its output, and start all processes again"
        )

    def __reduce__(self) -> tuple[type[LostProcessError], tuple[int, str]]:
        return type(self), (self.rank, self.what)


class UnevenProcessesError(ProcessesError, ValueError):
    """The processes' loaders do not take the same steps."""

    def __init__(self, what: str):
        self.what: str = what
        super().__init__(
            f"the processes' loaders must yield equally many and equally large batches; {what}"
        )

    def __reduce__(self) -> tuple[type[UnevenProcessesError], tuple[str]]:
        return type(self), (self.what,)


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

"""The exceptions and the warning of isample. Bad arguments are built-in ValueErrors and
TypeErrors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


CAUSES = (
    "usual causes: NaN or infinity in the inputs, a learning rate that is too high, a log of 0 or "
    "a division by 0, an overflow of float16 that a torch.amp.GradScaler would catch"
)


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
    """What a step told is no finite number; no parameter was changed.

    Attributes:
        rows: of the batch or the candidates, ascending, where they are known; at most the first
            ten.
        places: the data set's indices of these rows, or of the whole batch where no row is known;
            empty where samples have no index. At most the first ten.
    """

    rows: list[int]
    places: list[int]


class NonFiniteLossError(NonFiniteError):
    """A batch's loss is NaN or infinite; no parameter was changed.

    ``found`` says where and why, as far as a look at the batch and the parameters shows.
    """

    def __init__(
        self,
        loss: float,
        rows: Sequence[int] = (),
        places: Sequence[int] = (),
        found: str = "",
    ):
        self.loss: float = loss
        self.rows, self.places, self.found = [*rows], [*places], found
        super().__init__(
            f"loss must be finite, got {loss}{found}; no parameter was changed ({CAUSES})"
        )

    def __reduce__(self) -> tuple[type[NonFiniteLossError], tuple[Any, ...]]:
        return type(self), (self.loss, self.rows, self.places, self.found)


class NonFiniteScoreError(NonFiniteError):
    """Scores that are NaN, infinite or negative: no distribution follows from them, and nothing was
    changed. ``found`` is as in NonFiniteLossError; None where scores are looked at on their own.

    Attributes:
        count: how many scores are not valid; 0 where they are not at hand: another process's, or
            those of a training pass.
    """

    def __init__(
        self, count: int, rows: Sequence[int], places: Sequence[int] = (), found: str | None = None
    ):
        self.count: int = count
        self.rows, self.places, self.found = [*rows], [*places], found
        listed = listed_numbers(self.rows, count)
        got = f"got {count} that are not, in rows {listed}" if count else "got some that are not"
        told = "" if found is None else f"{found}; no parameter was changed ({CAUSES})"
        super().__init__(f"scores must be finite and not negative, {got}{told}")

    @classmethod
    def from_scores(cls, score: Tensor) -> NonFiniteScoreError:
        """The error that tells which of ``score``, a tensor [B], are not valid."""
        rows = (~(score.isfinite() & (score >= 0))).nonzero().flatten()
        return cls(len(rows), rows[:LISTED].tolist())

    def __reduce__(self) -> tuple[type[NonFiniteScoreError], tuple[Any, ...]]:
        return type(self), (self.count, self.rows, self.places, self.found)


LISTED = 10  # numbers in a message


def listed_numbers(numbers: Sequence[int], count: int) -> str:
    """``numbers``, the first of ``count``."""
    return ", ".join(map(str, numbers[:LISTED])) + (", ..." if count > LISTED else "")

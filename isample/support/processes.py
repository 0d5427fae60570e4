"""Several processes that train one model together.

Each process draws from its own part of the data, with weights that are unbiased for that part. The
parts are equally large. So the mean of the gradients, which DistributedDataParallel forms, is
unbiased for the whole.

Copies of the model drift apart unless gain, plan and time are the same everywhere. All three follow
from a few numbers a step. One all-reduce takes the means of these, and every process computes the
same from them.

Before the first step the processes compare what they were given. From then on each is told when
another is lost (:mod:`isample.support.watch`). Trainer then raises LostProcessError within ten
seconds, and so does a loop within ``engine.together()``. In another loop torch's all-reduce of the
gradients may raise torch's RuntimeError instead; the reason stands on standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from isample.support.alike import unlike, version
from isample.support.describe import described, told
from isample.support.errors import ProcessesError, UnevenProcessesError
from isample.support.random_state import seed_or_drawn
from isample.support.readback import on_device, packed, read_late
from isample.support.watch import Run, Watch, watch_of

Step = TypeVar("Step")

WIDTH = 96  # numbers of an all-reduce, whatever a step tells: gloo ends a process that sends fewer
PRIME = 4093  # rests of signs by it, whose squares float64 adds without rounding
SIGNS = ("epoch", "candidates", "samples", "scored")  # what must be alike in a step


class Processes:
    """A process ``group``: ``count`` of them, this one being the ``rank``-th from 0; None is this
    process alone. All of them must take the same steps.

    ``given`` are the arguments that must be alike, by name, in words.
    """

    def __init__(self, group: distributed.ProcessGroup | None = None):
        self.group = group
        self.count: int = 1 if group is None else distributed.get_world_size(group)
        self.rank: int = 0 if group is None else distributed.get_rank(group)
        self.given: dict[str, str] = {"isample's version": version()} if self.count > 1 else {}
        self._agreed = 0  # how often the processes have compared what they were given
        self._watch: Watch | None = None
        self._run: Run | None = None

    @classmethod
    def of_model(cls, model: nn.Module) -> Processes:
        """Those of a model in DistributedDataParallel; any other is trained by one."""
        is_wrapped = isinstance(model, DistributedDataParallel)
        return cls(model.process_group if is_wrapped else None)

    @classmethod
    def running(cls) -> Processes:
        """Those of torch's default process group, where there is one."""
        ready = distributed.is_available() and distributed.is_initialized()
        return cls(distributed.group.WORLD if ready else None)

    def seed(self, seed: int | None) -> int | None:
        """Each process's own, so that no two draw the same where they share the data."""
        if self.count == 1:
            return seed
        self.note(seed="None" if seed is None else "an integer")
        return seed_or_drawn(seed) + self.rank

    # ---- Before the first step ----------------------------------------------------------------

    def note(self, **given: Any) -> None:
        """Arguments by name that must be alike in all processes."""
        if self.count > 1:
            self.given.update({name: told(described(value)) for name, value in given.items()})

    @contextmanager
    def opening(self, **given: Any) -> Iterator[None]:
        """Around what ends in :meth:`agree`: where it raises first, the others do not wait.
        ``given`` as for :meth:`note`."""
        self.note(**given)
        before = self._agreed
        try:
            yield
        except Exception as error:
            if self.count > 1 and self._agreed == before:
                self._compare(f"{type(error).__name__}: {error}")
            raise

    def agree(self) -> None:
        """Compares what all processes were given, and begins to look after them.

        Raises ValueError, in all of them, where it is not alike.
        """
        if self.count == 1:
            return
        message = self._compare(None)
        if message is not None:
            raise ValueError(message)
        if self._run is not None and self._watch is not None:
            self._watch.leave(self._run)
        self._watch = watch_of(self._group)
        self._run = self._watch.open()

    def _compare(self, refused: str | None) -> str | None:
        self._agreed += 1
        if self._watch is not None and self._watch.lost is not None:
            raise self._watch.lost
        given, errors = zip(*self._gather((self.given, refused)))
        return unlike(given, errors)

    @property
    def _group(self) -> distributed.ProcessGroup:
        assert self.group is not None
        return self.group

    def _gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.count
        with self.explained():
            distributed.all_gather_object(values, value, group=self.group)
        return values

    # ---- While they train -----------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Raises LostProcessError where another process cannot take part."""
        if self._watch is not None and self._run is not None:
            self._watch.begin(self._run)

    @property
    def epoch(self) -> int:
        """The present one of this run."""
        return 0 if self._run is None else self._run.epoch

    def counted(self, dealt: Iterator[Step]) -> Iterator[Step]:
        """``dealt`` of an epoch, each a step of which the others are told."""
        return dealt if self._run is None else self._counted(dealt, self._run)

    def _counted(self, dealt: Iterator[Step], run: Run) -> Iterator[Step]:
        for step in dealt:
            run.steps += 1
            yield step
            del step  # no frame holds a batch that was trained on

    def end_epoch(self, waits: bool) -> None:
        """No more steps of it here; ``waits`` until the others have come as far.

        Raises UnevenProcessesError where they go on.
        """
        if self._watch is not None and self._run is not None:
            self._watch.leave(self._run)
            if waits:
                self._watch.wait(self._run)

    def leave(self, error: BaseException) -> None:
        """No more steps of the epoch here because of ``error``, of which the others are told."""
        if self._watch is None or self._run is None:
            return
        if isinstance(error, ProcessesError):  # of which they know
            self._run.is_open = False
            return
        if not isinstance(error, GeneratorExit):
            self._watch.tell_raised(self._run, error)
        self._watch.leave(self._run)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """An error of torch's is raised as LostProcessError or UnevenProcessesError where another
        process is the cause; ProcessesError as it is."""
        try:
            yield
        except RuntimeError as error:
            is_torch = type(error) is RuntimeError or isinstance(error, distributed.DistError)
            if self._watch is None or self._run is None or not is_torch:
                raise
            why = self._watch.explain(self._run)
            if why is None:
                raise
            raise why from error

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around training: the others are told of an error that leaves it."""
        try:
            with self.explained():
                yield
        except BaseException as error:
            self.leave(error)
            raise

    def guarded(self, steps: Iterator[Step]) -> Iterator[Step]:
        """``steps`` of training, each within :meth:`together` where there are others."""
        return steps if self.count == 1 else self._guarded(steps)

    def _guarded(self, steps: Iterator[Step]) -> Iterator[Step]:
        with self.together():
            yield from steps

    def read_late(
        self,
        values: list[Tensor],
        device: torch.device,
        signs: tuple[int, ...] = (),
        numbers: tuple[float, ...] = (),
    ) -> Callable[[], list[float]]:
        """:func:`isample.support.readback.read_late` of the means over all processes, those of
        ``numbers`` of the host behind those of ``values``.

        ``signs`` are those of ``SIGNS``: where they are not alike, reading raises
        UnevenProcessesError in all processes.
        """
        if self.count == 1:
            return read_late(values, device)
        length = sum(value.numel() for value in values) + len(numbers)
        rests = [sign % PRIME for sign in signs]
        beside = [*rests, *(rest * rest for rest in rests)]
        filling = [0.0] * (WIDTH - length - len(beside))
        joined = packed([*values, on_device([*numbers, *beside, *filling], device)], device)
        with self.explained():
            distributed.all_reduce(joined, group=self.group)
        read = read_late([joined], device)

        def read_alike() -> list[float]:
            numbers = read()
            sums = numbers[length : length + len(signs)]
            squares = numbers[length + len(signs) : length + len(beside)]
            # Equal only where all rests are: the mean of squares is the square of the mean.
            if any(self.count * square != one * one for one, square in zip(sums, squares)):
                raise self._uneven(signs)
            return [number / self.count for number in numbers[:length]]

        return read_alike

    def _uneven(self, signs: tuple[int, ...]) -> UnevenProcessesError:
        of_all = self._gather(signs)
        told = [
            f"process {rank} has "
            + ", ".join(f"{name} {sign}" for name, sign in zip(SIGNS, of_one))
            for rank, of_one in enumerate(of_all)
        ]
        return UnevenProcessesError("; ".join(told))


def unwrapped(model: nn.Module) -> nn.Module:
    """The model within DistributedDataParallel, for a pass that trains nothing."""
    return model.module if isinstance(model, DistributedDataParallel) else model

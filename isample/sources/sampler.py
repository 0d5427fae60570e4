"""The batch sampler of a memory: it deals shuffled passes, or draws by remembered scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from isample.sources.arguments import check_memory, check_size
from isample.sources.memory import ScoreMemory, rebuild_interval
from isample.sources.order import Drawn, Indices, Passes, Pending, as_pending, epoch_length, joined
from isample.sources.upgrade import upgraded
from isample.support.pytree import map_tensors
from isample.support.random_state import restore_generator, seed_or_drawn
from isample.support.readback import BlockReader
from isample.support.states import load_whole
from isample.values import Plan

AVERAGED = 6  # scores of a sample, about, in the mean that is remembered


class MemorySampler(Sampler[list[int]]):
    """Draws batches of indices over a data set of ``size`` samples; a ``batch_sampler`` for a
    DataLoader.

        sampler = isample.MemorySampler(len(dataset), batch_size=128)
        loader = DataLoader(dataset_with_indices, batch_sampler=sampler, num_workers=4)
        for inputs, targets, indices in loader:
            weights = sampler.take(indices).weights
            logits = model(inputs)
            (weights * F.cross_entropy(logits, targets, reduction="none")).mean().backward()
            sampler.update(indices, isample.softmax_score(logits.detach(), targets)[0])

    An epoch is ceil(N / b) batches, or floor(N / b) with ``drop_last``. The first
    ``uniform_epochs`` deal shuffled passes over the data, with weights of 1. So does every batch
    whose plan asks for no importance. The others are stratified draws in proportion to the
    remembered scores; a sample that was never seen counts as an average one.

    Parameters
    ----------
    size, batch_size: N, from 1 to 2^32 samples, and b.
    drop_last: whether a shuffled pass leaves out its last, short batch, as a DataLoader does.
    floor: least share of the uniform distribution mixed in, in (0, 1].
    uniform_epochs: epochs before the first importance-sampled batch, > 0; not necessarily whole.
    half_life: in epochs; a score that is not renewed comes half way back to the mean in this time.
        By default none does: the memory measures what an old score foretells.
    contradicted: score above which the network contradicts a sample's label. All such samples
        together get a quarter of the draws at most, or their share of the data if that is more. See
        :mod:`isample.scoring.contradicted`. None, the default, sets no bound.
    rebuild_every: batches between two renewals of the table; N / 64b by default.
    seed: of the draws; by default taken from torch's generator.
    device: where scores, draws and weights live. On a GPU nothing waits for the host but a pass's
        begin and, once for all batches drawn together, ``__iter__``: it yields Python integers.

    It keeps 12 bytes a sample: a float32 score and an int64 prefix sum. On a GPU, a new table takes
    20 bytes a sample more for a while.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        drop_last: bool = False,
        floor: float = 0.2,
        uniform_epochs: float = 1.0,
        half_life: float = math.inf,
        contradicted: float | None = None,
        rebuild_every: int | None = None,
        seed: int | None = None,
        device: torch.device | str = "cpu",
    ):
        check_memory(
            size, batch_size, floor, uniform_epochs, half_life, contradicted, rebuild_every
        )
        self.drop_last: bool = drop_last
        self._rebuild_every = rebuild_every
        self.generator: torch.Generator = torch.Generator(device)
        self.generator.manual_seed(seed_or_drawn(seed))
        self.epoch: int = 0  # whole ones
        self.num_batches: int = 0  # of batch_size, that were drawn
        self.plan: Plan = Plan(importance=True)
        self._passes = Passes(size, batch_size, drop_last, self.generator)
        self.memory: ScoreMemory = ScoreMemory(
            size,
            self.generator,
            floor=floor,
            contradicted=contradicted,
            half_life=half_life * len(self),
            rebuild_every=self.rebuild_every,
        )
        self._pending, self._reader = Pending(), BlockReader()
        self._uniform_batches = math.ceil(uniform_epochs * len(self))
        self._left = len(self)  # batches that this epoch still has to draw

    @property
    def size(self) -> int:
        return self._passes.size

    @property
    def score(self) -> Tensor:
        """The remembered scores, float32 [N]; below 0 where a sample was never seen."""
        return self.memory.score

    @property
    def batch_size(self) -> int:
        return self._passes.batch_size

    @property
    def rebuild_every(self) -> int:
        return rebuild_interval(self.size, self.batch_size, self._rebuild_every)

    @property
    def rate(self) -> float:
        """The weight of a fresh score in the remembered mean: 1 / (n + 1) after n passes over the
        data, from 1 / 2 down to 1 / AVERAGED."""
        return 1.0 / min(1.0 + max(1.0, self.num_batches / len(self)), AVERAGED)

    @property
    def tau(self) -> Tensor:
        """tau of the table in use, float32 0-dim: 1 before there is one."""
        return self.memory.tau

    @property
    def bounded(self) -> Tensor:
        """1, float32 0-dim, where draws of contradicted samples are held down; else 0."""
        return self.memory.bounded

    def __len__(self) -> int:
        return epoch_length(self.size, self.batch_size, self.drop_last)

    @property
    def at_end(self) -> bool:
        """Whether the present epoch has nothing left to draw, and every batch of it was taken."""
        return self._left == 0 and not self._pending

    def follow(self, plan: Plan) -> None:
        """What the next batches are to be: dealt or drawn, how many samples, how flat."""
        self.plan = plan

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one epoch, or the rest of one: first those that were never taken."""
        pending = self._pending.again()
        yield from pending
        for batch in self._rest(bool(pending)):
            indices = self._reader.on_host(batch.indices).tolist()
            self._pending.add(indices, batch)
            yield indices

    def taken(self) -> Iterator[Drawn]:
        """Those of :meth:`__iter__`, each taken before the next, where weights None are ones."""
        pending = bool(self._pending)
        while self._pending:
            yield self._pending.pop()
        yield from self._rest(pending)

    def _rest(self, pending: bool) -> Iterator[Drawn]:
        """What the epoch has still to draw behind ``pending`` batches, or a new one."""
        if self._left == 0 and pending:
            return  # they were the epoch's last
        if self._left == 0:
            self.epoch, self._left = self.epoch + 1, len(self)
        while self._left > 0:
            yield self._next()

    def draw(self) -> Drawn:
        """The next batch, on the sampler's device."""
        return self._next().with_weights()

    def take(self, indices: Indices) -> Drawn:
        """The batch that :meth:`__iter__` drew longest ago, with its weights.

        Raises MemoryOrderError where ``indices``, int64 [b], are not its own.
        """
        return self.match(indices).with_weights()

    def match(self, indices: Indices) -> Drawn:
        """:meth:`take`, but a dealt batch's weights are None in place of ones."""
        return self._pending.match(indices)

    @property
    def informed(self) -> bool:
        """True once a whole epoch was drawn, so that every sample has a score."""
        return self.num_batches > len(self)

    def recall(self, score: Tensor, indices: Tensor, weights: Tensor | None = None) -> Tensor:
        """:meth:`update` with the fresh scores, float32 [b], of a batch that was drawn with
        ``weights``, or dealt (None). Returns what they tell of the draws, see
        :func:`isample.ops.memory.recall`."""
        gain_cap = self.plan.gain_cap if self.informed else None
        return self.memory.recall(score, indices, weights, rate=self.rate, gain_cap=gain_cap)

    def implied_weights(self, indices: Tensor) -> Tensor:
        """The weights, float32 [b], that the table would give samples; 1 before it is informed."""
        if self.informed:
            return self.memory.implied_weights(indices, self.plan.gain_cap)
        return torch.ones(indices.shape, dtype=torch.float32, device=self.score.device)

    def update(self, indices: Tensor, score: Tensor) -> None:
        """Remembers fresh scores, float32 [b], of the samples ``indices``, int64 [b]."""
        if score.shape != indices.shape:
            raise ValueError(
                f"score must have the shape of indices, {tuple(indices.shape)}; got "
                f"{tuple(score.shape)}"
            )
        self.memory.update(score, indices, rate=self.rate)

    def by_group(self, groups: Tensor) -> tuple[Tensor, Tensor]:
        """Shows where the training goes, by group of samples, such as a class.

        ``groups`` is int64 [N] in [0, G); raises ValueError for another shape or dtype. Returns
        the mean remembered score, float32 [G], NaN where no sample was seen. Returns also the share
        of the draws, float32 [G].
        """
        if groups.shape != self.score.shape or groups.dtype != torch.int64:
            raise ValueError(
                f"groups must be int64 [{self.size}]; got {groups.dtype} {list(groups.shape)}"
            )
        return self.memory.by_group(groups, self.plan.gain_cap)

    def resize(self, size: int, batch_size: int | None = None) -> None:
        """The data set has grown to ``size`` samples; ``batch_size`` None leaves that as it is."""
        check_size(size, least=self.size)
        self._passes.resize(size, batch_size or self.batch_size, self.drop_last)
        self.memory.grow(size, self.rebuild_every)
        self._left = self._left if self.num_batches else len(self)

    def deal_in(self, order: Callable[[], Tensor] | None) -> None:
        """Passes have the order that ``order()`` gives, int32 [N]; None: one of the sampler's."""
        self._passes.order = order

    def restart(self) -> None:
        """The next epoch begins anew; what is left of this one is not drawn."""
        self._left = 0
        self._pending = Pending()
        self._passes.forget()

    def state_dict(self, waiting: Sequence[Drawn] = ()) -> dict[str, Any]:
        """All of it, as plain types; ``waiting`` batches, and prefetched ones, come again."""
        state = {
            "size": self.size,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
            "rebuild_every": self._rebuild_every,
            "epoch": self.epoch,
            "num_batches": self.num_batches,
            "plan": asdict(self.plan),
            "uniform_batches": self._uniform_batches,
            "left": self._left,
            "passes": self._passes.state_dict(),
            "memory": self.memory.state_dict(),
            "pending": [*map(as_pending, waiting), *self._pending.state()],
            "generator": self.generator.get_state(),
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave, here or in version 0.1, which was of a device of
        this sampler's kind. Raises TypeError or StateError for what is no such state."""
        load_whole(self._load, upgraded(state), self.state_dict(), "memory")

    def _load(self, state: dict[str, Any]) -> None:
        restore_generator(self.generator, state["generator"])
        state = map_tensors(lambda tensor: tensor.to(self.score.device, copy=True), state)
        self.drop_last, self._rebuild_every = state["drop_last"], state["rebuild_every"]
        self._passes.resize(state["size"], state["batch_size"], self.drop_last)
        self._passes.load_state_dict(state["passes"])
        self.memory.load_state_dict(state["memory"])
        self.epoch, self.num_batches = state["epoch"], state["num_batches"]
        self.plan = Plan(**state["plan"])
        self._uniform_batches, self._left = state["uniform_batches"], state["left"]
        self._pending.load(state["pending"])

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> MemorySampler:
        """A sampler as it was when :meth:`state_dict` was taken."""
        state = upgraded(state)
        sampler = cls(state["size"], state["batch_size"], seed=0, device=device)
        sampler.load_state_dict(state)
        return sampler

    def _next(self) -> Drawn:
        """The next batch, drawn by importance or dealt from a shuffled pass."""
        if self._left == 0:
            self.epoch, self._left = self.epoch + 1, len(self)
        self._left -= 1
        plan = self.plan
        batches = -(-plan.candidates // self.batch_size) if plan.candidates else 1
        self.num_batches += batches
        if not plan.importance or self.num_batches <= self._uniform_batches:
            return Drawn(joined([self._passes.deal() for _ in range(batches)]), None)
        self._passes.forget()
        draws = plan.candidates or min(plan.keep or self.batch_size, self.batch_size)
        return Drawn(*self.memory.next_batch(draws, plan.gain_cap))

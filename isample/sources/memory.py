"""Importance sampling without a scoring pass: one remembered score a sample of the data set (beyond
the paper).

Every training forward pass shows the scores of its batch for free. Kept, they give a distribution
over the whole data set from which the next batches are drawn,

    p_i = (1 - floor) e_i / sum(e) + floor / N        weight 1 / (N p_i)

What is remembered is the geometric mean of a sample's last few scores: these go up and down by
chance, with the augmentation and the last few updates, and part of that averages out. e_i is what
the remembered score still foretells, see :mod:`isample.sources.calibration`. Stale scores cost
variance, never bias: the weight is that of the p which stood when the sample was drawn. The floor
bounds weights by 1 / floor, and sees to it that no sample is forgotten. More is mixed in where less
noise than that would be of no use, see :func:`isample.control.rates.evened_out`.
"""

from __future__ import annotations

import copy
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Union

import torch
from torch.utils.data import Sampler

from isample.control.rates import evened_out
from isample.ops import PrefixSum, draw, prefix_sum
from isample.ops.memory import draw_weights, recall, remember
from isample.sources.calibration import Calibration
from isample.support.errors import IsampleError
from isample.support.pytree import map_tensors

NEVER_SEEN = -1.0  # in place of a score
AVERAGED = 6  # scores of a sample, about, that what is remembered is the mean of
LARGEST = 2**24  # samples, the ops' limit
AHEAD = (
    64  # batches, at most, that are dealt or drawn at once: one at a time costs a small step dear
)

Indices = Union[torch.Tensor, "list[int]"]

_STATE = (
    "batch_size",
    "drop_last",
    "floor",
    "half_life",
    "contradicted",
    "score",
    "active",
    "epoch",
    "drawn",
    "draw_size",
    "presample",
    "usable",
    "draw_seconds",
    "rebuild_seconds",
    "_rebuild_every",
    "bounded",
    "_uniform_batches",
    "_left",
    "_order",
    "_dealt",
    "_drawn",
    "_table",
    "_table_age",
    "_pending",
)


class MemoryOrderError(IsampleError, RuntimeError):
    """A batch came back that is not the one the sampler drew next, so its weights are unknown."""


class Drawn(NamedTuple):
    """A batch: ``indices`` int64 [b] in the data set, ``weights`` float32 [b], and whether
    importance chose it."""

    indices: torch.Tensor
    weights: torch.Tensor | None
    active: bool

    def with_weights(self) -> Drawn:
        return (
            self
            if self.active
            else self._replace(weights=torch.ones(self.indices.shape, device=self.indices.device))
        )


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

    An epoch is ceil(N / b) batches, or floor(N / b) with ``drop_last``. Those of the first
    ``uniform_epochs`` are dealt from shuffled passes over the data with weights of 1, as are all
    while ``active`` is False; the others are stratified draws in proportion to the remembered
    scores, a sample that was never seen counting as an average one.

    Parameters
    ----------
    size: N, from 1 to 2^24 samples.
    batch_size: b.
    drop_last: whether what is left over of a shuffled pass after its last whole batch is left out,
    as a DataLoader's is.
    floor: least share of the uniform distribution mixed in, in (0, 1].
    uniform_epochs: epochs before the first importance-sampled batch, > 0; not necessarily a whole
    number.
    half_life: in epochs; a score that is not renewed comes half way back to the mean in this time.
        By default none does: what an old score is worth is measured, see
        :mod:`isample.sources.calibration`, and fading blurs that.
    contradicted: score above which the network contradicts a sample's label; all such samples
        together get a quarter of the draws at most, or their share of the data if that is more. See
        :mod:`isample.scoring.contradicted`. By default none is.
    rebuild_every: batches between two renewals of the table. By default N / 64b, at which about a
        64th of the scores are new. ``rebuild_seconds`` measures the cost.
    seed: of the draws; by default taken from torch's generator.
    device: where scores, draws and weights live. On a GPU nothing waits for the host but
        ``__iter__``, whose indices are Python integers; :meth:`draw` gives them on the device.

    ``usable``, a number >= 1, infinite at first, is how many uniform batches a batch need be worth:
    draws are evened out while it is. The Trainer sets it to what the learning rate has a use for.

    It keeps 16 bytes a sample at most: a float32 score, an int64 prefix sum and, while it deals, an
    int32 order.
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
        for name, value in (("size", size), ("batch_size", batch_size)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
        _check_size(size)
        if not uniform_epochs > 0:
            raise ValueError(f"uniform_epochs must be > 0; got {uniform_epochs}")
        if batch_size > size:
            raise ValueError(
                f"batch_size must be <= size, the data set's length {size}; got {batch_size}"
            )
        if not 0 < floor <= 1:
            raise ValueError(f"floor must be in (0, 1]; got {floor}")
        if not half_life > 0:
            raise ValueError(f"half_life must be > 0 epochs; got {half_life}")
        if contradicted is not None and not contradicted > 0:
            raise ValueError(f"contradicted must be > 0; got {contradicted}")
        if rebuild_every is not None and (not isinstance(rebuild_every, int) or rebuild_every < 1):
            raise ValueError(f"rebuild_every must be an integer >= 1; got {rebuild_every!r}")
        self.batch_size, self.drop_last, self.floor = batch_size, drop_last, floor
        self.half_life, self._rebuild_every = half_life, rebuild_every
        self.contradicted = contradicted
        self.generator = torch.Generator(device)
        self.generator.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)
        self.score = torch.full((size,), NEVER_SEEN, device=device)
        self.active = True
        self.epoch, self.drawn = 0, 0  # whole epochs, batches of batch_size
        self.draw_size = (
            batch_size  # samples of the next batch that importance chooses, at most batch_size
        )
        self.presample: int | None = (
            None  # samples of the next batch alone, more than batch_size, to be drawn from again
        )
        self.usable = math.inf
        self._uniform_batches = math.ceil(uniform_epochs * len(self))
        self.draw_seconds = self.rebuild_seconds = (
            0.0  # all draws by importance, and the tables among them
        )
        self._left = len(self)  # batches that this epoch still has to draw
        self._order: torch.Tensor | None = None  # what a uniform epoch has still to deal
        self._dealt: list[torch.Tensor] = []  # what is cut off already, the next batch last
        self._table: PrefixSum | None = None
        self._drawn: list[
            tuple[torch.Tensor, torch.Tensor]
        ] = []  # indices and weights that this table gave, the next batch last
        self.bounded = torch.zeros(
            (), device=device
        )  # 1 where the table holds down the draws of contradicted samples
        self._table_age = 0
        self._pending: deque[tuple[Indices, Drawn]] = deque()
        self.calibration = Calibration(device)

    @property
    def size(self) -> int:
        return self.score.shape[0]

    @property
    def rebuild_every(self) -> int:
        return self._rebuild_every or max(1, self.size // (64 * self.batch_size))

    @property
    def rate(self) -> float:
        """What a fresh score counts for in the mean that is remembered: that of as many as samples
        were seen on the mean."""
        return 1.0 / min(1.0 + max(1.0, self.drawn / len(self)), AVERAGED)

    @property
    def tau(self) -> torch.Tensor:
        """tau of the table in use, float32 0-dim: 1 before there is one."""
        return torch.ones((), device=self.score.device) if self._table is None else self._table.tau

    def __len__(self) -> int:
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)

    @property
    def at_end(self) -> bool:
        """Whether the present epoch has nothing left to draw, and nothing drawn that is not
        taken."""
        return self._left == 0 and not self._pending

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of one epoch, or of what is left of one that was broken off; those that were
        drawn before and never asked back come first."""
        return self._batches(lambda batch: batch.indices.tolist())

    def on_device(self) -> Iterator[torch.Tensor]:
        """The batches of :meth:`__iter__` as int64 [b] on the sampler's device."""
        return self._batches(lambda batch: batch.indices)

    def _batches(self, form: Callable[[Drawn], Indices]) -> Iterator[Indices]:
        self._pending = deque((form(batch), batch) for _, batch in self._pending)
        pending = list(self._pending)
        for indices, _ in pending:
            yield indices
        if self._left == 0 and pending:
            return  # they were the epoch's last
        if self._left == 0:
            self.epoch, self._left = self.epoch + 1, len(self)
        while self._left > 0:
            batch = self._next()
            indices = form(batch)
            self._pending.append((indices, batch))
            yield indices

    def draw(self) -> Drawn:
        """The next batch, on the sampler's device."""
        return self._next().with_weights()

    def take(self, indices: Indices) -> Drawn:
        """The batch that :meth:`__iter__` drew longest ago, with its weights; ``indices``, int64
        [b], must be its indices.

        Raises MemoryOrderError where they are not: something between the sampler and the model
        reorders.
        """
        return self.match(indices).with_weights()

    def match(self, indices: Indices) -> Drawn:
        """:meth:`take`, without the trouble of making a uniform batch's weights of 1: they are
        None."""
        if not self._pending:
            raise MemoryOrderError(
                "indices must be those of a batch of this sampler; got a batch when none is expected"
            )
        expected, drawn = self._pending[0]
        if expected is not indices and _listed(expected) != _listed(indices):
            raise MemoryOrderError(
                "indices must come in the order in which the sampler drew them; got another batch "
                "(build the DataLoader with batch_sampler=sampler, and shuffle nothing behind it)"
            )
        self._pending.popleft()
        return drawn

    @property
    def tells(self) -> bool:
        """Whether enough was drawn to foretell anything: a whole epoch."""
        return self.drawn > len(self)

    def recall(self, score: torch.Tensor, drawn: Drawn) -> torch.Tensor:
        """:meth:`update` with the fresh scores, float32 [b], of a batch that was drawn; what they
        tell of the draws, see :func:`isample.ops.memory.draw_moments`."""
        table = self._current_table() if self.tells and not drawn.active else None
        weights = drawn.weights if drawn.active else None
        moments = recall(
            self.score,
            self.calibration.met,
            score,
            drawn.indices,
            weights=weights,
            table=table,
            rate=self.rate,
        )
        self.calibration.batches += 1
        self._learn()
        return moments

    def implied_weights(self, indices: torch.Tensor) -> torch.Tensor:
        """The weights, float32 [b], that samples would have if they were drawn from the table; 1
        before it :attr:`tells` anything."""
        indices = indices.to(self.score.device)
        if not self.tells:
            return torch.ones(indices.shape, device=self.score.device)
        return draw_weights(self._current_table(), indices)

    def update(self, indices: torch.Tensor, score: torch.Tensor) -> None:
        """Remembers fresh scores, float32 [b], of the samples ``indices``, int64 [b]."""
        if score.shape != indices.shape:
            raise ValueError(
                f"score must have the shape of indices, {tuple(indices.shape)}; got {tuple(score.shape)}"
            )
        indices, fresh = indices.to(self.score.device), score.detach().to(self.score)
        self.calibration.meet(remember(self.score, indices, fresh, rate=self.rate), fresh)
        self._learn()

    def _learn(self) -> None:
        if self.calibration.batches >= self.rebuild_every:
            self.calibration.learn()

    def by_group(self, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the training goes: of each group of samples, such as a class, the mean remembered
        score, NaN where none was seen, and the share of the draws, both float32 [G]; ``groups``
        int64 [N] in [0, G)."""
        if groups.shape != self.score.shape or groups.dtype != torch.int64:
            raise ValueError(
                f"groups must be int64 [{self.size}]; got {groups.dtype} {list(groups.shape)}"
            )
        groups = groups.to(self.score.device)
        seen = (self.score >= 0).float()
        ends = (self._table or self._current_table()).sums  # looking does not age the table in use
        mass = ends.diff(prepend=ends.new_zeros(1))
        sums = torch.zeros(int(groups.max()) + 1, 3, dtype=torch.float64, device=groups.device)
        sums.index_put_(
            (groups,), torch.stack([self.score * seen, seen, mass], dim=1).double(), accumulate=True
        )
        return (sums[:, 0] / sums[:, 1]).float(), (sums[:, 2] / sums[:, 2].sum()).float()

    def resize(self, size: int) -> None:
        """The data set has grown to ``size`` samples."""
        if size < self.size:
            raise ValueError(f"size must be at least the present {self.size}; got {size}")
        _check_size(size)
        self.score = torch.cat([self.score, self.score.new_full((size - self.size,), NEVER_SEEN)])
        self._table = self._order = None
        self._dealt, self._drawn = [], []

    def state_dict(self) -> dict[str, Any]:
        """All of it, the batches that a DataLoader has drawn ahead included."""
        state = {name: getattr(self, name) for name in _STATE}
        state["generator"] = self.generator.get_state()
        state["calibration"] = vars(self.calibration)
        # As plain types, which torch.load takes without being told to trust the file.
        state["_pending"] = [(indices, tuple(drawn)) for indices, drawn in self._pending]
        state["_table"] = None if self._table is None else tuple(self._table)
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave, which was of a device of this sampler's kind."""

        def own(value: Any) -> Any:
            return map_tensors(lambda tensor: tensor.to(self.score.device, copy=True), value)

        for name in _STATE:
            setattr(self, name, own(state[name]))
        self._pending = deque((indices, Drawn(*drawn)) for indices, drawn in self._pending)
        self._table = None if self._table is None else PrefixSum(*self._table)
        self.generator.set_state(state["generator"].cpu())
        vars(self.calibration).update(own(dict(state["calibration"])))

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device | str = "cpu") -> MemorySampler:
        """A sampler as it was when :meth:`state_dict` was taken."""
        sampler = cls(len(state["score"]), state["batch_size"], seed=0, device=device)
        sampler.load_state_dict(state)
        return sampler

    def _next(self) -> Drawn:
        """The next batch, drawn by importance or dealt from a shuffled pass."""
        if self._left == 0:
            self.epoch, self._left = self.epoch + 1, len(self)
        self._left -= 1
        size = max(self.presample or 0, self.draw_size)
        batches, self.presample = max(1, -(-size // self.batch_size)), None
        self.drawn += batches
        if not self.active or self.drawn <= self._uniform_batches:
            dealt = [self._deal() for _ in range(batches)]
            return Drawn(dealt[0] if batches == 1 else torch.cat(dealt), None, active=False)
        self._order, self._dealt = None, []
        if not self._drawn or len(self._drawn[-1][0]) != size:
            begin = time.perf_counter()
            self._drawn = self._draw_ahead(size)
            self.draw_seconds += time.perf_counter() - begin
        return Drawn(*self._drawn.pop(), active=True)

    def _draw_ahead(self, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The batches of ``size`` that the table still serves, each stratified: of every stratum's
        part for each batch, which gets which is drawn at random. What they hold between them is
        spread as evenly."""
        self._table_age -= len(self._drawn)  # they are of another size, and nobody takes them
        table = self._current_table()
        batches = min(max(1, self.rebuild_every - self._table_age + 1), AHEAD)
        self._table_age += batches - 1
        drawn = draw(table, batches * size, method="stratified", generator=self.generator)
        turns = torch.rand(
            size, batches, generator=self.generator, device=self.score.device
        ).argsort(dim=1)
        return list(
            zip(
                *(
                    part.view(size, batches).gather(1, turns).t().contiguous().unbind()
                    for part in drawn
                )
            )
        )

    def _deal(self) -> torch.Tensor:
        if not self._dealt:
            if self._order is None or len(self._order) < (self.batch_size if self.drop_last else 1):
                options = {"dtype": torch.int32, "device": self.score.device}  # N <= 2^24
                self._order = torch.randperm(self.size, generator=self.generator, **options)
            ahead = AHEAD * self.batch_size
            block, self._order = self._order[:ahead].long(), self._order[ahead:]
            batches = block.split(self.batch_size)
            short = len(batches[-1]) < self.batch_size
            self._dealt = list(reversed(batches[:-1] if short and self.drop_last else batches))
        return self._dealt.pop()

    def _current_table(self) -> PrefixSum:
        if self._table is None or self._table_age >= self.rebuild_every:
            begin = time.perf_counter()
            expected, self.bounded = self._expected()
            self._table = prefix_sum(
                evened_out(expected, self.usable, self.floor), floor=self.floor
            )
            self._table_age, self._drawn = 0, []
            self.rebuild_seconds += time.perf_counter() - begin
        self._table_age += 1
        return self._table

    def _expected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What each remembered score foretells, see
        :meth:`isample.sources.calibration.Calibration.expected`, an unseen sample counting as an
        average one."""
        if math.isfinite(self.half_life):
            self._fade()
        return self.calibration.expected(self.score, self.contradicted)

    def _fade(self) -> None:
        """All scores come nearer to their mean, by the time that went by since the last table."""
        seen = self.score >= 0
        mean = self.score.clamp(min=0).sum() / seen.sum().clamp(min=1)
        faded = torch.lerp(
            mean, self.score, 0.5 ** (self._table_age / (self.half_life * len(self)))
        )
        torch.where(seen, faded, self.score, out=self.score)


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"size must be at most 2^24 = {LARGEST:,}; got {size:,}")


def _listed(indices: Indices) -> list[int]:
    return indices.tolist() if isinstance(indices, torch.Tensor) else indices

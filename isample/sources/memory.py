"""Importance sampling without a scoring pass: one remembered score a sample (beyond the paper).

Every training pass shows the scores of its batch. The memory keeps them, and draws the next batches
from the whole data set by


    p_i = (1 - floor) e_i / sum(e) + floor / N        weight 1 / (N p_i)

The memory keeps the geometric mean of a sample's last few scores. These go up and down by chance,
with the augmentation and the last few updates, and part of that averages out. e_i is what the
remembered score still foretells, see :mod:`isample.sources.calibration`.

Old scores cost variance, never bias: the weight belongs to the p of the draw. The floor bounds
weights by 1 / floor, so no sample is forgotten. :func:`isample.ops.memory.expected_scores` mixes in
more of the uniform distribution where less noise is of no use.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from isample.ops.draws import draw
from isample.ops.memory import draw_weights, recall, remember
from isample.ops.tables import PrefixSum, prefix_sum
from isample.sources.calibration import Calibration
from isample.sources.order import BATCHES_AT_ONCE

NEVER_SEEN = -1.0  # in place of a score
AT_ONCE = 2**18  # scores, where something is computed from them that needs memory


def rebuild_interval(size: int, batch_size: int, given: int | None) -> int:
    """Batches between two renewals of the table: those ``given``, or as many as renew about a 64th
    of ``size`` scores."""
    return given or max(1, size // (64 * batch_size))


class ScoreMemory:
    """One score a sample, and the table of what these foretell, from which batches are drawn.

    Args:
        size: N samples.
        floor, contradicted, half_life: as :class:`isample.MemorySampler` has them, the last one in
            batches.
        rebuild_every: batches between two renewals of the table.
        generator: of the draws; scores live on its device.

    Attributes:
        score: float32 [N]; below 0 where a sample was never seen.
        bounded: float32 0-dim, 1 where the table holds down draws of contradicted samples.
        draw_seconds, rebuild_seconds: the host's time in all draws, and in the tables among them.
    """

    def __init__(
        self,
        size: int,
        generator: torch.Generator,
        *,
        floor: float,
        contradicted: float | None,
        half_life: float,
        rebuild_every: int,
    ):
        self.floor: float = floor
        self.contradicted: float | None = contradicted
        self.half_life: float = half_life
        self.rebuild_every: int = rebuild_every
        self.generator: torch.Generator = generator
        device = generator.device
        self.score: Tensor = torch.full((size,), NEVER_SEEN, dtype=torch.float32, device=device)
        self.calibration: Calibration = Calibration(device)
        self.bounded: Tensor = torch.zeros((), dtype=torch.float32, device=device)
        self.draw_seconds: float = 0.0
        self.rebuild_seconds: float = 0.0
        self._no_tau = torch.ones((), dtype=torch.float32, device=device)
        self._table: PrefixSum | None = None
        self._age = 0  # batches that were drawn from it
        self._drawn: list[tuple[Tensor, Tensor]] = []  # indices and weights, the next batch last

    @property
    def tau(self) -> Tensor:
        """Of the table in use, float32 0-dim: 1 before there is one."""
        made = self._table
        return self._no_tau if made is None else made.tau

    def recall(
        self,
        score: Tensor,
        indices: Tensor,
        weights: Tensor | None,
        *,
        rate: float,
        gain_cap: float | None,
    ) -> Tensor:
        """Remembers the fresh scores of a batch that was drawn with ``weights``, or dealt (None).

        ``gain_cap`` None: there is no table yet that could give a dealt batch its weights.
        """
        numbers = recall(
            self.score,
            self.calibration.met,
            score,
            indices,
            weights=weights,
            table=None if weights is not None or gain_cap is None else self.current(gain_cap),
            rate=rate,
        )
        self.calibration.batches += 1
        self._learn()
        return numbers

    def update(self, score: Tensor, indices: Tensor, *, rate: float) -> None:
        """Remembers fresh scores, float32 [b], of the samples ``indices``, int64 [b]."""
        indices, fresh = indices.to(self.score.device), score.detach().to(self.score)
        self.calibration.meet(remember(self.score, indices, fresh, rate=rate), fresh)
        self._learn()

    def _learn(self) -> None:
        if self.calibration.batches >= self.rebuild_every:
            self.calibration.learn()

    def implied_weights(self, indices: Tensor, gain_cap: float) -> Tensor:
        """The weights, float32 [b], that samples would have if the table gave them."""
        return draw_weights(self.current(gain_cap), indices.to(self.score.device))

    def next_batch(self, size: int, gain_cap: float) -> tuple[Tensor, Tensor]:
        """Indices int64 [size] and weights float32 [size] of one batch."""
        if not self._drawn or len(self._drawn[-1][0]) != size:
            begin = time.perf_counter()
            self._drawn = self._draw_at_once(size, gain_cap)
            self.draw_seconds += time.perf_counter() - begin
        return self._drawn.pop()

    def _draw_at_once(self, size: int, gain_cap: float) -> list[tuple[Tensor, Tensor]]:
        """The batches of ``size`` that the table still serves, each of them stratified.

        Chance decides which batch gets which part of a stratum. So each batch is spread evenly, and
        all of them together are.
        """
        self._age -= len(self._drawn)  # nobody takes these: they have another size
        table = self.current(gain_cap)
        batches = min(max(1, self.rebuild_every - self._age + 1), BATCHES_AT_ONCE)
        self._age += batches - 1
        drawn = draw(table, batches * size, method="stratified", generator=self.generator)
        turns = torch.rand(
            size,
            batches,
            dtype=torch.float32,
            generator=self.generator,
            device=self.score.device,
        )
        order = turns.argsort(dim=1).t()
        parts = (p.view(size, batches).t().gather(0, order).unbind() for p in drawn)
        return list(zip(*parts))

    def current(self, gain_cap: float) -> PrefixSum:
        """The table in use, one batch older; a new one where that is due."""
        if self._table is None or self._age >= self.rebuild_every:
            begin = time.perf_counter()
            self._table = None  # its memory is the next one's
            self._table = self._made(gain_cap)
            self._age, self._drawn = 0, []
            self.rebuild_seconds += time.perf_counter() - begin
        self._age += 1
        return self._table

    def _made(self, gain_cap: float) -> PrefixSum:
        if math.isfinite(self.half_life):
            self._fade()
        sums = torch.empty(self.score.shape, dtype=torch.int64, device=self.score.device)
        upper = sums.view(torch.float32)[len(sums) :]  # all that a table is made of stands here
        expected, self.bounded = self.calibration.expected(
            self.score, self.contradicted, gain_cap=gain_cap, floor=self.floor, into=upper
        )
        return prefix_sum(expected, floor=self.floor, into=sums)

    def _fade(self) -> None:
        """Brings all scores nearer to their mean, by the batches since the last table."""
        parts = self.score.split(AT_ONCE)
        # one memory for all parts: what is allocated for each is not given back at once
        seen, values = torch.empty_like(parts[0], dtype=torch.bool), torch.empty_like(parts[0])
        count, total = values.new_zeros((), dtype=torch.int64), values.new_zeros(())
        for part in parts:
            count += torch.ge(part, 0, out=seen[: len(part)]).sum()
            total += torch.clamp(part, min=0, out=values[: len(part)]).sum()
        mean = total / count.clamp(min=1)
        for part in parts:
            here, faded = seen[: len(part)], values[: len(part)]
            torch.lerp(mean, part, 0.5 ** (self._age / self.half_life), out=faded)
            torch.where(torch.ge(part, 0, out=here), faded, part, out=part)

    def by_group(self, groups: Tensor, gain_cap: float) -> tuple[Tensor, Tensor]:
        """Mean remembered score and share of the draws of each group, float32 [G]."""
        groups = groups.to(self.score.device)
        seen = (self.score >= 0).float()
        if self._table is None:
            self._table = self._made(gain_cap)  # looking does not age the table in use
        ends = self._table.sums
        mass = ends.diff(prepend=ends.new_zeros(1))
        columns = torch.stack([self.score * seen, seen, mass], dim=1).double()
        sums = columns.new_zeros(int(groups.max()) + 1, 3)
        sums.index_put_((groups,), columns, accumulate=True)
        scores, counts, masses = sums.unbind(1)
        return (scores / counts).float(), (masses / masses.sum()).float()

    def grow(self, size: int, rebuild_every: int) -> None:
        """There are ``size`` samples now; the new ones have no score yet."""
        self._table, self._drawn = None, []
        unseen = self.score.new_full((size - len(self.score),), NEVER_SEEN)
        self.score = torch.cat([self.score, unseen])
        self.rebuild_every = rebuild_every

    def state_dict(self) -> dict[str, Any]:
        return {
            "score": self.score,
            "calibration": dict(vars(self.calibration)),
            "floor": self.floor,
            "contradicted": self.contradicted,
            "half_life": self.half_life,
            "rebuild_every": self.rebuild_every,
            "bounded": self.bounded,
            "draw_seconds": self.draw_seconds,
            "rebuild_seconds": self.rebuild_seconds,
            "table": None if self._table is None else tuple(self._table),
            "age": self._age,
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self.calibration).update(state["calibration"])
        self.score, self.bounded = state["score"], state["bounded"]
        self.floor, self.contradicted = state["floor"], state["contradicted"]
        self.half_life, self.rebuild_every = state["half_life"], state["rebuild_every"]
        self.draw_seconds, self.rebuild_seconds = state["draw_seconds"], state["rebuild_seconds"]
        self._table = None if state["table"] is None else PrefixSum(*state["table"])
        self._age, self._drawn = state["age"], state["drawn"]

"""What memory mode's batches are dealt from: shuffled passes over the data, or a deck into which each sample comes as often
as its probability says, at even distances.

Draws that know nothing of each other visit a sample at random distances: twice in a row, or not for three times the mean, in
which time its score grows old and its part of the gradient is missing. Here every sample has a phase, which begins at random.
A deck of M draws adds M p_i to it, and the sample is drawn once for each whole number that it passes,

    phase_i <- phase_i + M p_i        drawn floor(phase_i) times, which are taken off

so M p_i times in the mean, and never further from that than once, summed over any number of decks. For equal p_i this is what
shuffled passes are, of which it is known that their noise is mostly made good by the batches that follow.
"""

from __future__ import annotations

from typing import Any

import torch

from isample.memory_ops import TURN, draw_weights, due
from isample.ops import PrefixSum

DEALT_AHEAD = 64  # uniform batches that are cut off the order at once: one at a time costs a small step dear


class ShuffledPasses:
    """Uniform batches over ``size`` samples: of each pass the last is short, or left out if ``drop_last``."""

    def __init__(self, size: int, batch_size: int, drop_last: bool):
        self.size, self.batch_size, self.drop_last = size, batch_size, drop_last
        self.order: torch.Tensor | None = None  # what is still to be dealt, int32
        self.batches: list[torch.Tensor] = []  # what is cut off already, the next batch last

    def clear(self) -> None:
        self.order, self.batches = None, []

    def next(self, generator: torch.Generator) -> torch.Tensor:
        """int64 [b] indices."""
        if not self.batches:
            self._cut(generator)
        return self.batches.pop()

    def _cut(self, generator: torch.Generator) -> None:
        if self.order is None or len(self.order) < (self.batch_size if self.drop_last else 1):
            options = {"dtype": torch.int32, "device": generator.device}  # N <= 2^24
            self.order = torch.randperm(self.size, generator=generator, **options)
        ahead = DEALT_AHEAD * self.batch_size
        block, self.order = self.order[:ahead].long(), self.order[ahead:]
        batches = block.split(self.batch_size)
        short = len(batches[-1]) < self.batch_size
        self.batches = list(reversed(batches[:-1] if short and self.drop_last else batches))

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "batches": list(self.batches)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order, self.batches = state["order"], list(state["batches"])


class SpacedDraws:
    """Importance-sampled batches: ``indices``, int64 [M], with their ``weights``, float32 [M], are what lies in the deck.

    ``phase``, int32 [N], counts a draw as TURN = 2^31; None before the first deck.
    """

    def __init__(self, device: torch.device | str):
        self.phase: torch.Tensor | None = None
        self.indices = torch.empty(0, dtype=torch.int64, device=device)
        self.weights = torch.empty(0, device=device)

    def clear(self) -> None:
        """Nothing lies in the deck, and the phases begin anew."""
        if self.phase is not None:
            self.phase, self.indices, self.weights = None, self.indices[:0], self.weights[:0]

    def __len__(self) -> int:
        return len(self.indices)

    def add(self, table: PrefixSum, count: int, generator: torch.Generator) -> None:
        """Shuffled under the deck: ``count`` draws from ``table``, or some more or less. A GPU is waited for, to know how
        many."""
        if self.phase is None:
            shape, device = table.sums.shape, table.sums.device
            self.phase = torch.randint(TURN, shape, dtype=torch.int32, generator=generator, device=device)
        drawn = due(table, self.phase, count)
        drawn = drawn[torch.randperm(len(drawn), generator=generator, device=drawn.device)]
        self.indices = torch.cat([self.indices, drawn])
        self.weights = torch.cat([self.weights, draw_weights(table, drawn)])

    def take(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The next ``count`` of the deck, and their weights."""
        indices, self.indices = self.indices[:count], self.indices[count:]
        weights, self.weights = self.weights[:count], self.weights[count:]
        return indices, weights

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

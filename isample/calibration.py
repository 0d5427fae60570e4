"""What a remembered score still foretells (beyond the paper).

The estimate of the gradient is least noisy if a sample is drawn in proportion to the root of its expected *squared*
gradient norm. For a fresh score that is the score itself. A remembered one is out of date: of the samples that looked
learnt an epoch ago some are learnt no more, and these few carry a weight as large as their score was small. So the
memory watches itself: whenever a sample is seen again, its fresh score is set against the remembered one. With n
samples seen of late whose remembered score lay in the same octave as s, and fresh scores g of theirs,

    expected(s) = sqrt((sum g^2 + PRIOR s^2) / (n + PRIOR))

so that a score of which nothing is known counts as it stands.
"""

from __future__ import annotations

import math

import torch

OCTAVES = 256  # of a non-negative float32: its exponent's eight bits; 0 and what is nearly 0 share the first
PRIOR = 2.0  # samples that are assumed to have shown what the remembered score says
HORIZON = 100  # batches after which what was seen counts for 1/e


class Calibration:
    """``squares`` and ``seen``, float32 [OCTAVES] on ``device``: decaying sums of the squared fresh scores, and how many
    there were, an octave of the remembered ones."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.squares, self.seen = torch.zeros(2, OCTAVES, device=device)

    def learn(self, remembered: torch.Tensor, fresh: torch.Tensor, batches: int) -> None:
        """From the samples of so many ``batches``: their ``remembered`` and ``fresh`` scores, float32 [n]. A remembered
        score below 0 is none, and counts for nothing, as does a fresh one that is not finite."""
        again = (remembered >= 0) & fresh.isfinite()
        values = torch.stack([torch.where(again, fresh.square(), 0.0), again.float()], dim=1)
        found = torch.zeros(OCTAVES, 2, device=fresh.device)
        found.index_put_((_octave(remembered).long(),), values, accumulate=True)  # in a fixed order, also on a GPU
        kept = math.exp(-batches / HORIZON)
        self.squares = kept * self.squares + found[:, 0]
        self.seen = kept * self.seen + found[:, 1]

    def expected(self, score: torch.Tensor) -> torch.Tensor:
        """The root of the expected square of the fresh score of samples whose remembered ones are ``score``, float32 [N]."""
        octave, whole = _octave(score), self.seen + PRIOR
        known = (self.squares / whole).sqrt().index_select(0, octave)
        assumed = (PRIOR / whole).sqrt().index_select(0, octave)
        return torch.hypot(known, assumed * score)  # the square of a small score may be 0 in float32


def _octave(score: torch.Tensor) -> torch.Tensor:
    """The exponent bits of each score, int32 [n], those of its sign cut off."""
    return (score.view(torch.int32) >> 23) & (OCTAVES - 1)

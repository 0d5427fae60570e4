"""What a remembered score still foretells (beyond the paper).

Draws are least noisy in proportion to the root of the expected *squared* gradient norm. For a fresh
score that is the score itself. A remembered one is out of date: some samples that looked learnt an
epoch ago are learnt no more. These few carry a weight as large as their score was small.

So the memory watches itself. Whenever a sample is seen again, it compares the fresh score g with
the remembered one, s. The n samples last seen in one octave of s give a point of the curve

    s' = sqrt(sum s^2 / n)        expected(s') = sqrt((sum g^2 + PRIOR s'^2) / (n + PRIOR))

which is straight between two points. So a score of which nothing is known counts as it stands. An
octave is wide enough to hold the few samples whose fresh score is far from the remembered one.
"""

from __future__ import annotations

import math

import torch

from isample.ops.memory import expected_scores, meet

# of a non-negative float32: its exponent's eight bits; 0 and what is nearly 0 share the first
OCTAVES = 256
PRIOR = 2.0  # imagined samples whose fresh score was the remembered one
SHARE = 0.25  # of the draws, at most, for samples whose label is contradicted
HORIZON = 100  # batches after which what was seen counts for 1/e


class Calibration:
    """Sums of what remembered scores were worth, by their octave.

    Attributes:
        experience: float32 [OCTAVES, 3] on ``device``: decaying sums of squared fresh scores, of
            squared remembered scores, and of their number.
        met: the same sums over the last ``batches``, until :meth:`learn` adds them.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.experience: torch.Tensor = torch.zeros(OCTAVES, 3, dtype=torch.float32, device=device)
        self.met: torch.Tensor = torch.zeros(OCTAVES, 3, dtype=torch.float32, device=device)
        self.batches: int = 0

    def meet(self, remembered: torch.Tensor, fresh: torch.Tensor) -> None:
        """Adds a batch's remembered and fresh scores, float32 [b].

        Leaves out a sample whose remembered score is below 0 (never seen) or whose fresh one is not
        finite.
        """
        meet(self.met, remembered, fresh)
        self.batches += 1

    def learn(self) -> None:
        """Adds the new sums to the experience, after fading that."""
        self.experience = math.exp(-self.batches / HORIZON) * self.experience + self.met
        self.met = torch.zeros_like(self.met)
        self.batches = 0

    def expected(
        self,
        score: torch.Tensor,
        contradicted: float | None = None,
        *,
        gain_cap: float = math.inf,
        floor: float = 0.0,
        into: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What remembered scores ``score``, float32 [N], foretell.

        Args:
            score: remembered, float32 [N].
            contradicted: scores above it are lowered to their share, see
                :mod:`isample.scoring.contradicted`; None lowers none.
            gain_cap, floor: how far it is flattened, as in
                :func:`isample.ops.memory.expected_scores`.
            into: float32 [N] for what is expected; None makes a new tensor.

        Returns:
            expected: float32 [N], the root of the expected squared fresh score; flattened.
            bounded: float32 0-dim, 1 where any was lowered, else 0.
        """
        return expected_scores(
            score,
            self.experience,
            prior=PRIOR,
            contradicted=contradicted,
            share=SHARE,
            gain_cap=gain_cap,
            floor=floor,
            into=into,
        )

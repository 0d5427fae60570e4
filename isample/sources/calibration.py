"""What a remembered score still foretells (beyond the paper).

The estimate of the gradient is least noisy if a sample is drawn in proportion to the root of its
expected *squared* gradient norm. For a fresh score that is the score itself. A remembered one is
out of date: of the samples that looked learnt an epoch ago some are learnt no more, and these few
carry a weight as large as their score was small. So the memory watches itself: whenever a sample is
seen again, its fresh score g is set against the remembered one, s. Of n samples that were seen of
late, with remembered scores in the same octave, comes a point of the curve

    s' = sqrt(sum s^2 / n)        expected(s') = sqrt((sum g^2 + PRIOR s'^2) / (n + PRIOR))

which is straight between two of them. So a score of which nothing is known counts as it stands, and
an octave is wide enough to have met the few whose fresh score is far from the remembered one.
"""

from __future__ import annotations

import math

import torch

from isample.ops.memory import expected_scores, meet

# of a non-negative float32: its exponent's eight bits; 0 and what is nearly 0 share the first
OCTAVES = 256
PRIOR = 2.0  # samples that are assumed to have shown what the remembered score says
SHARE = 0.25  # of the draws, at most, for samples whose label is contradicted
HORIZON = 100  # batches after which what was seen counts for 1/e


class Calibration:
    """``experience``, float32 [OCTAVES, 3] on ``device``: by the octave of the remembered score,
    decaying sums of the squared fresh and remembered scores, and how many there were. What the last
    ``batches`` showed waits in ``met`` for :meth:`learn`."""

    def __init__(self, device: torch.device | str = "cpu"):
        self.experience, self.met = (torch.zeros(OCTAVES, 3, device=device) for _ in range(2))
        self.batches = 0

    def meet(self, remembered: torch.Tensor, fresh: torch.Tensor) -> None:
        """A batch's remembered and fresh scores, float32 [b]. A remembered score below 0 is none,
        and counts for nothing, as does a fresh one that is not finite."""
        meet(self.met, remembered, fresh)
        self.batches += 1

    def learn(self) -> None:
        """What was met becomes experience, and the older one fades."""
        self.experience = math.exp(-self.batches / HORIZON) * self.experience + self.met
        self.met = torch.zeros_like(self.met)
        self.batches = 0

    def expected(
        self, score: torch.Tensor, contradicted: float | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The root of the expected square of the fresh score of samples whose remembered ones are
        ``score``, float32 [N]; those above ``contradicted`` lowered to their share, see
        :mod:`isample.scoring.contradicted`. And whether that bound lowered any, 1 or 0, float32
        0-dim."""
        return expected_scores(
            score, self.experience, prior=PRIOR, contradicted=contradicted, share=SHARE
        )

"""What a batch is worth: how many uniform batches it would take to be as free of noise."""

from __future__ import annotations

import math
from collections.abc import Sequence


def break_even_tau(batch_size: int, presample: int) -> float:
    """(B + 3b) / 3b: from this tau on, a step over a presample of B pays if a backward pass costs
    two forward passes (section 3.3 of the paper)."""
    return (presample + 3 * batch_size) / (3 * batch_size)


def effective_batch(batch_size: int, presample: int, tau: float, replaces: bool = True) -> float:
    """The size of the uniform batch that would be as noisy: b / (b/B + 1/tau^2), at most B.

    A draw with replacement carries two noises, that of the presample (1/B) and that of the draw
    (1/(b tau^2)); one without the larger of the two, see :class:`Foresight`.
    """
    presampled, drawn = batch_size / presample, 1.0 / tau**2
    return batch_size / (presampled + drawn if replaces else max(presampled, drawn))


class Gain:
    """b_eff / b, measured on what was drawn.

    With fresh scores g and importance weights w, mean(w g^2) estimates the second moment of a
    uniform batch and mean(w^2 g^2) that of an importance-sampled one, whatever stale or noisy
    scores led to the weights. With ``ratio``, the latter over the former, b_eff / b = 1 / (b/B +
    ratio / drawn), where ``drawn`` is the share of b that is really drawn.
    """

    DECAY = 0.98
    ENOUGH = 9.6  # of ``weight``: that of eleven steps

    def __init__(self):
        self.share, self.drawn = 0.0, 1.0
        self.forget()

    def forget(self) -> None:
        """What was seen is of another time: scores that were larger then would outweigh those that
        come now."""
        self.uniform_moment = self.importance_moment = self.weight = 0.0

    def observe(self, uniform_moment: float, importance_moment: float, share: float) -> None:
        """A step's unbiased estimates of the two moments; ``share`` is b/B, of the batch in what it
        was drawn from, or 0 for draws without replacement, see :class:`Foresight`."""
        if importance_moment > 0:
            self.uniform_moment = self.DECAY * self.uniform_moment + uniform_moment
            self.importance_moment = self.DECAY * self.importance_moment + importance_moment
            self.weight = self.DECAY * self.weight + 1
        self.share = share

    @property
    def ratio(self) -> float:
        """NaN before enough was seen."""
        if self.weight < self.ENOUGH or not self.importance_moment > 0:
            return math.nan
        return self.importance_moment / self.uniform_moment

    @property
    def of_whole_batches(self) -> float:
        """What b draws are worth, however many are really drawn."""
        return 1.0 / (self.share + self.ratio)

    @property
    def value(self) -> float:
        """NaN before enough was seen."""
        return 1.0 / (self.share + self.ratio / self.drawn)


class Foresight:
    """What a batch would be worth that is drawn of a presample of any size, from scores g that were
    seen before.

    In units of a uniform batch's noise a presample of B brings b/B, or that over what its samples
    were worth as they came, and an exact draw of it r = E[g]^2 / E[g^2]. With replacement the two
    add up. Without, a sample of inclusion probability pi brings only 1 - pi of the draw's noise,
    and as pi w = b/B that saves what the presample brings, so the larger of the two is left.
    ``coarseness`` C is by how much draws were found to be noisier: scores of a scoring pass are not
    quite those of training.

        b_eff / b = 1 / (b/B + C r)    with replacement          1 / (C max(b/B, r))    without
    """

    def __init__(self, replaces: bool):
        self.replaces = replaces
        # Decaying sums: E[g^2], and what a draw leaves of it.
        self.seen, self.foreseen, self.found = ([0.0, 0.0] for _ in range(3))
        self.weight = 0.0

    def see(self, mean: float, moment: float) -> None:
        """Estimates of E[g] and E[g^2]; only their ratio counts."""
        self.seen = _fade(self.seen, (moment, mean**2))
        self.weight = Gain.DECAY * self.weight + 1

    def compare(self, share: float, mean: float, moment: float, drawn: Sequence[float]) -> None:
        """A presample of the noise ``share``, whose scores had these estimates, and the moments of
        the batch ``drawn`` of it, as :meth:`Gain.observe` takes them."""
        left = mean**2 if self.replaces else max(share * moment, mean**2)
        self.foreseen = _fade(self.foreseen, (moment, left))
        self.found = _fade(self.found, drawn)

    @property
    def coarseness(self) -> float:
        """1 before anything was drawn."""
        if not min(*self.foreseen, *self.found) > 0:
            return 1.0
        return self.found[1] / self.found[0] * self.foreseen[0] / self.foreseen[1]

    def worth(self, share: float, drawn: float = 1.0) -> float:
        """b_eff / b of the share ``drawn`` of a batch, out of a presample that brings the noise
        ``share``; NaN before enough was seen."""
        if self.weight < Gain.ENOUGH or not self.seen[0] > 0:
            return math.nan
        ratio = self.seen[1] / self.seen[0] / drawn
        return 1.0 / (
            share + self.coarseness * ratio
            if self.replaces
            else self.coarseness * max(share, ratio)
        )


def _fade(sums: Sequence[float], new: Sequence[float]) -> list[float]:
    return [Gain.DECAY * old + value for old, value in zip(sums, new)]

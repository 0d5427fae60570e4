"""Batches of simulated scores, by the width of their distribution, and what would be seen of them.

Scores are lognormal, g = exp(width z), so that E[g^2] / E[g]^2 = exp(width^2). A step of a
simulation takes a batch out of a pool: to draw and to sort one would take too long.
"""

from __future__ import annotations

import math
import random
from functools import cache
from typing import NamedTuple

from isample.control.noise import growth
from isample.values import KEEP_FRACTIONS, Thinning

BATCH, POOL, WIDEST = 64, 96, 30


class Seen(NamedTuple):
    """Of one batch; ``mean`` is mean(g)."""

    mean: float
    thinning: Thinning


@cache
def pool(tenths: int) -> list[Seen]:
    """Batches of a width of so many tenths."""
    generator, width = random.Random(tenths), tenths / 10
    scores = [
        [math.exp(width * generator.gauss(0.0, 1.0) - width**2) for _ in range(BATCH)]
        for _ in range(POOL)
    ]
    return [Seen(sum(batch) / BATCH, thin(batch)) for batch in scores]


@cache
def whole_pool(tenths: int) -> Thinning:
    """What a thousand such batches would show."""
    seen = [batch.thinning for batch in pool(tenths)]
    parts = zip(*(one.parts for one in seen))
    return Thinning(sum(one.whole for one in seen), tuple(sum(part) for part in parts))


def true_growth(width: float, fraction: float) -> float:
    """v(r) of that width, between the two nearest tenths."""
    low = min(int(10 * width), WIDEST - 1)
    part = min(10 * width - low, 1.0)
    below, above = growth(whole_pool(low), fraction), growth(whole_pool(low + 1), fraction)
    return below * (1.0 - part) + above * part


def some_batch(width: float, generator: random.Random) -> Seen:
    """A batch of about that width."""
    tenths = min(int(10 * width + generator.random()), WIDEST)
    return pool(tenths)[int(POOL * generator.random())]


def thin(scores: list[float]) -> Thinning:
    """mean(x^2 / pi) for every fraction kept, pi = min(1, c x)."""
    ordered = sorted(scores, reverse=True)
    squares = sum(x * x for x in ordered)
    parts = [_noise(ordered, fraction * len(ordered)) for fraction in KEEP_FRACTIONS]
    return Thinning(squares / len(ordered), tuple(part / len(ordered) for part in parts))


def _noise(ordered: list[float], keep: float) -> float:
    """Sum of x^2 / pi, pi summing to ``keep``, of scores sorted downwards."""
    certain, rest = 0.0, sum(ordered)
    for count, x in enumerate(ordered):
        if count + 1 >= keep or x * (keep - count) <= rest:
            return certain + rest * rest / (keep - count)
        certain, rest = certain + x * x, rest - x
    return certain

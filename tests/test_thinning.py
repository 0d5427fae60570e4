"""What it costs in noise to keep a part of a batch, against plain Python and many draws."""

import math
import random
from fractions import Fraction

import pytest
import torch

from isample.ops.memory import draw_moments, moments_of
from isample.values import KEEP_FRACTIONS


def inclusion(x, keep):
    """pi = min(1, c x) that sum to ``keep``, as fractions: the largest is made certain, one after
    the other, for as long as c would make it more."""
    rest, order = sum(map(Fraction, x)), sorted(range(len(x)), key=lambda i: -x[i])
    probabilities, room = [Fraction(0)] * len(x), Fraction(keep)
    for place, i in enumerate(order):
        if rest == 0 or x[i] == 0:
            break
        if room * Fraction(x[i]) < rest:
            for j in order[place:]:
                probabilities[j] = room * Fraction(x[j]) / rest
            break
        probabilities[i], room, rest = Fraction(1), room - 1, rest - Fraction(x[i])
    return probabilities


def costs(x, fractions):
    """mean(x^2 / pi) for each fraction."""
    result = []
    for fraction in fractions:
        pairs = zip(x, inclusion(x, fraction * len(x)))
        terms = (float(Fraction(value) ** 2 / pi) for value, pi in pairs if value > 0)
        result.append(sum(terms) / len(x))
    return result


SHAPES = {
    "exponential": lambda rng: rng.expovariate(1.0),
    "equal": lambda rng: 1.0,
    "few hard ones": lambda rng: 1.0 if rng.random() < 0.2 else 0.05,
    "wide": lambda rng: 10.0 ** rng.uniform(-20, 10),
    "most are 0": lambda rng: rng.choice([0.0, 0.0, 0.0, rng.random()]),
    "all 0": lambda rng: 0.0,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 31, 64, 129, 1000])
@pytest.mark.parametrize("drawn", [True, False])
def test_thinning(shape, size, drawn):
    """A dealt batch is thinned by its scores, a drawn one by scores times weights. The replay sums
    a thousand float64 numbers in another order: 1e-12."""
    rng = random.Random(size)
    score = torch.tensor([SHAPES[shape](rng) for _ in range(size)])
    weights = torch.tensor([rng.uniform(0.1, 5.0) for _ in range(size)])
    x = (score.double() * (weights.double() if drawn else 1.0)).tolist()
    _, thinning = moments_of(draw_moments(score, weights, drawn=drawn).tolist())
    whole = sum(value**2 for value in x) / size
    assert thinning.whole == pytest.approx(whole, rel=1e-12)
    assert list(thinning.parts) == pytest.approx(costs(x, KEEP_FRACTIONS), rel=1e-12)


def test_thinning_by_hand():
    """13 of 64 at 1 and 51 at 0.05; 21 kept: the 13 for certain, the rest with 8 / 51."""
    scores = torch.tensor([1.0] * 13 + [0.05] * 51)
    numbers = draw_moments(scores, torch.ones(64), drawn=False, fractions=[21 / 64, 1.0]).tolist()
    cost = (13 + 51 * 0.05**2 * 51 / 8) / 64
    _, thinning = moments_of(numbers)
    assert thinning.parts[0] == pytest.approx(cost, rel=1e-6)
    assert thinning.parts[1] == thinning.whole == pytest.approx((13 + 51 * 0.05**2) / 64, rel=1e-6)


def test_thinning_is_the_second_moment_of_what_is_kept():
    """Over 20,000 draws with these probabilities: E[sum of (x / pi)^2 over the kept] / b."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, generator=generator) ** 4
    pi = torch.tensor(list(map(float, inclusion(x.tolist(), 16))), dtype=torch.float64)
    kept = torch.rand(20_000, 64, generator=generator, dtype=torch.float64) < pi
    found = (kept * (x.double() / pi).nan_to_num() ** 2).sum(1) / 64
    _, thinning = moments_of(
        draw_moments(x, torch.ones(64), drawn=False, fractions=[0.25]).tolist()
    )
    assert abs(found.mean() - thinning.parts[0]) < 4 * found.std() / math.sqrt(20_000)


def test_a_score_that_is_not_finite_shows_in_what_thinning_costs():
    for bad in (math.nan, math.inf, -1.0):
        _, thinning = moments_of(
            draw_moments(torch.tensor([1.0, bad]), torch.ones(2), drawn=False).tolist()
        )
        assert not any(math.isfinite(part) for part in (thinning.whole, *thinning.parts))


@pytest.mark.parametrize("fractions", [[0.0], [1.5], [math.nan], [0.5] * 17])
def test_fractions_are_shares(fractions):
    with pytest.raises(ValueError, match="fractions must"):
        draw_moments(torch.ones(3), torch.ones(3), drawn=False, fractions=fractions)

"""Draws, counted: distributed as their weights say, unbiased, of the predicted variance."""

import math

import pytest
import torch

import isample
from isample.ops import reference
from tests.kinds import KINDS, scores

METHODS = ["alias", "systematic", "pps"]

# ---- Distribution --------------------------------------------------------------------------------

DRAWS = 200_000
# A test statistic that is normal under the null hypothesis exceeds 5 with probability 6e-7; the
# seeds are fixed, so a test that passes once passes always, and this is the chance that a right
# program had been refused when it was written.
LIMIT = 5.0


def chi_square_z(counts, expected):
    """Chi-square of counts with at least five expected in each cell, made normal (Wilson and
    Hilferty)."""
    order = torch.argsort(expected, descending=True)
    counts, expected = counts[order].double(), expected[order].double()
    usual = expected >= 5
    if not usual.all():  # pool the rare cells
        counts = torch.cat([counts[usual], counts[~usual].sum()[None]])
        expected = torch.cat([expected[usual], expected[~usual].sum()[None]])
        if expected[-1] < 5:
            counts = torch.cat([counts[:-2], counts[-2:].sum()[None]])
            expected = torch.cat([expected[:-2], expected[-2:].sum()[None]])
    cells = len(expected) - 1
    if cells == 0:
        return 0.0
    statistic = ((counts - expected) ** 2 / expected).sum().item()
    spread = 2 / (9 * cells)
    return ((statistic / cells) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


@pytest.mark.parametrize("kind", KINDS)
def test_alias_draws_pass_chi_square(kind):
    score = scores(kind, 640)
    mass = reference.masses(score).double()
    indices, _ = isample.draw(score, DRAWS, seed=11)
    counts = torch.bincount(indices, minlength=640)
    assert chi_square_z(counts, DRAWS * mass / mass.sum()) < LIMIT
    assert counts[mass == 0].sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_systematic_draws_pass_chi_square(kind):
    """One draw at a time, with a new start each: independent, so the chi-square holds. In one go:
    floor or ceil of b p."""
    score = scores(kind, 40)
    mass = reference.masses(score)
    trials = DRAWS // 10
    drawn = torch.cat(
        [isample.draw(score, 1, method="systematic", seed=5, offset=i)[0] for i in range(trials)]
    )
    expected = mass.double() / mass.sum()
    assert chi_square_z(torch.bincount(drawn, minlength=40), trials * expected) < LIMIT

    score = scores(kind, 640)
    mass = reference.masses(score).tolist()
    counts = torch.bincount(
        isample.draw(score, DRAWS, method="systematic", seed=5)[0], minlength=640
    ).tolist()
    for count, k in zip(counts, mass):
        assert DRAWS * k // sum(mass) <= count <= -(-DRAWS * k // sum(mass))


def inclusion(score, count):
    """Inclusion probabilities min(1, c p) with sum ``count``, c by bisection."""
    p = reference.masses(score).double()
    p = p / p.sum()
    low, high = 0.0, 1e18
    for _ in range(300):
        c = math.sqrt(low * high) if low > 0 else high / 2
        low, high = (c, high) if (c * p).clamp_max(1).sum() < count else (low, c)
    return (high * p).clamp_max(1)


@pytest.mark.parametrize("kind", KINDS)
def test_pps_draws_match_their_inclusion_probabilities(kind):
    """Each item comes up in the share of the trials that it should, within LIMIT standard errors;
    90 items are looked at, so the chance of a false alarm is 5e-5 a kind."""
    n, count = 90, 30
    score = scores(kind, n)
    if (score > 0).sum() < count and kind != "all_zero":
        pytest.skip("fewer scores than draws: see the next test")
    trials = DRAWS // count
    counts = torch.zeros(n, dtype=torch.int64)
    for i in range(trials):
        indices, _ = isample.draw(score, count, method="pps", seed=2, offset=i)
        assert len(indices.unique()) == count  # without replacement
        counts += torch.bincount(indices, minlength=n)
    pi = inclusion(score, count)
    error = (counts.double() / trials - pi).abs()
    standard_error = (pi * (1 - pi) / trials).sqrt()
    assert bool((error <= LIMIT * standard_error + 1e-6).all())
    assert counts[reference.masses(score) == 0].sum() == 0


def test_pps_weights_are_the_inverse_inclusion_probabilities():
    for kind in ("lognormal", "uniform", "pareto", "one_heavy"):
        score = scores(kind, 640)
        pi = inclusion(score, 128)
        indices, weights = isample.draw(score, 128, method="pps", seed=2)
        torch.testing.assert_close(weights.double(), 128 / (640 * pi[indices]), rtol=1e-6, atol=0)


def test_pps_with_fewer_positive_scores_than_draws():
    score = torch.zeros(100)
    score[[10, 20, 30]] = torch.tensor([1.0, 2.0, 5.0])
    trials, count = 4000, 8  # two sure rounds, and two draws more
    counts = torch.zeros(100)
    for i in range(trials):
        indices, weights = isample.draw(score, count, method="pps", seed=8, offset=i)
        assert indices[:6].tolist() == [10, 20, 30, 10, 20, 30]
        counts += torch.bincount(indices, minlength=100)
        # the weights add up to the mean of the three items, whatever was drawn
        for item, weight in zip(indices.tolist(), weights.tolist()):
            extra = {10: 1 / 3, 20: 2 / 3, 30: 1.0}[item]
            assert weight == pytest.approx(count / (100 * (2 + extra)), rel=1e-6)
    assert counts.sum() == counts[[10, 20, 30]].sum()
    means = counts[[10, 20, 30]] / trials - 2
    standard_error = math.sqrt(2 / 9 / trials)
    assert means.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0], abs=4 * standard_error)


# ---- Unbiased, and of the predicted variance -----------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_the_weighted_gradient_is_unbiased(method):
    """20,000 draws of a batch: each of 24 coordinates of the mean gradient within 4 standard errors
    of the presample's.

    One coordinate of a right program would fail with probability 6e-5.
    """
    trials, n, count = 20_000, 96, 24
    gradients = torch.randn(n, 24, dtype=torch.float64) * torch.exp(
        torch.randn(n, 1, dtype=torch.float64)
    )
    score = (gradients.norm(dim=1) * torch.exp(0.3 * torch.randn(n))).float()
    estimates = torch.stack(
        [
            (weights.double()[:, None] * gradients[indices]).mean(dim=0)
            for indices, weights in (
                isample.draw(score, count, method=method, seed=1, offset=i) for i in range(trials)
            )
        ]
    )
    standard_error = estimates.std(dim=0) / math.sqrt(trials)
    error = (estimates.mean(dim=0) - gradients.mean(dim=0)).abs()
    assert bool((error <= 4 * standard_error).all())


@pytest.mark.parametrize("heavy", [0.7, 1.2])
def test_the_variance_falls_as_predicted(heavy):
    """Independent draws of b from B with scores equal to the gradient norms: b_eff = b / (b / B + 1
    / tau^2).

    The variance of the estimate over presamples and draws, for gradients of random directions,
    relative to that of b uniform samples, is b / b_eff within 10 %: its two parts are the
    presample's, E|G|^2 / B, and the draw's.
    """
    trials, dim, B, b = 2500, 16, 384, 128
    squared, uniform, inverse = 0.0, 0.0, 0.0
    for trial in range(trials):
        norms = torch.exp(heavy * torch.randn(B, dtype=torch.float64))
        gradients = (
            torch.nn.functional.normalize(torch.randn(B, dim, dtype=torch.float64)) * norms[:, None]
        )
        indices, weights = isample.draw(norms.float(), b, seed=3, offset=trial)
        estimate = (weights.double()[:, None] * gradients[indices]).mean(dim=0)
        squared += estimate.square().sum().item()  # the expected gradient is 0
        uniform += gradients[:b].mean(dim=0).square().sum().item()
        tau = isample.distribution(norms.float())[1].item()
        inverse += b / B + 1 / tau**2
    assert squared / uniform == pytest.approx(inverse / trials, rel=0.10)

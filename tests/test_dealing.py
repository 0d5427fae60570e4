"""Draws that are spaced evenly: against the phases in exact fractions, and what they are there for."""

from fractions import Fraction

import pytest
import torch

import isample
from isample.dealing import SpacedDraws
from isample.memory_ops import TURN, due

N = 300


def make_scores(n=N):
    return torch.rand(n, generator=torch.Generator().manual_seed(0)) ** 4


def random_phases(n=N):
    return torch.randint(TURN, (n,), dtype=torch.int32, generator=torch.Generator().manual_seed(1))


def mass_of(table):
    return table.sums.diff(prepend=table.sums.new_zeros(1))


def test_what_is_due_in_exact_fractions():
    """The integer phases, with the product in exact fractions instead of double: they may round apart by one in 2^31 a
    step where the fraction is next to a half, so 20 steps differ by 20 at most, and the draws, by this seed, not at all."""
    table, phase = isample.prefix_sum(make_scores(), floor=0.2), random_phases()
    masses, exact = mass_of(table).tolist(), phase.tolist()
    for count in [1, 7, 1000, 40] * 5:
        indices = due(table, phase, count)
        exact = [before + round(Fraction(mass * count * TURN, sum(masses))) for before, mass in zip(exact, masses)]
        assert indices.tolist() == [i for i, now in enumerate(exact) for _ in range(now // TURN)]
        exact = [now % TURN for now in exact]
        assert (phase - torch.tensor(exact)).abs().max() <= 20


def test_draws_stay_within_one_of_their_mean():
    """Over any number of decks a sample comes as often as the sum of its p says, to within one draw, also while the
    distribution changes. Independent draws would stray by the root of the mean, which is 5 for the likeliest samples."""
    generator = torch.Generator().manual_seed(2)
    spaced, counts, mean = SpacedDraws("cpu"), torch.zeros(N), torch.zeros(N, dtype=torch.float64)
    for deck in range(60):
        table = isample.prefix_sum(make_scores() + 0.01 * (deck % 7), floor=0.2)
        spaced.add(table, 50, generator)
        indices, weights = spaced.take(len(spaced))
        counts += torch.bincount(indices, minlength=N)
        p = mass_of(table).double() / table.sums[-1]
        mean += 50 * p
        torch.testing.assert_close(weights.double(), 1 / (N * p[indices]), rtol=1e-6, atol=0)
        assert (counts - mean).abs().max() < 1 + 1e-6
    assert mean.max() > 25


def test_a_deck_is_unbiased():
    """Phases that begin at random: 4,000 first decks of 5 samples. Each count is floor or ceiling of 5 p_i, so its variance
    is at most 1/4; 5 standard errors of a mean, 300 of which are looked at."""
    table = isample.prefix_sum(make_scores(), floor=0.2)
    mean, decks = 5 * mass_of(table).double() / table.sums[-1], 4000
    counts = torch.zeros(N)
    for seed in range(decks):
        spaced = SpacedDraws("cpu")
        spaced.add(table, 5, torch.Generator().manual_seed(seed))
        counts += torch.bincount(spaced.indices, minlength=N)
    share = mean % 1
    assert ((counts / decks - mean).abs() < 5 * (share * (1 - share) / decks).sqrt() + 1e-9).all()


def test_equal_probabilities_visit_every_sample_once_an_epoch():
    spaced, generator = SpacedDraws("cpu"), torch.Generator().manual_seed(3)
    table = isample.prefix_sum(torch.ones(N))
    for _ in range(4):
        for _ in range(10):
            spaced.add(table, N // 10, generator)
        assert torch.bincount(spaced.take(len(spaced))[0], minlength=N).tolist() == [1] * N


def test_a_deck_is_shuffled():
    """Order within a deck: ranks of a uniform permutation have mean n / 2 and correlate with nothing."""
    spaced = SpacedDraws("cpu")
    spaced.add(isample.prefix_sum(torch.ones(2000)), 2000, torch.Generator().manual_seed(4))
    indices, _ = spaced.take(2000)
    place = torch.arange(2000.0)
    assert torch.corrcoef(torch.stack([place, indices.double()]))[0, 1].abs() < 5 / 2000**0.5


@pytest.mark.parametrize(
    "phase, count, error, match",
    [
        (torch.zeros(4, dtype=torch.int32), 1, ValueError, r"phase must .*shape of sums, \[300\], got \[4\]"),
        (torch.zeros(N), 1, TypeError, "phase must be .*int"),
        (torch.zeros(N, dtype=torch.int32), 0, ValueError, r"count must lie in \[1, 2\^30\], got 0"),
        (torch.zeros(N, dtype=torch.int32), 2**31, ValueError, r"count must lie in \[1, 2\^30\]"),
    ],
)
def test_bad_arguments(phase, count, error, match):
    with pytest.raises(error, match=match):
        due(isample.prefix_sum(make_scores()), phase, count)
    assert not phase.any()

"""Alias tables reconstruct their integer distribution exactly."""

import pytest
import torch

import isample
from isample.ops import reference
from tests.kinds import KINDS, scores

SIZES = [1, 2, 3, 127, 128, 640, 4096, 65536, 1_000_003]


def shares(threshold, alias, total):
    """threshold_i + sum over {j: alias_j = i} of (total - threshold_j), for each item, without
    overflow.

    A sum may be as large as n * total, up to 2^63, so the upper and lower 32 bits are added apart.
    """
    n = len(threshold)
    rest = total - threshold
    high, low = threshold >> 32, threshold & 0xFFFFFFFF
    high = high.clone().index_add_(0, alias.long(), rest >> 32)
    low = low.clone().index_add_(0, alias.long(), rest & 0xFFFFFFFF)
    assert len(high) == n
    return high + (low >> 32), low & 0xFFFFFFFF


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_table_reconstructs_its_weights(kind, n):
    table = isample.alias_table(scores(kind, n))
    mass, total = table.mass.long(), int(table.total)
    assert total == int(mass.sum())
    assert bool(((table.threshold >= 0) & (table.threshold <= total)).all())
    assert bool(((table.alias >= 0) & (table.alias < n)).all())
    high, low = shares(table.threshold, table.alias, total)
    own = n * mass  # below 2^63 by the choice of scale
    assert torch.equal(high, own >> 32) and torch.equal(low, own & 0xFFFFFFFF)


@pytest.mark.parametrize("n", SIZES[:-2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_table_is_that_of_the_closed_form(kind, n, floor):
    """The same buckets as the closed form of the prefix sums, which other devices evaluate."""
    score = scores(kind, n)
    table = isample.alias_table(score, floor=floor)
    threshold, alias = reference.alias_table(reference.masses(score, floor))
    assert torch.equal(table.threshold, threshold) and torch.equal(table.alias.long(), alias)


@pytest.mark.parametrize("kind", ["zeros_mixed", "one_heavy"])
def test_a_zero_score_is_nobodys_alias_and_has_no_share(kind):
    score = scores(kind, 4096)
    score[::7] = 0
    table = isample.alias_table(score)
    zeros = (score == 0).nonzero().flatten()
    assert bool((table.threshold[zeros] == 0).all())
    lent = table.threshold < table.total  # where the alias is ever taken
    assert not torch.isin(table.alias.long()[lent], zeros).any()


def test_tables_of_strided_scores():
    score = torch.rand(1000)
    for got, expected in zip(
        isample.alias_table(score[::3]), isample.alias_table(score[::3].clone())
    ):
        assert torch.equal(got, expected)

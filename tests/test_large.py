"""Around and above 2^24 items, where the integers of float32 and alias tables end: bit for bit
against exact integers.

Sizes up to 2^32 are argued for in tests/cpp/test_draws.cpp, where 128-bit integers hold every
product.
"""

import math

import numpy as np
import pytest
import torch

import isample
from isample.ops import reference

EDGES = [2**24 - 1, 2**24, 2**24 + 1]
SIZES = [*EDGES, pytest.param(2**26, marks=pytest.mark.large)]
CHUNK = 2**22
SPARSE = 2**18  # one in so many items has a large score


def make_scores(n):
    """Most of them tiny, so that few bits would make them all alike; zeros; the last one counts."""
    score = torch.rand(n, generator=torch.Generator().manual_seed(3)).mul_(1e-3)
    score[::7] = 0
    score[::SPARSE] = 1.0
    score[-1] = 0.5
    return score


def chunks(array):
    return (array[begin : begin + CHUNK] for begin in range(0, len(array), CHUNK))


def exact_masses(score, bits=30, floor=0.0):
    """int64 [N] by numpy. A ``floor`` of a few bits makes the fused product exact in float64."""
    scale = 2.0**bits / float(score.max())
    mass = np.empty(len(score), dtype=np.int64)
    for into, part in zip(chunks(mass), chunks(score.numpy())):
        into[:] = np.where(part > 0, np.maximum(np.rint(part.astype(np.float64) * scale), 1), 0)
    if floor > 0:
        share = floor * (float(exact_sum(mass)) / len(mass))
        for part in chunks(mass):
            part[:] = np.maximum(np.rint((1.0 - floor) * part + share), 1)
    return mass


def exact_sum(mass):
    return sum(int(part.sum()) for part in chunks(mass))


def exact_squares(mass):
    """The sum of the squares, of numbers below 2^31, in two halves that cannot overflow."""
    total = 0
    for part in chunks(mass):
        high, low = part >> 15, part & 0x7FFF
        parts = [int((high * high).sum()), int((high * low).sum()), int((low * low).sum())]
        total += (parts[0] << 30) + (parts[1] << 16) + parts[2]
    return total


def exact_tau(mass):
    return math.sqrt(len(mass) * exact_squares(mass)) / exact_sum(mass)


@pytest.mark.parametrize("floor", [0.0, 0.25])
@pytest.mark.parametrize("n", SIZES)
def test_prefix_sums_tau_and_probabilities(n, floor):
    score = make_scores(n)
    mass = exact_masses(score, floor=floor)
    sums, tau = isample.prefix_sum(score, floor=floor)
    end = 0
    for got, part in zip(chunks(sums.numpy()), chunks(mass)):
        expected = part.cumsum() + end
        assert np.array_equal(got, expected)
        end = int(expected[-1])
    assert end == exact_sum(mass) < 2**62
    assert tau.item() == pytest.approx(exact_tau(mass), rel=1.2e-7)  # one rounding to float32
    del sums
    probabilities, same_tau = isample.distribution(score, floor=floor)
    assert same_tau == tau
    for got, part in zip(chunks(probabilities.numpy()), chunks(mass)):
        assert np.array_equal(got, (part / float(end)).astype(np.float32))


def expected_draws(mass, points):
    """The items at ``points``, and their weights, from sums that numpy adds up."""
    indices = np.searchsorted(mass.cumsum(), points, side="right")
    total, n = float(exact_sum(mass)), float(len(mass))
    return indices, (total / (n * mass[indices].astype(np.float64))).astype(np.float32)


@pytest.mark.parametrize("n", SIZES)
def test_spread_draws(n):
    score, count, seed, offset = make_scores(n), 3000, 2**63 - 1, 2**40
    mass = exact_masses(score)
    total = exact_sum(mass)
    words = [reference.philox(seed, offset, j)[0] for j in range(count)]
    table = isample.prefix_sum(score)
    for method, starts in (("systematic", [words[0]] * count), ("stratified", words)):
        points = [
            (reference.scaled(word, total) + j * total) // count for j, word in enumerate(starts)
        ]
        expected = expected_draws(mass, points)
        sources = [table, score] if method == "systematic" else [table]
        for source in sources:
            got = isample.draw(source, count, method=method, seed=seed, offset=offset)
            assert np.array_equal(got[0].numpy(), expected[0])
            assert np.array_equal(got[1].numpy(), expected[1])
    assert (expected[0] > 2**24 - 2**20).any()  # also what lies at the end is drawn


def place_of(item, n, seed, offset):
    """Where the permutation of pps draws has an item: its rounds, backwards."""
    low, (x, y) = 0xFFFFFFFF, reference.philox(seed, offset, 1)
    bits = ((n - 1).bit_length() + 1) // 2
    mask = (1 << bits) - 1
    while True:
        left, right = item >> bits, item & mask
        for key in (y >> 32, y & low, x >> 32, x & low):
            h = (left ^ key) * 0x85EBCA6B & low
            h = (h ^ h >> 13) * 0xC2B2AE35 & low
            left, right = right ^ (h ^ h >> 16) & mask, left
        item = left << bits | right
        if item < n:
            return item


@pytest.mark.parametrize("n", EDGES)
def test_pps_draws(n):
    """Along the line of the items with mass, in Python's integers. One is certain; all are
    drawn twice before that, since there are more draws than items with mass."""
    score = torch.zeros(n)
    places = torch.arange(5, n, SPARSE // 2)
    score[places] = torch.rand(len(places), generator=torch.Generator().manual_seed(4)) + 0.01
    score[n - 1] = 20.0
    mass = exact_masses(score, reference.product_bits(n) if n <= 2**24 else 30)
    items, seed, offset = mass.nonzero()[0].tolist(), 11, 12
    count = 2 * len(items) + 40
    rounds, step, lengths = reference.pps_lengths(torch.from_numpy(mass[items]), count)
    length_of = dict(zip(items, lengths))
    expected = items * rounds
    end, point = 0, reference.scaled(reference.philox(seed, offset, 0)[0], step)
    for item in sorted(items, key=lambda item: place_of(item, n, seed, offset)):
        end += length_of[item]
        if end > point:
            expected.append(item)
            point += step
    indices, weights = isample.draw(score, count, method="pps", seed=seed, offset=offset)
    assert indices.tolist() == expected
    steps = [float(rounds * step + length_of[item]) for item in expected]
    expected = torch.tensor([float(count) * step / (n * each) for each in steps])
    assert torch.equal(weights, expected)


def test_tables_end_at_their_last_size():
    score = make_scores(2**24)
    table = isample.alias_table(score)
    mass = exact_masses(score, reference.product_bits(2**24))
    assert np.array_equal(table.mass.numpy(), mass) and table.total == exact_sum(mass)
    del table, mass
    more = torch.ones(1).expand(2**24 + 1)
    for refused in (isample.alias_table, lambda score: isample.draw(score, 5)):
        with pytest.raises(ValueError, match=r"score .* 2\^24 .* got 16777217: .* prefix_sum"):
            refused(more)
    with pytest.raises(ValueError, match=r"logits must hold at most 2\^24 .* prefix_sum"):
        isample.importance_sample(
            torch.ones(1, 1).expand(2**24 + 1, 1),
            torch.zeros(1, dtype=torch.int64).expand(2**24 + 1),
            5,
            torch.zeros(()),
        )


def test_more_than_2_32_items_are_refused():
    more = torch.ones(1).expand(2**32 + 1)
    for call in (
        isample.distribution,
        isample.prefix_sum,
        isample.alias_table,
        lambda score: isample.draw(score, 3, method="systematic"),
        lambda score: isample.draw(score, 3, method="pps"),
    ):
        with pytest.raises(
            ValueError, match=r"score must hold .* 2\^32 = 4294967296 .* 4294967297"
        ):
            call(more)
    sums = torch.ones(1, dtype=torch.int64).expand(2**32 + 1)
    with pytest.raises(ValueError, match=r"sums must hold .* 2\^32 = 4294967296 .* 4294967297"):
        isample.draw(isample.PrefixSum(sums, None), 3)
    with pytest.raises(ValueError, match="size must be at most 2.32 = 4,294,967,296; got 4,29"):
        isample.MemorySampler(2**32 + 1, 10)

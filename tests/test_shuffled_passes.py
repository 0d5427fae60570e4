"""The order of large data sets, which is computed as it is dealt: whole passes, and as random as a
shuffled list where a training would notice."""

import math

import pytest
import torch

import isample
from isample.ops.memory import permuted
from isample.sources.order import STORED, Passes
from isample.values import Plan

N = STORED + 4321


def shuffled(size, seed):
    return permuted(torch.arange(size), size, seed=seed)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 65, 1000, STORED + 1, 2**20])
def test_every_order_is_a_permutation(size):
    for seed in (0, -1, 2**62 - 1):
        assert torch.equal(shuffled(size, seed).sort().values, torch.arange(size))


def test_a_part_of_an_order_is_computed_alone():
    places = torch.tensor([N - 1, 0, 77, 77])
    assert torch.equal(permuted(places, N, seed=5), shuffled(N, 5)[places])
    assert (permuted(torch.arange(2**32 - 9, 2**32), 2**32, seed=5) >= 0).all()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: permuted(torch.tensor([5]), 5, seed=0),
            IndexError,
            r"places must lie in \[0, 5\)",
        ),
        (lambda: permuted(torch.tensor([-1]), 5, seed=0), IndexError, "places must .* got -1"),
        (lambda: permuted(torch.zeros(2), 5, seed=0), TypeError, "places must be torch.int64"),
        (lambda: permuted(torch.tensor(0), 5, seed=0), ValueError, "places must be one-dim"),
        (
            lambda: permuted(torch.tensor([0]), 0, seed=0),
            ValueError,
            r"size must lie in \[1, 2\^32",
        ),
        (lambda: permuted(torch.tensor([0]), 2**32 + 1, seed=0), ValueError, "size must lie in"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("drop_last", [False, True])
def test_passes_are_whole_and_each_has_an_order_of_its_own(drop_last):
    passes = Passes(N, 1000, drop_last, torch.Generator().manual_seed(3))
    orders = []
    for _ in range(2):
        batches = [passes.deal() for _ in range(N // 1000 + (not drop_last))]
        assert {len(batch) for batch in batches[:-1]} == {1000}
        orders.append(torch.cat(batches))
        assert len(orders[-1].unique()) == len(orders[-1]) == (N // 1000 * 1000 if drop_last else N)
    assert not torch.equal(*orders)


def test_a_state_in_the_middle_of_a_pass(tmp_path):
    sampler = isample.MemorySampler(N, 100, seed=0)
    for _ in range(70):
        sampler.draw()
    torch.save(sampler.state_dict(), tmp_path / "state")
    assert (tmp_path / "state").stat().st_size < 4 * N + 2**18  # the scores, and no order
    other = isample.MemorySampler.from_state(torch.load(tmp_path / "state"))
    for _ in range(len(sampler)):
        assert torch.equal(other.draw().indices, sampler.draw().indices)


def test_a_state_that_holds_a_whole_order_is_dealt_to_its_end():
    """As versions that stored every order saved it."""
    passes = Passes(N, 100, False, torch.Generator().manual_seed(3))
    left = torch.randperm(N)[:250].int()
    passes.load_state_dict({"order": left, "cut": []})
    assert torch.equal(torch.cat([passes.deal() for _ in range(3)]), left.long())
    assert len(passes.deal()) == 100


# ---- Randomness ----------------------------------------------------------------------------------

# Each statistic is a sum of squared deviations whose expectation and variance a uniform shuffle has
# in closed form; 5 standard deviations are passed by chance with probability 6e-7 a side.
LIMIT = 5.0


@pytest.mark.parametrize("size", [N, 10**6, 2**20])
@pytest.mark.parametrize("stride", ["runs", "stripes"])
def test_batches_are_as_mixed_as_those_of_a_shuffled_list(size, stride):
    """Ten classes, one after the other or in turn: their counts in a batch are hypergeometric."""
    b, classes, batches = 128, 10, 4000
    places = torch.randint(size - b, (batches,))[:, None] + torch.arange(b)
    order = permuted(places.flatten(), size, seed=9)
    label = order * classes // size if stride == "runs" else order % classes
    counts = torch.nn.functional.one_hot(label, classes).view(batches, b, classes).sum(1).double()
    expected = b / classes
    chi_square = ((counts - expected) ** 2 / expected).sum(1)
    mean, spread = classes - 1, math.sqrt(2 * (classes - 1) / batches)
    assert abs(chi_square.mean() - mean * (1 - b / size)) < LIMIT * spread
    assert abs(chi_square.var() / (2 * mean) - 1) < 0.15  # neither too even nor too uneven


@pytest.mark.parametrize("apart", [1, 2, 64, 256, 1024])
def test_neighbours_are_not_tied(apart):
    """The lag correlation of an order's numbers is normal with variance 1 / N."""
    for seed in range(8):
        order = shuffled(N, seed).double()
        order = (order - order.mean()) / order.std()
        correlation = (order[apart:] * order[:-apart]).mean()
        assert abs(correlation) < LIMIT / math.sqrt(N)


def test_every_place_gets_every_sample():
    """Over seeds: where the first places' samples come from, and where two of them come from."""
    seeds, cells = 20_000, 16
    drawn = torch.stack([permuted(torch.arange(3), N, seed=seed) for seed in range(seeds)])
    cell = drawn * cells // N
    for counts in (
        *(torch.bincount(cell[:, k], minlength=cells) for k in range(3)),
        torch.bincount(cell[:, 0] * cells + cell[:, 1], minlength=cells**2),
        torch.bincount(cell[:, 1] * cells + cell[:, 2], minlength=cells**2),
    ):
        expected = seeds / len(counts)
        statistic = ((counts - expected) ** 2 / expected).sum().item()
        freedom = len(counts) - 1
        assert abs(statistic - freedom) < LIMIT * math.sqrt(2 * freedom)


# ---- Memory --------------------------------------------------------------------------------------


def test_dealing_stores_no_order():
    sampler = isample.MemorySampler(N, 100, seed=0)
    sampler.follow(Plan(importance=False))
    sampler.draw()
    held = [part for part in vars(sampler._passes).values() if isinstance(part, torch.Tensor)]
    assert held == []

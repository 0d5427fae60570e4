"""Draws: bit for bit those of plain Python; what may be asked for, and what is refused."""

import pytest
import torch

import isample
from isample.ops import reference
from tests.kinds import KINDS, scores

METHODS = ["alias", "systematic", "pps"]


# ---- Random words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, expected",
    [  # the known answers that Salmon et al. publish with Random123, for philox4x32 with 10 rounds
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_answers(counter, key, expected):
    def word(low, high):
        return low | high << 32

    x, y = reference.philox(word(*key), word(*counter[:2]), word(*counter[2:]))
    assert (x, y) == (word(*expected[:2]), word(*expected[2:]))


# ---- Bit-equality --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 17, 128, 640])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_draws_are_those_of_plain_python(method, kind, n):
    score = scores(kind, n)
    mass = reference.masses(score)
    for count in sorted({1, max(1, n // 5), n}):
        for seed, offset in ((0, 0), (-1, 2**62), (0x123456789ABCDEF, 7)):
            indices, weights = isample.draw(score, count, method=method, seed=seed, offset=offset)
            expected = reference.draw(mass, count, method, seed % 2**64, offset)
            assert torch.equal(indices, expected[0]) and torch.equal(weights, expected[1])


@pytest.mark.parametrize("method", METHODS)
def test_draws_with_a_floor(method):
    score = scores("zeros_mixed", 640)
    expected = reference.draw(reference.masses(score, 0.25), 128, method, 5)
    indices, weights = isample.draw(score, 128, method=method, floor=0.25, seed=5)
    assert torch.equal(indices, expected[0]) and torch.equal(weights, expected[1])


def test_more_draws_than_items():
    score = scores("pareto", 50)
    for method in ("alias", "systematic"):
        expected = reference.draw(reference.masses(score), 333, method, 5)
        got = isample.draw(score, 333, method=method, seed=5)
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_a_table_draws_what_its_scores_draw():
    score = scores("lognormal", 100_000)
    table = isample.alias_table(score, floor=0.1)
    for count in (1, 77, 50_000):
        expected = isample.draw(score, count, floor=0.1, seed=3, offset=9)
        got = isample.draw(table, count, seed=3, offset=9)
        assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


@pytest.mark.parametrize("n", [1, 2, 3, 128, 640, 4096])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["stratified", "systematic"])
def test_draws_from_prefix_sums_are_those_of_plain_python(method, kind, n):
    score = scores(kind, n)
    mass = reference.masses(score, 0.25)
    table = isample.prefix_sum(score, floor=0.25)
    assert torch.equal(table.sums, mass.cumsum(0)) and table.tau == reference.tau(mass)
    for count, seed, offset in ((1, 0, 0), (max(1, n // 5), -1, 2**62), (n, 5, 7)):
        indices, weights = isample.draw(table, count, method=method, seed=seed, offset=offset)
        expected = reference.draw(mass, count, method, seed % 2**64, offset)
        assert torch.equal(indices, expected[0]) and torch.equal(weights, expected[1])


@pytest.mark.parametrize("method", METHODS)
def test_the_fused_op_is_its_stages(method):
    logits, labels = torch.randn(640, 10) * 2, torch.randint(10, (640,))
    weight = torch.rand(10) + 0.1
    options = {"weight": weight, "label_smoothing": 0.05}
    ema, stages_ema = torch.tensor(1.2), torch.tensor(1.2)
    sample = isample.importance_sample(
        logits, labels, 128, ema, momentum=0.8, draws=method, floor=0.1, seed=4, offset=2, **options
    )
    score, loss = isample.softmax_score(logits, labels, **options)
    _, tau = isample.distribution(score, floor=0.1, tau_ema=stages_ema, momentum=0.8)
    indices, weights = isample.draw(score, 128, method=method, floor=0.1, seed=4, offset=2)
    for got, expected in zip((*sample, ema), (indices, weights, score, loss, tau, stages_ema)):
        assert torch.equal(got, expected)


def test_manual_seed_and_generators_reproduce():
    score = torch.rand(100)
    torch.manual_seed(7)
    first, second = isample.draw(score, 50)[0], isample.draw(score, 50)[0]
    assert not torch.equal(first, second)
    torch.manual_seed(7)
    assert torch.equal(isample.draw(score, 50)[0], first)
    assert torch.equal(
        isample.draw(score, 50, generator=torch.Generator().manual_seed(7))[0], first
    )
    state = torch.get_rng_state()
    isample.draw(score, 50, seed=1)
    assert torch.equal(torch.get_rng_state(), state)  # a seed leaves the generator alone


# ---- What may be asked for -----------------------------------------------------------------------

SCORE = torch.rand(5)
TABLE = isample.alias_table(SCORE)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: isample.draw(SCORE, 0),
            ValueError,
            r"count must lie in \[1, 2\^24 = 16777216\], got 0",
        ),
        (lambda: isample.draw(SCORE, 2**24 + 1), ValueError, "count must lie in .* got 16777217"),
        (
            lambda: isample.draw(SCORE, 6, method="pps"),
            ValueError,
            "count must not exceed .* 5, .* got 6",
        ),
        (
            lambda: isample.draw(SCORE, 2, method="no"),
            ValueError,
            "method must be .*'alias', 'systematic', 'pps', got 'no'",
        ),
        (
            lambda: isample.draw(SCORE, 2, floor=2.0),
            ValueError,
            r"floor must lie in \[0, 1\], got 2",
        ),
        (
            lambda: isample.draw(SCORE, 2, seed=1, offset=-1),
            ValueError,
            "offset must not be negative, got -1",
        ),
        (
            lambda: isample.draw(SCORE.double(), 2),
            TypeError,
            "score must be torch.float32, got torch.float64",
        ),
        (
            lambda: isample.draw(TABLE, 2, method="pps"),
            ValueError,
            "method must be 'alias' .* got 'pps'",
        ),
        (
            lambda: isample.draw(TABLE, 2, floor=0.5),
            ValueError,
            "floor must be given to the table.* got 0.5",
        ),
        (
            lambda: isample.draw(isample.prefix_sum(SCORE), 2, method="pps"),
            ValueError,
            "method must be .*'stratified'",
        ),
        (
            lambda: isample.draw(isample.PrefixSum(SCORE, None), 2),
            TypeError,
            "sums must be torch.int64",
        ),
        (
            lambda: isample.draw(TABLE._replace(mass=TABLE.mass[:2]), 2),
            ValueError,
            "mass must have the shape of threshold",
        ),
        (
            lambda: isample.draw(TABLE._replace(alias=TABLE.alias.long()), 2),
            TypeError,
            "alias must be torch.int32",
        ),
        (
            lambda: isample.draw(TABLE._replace(total=TABLE.total[None]), 2),
            ValueError,
            "total must be a 0-dimensional",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

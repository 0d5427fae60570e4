"""Masses, probabilities, tau and its moving average against plain integers and the formulas of the
paper."""

import math

import pytest
import torch

import isample
from isample.ops import reference
from tests.kinds import KINDS, scores

SIZES = [1, 2, 3, 127, 640, 4097]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("floor", [0.0, 0.15, 1.0])
def test_masses_probabilities_and_tau(kind, n, floor):
    score = scores(kind, n)
    mass = reference.masses(score, floor)
    assert torch.equal(isample.alias_table(score, floor=floor).mass.long(), mass)
    probabilities, tau = isample.distribution(score, floor=floor)
    assert torch.equal(probabilities, reference.probabilities(mass))
    assert tau.item() == pytest.approx(reference.tau(mass), rel=1.2e-7)  # one rounding to float32


def test_quantised_probabilities_are_those_of_the_scores():
    """Error of a mass: half a unit of 2^-30 (n <= 2^16) of the largest score."""
    score = scores("pareto", 640)
    exact = score.double() / score.double().sum()
    error = (isample.distribution(score)[0].double() - exact).abs()
    assert bool((error <= exact * 2**-24 + exact.max() * 2**-30).all())


def test_tau_is_equation_29():
    """Equation 29: 1/tau = sqrt(1 - ||g - u||^2 / sum g^2), g the distribution and u the uniform
    one."""
    for kind in ("uniform", "lognormal", "zeros_mixed"):
        score = scores(kind, 640)
        g = score.double() / score.double().sum()
        u = 1 / 640
        expected = 1 / math.sqrt(1 - ((g - u).square().sum() / g.square().sum()).item())
        assert isample.distribution(score)[1].item() == pytest.approx(expected, rel=1e-6)


def test_tau_has_its_bounds():
    assert isample.distribution(torch.full((640,), 0.3))[1] == 1
    assert isample.distribution(torch.zeros(640))[1] == 1
    one = torch.zeros(640)
    one[77] = 0.01
    assert isample.distribution(one)[1].item() == pytest.approx(math.sqrt(640), rel=1e-7)


def test_floor_mixes_in_the_uniform_distribution():
    score = scores("one_heavy", 1000)
    probabilities, _ = isample.distribution(score, floor=0.2)
    expected = 0.8 * score.double() / score.double().sum() + 0.2 / 1000
    torch.testing.assert_close(probabilities.double(), expected, rtol=1e-5, atol=0)
    assert isample.draw(score, 5000, floor=0.2)[1].max() <= 1 / 0.2 * (1 + 1e-5)


def test_tau_ema_is_algorithm_1_line_17():
    ema, expected = torch.zeros(()), 0.0
    for seed in range(5):
        score = scores("lognormal", 640, seed)
        _, tau = isample.distribution(score, tau_ema=ema, momentum=0.9)
        expected = 0.9 * expected + 0.1 * tau.item()
        assert ema.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, -float("inf")])
def test_invalid_scores_raise_and_change_nothing(bad):
    score = torch.rand(40_000)
    score[[3, 39_999]] = bad
    ema = torch.tensor(1.5)
    for call in (
        lambda: isample.distribution(score, tau_ema=ema),
        lambda: isample.alias_table(score),
        lambda: isample.draw(score, 10),
        lambda: isample.draw(score, 10, method="systematic"),
        lambda: isample.draw(score, 10, method="pps"),
    ):
        with pytest.raises(
            isample.NonFiniteScoreError, match="got 2 that are not, in rows 3, 39999"
        ) as caught:
            call()
        assert (caught.value.count, caught.value.rows) == (2, [3, 39_999])
        assert isinstance(caught.value, ValueError) and isinstance(
            caught.value, isample.IsampleError
        )
    assert ema == 1.5


def test_invalid_scores_show_in_what_the_ops_give():
    score = torch.tensor([1.0, float("nan"), 2.0])
    ema = torch.tensor(1.5)
    probabilities, tau = torch.ops.isample.distribution(score, tau_ema=ema)
    assert probabilities.isnan().all() and tau.isnan() and ema == 1.5
    table = torch.ops.isample.alias_table(score)
    assert table[3] == 0
    for indices, weights in (
        *(
            torch.ops.isample.draw(score, 2, method=method)
            for method in ("alias", "systematic", "pps")
        ),
        torch.ops.isample.draw.table(*table, 2),
    ):
        assert indices.tolist() == [0, 0] and weights.isnan().all()


def test_many_invalid_rows_are_counted_and_the_first_ten_named():
    with pytest.raises(
        isample.NonFiniteScoreError, match=r"got 100 that are not, in rows 0, 1, .*9, \.\.\.$"
    ):
        isample.distribution(torch.full((100,), float("nan")))


SCORE = torch.rand(5)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: isample.distribution(SCORE.double()),
            TypeError,
            "score must be torch.float32, got torch.float64",
        ),
        (
            lambda: isample.distribution(SCORE[None]),
            ValueError,
            r"score must be one-dimensional, got shape \[1, 5\]",
        ),
        (
            lambda: isample.distribution(SCORE[:0]),
            ValueError,
            "score must hold between 1 and .* items, got 0",
        ),
        (
            lambda: isample.distribution(SCORE[0].expand(2**32 + 1)),
            ValueError,
            "2.32 = 4294967296 items, got 4294967297",
        ),
        (
            lambda: isample.distribution(SCORE, floor=-0.1),
            ValueError,
            r"floor must lie in \[0, 1\], got -0.1",
        ),
        (
            lambda: isample.distribution(SCORE, momentum=2.0),
            ValueError,
            r"momentum must lie in \[0, 1\], got 2",
        ),
        (
            lambda: isample.distribution(SCORE, tau_ema=torch.zeros(1)),
            ValueError,
            r"tau_ema must be a 0-dim.*shape \[1\]",
        ),
        (
            lambda: isample.distribution(SCORE, tau_ema=torch.zeros((), dtype=torch.float64)),
            TypeError,
            "tau_ema must be",
        ),
        (
            lambda: isample.alias_table(SCORE, floor=1.1),
            ValueError,
            r"floor must lie in \[0, 1\], got 1.1",
        ),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()

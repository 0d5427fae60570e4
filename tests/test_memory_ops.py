"""The ops of a step that remembers its scores, against plain Python in float64."""

import math
import random

import pytest
import torch

import isample
from isample.ops.memory import (
    draw_moments,
    draw_weights,
    meet,
    moments_of,
    recall,
    remember,
)

RNG = random.Random(0)
SCORES = [RNG.expovariate(1.0) for _ in range(50)]
WEIGHTS = [RNG.uniform(0.1, 5.0) for _ in range(50)]


@pytest.mark.parametrize("drawn", [True, False])
def test_moments(drawn):
    """The three estimates by their formulas; float32 inputs, float64 sums."""
    got = draw_moments(torch.tensor(SCORES), torch.tensor(WEIGHTS), drawn=drawn).tolist()
    mean = [g * (w if drawn else 1) for g, w in zip(SCORES, WEIGHTS)]
    uniform = [g * g * (w if drawn else 1) for g, w in zip(SCORES, WEIGHTS)]
    importance = [g * g * w * (w if drawn else 1) for g, w in zip(SCORES, WEIGHTS)]
    expected = [sum(mean) / 50, sum(uniform) / 50, sum(importance) / 50, min(WEIGHTS), max(WEIGHTS)]
    assert list(moments_of(got)[0]) == pytest.approx(expected, rel=1e-6)


# ---- What the moments estimate -------------------------------------------------------------------


def test_moments_estimate_what_they_say():
    """Over 4,000 batches: E[g], E[g^2] of uniform draws and E[(w g)^2] of importance draws, from
    either kind of batch."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(200, generator=generator) ** 3
    p = 0.8 * scores / scores.sum() + 0.2 / 200
    weights = 1 / (200 * p)
    truth = [
        scores.double().mean().item(),
        (scores**2).double().mean().item(),
        (p * (weights * scores) ** 2).double().sum().item(),
    ]
    for drawn in (True, False):
        picks = torch.multinomial(
            p if drawn else torch.ones(200), 4000 * 20, replacement=True, generator=generator
        )
        found = torch.stack(
            [draw_moments(scores[i], weights[i], drawn=drawn)[:3] for i in picks.view(4000, 20)]
        )
        error = found.std(dim=0) / math.sqrt(4000)
        assert ((found.mean(0) - torch.tensor(truth)).abs() < 4 * error).all(), drawn


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_not_finite_shows_in_the_mean(bad):
    assert not math.isfinite(draw_moments(torch.tensor([1.0, bad]), torch.ones(2), drawn=True)[0])


def test_weights_are_those_of_the_draws():
    table = isample.prefix_sum(torch.tensor(SCORES), floor=0.3)
    indices, weights = isample.draw(table, 20, method="stratified", seed=1)
    assert torch.equal(draw_weights(table, indices), weights)
    mass = table.sums.diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()
    expected = [sum(mass) / (50 * k) for k in mass]
    assert draw_weights(table, torch.arange(50)).tolist() == pytest.approx(expected, rel=1e-6)


def test_remember_keeps_the_geometric_mean_and_tells_what_was():
    """The mean of 4 and 9 is 6, that of two tiny scores does not underflow; what has none is the
    fresh score."""
    memory = torch.tensor([-1.0, 1.0, 0.0, 3.0, 4.0, 1e-30, 0.5])
    before = remember(
        memory, torch.tensor([4, 0, 2, 5, 6]), torch.tensor([9.0, 8.0, 7.0, 1e-26, 0.0])
    )
    assert before.tolist() == pytest.approx([4.0, -1.0, 0.0, 1e-30, 0.5], rel=1e-6)
    assert memory.tolist() == pytest.approx([8.0, 1.0, 7.0, 3.0, 6.0, 1e-28, 0.0], rel=1e-6)


def test_the_fresh_score_counts_for_the_rate_in_the_mean():
    """16^(3/4) 1^(1/4) = 8; at a rate of 1 nothing else counts."""
    memory = torch.tensor([16.0, 5.0, -1.0])
    remember(memory, torch.tensor([0, 2]), torch.tensor([1.0, 3.0]), rate=0.25)
    assert memory.tolist() == pytest.approx([8.0, 5.0, 3.0], rel=1e-6)
    remember(memory, torch.tensor([0, 1]), torch.tensor([2.0, 7.0]), rate=1.0)
    assert memory.tolist() == [2.0, 7.0, 3.0]


@pytest.mark.parametrize("rate", [0.0, 1.5, math.nan])
def test_a_rate_is_a_share(rate):
    memory = torch.ones(3)
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\], got"):
        remember(memory, torch.tensor([1]), torch.ones(1) * 2, rate=rate)
    assert torch.equal(memory, torch.ones(3))


def test_of_a_sample_that_comes_twice_the_last_score_is_blended_with_what_was():
    memory = torch.tensor([4.0, 1.0])
    before = remember(memory, torch.tensor([0, 1, 0]), torch.tensor([1.0, 4.0, 9.0]))
    assert before.tolist() == [4.0, 1.0, 4.0]
    assert memory.tolist() == [6.0, 2.0]


@pytest.mark.parametrize("kind", ["drawn", "uniform", "uniform with a table"])
def test_recall_is_its_parts(kind):
    generator = torch.Generator().manual_seed(0)
    score, indices, memory = (
        torch.rand(8, generator=generator),
        torch.arange(8) * 3,
        torch.rand(30, generator=generator),
    )
    table, weights, met = (
        isample.prefix_sum(memory, floor=0.2),
        torch.rand(8, generator=generator),
        torch.rand(256, 3),
    )
    expected_memory, expected_met = memory.clone(), met.clone()
    used = {
        "drawn": weights,
        "uniform": torch.ones(8),
        "uniform with a table": draw_weights(table, indices),
    }[kind]
    moments = draw_moments(score, used, drawn=kind == "drawn")
    meet(expected_met, remember(expected_memory, indices, score, rate=0.3), score)
    got = recall(
        memory,
        met,
        score,
        indices,
        weights=weights if kind == "drawn" else None,
        table=table if kind == "uniform with a table" else None,
        rate=0.3,
    )
    assert (
        torch.equal(got, moments)
        and torch.equal(memory, expected_memory)
        and torch.equal(met, expected_met)
    )


def test_a_bad_score_is_not_remembered():
    memory, met = torch.arange(4.0), torch.zeros(256, 3)
    moments = recall(
        memory, met, torch.tensor([4.0, math.nan]), torch.tensor([1, 2]), weights=None, table=None
    )
    assert moments[0].isnan() and met.sum(0).tolist() == [16.0, 1.0, 1.0]
    assert memory.tolist() == [0.0, 2.0, 2.0, 3.0]  # 2 of the remembered 1 and the fresh 4


def test_recall_changes_nothing_where_it_fails():
    memory, met = torch.arange(4.0), torch.zeros(256, 3)
    for arguments, error in (
        ((memory, met[:5], torch.ones(1), torch.tensor([1])), ValueError),
        ((memory, met, torch.ones(1), torch.tensor([4])), IndexError),
        ((memory, met, torch.ones(2), torch.tensor([1])), ValueError),
    ):
        with pytest.raises(error):
            recall(*arguments, weights=None, table=None)
    assert torch.equal(memory, torch.arange(4.0)) and not met.any()


def test_a_sampler_does_not_learn_from_bad_scores():
    sampler = isample.MemorySampler(4, 2, uniform_epochs=1e-9, rebuild_every=1, seed=0)
    for values in ([1.0, 2.0], [math.nan, math.inf]):
        sampler.update(torch.tensor([0, 1]), torch.tensor(values))
    assert sampler.score[:2].tolist() == [1.0, 2.0]
    assert sampler.memory.calibration.expected(torch.ones(1))[0].isfinite()


@pytest.mark.parametrize(
    "call,error,match",
    [
        (
            lambda: draw_moments(torch.ones(3), torch.ones(2), drawn=True),
            ValueError,
            "weights must have the shape of score",
        ),
        (
            lambda: draw_moments(torch.ones(3).double(), torch.ones(3), drawn=True),
            TypeError,
            "score must be torch.float32",
        ),
        (
            lambda: remember(torch.ones(3), torch.tensor([3]), torch.ones(1)),
            IndexError,
            r"indices must lie in \[0, 3\), got 3",
        ),
        (
            lambda: remember(torch.ones(3), torch.tensor([1.0]), torch.ones(1)),
            TypeError,
            "indices must be torch.int64",
        ),
        (
            lambda: remember(torch.ones(3, 2), torch.tensor([1]), torch.ones(1)),
            ValueError,
            "memory must be one-dim",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_a_bad_index_changes_nothing():
    memory = torch.arange(3.0)
    with pytest.raises(IndexError):
        remember(memory, torch.tensor([0, -1]), torch.ones(2))
    assert memory.tolist() == [0.0, 1.0, 2.0]

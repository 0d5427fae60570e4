"""What remembered scores foretell, against the formula in plain Python."""

import math
import random

import numpy as np
import pytest
import torch

import isample
from isample.ops.memory import expected_scores, meet
from isample.sources.calibration import HORIZON, PRIOR, Calibration

BOUND = {"contradicted": None, "share": 0.25}


def octave(score):
    """Of positive normal numbers; 0 is by itself, below all of them."""
    return math.floor(math.log2(score)) if score > 0 else -127


def foretold(score, sums):
    """The formula, by way of numpy's interpolation; ``sums`` of squares, fresh and remembered, and
    numbers by octave."""
    points = []
    for place in range(-127, 128):
        squares, remembered, seen = sums.get(place, [0.0, 0.0, 0.0])
        middle = 1.5 * 2.0**place if place > -127 else 0.0
        point = math.sqrt(remembered / seen) if seen > 0 else middle
        points.append((point, math.sqrt((squares + PRIOR * point**2) / (seen + PRIOR))))
    return np.interp(score, *zip(*points))


def test_against_plain_python():
    """Three lots of pairs, in float64 and a dict: 1e-5 is some ten float32 roundings."""
    rng = random.Random(0)
    calibration, sums = Calibration(), {}
    for batches in (1, 7, 30):
        remembered = [rng.choice([-1.0, 0.0, 2.0 ** rng.uniform(-60, 60)]) for _ in range(200)]
        fresh = [rng.expovariate(1.0) for _ in remembered]
        for old, new in zip(
            torch.tensor(remembered).tensor_split(batches),
            torch.tensor(fresh).tensor_split(batches),
        ):
            calibration.meet(old, new)
        calibration.learn()
        for key in sums:
            sums[key] = [value * math.exp(-batches / HORIZON) for value in sums[key]]
        for old, new in zip(remembered, fresh):
            if old >= 0:
                known = sums.get(octave(old), [0.0, 0.0, 0.0])
                sums[octave(old)] = [known[0] + new**2, known[1] + old**2, known[2] + 1]
    for score in [0.0, *(2.0 ** rng.uniform(-63, 63) for _ in range(200))]:
        found = calibration.expected(torch.tensor([score]))[0].item()
        assert found == pytest.approx(foretold(score, sums), rel=1e-5), score


def test_what_is_no_score_counts_for_nothing():
    calibration = Calibration()
    calibration.meet(
        torch.tensor([-1.0, 1.5, 1.5, math.nan, 1.0]),
        torch.tensor([1.0, math.nan, math.inf, 1.0, 3.0]),
    )
    calibration.learn()
    assert calibration.experience.sum(0).tolist() == [9.0, 1.0, 1.0]


def test_a_score_of_which_nothing_is_known_counts_as_it_stands():
    scores = torch.rand(100) ** 8
    torch.testing.assert_close(Calibration().expected(scores)[0], scores, rtol=1e-6, atol=0)


def noise(trust):
    """E[(w g)^2] of draws from a memory most of whose small scores hold, while a 50th are as large
    as any by now; with what it has learnt of that, or (``trust``) without."""
    generator = torch.Generator().manual_seed(1)
    remembered = torch.rand(20000, generator=generator) ** 6
    stale = torch.rand(20000, generator=generator) < 0.02
    fresh = torch.where(stale, 1.0, remembered)
    sampler = isample.MemorySampler(
        20000, 100, floor=1e-3, uniform_epochs=1e-9, half_life=math.inf, rebuild_every=50, seed=0
    )
    sampler.update(torch.arange(20000), remembered)
    if not trust:
        for start in range(0, 20000, 100):
            sampler.update(torch.arange(start, start + 100), fresh[start : start + 100])
        sampler.score.copy_(remembered)
    sampler.draw()
    moments = []
    for _ in range(400):
        indices, weights = sampler.draw()
        moments.append((weights * fresh[indices]).square().mean().item())
    return sum(moments) / len(moments)


def test_knowing_how_stale_scores_are_makes_draws_less_noisy():
    """Uniform draws have E[g^2] = 1/13 + 0.02; the best possible ones E[g]^2 = (1/7 + 0.02)^2 =
    0.027."""
    calibrated, trusting = noise(trust=False), noise(trust=True)
    assert calibrated < 0.75 * (1 / 13 + 0.02) and calibrated < 0.3 * trusting


def test_an_unseen_sample_counts_as_an_average_one():
    """Of 1 and 3 seen; what is known is that 2, their mean, foretells 3. Octaves of which nothing
    is foretell their middles."""
    calibration = Calibration()
    calibration.meet(torch.full((10,), 2.0), torch.full((10,), 3.0))
    calibration.learn()
    two = math.sqrt((90 + 2 * 4) / 12)
    expected = [
        np.interp(score, [0.75, 1.5, 2.0, 6.0], [0.75, 1.5, two, 6.0]) for score in (1.0, 3.0, 2.0)
    ]
    assert calibration.expected(torch.tensor([1.0, 3.0, -1.0]))[0].tolist() == pytest.approx(
        expected, rel=1e-6
    )


def test_squares_that_underflow_leave_the_point_in_its_octave():
    """The squares of 1e-30, met 50 times, are 0 in float32: only the prior's two are left of 52.
    The curve goes from there to the neighbouring octaves' middles, which foretell themselves."""
    calibration = Calibration()
    calibration.meet(torch.full((50,), 1e-30), torch.full((50,), 1e-30))
    calibration.learn()
    begin = 2.0 ** octave(1e-30)
    scores = [0.75 * begin, begin, 1.5 * begin, 3 * begin]
    expected = np.interp(
        scores,
        [0.75 * begin, begin, 3 * begin],
        [0.75 * begin, begin * math.sqrt(2 / 52), 3 * begin],
    )
    assert calibration.expected(torch.tensor(scores))[0].tolist() == pytest.approx(
        expected.tolist(), rel=1e-5
    )


@pytest.mark.parametrize(
    "call,error,match",
    [
        (
            lambda: meet(torch.zeros(256), torch.ones(2), torch.ones(2)),
            ValueError,
            "met must be contiguous of shape",
        ),
        (
            lambda: meet(torch.zeros(256, 3), torch.ones(3), torch.ones(2)),
            ValueError,
            "remembered must have the shape of fresh",
        ),
        (
            lambda: meet(torch.zeros(256, 3), torch.ones(2), torch.ones(2).double()),
            TypeError,
            "fresh must be torch.float32",
        ),
        (
            lambda: expected_scores(torch.ones(2, 2), torch.zeros(256, 3), prior=2.0, **BOUND),
            ValueError,
            "score must be one-dim",
        ),
        (
            lambda: expected_scores(torch.ones(2), torch.zeros(256, 3), prior=0.0, **BOUND),
            ValueError,
            "prior must be > 0, got 0",
        ),
        (
            lambda: expected_scores(
                torch.ones(2), torch.zeros(256, 3), prior=2.0, contradicted=None, share=1.0
            ),
            ValueError,
            "share must lie in",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()

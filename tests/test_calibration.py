"""What remembered scores foretell, against the formula in plain Python."""

import math
import random

import pytest
import torch

import isample
from isample.calibration import HORIZON, PRIOR, Calibration
from isample.memory_ops import expected_scores, meet


BOUND = {"contradicted": None, "share": 0.25}


def octave(score):
    """Of positive normal numbers; 0 is by itself."""
    return math.floor(math.log2(score)) if score > 0 else None


def test_against_plain_python():
    """Three lots of pairs, in float64 and a dict: 1e-5 is some ten float32 roundings."""
    rng = random.Random(0)
    calibration, sums = Calibration(), {}
    for batches in (1, 7, 30):
        remembered = [rng.choice([-1.0, 0.0, 2.0 ** rng.uniform(-100, 100)]) for _ in range(200)]
        fresh = [rng.expovariate(1.0) for _ in remembered]
        for old, new in zip(torch.tensor(remembered).tensor_split(batches), torch.tensor(fresh).tensor_split(batches)):
            calibration.meet(old, new)
        calibration.learn()
        for key in sums:
            sums[key] = [value * math.exp(-batches / HORIZON) for value in sums[key]]
        for old, new in zip(remembered, fresh):
            if old >= 0:
                squares, seen = sums.get(octave(old), [0.0, 0.0])
                sums[octave(old)] = [squares + new**2, seen + 1]
    for score in [0.0, *(2.0 ** rng.uniform(-99, 99) for _ in range(100))]:
        squares, seen = sums.get(octave(score), [0.0, 0.0])
        expected = math.sqrt((squares + PRIOR * score**2) / (seen + PRIOR))
        assert calibration.expected(torch.tensor([score]))[0].item() == pytest.approx(expected, rel=1e-5), score


def test_what_is_no_score_counts_for_nothing():
    calibration = Calibration()
    calibration.meet(torch.tensor([-1.0, 1.5, 1.5, math.nan, 1.0]), torch.tensor([1.0, math.nan, math.inf, 1.0, 3.0]))
    calibration.learn()
    assert calibration.experience.sum(0).tolist() == [9.0, 1.0]


def test_a_score_of_which_nothing_is_known_counts_as_it_stands():
    scores = torch.rand(100) ** 8
    torch.testing.assert_close(Calibration().expected(scores)[0], scores, rtol=1e-6, atol=0)


def noise(trust):
    """E[(w g)^2] of draws from a memory most of whose small scores hold, while a 50th are as large as any by now; with
    what it has learnt of that, or (``trust``) without."""
    generator = torch.Generator().manual_seed(1)
    remembered = torch.rand(20000, generator=generator) ** 6
    stale = torch.rand(20000, generator=generator) < 0.02
    fresh = torch.where(stale, 1.0, remembered)
    sampler = isample.MemorySampler(20000, 100, floor=1e-3, uniform_epochs=1e-9, half_life=math.inf, rebuild_every=50, seed=0)
    sampler.update(torch.arange(20000), remembered)
    if not trust:
        for start in range(0, 20000, 100):
            sampler.update(torch.arange(start, start + 100), fresh[start : start + 100])
        sampler.score.copy_(remembered)
    sampler.draw()
    moments = []
    for _ in range(400):
        indices, weights, _ = sampler.draw()
        moments.append((weights * fresh[indices]).square().mean().item())
    return sum(moments) / len(moments)


def test_knowing_how_stale_scores_are_makes_draws_less_noisy():
    """Uniform draws have E[g^2] = 1/13 + 0.02; the best possible ones E[g]^2 = (1/7 + 0.02)^2 = 0.027."""
    calibrated, trusting = noise(trust=False), noise(trust=True)
    assert calibrated < 0.75 * (1 / 13 + 0.02) and calibrated < 0.3 * trusting


def test_an_unseen_sample_counts_as_an_average_one():
    """Of 1 and 3 seen, in an octave of their own each; the mean 2 is in that of 3, of which 10 squares of 4 are known."""
    calibration = Calibration()
    calibration.meet(torch.full((10,), 2.5), torch.full((10,), 2.0))
    calibration.learn()
    expected = [1.0, math.sqrt((40 + 2 * 9) / 12), math.sqrt((40 + 2 * 4) / 12)]
    assert calibration.expected(torch.tensor([1.0, 3.0, -1.0]))[0].tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "call,error,match",
    [
        (lambda: meet(torch.zeros(256), torch.ones(2), torch.ones(2)), ValueError, "met must be contiguous of shape"),
        (lambda: meet(torch.zeros(256, 2), torch.ones(3), torch.ones(2)), ValueError, "remembered must have the shape of fresh"),
        (lambda: meet(torch.zeros(256, 2), torch.ones(2), torch.ones(2).double()), TypeError, "fresh must be torch.float32"),
        (lambda: expected_scores(torch.ones(2, 2), torch.zeros(256, 2), prior=2.0, **BOUND), ValueError, "score must be one-dim"),
        (lambda: expected_scores(torch.ones(2), torch.zeros(256, 2), prior=0.0, **BOUND), ValueError, "prior must be > 0, got 0"),
        (lambda: expected_scores(torch.ones(2), torch.zeros(256, 2), prior=2.0, contradicted=None, share=1.0), ValueError, "share must lie in"),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()

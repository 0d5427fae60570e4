"""What memory mode draws: as often as its formula says, with weights that are unbiased, and less
noisily than independent draws."""

import math

import pytest
import torch

import isample
from isample.values import Plan
from tests.test_memory import N, make_scores, warm_sampler


@pytest.mark.parametrize("floor", [0.1, 0.5])
def test_frequencies_and_weights_follow_the_formula(floor):
    """20,000 draws against p = (1 - floor) s / sum(s) + floor / N. Stratified counts vary less than
    multinomial ones, so chi-square with N - 1 degrees of freedom errs on the safe side; its 1e-6
    quantile is mean + 5 standard deviations."""
    scores = make_scores()
    sampler = warm_sampler(scores, floor=floor, half_life=math.inf, rebuild_every=10**9)
    expected = (1 - floor) * scores.double() / scores.double().sum() + floor / N
    counts, batches = torch.zeros(N), 2000
    for _ in range(batches):
        indices, weights = sampler.draw()
        torch.testing.assert_close(weights.double(), 1 / (N * expected[indices]), rtol=1e-5, atol=0)
        assert weights.max() <= 1 / floor * (1 + 1e-6)
        counts += torch.bincount(indices, minlength=N)
    mean = expected * batches * 10
    chi_square = ((counts - mean) ** 2 / mean).sum().item()
    assert chi_square < N - 1 + 5 * math.sqrt(2 * (N - 1))


@pytest.mark.parametrize("gain_cap", [1.0, 1.5, 4.0, 10.0, 1e6])
@pytest.mark.parametrize("floor", [0.2, 1.0])
@pytest.mark.parametrize("equals", [True, False])
def test_draws_are_flattened_as_far_as_a_batch_still_gains_what_is_of_use(gain_cap, floor, equals):
    """Few samples carry the noise, a fiftieth of them or powers of random numbers. The distribution
    by the formula in double precision, and the gain of its draws, E[s^2] / E[s^2 / (N p)]: the cap
    where equals carry the noise, more otherwise, and no more than the floor leaves."""
    scores = torch.rand(N, generator=torch.Generator().manual_seed(0)) ** 150
    if equals:
        scores = (torch.arange(N) % 50 == 7).float()
    sampler = warm_sampler(scores, floor=floor, rebuild_every=10**9)
    sampler.follow(Plan(importance=True, gain_cap=gain_cap))
    sampler.draw()
    masses = sampler.memory._table.sums.diff(prepend=torch.zeros(1, dtype=torch.int64)).double()
    s, p = scores.double(), masses / masses.sum()
    tau_squared = (s.square().mean() / s.mean() ** 2).item()
    assert tau_squared == pytest.approx(50 if equals else 74, rel=0.01)
    share = min(1 - floor, (gain_cap - 1) / (tau_squared - 1))
    torch.testing.assert_close(p, share * s / s.sum() + (1 - share) / N, rtol=1e-5, atol=1e-9)
    gain = (s.square().mean() / (s.square() / (N * p)).mean()).item()
    least = min(gain_cap, (1 - floor) * tau_squared + floor)
    assert gain == pytest.approx(least, rel=1e-4) if equals else gain > least * (1 - 1e-4)


@pytest.mark.parametrize("scores", [torch.zeros(N), torch.full((N,), 3.0), torch.ones(1)])
@pytest.mark.parametrize("gain_cap", [1.0, 2.0])
def test_scores_that_are_all_alike_have_nothing_to_flatten(scores, gain_cap):
    sampler = warm_sampler(scores, batch_size=1)
    sampler.follow(Plan(importance=True, gain_cap=gain_cap))
    assert (sampler.draw().weights == 1).all()


def test_the_plan_is_kept_and_its_cap_is_one_batch_at_least():
    sampler = warm_sampler(make_scores())
    sampler.follow(Plan(importance=True, gain_cap=3.0))
    assert isample.MemorySampler.from_state(sampler.state_dict()).plan == sampler.plan
    sampler.follow(Plan(importance=True, gain_cap=0.9))
    with pytest.raises(ValueError, match="gain_cap must be >= 1; got 0.9"):
        sampler.draw()


def test_a_score_that_is_none_is_not_flattened():
    sampler = warm_sampler(make_scores())
    sampler.follow(Plan(importance=True, gain_cap=3.0))
    sampler.score[3] = math.inf
    with pytest.raises(isample.NonFiniteScoreError):
        sampler.draw()


def test_stratified_draws_are_less_noisy_than_independent_ones():
    """The variance of the estimated mean of values that are p_i times the index: strata remove
    nearly all of it."""
    scores = make_scores()
    values = (0.8 * scores / scores.sum() + 0.2 / N).double() * torch.arange(N)
    sampler = warm_sampler(scores, rebuild_every=10**9)
    estimates = torch.stack(
        [(values[i] * w).mean() for i, w in (sampler.draw() for _ in range(3000))]
    )
    table = isample.alias_table(scores, floor=0.2)
    independent = torch.stack(
        [(values[i] * w).mean() for i, w in (isample.draw(table, 10, seed=k) for k in range(3000))]
    )
    for sample in (estimates, independent):
        assert (sample.mean() - values.mean()).abs() < 4 * sample.std() / math.sqrt(3000)
    assert estimates.var() < 0.05 * independent.var()


def test_a_table_serves_as_many_batches_whatever_their_sizes():
    """Batches are drawn ahead, all of a table at once; those that a change of size leaves over are
    not counted."""
    sampler, tables = warm_sampler(make_scores(), rebuild_every=4), []
    for size in (10, 10, 7, 10, 7, 7, 7, 7, 10):
        sampler.follow(Plan(importance=True, keep=size))
        assert len(sampler.draw().indices) == size
        tables.append(sampler.memory._table.sums)
    assert [next(k for k, other in enumerate(tables) if other is table) for table in tables] == [
        0
    ] * 4 + [4] * 4 + [8]


def test_weights_stay_unbiased_while_scores_follow_the_visits():
    """Each visit halves or doubles a sample's score, in the mean lowers it, as training does.
    Whatever the past, E[w] = 1 for a draw, so the mean over 20,000 batches is 1 to within 5
    standard errors. Draws that keep their distance from a sample's last visit, however well they
    keep to p in the long run, come too late where the visit has lowered p: 2 to 4 % below 1."""
    sampler, random = (
        warm_sampler(torch.ones(2000), rebuild_every=3),
        torch.Generator().manual_seed(1),
    )
    means = []
    for _ in range(20_000):
        indices, weights = sampler.draw()
        factor = torch.where(torch.rand(10, generator=random) < 0.6, 0.5, 2.0)
        sampler.score[indices] = (sampler.score[indices] * factor).clamp(1e-3, 1e3)
        means.append(weights.mean())
    means = torch.stack(means)
    allowed = 5 * means.std() / math.sqrt(len(means))
    assert (means.mean() - 1).abs() < allowed < 0.015

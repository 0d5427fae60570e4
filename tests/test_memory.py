"""A memory's sampler: what it deals and draws, what it remembers, and how it goes on."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.sources.memory import NEVER_SEEN
from isample.values import Plan

N = 500


def warm_sampler(scores, batch_size=10, **options):
    """A sampler that knows ``scores`` and stands behind its uniform phase."""
    sampler = isample.MemorySampler(len(scores), batch_size, uniform_epochs=1e-9, seed=3, **options)
    sampler.draw()
    sampler.update(torch.arange(len(scores)), scores)
    return sampler


def make_scores(n=N):
    return torch.rand(n, generator=torch.Generator().manual_seed(0)) ** 4


def test_uniform_epochs_are_shuffled_passes():
    sampler = isample.MemorySampler(95, 10, uniform_epochs=2, seed=0)
    for epoch in range(2):
        batches = list(sampler)
        assert len(batches) == len(sampler) == 10 and [len(batch) for batch in batches] == [
            10
        ] * 9 + [5]
        assert sorted(sum(batches, [])) == list(range(95)), epoch
        for batch in batches:
            assert sampler.take(torch.tensor(batch)).weights.tolist() == [1.0] * len(batch)
    batch = next(iter(sampler))
    assert sampler.match(torch.tensor(batch)).by_importance


def test_an_unseen_sample_counts_as_an_average_one_and_old_scores_return_to_the_mean():
    sampler = isample.MemorySampler(
        4, 2, uniform_epochs=1e-9, floor=1e-6, half_life=1.0, rebuild_every=2, seed=0
    )
    sampler.draw()
    sampler.update(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    sampler.draw()
    masses = sampler.memory._table.sums.diff(prepend=torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(
        masses / masses.sum(), torch.tensor([1.0, 3.0, 2.0, 2.0]) / 8, rtol=1e-5, atol=0
    )
    assert sampler.score.tolist() == [1.0, 3.0, NEVER_SEEN, NEVER_SEEN]
    sampler.draw()
    sampler.draw()  # two batches of two are one epoch: the second table halves the way to the mean
    torch.testing.assert_close(sampler.score, torch.tensor([1.5, 2.5, NEVER_SEEN, NEVER_SEEN]))


def test_implied_weights_are_those_that_draws_would_have():
    sampler = warm_sampler(make_scores(), rebuild_every=10**9)
    assert not sampler.informed and (sampler.implied_weights(torch.arange(N)) == 1).all()
    for _ in range(len(sampler)):
        indices, weights = sampler.draw()
    torch.testing.assert_close(sampler.implied_weights(indices), weights)


def test_statistics_by_class():
    """Six samples of three classes, by hand: 0.5 of a uniform distribution and 0.5 of the scores
    over their sum, 10; the sample that was never seen counts as an average one, of 2."""
    sampler = isample.MemorySampler(6, 2, floor=0.5, uniform_epochs=1e-9, seed=0)
    sampler.update(torch.arange(5), torch.tensor([1.0, 3.0, 4.0, 0.0, 2.0]))
    mean, share = sampler.by_group(torch.tensor([0, 0, 1, 1, 1, 2]))
    assert mean[:2].tolist() == [2.0, 2.0] and mean[2].isnan()
    expected = [0.5 * 4 / 12 + 0.5 * 2 / 6, 0.5 * 6 / 12 + 0.5 * 3 / 6, 0.5 * 2 / 12 + 0.5 / 6]
    torch.testing.assert_close(share, torch.tensor(expected), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match=r"groups must be int64 \[6\]"):
        sampler.by_group(torch.zeros(5, dtype=torch.int64))


def test_growth():
    sampler = warm_sampler(make_scores())
    sampler.resize(N + 50)
    seen = torch.cat([sampler.draw().indices for _ in range(2000)]).unique()
    assert len(sampler) == 55 and (seen >= N).sum() == 50
    with pytest.raises(ValueError, match="size must be at least the present 550"):
        sampler.resize(10)


@pytest.mark.parametrize("workers", [0, 2])
def test_weights_are_those_of_the_table_that_drew_whatever_the_prefetching(workers):
    """Scores change while batches are in flight; the weight must stay that of the draw."""
    scores = make_scores()
    sampler = warm_sampler(scores, rebuild_every=1, half_life=math.inf)
    drawn = []
    original = sampler._next
    sampler._next = lambda: drawn.append(original()) or drawn[-1]
    loader = DataLoader(TensorDataset(torch.arange(N)), batch_sampler=sampler, num_workers=workers)
    for step, (indices,) in enumerate(loader):
        batch = sampler.take(indices)
        assert torch.equal(batch.weights, drawn[step].weights)
        sampler.update(indices, torch.rand(len(indices)))
    assert step + 1 == len(sampler) - 1  # the warm-up drew one


def test_what_is_remembered_is_the_mean_of_as_many_scores_as_samples_had():
    sampler = isample.MemorySampler(20, 5, uniform_epochs=1e9, seed=0)
    rates = {}
    for _ in range(40):
        rates[sampler.num_batches] = sampler.rate
        sampler.draw()
    assert [1 / rates[drawn] for drawn in (0, 2, 4, 6, 8, 12, 20, 39)] == pytest.approx(
        [2, 2, 2, 2.5, 3, 4, 6, 6]
    )


def test_a_state_is_the_run_s_as_it_was_whatever_comes_after():
    """Two samplers out of one state, the second after the first went on: the same draws, and both
    as the original's."""
    sampler = warm_sampler(make_scores(), rebuild_every=7)
    fresh = torch.rand(N, generator=torch.Generator().manual_seed(8))

    def go_on(sampler, steps):
        drawn = []
        for _ in range(steps):
            batch = sampler.draw()
            sampler.update(batch.indices, fresh[batch.indices])
            drawn.append(batch.indices)
        return torch.stack(drawn)

    go_on(sampler, 10)  # three batches behind a table: what they showed is not learnt yet
    state = sampler.state_dict()
    first, second = (go_on(isample.MemorySampler.from_state(state), 40) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(first, go_on(sampler, 40))


def test_drop_last_leaves_out_what_is_left_over_of_a_pass():
    sampler = isample.MemorySampler(45, 10, drop_last=True, seed=0)
    sampler.follow(Plan(importance=False))
    for _ in range(3):
        batches = list(sampler)
        for batch in batches:
            sampler.take(batch)
        assert len(sampler) == 4 and [len(batch) for batch in batches] == [10] * 4
        assert len({index for batch in batches for index in batch}) == 40


def test_batches_drawn_ahead_at_the_end_of_an_epoch_are_all_that_is_left_of_it():
    sampler = isample.MemorySampler(40, 8, seed=0)
    drawn = list(sampler)
    for batch in drawn[:3]:
        sampler.take(batch)
    again = isample.MemorySampler.from_state(sampler.state_dict())
    assert list(again) == drawn[3:] and again.epoch == 0
    for batch in drawn[3:]:
        again.take(batch)
    assert len(list(again)) == 5 and again.epoch == 1


def test_a_batch_out_of_order_is_an_error():
    sampler = isample.MemorySampler(20, 5, seed=0)
    first, second = list(sampler)[:2]
    with pytest.raises(isample.MemoryOrderError, match="got another batch"):
        sampler.take(torch.tensor(second))
    sampler.take(torch.tensor(first))
    with pytest.raises(ValueError, match="score must have the shape of indices"):
        sampler.update(torch.tensor(first), torch.ones(3))


@pytest.mark.parametrize(
    "options,match",
    [
        ({"size": 0}, "size must be an integer >= 1"),
        ({"batch_size": 101}, "batch_size must be <= size"),
        ({"floor": 0.0}, r"floor must be in \(0, 1\]"),
        ({"half_life": 0}, "half_life must be > 0"),
        ({"uniform_epochs": 0}, "uniform_epochs must be > 0"),
        ({"rebuild_every": 0}, "rebuild_every must be an integer >= 1"),
    ],
)
def test_bad_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        isample.MemorySampler(**{"size": 100, "batch_size": 10, **options})

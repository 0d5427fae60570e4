"""Memory mode: draws over the whole data set, their weights, the DataLoader around them, and the
Trainer."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import isample
from isample.control.gate import MemoryGate
from isample.sources.indexed import can_be_indexed
from isample.sources.memory import NEVER_SEEN
from tests.test_trainer import CLASSES, b, make_data, make_model, parameters_of, trained

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
    assert sampler.draw().active


def test_an_unseen_sample_counts_as_an_average_one_and_old_scores_return_to_the_mean():
    sampler = isample.MemorySampler(
        4, 2, uniform_epochs=1e-9, floor=1e-6, half_life=1.0, rebuild_every=2, seed=0
    )
    sampler.draw()
    sampler.update(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    sampler.draw()
    masses = sampler._table.sums.diff(prepend=torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(
        masses / masses.sum(), torch.tensor([1.0, 3.0, 2.0, 2.0]) / 8, rtol=1e-5, atol=0
    )
    assert sampler.score.tolist() == [1.0, 3.0, NEVER_SEEN, NEVER_SEEN]
    sampler.draw()
    sampler.draw()  # two batches of two are one epoch: the second table halves the way to the mean
    torch.testing.assert_close(sampler.score, torch.tensor([1.5, 2.5, NEVER_SEEN, NEVER_SEEN]))


def test_implied_weights_are_those_that_draws_would_have():
    sampler = warm_sampler(make_scores(), rebuild_every=10**9)
    assert not sampler.tells and (sampler.implied_weights(torch.arange(N)) == 1).all()
    for _ in range(len(sampler)):
        indices, weights, _ = sampler.draw()
    torch.testing.assert_close(sampler.implied_weights(indices), weights)


def test_the_gate_opens_memory_mode_once_scores_foretell_scores():
    """A data set that is learnt quickly but for some mislabelled samples: where the noise is, the
    memory knows."""
    inputs, targets = make_data(1200)
    targets[::17] = (targets[::17] + 1) % CLASSES
    gate = MemoryGate()
    gate.LIMIT = gate.WATCH = math.inf  # this network's steps are too short for the overhead
    trainer = memory_trainer(make_model(), gate=gate)
    history = trainer.fit(
        DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True), epochs=6
    )
    assert not any(report.active for report in history.steps[:100])
    assert sum(report.active for report in history.steps[-100:]) > 90 and gate.gain.value > 1.05


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


class Pairs(Dataset):
    def __init__(self, inputs, targets):
        self.inputs, self.targets, self.seen = inputs, targets, []

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        self.seen.append(index)
        return self.inputs[index], self.targets[index]


def memory_trainer(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return isample.Trainer(model, optimizer, batch_size=b, mode="memory", seed=5, **options)


def test_fit_takes_over_an_ordinary_loader_and_keeps_its_collate():
    inputs, targets = make_data(120)
    collated = []

    def collate(items):
        collated.append(len(items))
        return torch.utils.data.default_collate(items)

    data = Pairs(inputs, targets)
    trainer = memory_trainer(make_model(), gate="always")
    kept = []
    callbacks = [lambda trainer, report: kept.append(trainer.memory.score.clone())]
    loader = DataLoader(data, batch_size=b, shuffle=True, collate_fn=collate)
    history = trainer.fit(loader, epochs=4, callbacks=callbacks)
    assert len(history.steps) == len(collated) == 40
    assert [report.active for report in history.steps] == [False] * 10 + [True] * 30
    assert (
        sorted(data.seen[:120]) == list(range(120)) and (trainer.memory.score != NEVER_SEEN).all()
    )
    assert history.steps[-1].loss < history.steps[0].loss
    fresh, indices = trainer.selection.score, trainer.selection.indices
    assert trainer.memory.rate == 1 / 5  # after four passes
    torch.testing.assert_close(trainer.memory.score[indices], kept[-2][indices] ** 0.8 * fresh**0.2)


def test_what_is_remembered_is_the_mean_of_as_many_scores_as_samples_had():
    sampler = isample.MemorySampler(20, 5, uniform_epochs=1e9, seed=0)
    rates = {}
    for _ in range(40):
        rates[sampler.drawn] = sampler.rate
        sampler.draw()
    assert [1 / rates[drawn] for drawn in (0, 2, 4, 6, 8, 12, 20, 39)] == pytest.approx(
        [2, 2, 2, 2.5, 3, 4, 6, 6]
    )


@pytest.mark.parametrize(
    "save_at", [13, 47, 60]
)  # in the first and the second epoch of 30 batches, at its very end
def test_resumed_memory_run_is_bit_identical(save_at):
    def make(model):
        return memory_trainer(model, gate="always")

    whole, expected, saved = trained(make, epochs=3, save_at=save_at)
    resumed, parameters, _ = trained(make, epochs=3, resume=saved)
    assert resumed.step_count == whole.step_count == 90
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(parameters, expected))
    assert torch.equal(resumed.memory.score, whole.memory.score)


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
    sampler.active = False
    for _ in range(3):
        batches = list(sampler)
        for batch in batches:
            sampler.take(batch)
        assert len(sampler) == 4 and [len(batch) for batch in batches] == [10] * 4
        assert len({index for batch in batches for index in batch}) == 40


def test_fit_takes_drop_last_over():
    loader = DataLoader(
        TensorDataset(*make_data(3 * b + 1)), batch_size=b, shuffle=True, drop_last=True
    )
    history = memory_trainer(make_model()).fit(loader, epochs=3)
    assert [report.presample for report in history.steps[:3]] == [b] * 3 and len(history.steps) == 9


def test_an_epoch_that_began_half_way_ends_there_for_a_resumed_run_too():
    """The first fit breaks off; the rest of its epoch is the second's first. Saved at that one's
    last batch."""
    loader = DataLoader(TensorDataset(*make_data(10 * b)), batch_size=b, shuffle=True)
    trainer = memory_trainer(make_model())
    for step, _ in enumerate(trainer.iterate(loader, epochs=1), 1):
        if step == 4:
            break
    steps = trainer.iterate(loader, epochs=2)
    for _ in range(6):
        next(steps)
    resumed = memory_trainer(make_model())
    resumed.load_state_dict(trainer.state_dict())
    assert len(list(resumed.iterate(loader, epochs=2))) == len(list(steps)) == 10


def test_a_data_set_smaller_than_a_batch_that_grows():
    """Batches are all there is at first, and of the trainer's size later; the gain is of whole
    batches in both."""
    inputs, targets = make_data(5 * b)
    trainer = memory_trainer(make_model(), gate="always")
    few = DataLoader(TensorDataset(inputs[:5], targets[:5]), batch_size=b, shuffle=True)
    trainer.fit(few, epochs=3)
    assert trainer.memory.batch_size == 5 and trainer.sampler.gate.gain.drawn == 1.0
    trainer.fit(DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True), epochs=2)
    assert trainer.memory.batch_size == b and trainer.sampler.gate.gain.drawn == 1.0
    assert len(trainer.selection.indices) == b


@pytest.mark.parametrize("score", [-0.5, math.inf])
def test_a_score_that_is_none_stops_the_step_and_is_not_remembered(score):
    model = nn.Linear(8, CLASSES)
    trainer = memory_trainer(model, score=lambda logits, targets: torch.full((len(logits),), score))
    before = parameters_of(model)
    with pytest.raises(isample.NonFiniteScoreError):
        trainer.fit(DataLoader(TensorDataset(*make_data(60)), batch_size=b), epochs=1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, parameters_of(model)))
    assert (trainer.memory.score == NEVER_SEEN).all()


def test_more_samples_than_the_tables_take_are_refused_before_anything_is_trained():
    class Huge(Pairs):
        def __len__(self):
            return 2**24 + 1

    loader = DataLoader(Huge(*make_data(60)), batch_size=b)
    with pytest.raises(ValueError, match="at most 2.24 samples for mode='memory'; got 16,777,217"):
        memory_trainer(make_model()).fit(loader, epochs=1)
    assert not can_be_indexed(loader, b)
    with pytest.raises(ValueError, match="size must be at most 2.24"):
        isample.MemorySampler(2**24 + 1, b)


def test_a_collate_function_that_leaves_samples_out_is_refused():
    def first_half(items):
        return torch.utils.data.default_collate(items[: b // 2])

    loader = DataLoader(TensorDataset(*make_data(60)), batch_size=b, collate_fn=first_half)
    with pytest.raises(
        ValueError,
        match=rf"inputs must hold all samples drawn \({b}\) for mode='memory'; got {b // 2}",
    ):
        memory_trainer(make_model()).fit(loader, epochs=1)


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


def test_a_state_is_of_plain_types(tmp_path):
    """torch.load refuses anything else unless it is told to trust the file."""
    trainer = memory_trainer(make_model(), gate="always")
    loader = DataLoader(TensorDataset(*make_data(120)), batch_size=b, shuffle=True, num_workers=1)
    for step, _ in enumerate(trainer.iterate(loader, epochs=3)):
        if step == 15:
            break
    assert trainer.memory._pending and trainer.memory._table is not None
    torch.save(trainer.state_dict(), tmp_path / "state")
    other = memory_trainer(make_model(), gate="always")
    other.load_state_dict(torch.load(tmp_path / "state"))
    assert [listed for listed, _ in other.memory._pending] == [
        listed for listed, _ in trainer.memory._pending
    ]
    assert torch.equal(other.memory.draw().indices, trainer.memory.draw().indices)


def test_what_memory_mode_cannot_take_over_is_refused():
    inputs, targets = make_data(60)
    data = TensorDataset(inputs, targets)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(data)

    weighted = WeightedRandomSampler(torch.ones(60), 60)
    cases = [
        ([(inputs[:b], targets[:b])], TypeError, "must be a torch DataLoader for mode='memory'"),
        (DataLoader(Stream(), batch_size=b), TypeError, "must be map-style"),
        (
            DataLoader(data, batch_size=b, sampler=weighted),
            ValueError,
            "must draw its samples itself",
        ),
        (
            DataLoader(data, batch_size=b, sampler=RandomSampler(data, num_samples=7)),
            ValueError,
            "must deal each of its 60",
        ),
        (
            DataLoader(data, batch_size=b, sampler=RandomSampler(data, True)),
            ValueError,
            "replacement=True",
        ),
        (DataLoader(data, batch_size=b + 1), ValueError, "batch_size must be the trainer's"),
    ]
    for loader, error, match in cases:
        with pytest.raises(error, match=match):
            memory_trainer(make_model()).fit(loader, epochs=1)


def test_a_batch_out_of_order_is_an_error():
    sampler = isample.MemorySampler(20, 5, seed=0)
    first, second = list(sampler)[:2]
    with pytest.raises(isample.MemoryOrderError, match="got another batch"):
        sampler.take(torch.tensor(second))
    sampler.take(torch.tensor(first))
    with pytest.raises(ValueError, match="score must have the shape of indices"):
        sampler.update(torch.tensor(first), torch.ones(3))


def test_non_finite_scores_stop_the_step():
    inputs, targets = make_data(60)
    inputs[:, 0] = math.nan
    model = nn.Linear(8, CLASSES)
    before = parameters_of(model)
    with pytest.raises(isample.NonFiniteScoreError):
        memory_trainer(model).fit(
            DataLoader(TensorDataset(inputs, targets), batch_size=b), epochs=1
        )
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, parameters_of(model)))


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


def test_sixteen_bytes_a_sample():
    """What stays after a table was made while uniform batches are dealt."""
    sampler = warm_sampler(make_scores(100_000))
    sampler.active, sampler.drawn = False, 10**9
    drawn = sampler.draw()
    sampler.implied_weights(drawn.indices)
    kept = {
        part.untyped_storage().data_ptr(): part.untyped_storage().nbytes()
        for part in (sampler.score, sampler._order, *sampler._table)
    }
    assert sum(kept.values()) <= 16 * 100_000 + 64

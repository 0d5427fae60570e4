"""A Trainer with a memory: the DataLoader that it takes over, and what it refuses."""

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
from isample.control import Choices, Speedup
from isample.sources.indexed import can_be_indexed
from isample.sources.memory import NEVER_SEEN
from tests.small_training import (
    CLASSES,
    b,
    make_data,
    make_model,
    parameters_of,
    trained,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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


class Machine(Speedup):
    """On which every step takes a second, and remembering a thousandth of one."""

    def clock(self, state, seconds, overhead):
        return super().clock(state, 1.0, 0.001)


def test_the_memory_draws_once_scores_foretell_scores():
    """A data set that is learnt quickly but for some mislabelled samples: where the noise is, the
    memory knows."""
    inputs, targets = make_data(1200)
    targets[::17] = (targets[::17] + 1) % CLASSES
    control = Machine(Choices(b, remembers=True))
    trainer = memory_trainer(make_model(), control=control)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True)
    history = trainer.fit(loader, epochs=6)
    assert not any(report.active for report in history.steps[:100])
    assert sum(report.active for report in history.steps[-100:]) > 90
    assert history.steps[-1].effective_batch > 1.05 * b


def test_fit_takes_over_an_ordinary_loader_and_keeps_its_collate():
    inputs, targets = make_data(120)
    collated = []

    def collate(items):
        collated.append(len(items))
        return torch.utils.data.default_collate(items)

    collate.keeps_rows = True  # else the first batch is collated twice more, to see that it does
    data = Pairs(inputs, targets)
    trainer = memory_trainer(make_model(), control="always")
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
    fresh, indices = trainer.batch.score, trainer.batch.places
    assert trainer.memory.rate == 1 / 5  # after four passes
    torch.testing.assert_close(trainer.memory.score[indices], kept[-2][indices] ** 0.8 * fresh**0.2)


@pytest.mark.parametrize(
    "save_at", [13, 47, 60]
)  # in the first and the second epoch of 30 batches, at its very end
def test_resumed_memory_run_is_bit_identical(save_at):
    def make(model):
        return memory_trainer(model, control="always")

    whole, expected, saved = trained(make, epochs=3, save_at=save_at)
    resumed, parameters, _ = trained(make, epochs=3, resume=saved)
    assert resumed.step_count == whole.step_count == 90
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(parameters, expected))
    assert torch.equal(resumed.memory.score, whole.memory.score)


def test_fit_takes_drop_last_over():
    loader = DataLoader(
        TensorDataset(*make_data(3 * b + 1)), batch_size=b, shuffle=True, drop_last=True
    )
    history = memory_trainer(make_model()).fit(loader, epochs=3)
    assert [report.presample for report in history.steps[:3]] == [b] * 3 and len(history.steps) == 9


def test_a_fit_behind_one_that_was_broken_off_has_whole_epochs():
    """So has one that is resumed from its first epoch."""
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
    assert len(list(resumed.iterate(loader, epochs=2))) == len(list(steps)) == 14


def test_a_data_set_smaller_than_a_batch_that_grows():
    """Batches are all there is at first, and of the trainer's size later; the gain is of whole
    batches in both."""
    inputs, targets = make_data(5 * b)
    trainer = memory_trainer(make_model(), control="always")
    few = DataLoader(TensorDataset(inputs[:5], targets[:5]), batch_size=b, shuffle=True)
    trainer.fit(few, epochs=3)
    assert trainer.memory.batch_size == 5 and trainer.batch.size == 5
    trainer.fit(DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True), epochs=2)
    assert trainer.memory.batch_size == b
    assert trainer.batch.size == len(trainer.batch.places) == b


@pytest.mark.parametrize("score", [-0.5, math.inf])
def test_a_score_that_is_none_stops_the_step_and_is_not_remembered(score):
    model = nn.Linear(8, CLASSES)
    trainer = memory_trainer(
        model, control="always", score=lambda z, y: torch.full((len(z),), score)
    )
    before = parameters_of(model)
    with pytest.raises(isample.NonFiniteScoreError):
        trainer.fit(DataLoader(TensorDataset(*make_data(60)), batch_size=b), epochs=1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, parameters_of(model)))
    assert (trainer.memory.score == NEVER_SEEN).all()


def test_more_samples_than_the_tables_take_are_refused_before_anything_is_trained():
    class Huge(Pairs):
        def __len__(self):
            return 2**32 + 1

    loader = DataLoader(Huge(*make_data(60)), batch_size=b)
    with pytest.raises(ValueError, match="at most 2.32 samples for a memory; got 4,294,967,297"):
        memory_trainer(make_model()).fit(loader, epochs=1)
    assert not can_be_indexed(loader, b)
    with pytest.raises(ValueError, match="size must be at most 2.32"):
        isample.MemorySampler(2**32 + 1, b)


def test_a_collate_function_that_leaves_samples_out_is_refused():
    def first_half(items):
        return torch.utils.data.default_collate(items[: b // 2])

    loader = DataLoader(TensorDataset(*make_data(60)), batch_size=b, collate_fn=first_half)
    with pytest.raises(
        ValueError,
        match=rf"batch must hold its {b} samples in every part; got {b // 2} .*leave none out",
    ):
        memory_trainer(make_model()).fit(loader, epochs=1)


def test_a_state_is_of_plain_types(tmp_path):
    """torch.load refuses anything else unless it is told to trust the file."""
    trainer = memory_trainer(make_model(), control="always")
    loader = DataLoader(TensorDataset(*make_data(120)), batch_size=b, shuffle=True, num_workers=1)
    for step, _ in enumerate(trainer.iterate(loader, epochs=3)):
        if step == 15:
            break
    assert trainer.memory._pending and trainer.memory.memory._table is not None
    torch.save(trainer.state_dict(), tmp_path / "state")
    other = memory_trainer(make_model(), control="always")
    other.load_state_dict(torch.load(tmp_path / "state"))
    other.iterate(loader, epochs=3)  # a state waits for the loader
    mine, theirs = (each.memory._pending.state() for each in (other, trainer))
    assert [indices for indices, _ in mine] == [indices for indices, _ in theirs]
    assert torch.equal(other.memory.draw().indices, trainer.memory.draw().indices)


def test_what_memory_mode_cannot_take_over_is_refused():
    inputs, targets = make_data(60)
    data = TensorDataset(inputs, targets)

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(data)

    weighted = WeightedRandomSampler(torch.ones(60), 60)
    cases = [
        ([(inputs[:b], targets[:b])], TypeError, "must be a torch DataLoader for a memory"),
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


@pytest.mark.parametrize(
    "control,error",
    [
        ("always", isample.NonFiniteScoreError),
        ("speedup", isample.NonFiniteLossError),  # whose first steps are not scored
        ("never", isample.NonFiniteLossError),
    ],
)
def test_what_is_not_finite_stops_the_step(control, error):
    inputs, targets = make_data(60)
    inputs[:, 0] = math.nan
    model = nn.Linear(8, CLASSES)
    before = parameters_of(model)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=b)
    trainer = memory_trainer(model, control=control)
    with pytest.raises(error):
        trainer.fit(loader, epochs=1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(before, parameters_of(model)))
    assert trainer.step_count == 0

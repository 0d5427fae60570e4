"""Epochs of the user's loader: which one it is, that it has not run dry, and where a resumed one
goes on."""

import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, Subset, TensorDataset

import isample

b = 8
DATA = TensorDataset(torch.arange(64.0).unsqueeze(1), torch.arange(64) % 4)


def make(**options):
    torch.manual_seed(0)
    model = nn.Linear(1, 4)
    return isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), 1e-3),
        batch_size=b,
        seed=0,
        **{"mode": "presample", "control": "never"} | options,
    )


def make_engine():
    model = nn.Linear(1, 4)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    return isample.Engine(optimizer, head=model, control="never", batch_size=b), model, optimizer


def train(engine, model, optimizer, batches, stop=None):
    for at, (inputs, targets) in enumerate(batches, 1):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if at == stop:
            return


def state_of(loader, step, **options):
    saved, trainer = {}, make(**options)

    def save(trainer, report):
        if report.step == step:
            saved.update(trainer.state_dict())

    trainer.fit(loader, epochs=3, callbacks=[save])
    return saved


class Sizeless:
    """A loader that does not know its length; or tells ``length``, which may be a lie."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return iter([DATA[i * b : (i + 1) * b] for i in range(self.count)])


class Lying(Sizeless):
    def __init__(self, count, length):
        super().__init__(count)
        self.length = length

    def __len__(self):
        return self.length


def sized(count):
    return DataLoader(Subset(DATA, range(b * count)), b)


@pytest.mark.parametrize(
    "saved,given,step,match",
    [
        (sized(8), sized(4), 6, "at least the 8 batches .* had trained on 6 of them; got 4"),
        (sized(8), sized(4), 2, "at least the 8 batches .* had trained on 2 of them; got 4"),
        ([*sized(8)], [*sized(3)], 13, "at least the 8 batches .* trained on 5 of them; got 3"),
        (Sizeless(8), Sizeless(4), 6, "must yield the 6 batches .* got 4"),
        (sized(8), Sizeless(4), 6, "must yield the 6 batches .* got 4"),
        (Lying(8, 8), Lying(4, 8), 6, "must yield the 6 batches .* got 4"),
    ],
)
def test_a_shorter_loader_is_refused_before_anything_is_trained(saved, given, step, match):
    trainer = make()
    trainer.load_state_dict(state_of(saved, step))
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(ValueError, match=match):
        trainer.fit(given, epochs=3)
    assert trainer.step_count == step
    assert all(map(torch.equal, before, trainer.model.parameters()))


def test_a_longer_one_goes_on_and_so_does_a_liar_that_is_the_same():
    for saved, given, steps in (
        (sized(4), sized(8), 8 + 8 + 8),
        (Lying(8, 5), Lying(8, 5), 24),
        (Lying(4, 9), Lying(4, 9), 12),
    ):
        trainer = make()
        trainer.load_state_dict(state_of(saved, 3))
        trainer.fit(given, epochs=3)
        assert trainer.step_count == steps and trainer.progress == 1.0


def test_an_engine_refuses_it_before_anything_has_changed():
    engine, model, optimizer = make_engine()
    train(engine, model, optimizer, engine.loader([*sized(8)]), stop=6)
    state = engine.state_dict()
    other, *_ = make_engine()
    loader = other.loader([*sized(4)])
    with pytest.raises(ValueError, match="at least the 8 batches"):
        other.load_state_dict(state)
    assert other.steps.count == 0 and loader.batches == 0
    other, *_ = make_engine()
    other.load_state_dict(state)
    with pytest.raises(ValueError, match="at least the 8 batches"):
        other.loader([*sized(4)])
    assert len([*other.loader([*sized(8)])]) == 2


@pytest.mark.parametrize("spent", [iter, lambda x: (y for y in x), lambda x: map(tuple, x)])
def test_a_one_shot_iterator_has_one_epoch(spent):
    trainer = make()
    with pytest.raises(ValueError, match=r"one-shot iterator: \w+ \(give a list or a DataLoader"):
        trainer.fit(spent([*sized(3)]), epochs=2)
    assert trainer.step_count == 3
    trainer = make()
    trainer.fit(spent([*sized(3)]), epochs=1)
    assert trainer.step_count == 3
    engine, model, optimizer = make_engine()
    loader = engine.loader(spent([*sized(3)]))
    train(engine, model, optimizer, loader)
    with pytest.raises(ValueError, match="one-shot iterator"):
        next(iter(loader))


class Resets:
    """An iterator that begins anew whenever it is asked to: no one-shot."""

    def __iter__(self):
        self.left = [*sized(3)]
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        return self.left.pop(0)


def test_an_iterator_that_begins_anew_has_many():
    trainer = make()
    trainer.fit(Resets(), epochs=2)
    assert trainer.step_count == 6


class Told:
    """Takes down which epochs it is told of, beside what else it is."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.told = []

    def set_epoch(self, epoch):
        self.told.append(epoch)
        if hasattr(super(), "set_epoch"):
            super().set_epoch(epoch)


class ToldLoader(Told, DataLoader):
    pass


class ToldBatches(Told, BatchSampler):
    pass


class ToldData(Told, TensorDataset):
    pass


class ToldSampler(Told, DistributedSampler):
    pass


def test_all_that_asks_for_it_is_told_the_epoch():
    data = ToldData(*DATA.tensors)
    sampler = ToldSampler(data, 2, 0)
    batches = ToldBatches(sampler, b, False)
    loader = ToldLoader(Subset(data, range(64)), batch_sampler=batches)
    make().fit(loader, epochs=3)
    assert data.told == sampler.told == batches.told == loader.told == [0, 1, 2]
    engine, *_ = make_engine()
    mine = engine.loader(loader)
    mine.set_epoch(7)
    assert data.told[-1] == sampler.told[-1] == batches.told[-1] == loader.told[-1] == 7


def test_every_epoch_is_dealt_anew_by_a_sampler_in_a_batch_sampler():
    sampler = DistributedSampler(DATA, 2, 1)
    model_saw = []
    trainer = make()
    trainer.model.register_forward_pre_hook(
        lambda _, args: model_saw.extend(args[0][:, 0].int().tolist())
    )
    trainer.fit(DataLoader(DATA, batch_sampler=BatchSampler(sampler, b, False)), epochs=2)
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    assert model_saw == expected and expected[:32] != expected[32:]


def test_an_epoch_that_is_set_is_the_next_one():
    """Also behind one that was broken off; and what is left of a saved one stays."""
    engine, model, optimizer = make_engine()
    loader = engine.loader([*sized(4)])
    train(engine, model, optimizer, loader, stop=2)
    state = engine.state_dict()
    loader.set_epoch(5)
    train(engine, model, optimizer, loader)
    assert loader.epoch == 6
    for epoch, left in ((0, 2), (3, 4)):
        other, *_ = make_engine()
        loader = other.loader([*sized(4)])
        other.load_state_dict(state)
        loader.set_epoch(epoch)
        assert len([*loader]) == left and loader.epoch == epoch + 1

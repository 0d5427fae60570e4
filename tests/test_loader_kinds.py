"""What a memory cannot take over of a DataLoader stays the loader's, and is said once; all else is
honoured: the truth is the plain loader's own epoch."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import isample

N, b = 50, 8
DATA = TensorDataset(torch.arange(float(N)).unsqueeze(1), torch.arange(N) % 3)


def trained(loader, epochs=2, **options):
    """The trainer and what its network saw in every step."""
    model, seen = nn.Linear(1, 3), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 0].tolist()))
    options = {"control": "never", "seed": 1} | options
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 1e-6), batch_size=b, **options
    )
    for _ in range(epochs):
        trainer.fit(loader, epochs=1)
    return trainer, seen


def dealt(loader, epochs=2):
    return [batch[0][:, 0].tolist() for _ in range(epochs) for batch in loader]


class Doubling(DataLoader):
    def __iter__(self):
        for inputs, targets in super().__iter__():
            yield 2 * inputs, targets


class Mixin:
    def _get_iterator(self):
        return ((-inputs, targets) for inputs, targets in super()._get_iterator())


class Negating(Mixin, DataLoader):
    pass


class Longer(DataLoader):
    def __len__(self):
        return 2 * super().__len__()


class Named(DataLoader):
    """Deals as its base does: all of its own is a default and a method beside."""

    def __init__(self, *args, **options):
        super().__init__(*args, **{"collate_fn": tripled, **options})

    def describe(self):
        return "named"


def tripled(items):
    return torch.stack([3 * x for x, _ in items]), torch.stack([y for _, y in items])


def patched():
    loader = DataLoader(DATA, b, shuffle=True)
    loader._get_iterator = lambda: iter([DATA[:5], DATA[5:9]])
    return loader


def another_batch_sampler():
    loader = DataLoader(DATA, b, shuffle=True)
    loader.batch_sampler.sampler = range(N)
    return loader


WEIGHTED = WeightedRandomSampler((torch.arange(N) < 9).float(), N)
LEFT = {
    "__iter__": (lambda: Doubling(DATA, b, shuffle=True), "Doubling with __iter__"),
    "_get_iterator": (lambda: Negating(DATA, b, shuffle=True), "Negating with _get_iterator"),
    "__len__": (lambda: Longer(DATA, b, shuffle=True), "Longer with __len__"),
    "instance": (patched, "DataLoader with _get_iterator"),
    "sampler": (lambda: DataLoader(DATA, b, sampler=WEIGHTED), "draw its samples itself"),
    "batch sampler": (
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), b, True)),
        "draw its samples itself",
    ),
    "its batch sampler changed": (another_batch_sampler, "draw its samples itself"),
    "order": (lambda: DataLoader(DATA, b), "must shuffle"),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_loader_with_ways_of_its_own_deals_as_it_is(name):
    make, reason = LEFT[name]
    torch.manual_seed(3)
    expected = dealt(make())
    torch.manual_seed(3)
    torch.nn.Linear(1, 3)  # draws as much as the network in trained
    loader = make()
    with pytest.warns(isample.NoMemoryWarning, match=reason) as told:
        trainer, seen = trained(loader)
    assert len(told) == 1 and trainer.mode == "presample" and trainer.memory is None
    if name in ("__iter__", "_get_iterator", "sampler", "batch sampler", "__len__"):
        assert {x for batch in seen for x in batch} <= set(dealt_values(name))
    else:
        assert seen == expected


def dealt_values(name):
    values = {"__iter__": 2 * torch.arange(N), "_get_iterator": -torch.arange(N)}
    return values.get(name, torch.arange(9 if name == "sampler" else N)).tolist()


@pytest.mark.parametrize("name", sorted(LEFT.keys() - {"order"}))
def test_it_is_refused_where_a_memory_was_asked_for(name):
    make, reason = LEFT[name]
    with pytest.raises(ValueError, match=rf"(?s){reason}.*use mode='presample'"):
        trained(make(), mode="memory")


def test_a_memory_that_was_asked_for_deals_in_order_where_the_loader_does():
    trainer, seen = trained(DataLoader(DATA, b), mode="memory")
    assert trainer.memory is not None and seen == dealt(DataLoader(DATA, b))


def test_an_engine_leaves_it_too_and_says_so():
    for name, (make, reason) in LEFT.items():
        model = nn.Linear(1, 3)
        optimizer = torch.optim.SGD(model.parameters(), 1e-6)
        engine = isample.Engine(optimizer, head=model, control="never", batch_size=b)
        with pytest.warns(isample.NoMemoryWarning, match=reason):
            loader = engine.loader(make())
        assert not loader.source.remembers, name


def test_nothing_is_said_where_there_is_nothing_to_remember_or_all_is_taken_over():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained([DATA[:b]])
        trainer, seen = trained(Named(DATA, b, shuffle=True))
    assert trainer.mode == "memory"
    assert sorted(sum(seen[:7], [])) == [3.0 * x for x in range(N)]


def test_batches_out_of_order_are_not_a_memory_s():
    loader = DataLoader(DATA, b, shuffle=True, num_workers=1, in_order=False)
    with pytest.raises(ValueError, match="got in_order=False"):
        trained(loader, mode="memory")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("own", ["loader", "sampler"])
def test_a_loader_s_generator_deals_its_own_order(own, drop_last, workers):
    """The plain loader's, as long as nothing is drawn by importance; and it is left where that one
    leaves it."""

    def make(seed):
        generator = torch.Generator().manual_seed(seed)
        options = {"drop_last": drop_last, "num_workers": workers}
        if own == "loader":
            return DataLoader(DATA, b, shuffle=True, generator=generator, **options), generator
        return DataLoader(DATA, b, sampler=RandomSampler(DATA, generator=generator), **options), (
            generator
        )

    (plain, theirs), (loader, mine) = make(7), make(7)
    expected = dealt(plain, epochs=3)
    trainer, seen = trained(loader, epochs=3)
    assert trainer.mode == "memory" and seen == expected
    assert torch.equal(mine.get_state(), theirs.get_state())
    assert trained(make(8)[0])[1] != expected


class Noisy(Dataset):
    """Its items hold their place and what torch's generator gives a worker."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return index + torch.rand(1), index % 3


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_are_seeded_as_the_loader_seeds_them(persistent):
    def make():
        generator = torch.Generator().manual_seed(5)
        options = {"num_workers": 1, "persistent_workers": persistent}
        return DataLoader(Noisy(), b, shuffle=True, generator=generator, **options)

    model = nn.Linear(1, 3)
    engine = isample.Engine(torch.optim.SGD(model.parameters(), 1e-6), head=model, control="never")
    mine, seen = engine.loader(make()), []
    for _ in range(3):
        for inputs, _ in mine:
            seen.append(inputs[:, 0].tolist())
            engine.skip()
    assert mine.source.remembers and seen == dealt(make(), epochs=3)


class Shifted(TensorDataset):
    def __getitem__(self, index):
        inputs, targets = super().__getitem__(index)
        return inputs + 100, targets


class AtOnce(Dataset):
    def __len__(self):
        return N

    def __getitems__(self, indices):
        return [(torch.tensor([200.0 + i]), i % 3) for i in indices]


def patched_data():
    data = TensorDataset(*DATA.tensors)
    data.__getitems__ = lambda indices: [(torch.tensor([300.0 + i]), 0) for i in indices]
    return data


@pytest.mark.parametrize(
    "data,first",
    [
        (Shifted(*DATA.tensors), 100),
        (AtOnce(), 200),
        (patched_data(), 300),
        (Subset(Shifted(*DATA.tensors), range(N - 1, -1, -1)), 100),
        (ConcatDataset([Subset(DATA, range(20)), Subset(DATA, range(20, N))]), 0),
    ],
)
def test_items_are_the_data_set_s_own(data, first):
    def make():
        return DataLoader(data, b, shuffle=True, generator=torch.Generator().manual_seed(2))

    trainer, seen = trained(make())
    assert trainer.mode == "memory" and seen == dealt(make())
    assert sorted(sum(seen[:7], [])) == [float(first + i) for i in range(N)]


def test_what_changes_between_epochs_is_followed():
    """As a DataLoader follows it: the data set's tensors and its length, the last batch, the
    collate function."""
    data = TensorDataset(*DATA.tensors)
    loader = DataLoader(data, b, shuffle=True, generator=torch.Generator().manual_seed(2))
    model, seen = nn.Linear(1, 3), []
    model.register_forward_pre_hook(lambda _, args: seen.extend(args[0][:, 0].tolist()))
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 1e-6), batch_size=b, control="never"
    )
    plain = TensorDataset(*DATA.tensors)
    twin = DataLoader(plain, b, shuffle=True, generator=torch.Generator().manual_seed(2))
    changes = [
        lambda data, loader: setattr(data, "tensors", (-DATA.tensors[0], DATA.tensors[1])),
        lambda data, loader: setattr(loader.batch_sampler, "drop_last", True),
        lambda data, loader: setattr(loader, "collate_fn", tripled),
        lambda data, loader: setattr(
            data, "tensors", tuple(torch.cat([x, x]) for x in DATA.tensors)
        ),
    ]
    ends = (7, 14, 20, 26)  # of 7, 7, 6, 6 and 12 batches

    def change(trainer, report):
        if report.step in ends:
            changes[ends.index(report.step)](data, loader)

    trainer.fit(loader, epochs=5, callbacks=[change])
    expected = dealt(twin, epochs=1)
    for each in changes:
        each(plain, twin)
        expected += dealt(twin, epochs=1)
    assert trainer.mode == "memory" and seen == sum(expected, [])
    assert trainer.memory.size == 2 * N and trainer.step_count == 38


def test_a_data_set_that_shrinks_is_refused():
    data = TensorDataset(*DATA.tensors)
    loader = DataLoader(data, b, shuffle=True)

    def shrink(trainer, report):
        if report.step == 14:
            data.tensors = tuple(x[:20] for x in DATA.tensors)

    trainer, _ = trained(loader, epochs=1)
    with pytest.raises(ValueError, match="must not shrink: its memory holds 50 samples; got 20"):
        trainer.fit(loader, epochs=2, callbacks=[shrink])

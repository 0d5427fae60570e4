"""Loaders made over for memory mode yield what a DataLoader over the same batches of indices
does."""

import random

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import isample
from isample.sources.indexed import (
    IndexedCollate,
    InProcessLoader,
    TensorLoader,
    indexed_loader,
)
from isample.support.batch_cuts import rows_of

N, B = 50, 8


class Pairs(Dataset):
    """Without ``__getitems__``: fetched one by one."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"x": torch.full((3,), float(index)), "y": 2 * index}, -index


def tensors():
    return TensorDataset(torch.arange(3.0 * N).view(N, 3), torch.arange(N))


def doubled(items):
    return torch.stack([2 * x for x, _ in items]), torch.stack([y for _, y in items])


CASES = [
    (DataLoader(tensors(), batch_size=B), TensorLoader),
    (DataLoader(tensors(), batch_size=B, collate_fn=doubled), InProcessLoader),
    (DataLoader(Pairs(), batch_size=B), InProcessLoader),
    (DataLoader(tensors(), batch_size=B, num_workers=2), DataLoader),
]


@pytest.mark.parametrize("loader,kind", CASES)
def test_yields_what_a_data_loader_does(loader, kind):
    mine = indexed_loader(loader, loader.dataset, isample.MemorySampler(N, B, seed=3))
    batches = list(isample.MemorySampler(N, B, seed=3))
    plain = DataLoader(loader.dataset, batch_sampler=batches, collate_fn=loader.collate_fn)
    assert type(mine) is kind and len(mine) == len(batches) == 7
    for (got, drawn), expected, listed in zip(mine, plain, batches, strict=True):
        indices = drawn if kind is DataLoader else drawn.indices.tolist()
        assert indices == listed
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_run_that_drew_ahead_goes_on_in_either_form():
    """Batches that were drawn as lists and never taken come again, to a loader that asks for
    tensors, and the other way."""
    sampler = isample.MemorySampler(N, B, seed=0)
    batches = iter(sampler)
    first, second = next(batches), next(batches)
    sampler.take(first)
    restored = isample.MemorySampler.from_state(sampler.state_dict())
    state = restored.state_dict()
    (inputs, targets), drawn = next(iter(TensorLoader(tensors(), restored)))
    assert targets.tolist() == drawn.indices.tolist() == second
    restored = isample.MemorySampler.from_state(state)
    assert next(iter(restored)) == second and restored.take(second).indices.tolist() == second


class Breaks(Pairs):
    """Fetches nothing the first time."""

    broken = False

    def __getitem__(self, index):
        if not self.broken:
            self.broken = True
            raise OSError("no such file")
        return super().__getitem__(index)


def test_an_epoch_whose_first_batch_could_not_be_fetched_begins_anew():
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = isample.Engine(optimizer, head=model, control="never", seed=0)
    loader = engine.loader(DataLoader(Breaks(), batch_size=B, shuffle=True))
    with pytest.raises(OSError):
        next(iter(loader))
    came = []
    for inputs, negatives in loader:
        model(inputs["x"]).square().mean().backward()
        optimizer.step()
        came += (-negatives).tolist()
    assert sorted(came) == list(range(N))


def sorts(items):
    return torch.stack(sorted(items, key=lambda item: -item[0])), torch.arange(len(items))


def mixes(items):
    rows = torch.stack(items)
    return rows + rows[0]


def augments(items):
    return torch.stack(items) + random.random() + torch.rand(len(items), 3)


def pads(items):
    return torch.nn.utils.rnn.pad_sequence([item[: 1 + int(item[0]) % 3] for item in items], True)


ITEMS = (list(range(B)), [torch.full((3,), float(i)) for i in range(B)])


@pytest.mark.parametrize("collate", [sorts, mixes])
def test_a_collate_function_that_sorts_or_mixes_is_refused(collate):
    with pytest.raises(ValueError, match="collate_fn must keep item i in row i"):
        IndexedCollate(collate)(ITEMS)


def test_one_that_pads_is_taken_and_looked_at_once_and_random_states_stay():
    calls = []

    def counted(items):
        calls.append(len(items))
        return pads(items)

    collate = IndexedCollate(counted)
    states = torch.get_rng_state(), random.getstate()
    first, second = collate(ITEMS), collate(ITEMS)
    assert torch.equal(first[0], second[0]) and first[1] == ITEMS[0] and calls == [B] * 4
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


def test_one_that_augments_at_random_is_taken_at_its_word():
    with pytest.raises(ValueError, match=r"set collate_fn\.keeps_rows = True where only random"):
        IndexedCollate(augments)(ITEMS)
    augments.keeps_rows = True
    assert IndexedCollate(augments)(ITEMS)[0].shape == (B, 3)


class Halved(torch.Tensor):
    """A subclass whose rows are its own business."""

    def __getitem__(self, places):
        return torch.Tensor.__getitem__(self.as_subclass(torch.Tensor), places) / 2


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x[:, :, ::2],
        lambda x: x.to(torch.uint8),
        lambda x: x[:, 0, 0, 0].contiguous(),
        lambda x: x[:, 0, 0, 0].to(torch.uint16),
        lambda x: x[:, 0].to(torch.uint16),
        lambda x: x[:, :1].contiguous(memory_format=torch.channels_last),
        lambda x: x[:, :, :1, :1].contiguous(memory_format=torch.channels_last),
        lambda x: x.requires_grad_(),
        lambda x: x.as_subclass(Halved),
    ],
)
def test_rows_are_those_that_an_index_gives_in_its_layout(make):
    tensor = make(torch.arange(4 * 3 * 6 * 5, dtype=torch.float32).reshape(4, 3, 6, 5))
    places = torch.tensor([3, 0, 0, 2, 1])
    rows, expected = rows_of(tensor, places), tensor[places]
    assert rows.dtype == expected.dtype and rows.tolist() == expected.tolist()
    assert rows.stride() == expected.stride() and type(rows) is type(expected)
    assert rows.requires_grad == expected.requires_grad

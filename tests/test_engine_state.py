"""A run that is saved and resumed is the run that was not."""

import copy
import io

import pytest
import torch
from torch.utils.data import IterableDataset, TensorDataset

from tests.engine_loop import (
    b,
    equal,
    loss_of,
    make_data,
    make_engine,
    make_loader,
    make_model,
    make_optimizer,
    parameters_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

EPOCHS, STEPS = 4, 28


class Endless(IterableDataset):
    """The data set's samples in an order of torch's own generator, as an iterable."""

    def __init__(self):
        self.tensors = make_data().tensors

    def __iter__(self):
        for i in torch.randperm(len(self.tensors[0])).tolist():
            yield tuple(tensor[i] for tensor in self.tensors)


LOADERS = {
    "tensors": make_loader,
    "items": lambda: make_loader([tuple(x) for x in zip(*make_data().tensors)]),
    "workers": lambda: make_loader(num_workers=1),
    "dropping the last": lambda: make_loader(drop_last=True),
    "stream": lambda: make_loader(Endless(), shuffle=None),
}


class Run:
    """Model, optimizer and engine; a loop that fetches ``ahead`` batches before it trains."""

    def __init__(self, loader, ahead, **options):
        self.model = make_model(dropout=0.2)
        self.optimizer = make_optimizer(self.model)
        self.engine = make_engine(self.model, self.optimizer, **options)
        self.loader, self.ahead, self.seen = loader, ahead, []

    def begin(self):
        self.loader = self.engine.loader(self.loader)

    def steps(self):
        while self.loader.epoch < EPOCHS:
            queue, batches = [], iter(self.loader)
            while True:
                while len(queue) <= self.ahead and (batch := next(batches, None)) is not None:
                    queue.append(batch)
                if not queue:
                    break
                self.train(queue.pop(0))
                yield

    def train(self, batch):
        self.optimizer.zero_grad()
        loss_of(self.model, batch).backward()
        self.optimizer.step()
        report = self.engine.report
        self.seen.append((batch[0].clone(), report.weight_min, report.weight_max, report.tau))

    def state_dict(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "engine": self.engine.state_dict(),
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.engine.load_state_dict(state["engine"])
        torch.set_rng_state(state["random"])


def stored(state):
    """As it comes from a file, of plain types."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def follow(run, steps=None):
    for at, _ in enumerate(run.steps(), start=1):
        if at == steps:
            return


@pytest.mark.parametrize("loads", ["before the loader", "after the loader"])
@pytest.mark.parametrize("saved", [3, 7, 13, 18])
@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("kind", LOADERS)
def test_resumed_bit_for_bit(kind, ahead, saved, loads):
    """Where 7 batches are an epoch: within the first, behind its last batch, at the last but
    one of the second, and within the third. Batches that were fetched and not trained on come
    again."""
    torch.manual_seed(5)
    whole = Run(LOADERS[kind](), ahead)
    whole.begin()
    follow(whole)
    torch.manual_seed(5)
    first = Run(LOADERS[kind](), ahead)
    first.begin()
    follow(first, saved)
    state = stored(first.state_dict())
    torch.manual_seed(6)
    second = Run(LOADERS[kind](), ahead, seed=8)
    if loads == "after the loader":
        second.begin()
        second.load_state_dict(state)
    else:
        second.load_state_dict(state)
        second.begin()
    follow(second)
    seen = first.seen + second.seen
    assert len(seen) == len(whole.seen) == (24 if kind == "dropping the last" else STEPS)
    for (batch, *numbers), (expected, *truth) in zip(seen, whole.seen):
        assert torch.equal(batch, expected) and equal_numbers(numbers, truth)
    assert equal(parameters_of(second.model), parameters_of(whole.model))
    assert second.engine.steps.count == len(seen)


class Saving(Run):
    """Saves before it trains on the batch ``at``, which was fetched."""

    at, state = None, None

    def train(self, batch):
        if len(self.seen) == self.at:
            self.state = stored(self.state_dict())
        super().train(batch)


@pytest.mark.parametrize("at", [0, 7, 9])
@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("kind", ["items", "workers", "stream"])
def test_saved_between_fetching_and_training(kind, ahead, at):
    """Also where an epoch has begun and nothing of it was trained on."""
    torch.manual_seed(5)
    first = Saving(LOADERS[kind](), ahead)
    first.at = at
    first.begin()
    follow(first)
    torch.manual_seed(6)
    second = Run(LOADERS[kind](), ahead, seed=8)
    second.begin()
    second.load_state_dict(first.state)
    follow(second)
    assert len(second.seen) == STEPS - at
    for (batch, *_), (expected, *_) in zip(second.seen, first.seen[at:]):
        assert torch.equal(batch, expected)
    assert equal(parameters_of(second.model), parameters_of(first.model))


def equal_numbers(some, others):
    return str(some) == str(others)  # NaN is NaN


def test_saving_changes_nothing():
    whole, saving = (Run(make_loader(), 1) for _ in range(2))
    for run in (whole, saving):
        torch.manual_seed(5)
        run.begin()
        for _ in run.steps():
            if run is saving:
                run.state_dict()
    assert equal(parameters_of(whole.model), parameters_of(saving.model))


def test_a_state_is_a_copy():
    run = Run(make_loader(), 0)
    run.begin()
    follow(run, 10)
    state = run.engine.state_dict()
    kept = copy.deepcopy(state)
    follow(run)
    assert str(state) == str(kept)
    other = Run(make_loader(), 0)
    other.begin()
    other.engine.load_state_dict(state)
    torch.manual_seed(1)
    follow(other, 4)
    assert str(state) == str(kept)


def test_mean_counts_are_kept():
    model = make_model()
    optimizer = make_optimizer(model)
    engines = [make_engine(model, optimizer, head=None, attach=False) for _ in range(2)]
    for inputs, _ in engines[0].loader(make_loader()):
        counts = torch.arange(1.0, len(inputs) + 1)
        engines[0].rows(model(inputs), counts).sum().backward()
        engines[0].before_update()
        engines[0].after_update()
    state = stored(engines[0].state_dict())
    assert state["rows"] == [{"total": 6 * 36.0 + 3.0, "samples": 50}]
    engines[1].loader(make_loader())
    engines[1].load_state_dict(state)
    assert engines[1].state_dict()["rows"] == state["rows"]


def test_a_state_under_way_or_of_another_version():
    run = Run(make_loader(), 0)
    run.begin()
    with pytest.raises(ValueError, match="missing 'version', 'rows', 'loader'"):
        run.engine.load_state_dict({})
    loss_of(run.model, next(iter(run.loader))).backward()
    with pytest.raises(RuntimeError, match="between an update and the next forward pass"):
        run.engine.state_dict()


def test_a_data_set_that_has_grown():
    """The new samples have no score; one that has shrunk is refused."""
    run = Run(make_loader(), 0)
    run.begin()
    follow(run, 14)
    state = run.state_dict()
    tensors = make_data().tensors
    grown = Run(make_loader(TensorDataset(*(torch.cat([x, x[:b]]) for x in tensors))), 0)
    grown.begin()
    grown.load_state_dict(state)
    assert len(grown.engine.dealer.source.memory.score) == 58
    follow(grown)
    shrunk = Run(make_loader(TensorDataset(*(x[:-b] for x in tensors))), 0)
    shrunk.begin()
    with pytest.raises(ValueError, match="data set must not shrink"):
        shrunk.load_state_dict(state)

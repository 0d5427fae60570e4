"""Every sample of an epoch is trained on once, or scored once where candidates are: batches that
come short are not joined and cut."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

import isample
from isample.control import Choices, Speedup

b = 32
LENGTHS = {
    "short": [20, 20, 32, 7, 1],
    "halves": [17] * 9,
    "ones": [1, 1, 1],
    "whole, then short": [32, 32, 5],
    "with empty ones": [0, 20, 0, 32, 0],
}


def batches_of(lengths):
    samples = torch.arange(float(sum(lengths))).unsqueeze(1)
    return [(x, (x[:, 0] % 4).long()) for x in samples.split(lengths)]


class Recorder(nn.Module):
    """Keeps what it saw in training passes and in scoring passes, a list a pass."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 4)
        self.trained, self.scored = [], []

    def forward(self, x):
        (self.trained if torch.is_grad_enabled() else self.scored).append(x[:, 0].int().tolist())
        return self.linear(x / 100)


class Shut(Speedup):
    """May choose, and does not."""

    def plan(self, state):
        return isample.Plan()


def fitted(loader, epochs=1, **options):
    torch.manual_seed(0)
    model = Recorder()
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 1e-3), batch_size=b, seed=1, **options
    )
    trainer.fit(loader, epochs=epochs)
    return trainer, model


UNSCORED = {
    "never": {"control": "never"},
    "never, presample": {"control": "never", "mode": "presample"},
    "never, few candidates": {"control": "never", "presample": b},
    "never, alias": {"control": "never", "draws": "alias", "presample": 3 * b},
    "never, systematic": {"control": "never", "draws": "systematic"},
    "shut": {"control": Shut(Choices(b))},
    "shut, presample": {"control": Shut(Choices(b)), "presample": 2 * b},
    "speedup at its beginning": {},
    "threshold": {"control": "threshold", "tau_threshold": 1e9},
    "ahead": {"control": "never", "scoring": isample.Scoring(ahead=True)},
}


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("options", UNSCORED)
def test_where_nothing_is_scored_each_batch_is_trained_on_as_it_comes(options, lengths):
    batches = batches_of(LENGTHS[lengths])
    trainer, model = fitted(batches, epochs=2, **UNSCORED[options])
    expected = [x[:, 0].int().tolist() for x, _ in batches if len(x)]
    assert model.trained == 2 * expected and model.scored == []
    assert [report.kept for report in trainer.history.steps] == list(map(len, 2 * expected))


@pytest.mark.parametrize("draws", ["pps", "alias", "systematic"])
@pytest.mark.parametrize("presample", [b, 2 * b, 5 * b])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_candidates_are_scored_once_each_or_trained_on(lengths, presample, draws):
    """A batch's worth of candidates or less, as at an epoch's end, is trained on whole."""
    batches = batches_of(LENGTHS[lengths])
    trainer, model = fitted(batches, control="always", presample=presample, draws=draws)
    scored = sum(model.scored, [])
    whole = [
        seen
        for seen, report in zip(model.trained, trainer.history.steps, strict=True)
        if report.scored == 0
    ]
    assert sorted(scored + sum(whole, [])) == list(range(sum(LENGTHS[lengths])))
    assert all(len(seen) == b for seen in model.trained if seen not in whole)
    assert all(report.scored > b for report in trainer.history.steps if report.scored)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("control", ["never", "speedup"])
def test_in_a_loop_of_one_s_own(control, lengths):
    torch.manual_seed(0)
    model, batches = Recorder(), batches_of(LENGTHS[lengths])
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    engine = isample.Engine(
        optimizer, model=model, loss="cross_entropy", control=control, batch_size=b, seed=1
    )
    for inputs, targets in engine.loader(batches):
        loss = engine.loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert model.trained == [x[:, 0].int().tolist() for x, _ in batches if len(x)]


class Sharded(IterableDataset):
    """Each worker has its part, whose last batch is short."""

    def __iter__(self):
        info = get_worker_info()
        for i in range(info.id, 100, info.num_workers):
            yield torch.tensor([float(i)]), i % 4


def keeps_some(items):
    kept = [(x, y) for x, y in items if int(x) % 3]
    return torch.utils.data.default_collate(kept) if kept else None


def test_workers_and_collate_functions_that_yield_short_batches():
    _, model = fitted(DataLoader(Sharded(), b, num_workers=2), control="never")
    assert sorted(sum(model.trained, [])) == list(range(100))
    assert sorted(map(len, model.trained)) == [18, 18, 32, 32]
    data = [(torch.tensor([float(i)]), i % 4) for i in [*range(64), *[0] * b, *range(64, 100)]]
    loader = DataLoader(data, b, collate_fn=keeps_some)  # one batch is None
    with pytest.warns(isample.NoMemoryWarning):
        _, model = fitted(loader, control="never")
    assert sorted(sum(model.trained, [])) == [i for i in range(100) if i % 3]


def more(items):
    return torch.utils.data.default_collate([*items, items[0]])


@pytest.mark.parametrize("collate", [keeps_some, more])
def test_where_a_memory_draws_every_sample_must_come_once(collate):
    data = [(torch.tensor([float(i)]), i % 4) for i in range(64)]
    with pytest.raises(ValueError, match=f"inputs must hold all {b} samples that were drawn; got"):
        fitted(DataLoader(data, b, shuffle=True, collate_fn=collate), control="never")


def test_a_batch_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="at most batch_size=32 samples; got 33"):
        fitted(batches_of([20, 33]), control="never")


def test_a_place_counts_batches_of_no_samples():
    """A resumed epoch goes on behind the ones that were passed over."""
    batches = batches_of([20, 0, 0, 32, 7, 9])
    _, whole = fitted(batches, control="never")
    states = {}

    def save(trainer, report):
        states.update(trainer.state_dict() if report.step == 2 else {})

    model = Recorder()
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 1e-3), batch_size=b, control="never"
    )
    trainer.fit(batches, epochs=1, callbacks=[save])
    model = Recorder()
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 1e-3), batch_size=b, control="never"
    )
    trainer.load_state_dict(states)
    trainer.fit(batches, epochs=1)
    assert model.trained == whole.trained[2:]

"""Scoring passes leave buffers and random state as they were, and what a model caches in them can
be trained with."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isample
from isample.scoring.forward import Scoring
from isample.scoring.scores import leaving_no_trace

pytestmark = pytest.mark.usefixtures("one_thread")

b, B, CLASSES, CPU = 8, 24, 4, torch.device("cpu")
PATHS = {
    "always": {},
    "in chunks": {"scoring": Scoring(chunk=5)},
    "ahead": {"scoring": Scoring(ahead=True)},
    "trials of precision": {"scoring": Scoring(dtype="auto")},
    "by gradients": {"score": "gradient_norm"},
}


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, CLASSES)


class Table(Base):
    """Keeps a table that it makes on its first pass."""

    table = None

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(6.0).cos()
        return self.layer(x * self.table)


class Mask(Base):
    """Keeps one for each size of a batch."""

    def __init__(self):
        super().__init__()
        self.masks = {}

    def forward(self, x):
        mask = self.masks.setdefault(len(x), torch.full((len(x), 1), 2.0))
        return self.layer(x) * mask


class Registers(Base):
    def forward(self, x):
        if not hasattr(self, "scale"):
            self.register_buffer("scale", torch.ones(6))
        return self.layer(x * self.scale)


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Linear(5, CLASSES))

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize(
    "kind,path",
    [
        *(
            (kind, p)
            for kind in (Table, Mask, Registers, Lazy)
            for p in PATHS
            if p != "by gradients"
        ),
        (Mask, "by gradients"),  # what torch.func makes is its own, and cannot be kept
    ],
)
def test_what_a_scoring_pass_left_in_a_model_can_be_trained_with(kind, path):
    torch.manual_seed(0)
    model = kind()
    options = {"batch_size": b, "presample": B, "control": "always", **PATHS[path]}
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), **options)
    data = [(torch.randn(b, 6), torch.arange(b) % CLASSES) for _ in range(6)]
    trainer.fit(data, epochs=2)
    assert trainer.history.active_share == 1.0


class Counts(Base):
    """Changes its buffers in evaluation mode: one in place, one by another tensor."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(6))
        self.inner = nn.BatchNorm1d(6)

    def forward(self, x):
        self.calls += 1
        self.mean = 0.9 * self.mean + x.detach().mean(0)
        return self.layer(self.inner(x))


def test_buffers_that_change_in_evaluation_mode_are_put_back():
    """After every step they are those of training passes alone."""
    model, twin = Counts(), Counts()
    options = {"batch_size": b, "presample": B, "control": "always"}
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), **options)
    kept = []
    data = [(torch.randn(b, 6), torch.arange(b) % CLASSES) for _ in range(9)]
    trainer.fit(data, epochs=1, callbacks=[lambda t, _: kept.append(t.batch.batch[0])])
    for inputs in kept:
        twin(inputs)
    for mine, theirs in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)
    assert model.calls == 3


def test_a_buffer_that_changes_later_is_told_once():
    class Later(Base):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.counts = False

        def forward(self, x):
            if self.counts:
                self.calls += 1
            return self.layer(x)

    model = Later()

    def score():
        with leaving_no_trace(model, CPU):
            model(torch.zeros(1, 6))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score()
    model.counts = True
    with pytest.warns(UserWarning, match="changed the buffer 'calls' of a Later"):
        score()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score()
    assert model.calls == 1


@pytest.mark.parametrize("path", [path for path in PATHS if path != "by gradients"])
def test_a_model_that_draws_in_evaluation_mode_leaves_the_random_state(path):
    states = []

    class Drops(Base):
        def forward(self, x):
            if self.training:
                states.append(torch.get_rng_state())
            return self.layer(F.dropout(x, 0.5, training=True))

    model = Drops()
    options = {"batch_size": b, "presample": B, "control": "always", "seed": 1, **PATHS[path]}
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), **options)
    data = [(torch.randn(b, 6), torch.arange(b) % CLASSES) for _ in range(6)]
    torch.manual_seed(5)
    trainer.fit(data, epochs=1)
    torch.manual_seed(5)
    for state in states:  # of what the training passes drew, nothing else
        assert torch.equal(state, torch.get_rng_state())
        F.dropout(torch.ones(b, 6), 0.5)
    assert len(states) == 2

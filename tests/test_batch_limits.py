"""Batches that cannot be joined or cut make no difference where speed decides, and are refused
before the first step where candidates were asked for."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import isample
from isample.control import Settings
from isample.support.errors import CannotCutError, CannotJoinError
from isample.values import Plan
from tests.marked_batches import Opaque

pytestmark = pytest.mark.usefixtures("one_thread")

N, b, CLASSES = 96, 8, 4


class Texts:
    """Sequences of 3 to 14 tokens, in order: no two batches in a row are of one length, but the
    ``alike`` ones."""

    def __init__(self, alike=slice(0)):
        random = torch.Generator().manual_seed(0)
        lengths = [3 + i // b for i in range(N)]
        lengths[alike] = [5] * len(lengths[alike])
        self.items = [torch.randint(1, 9, (length,), generator=random) for length in lengths]

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.items[i], i % CLASSES


def padded(items):
    texts, labels = zip(*items)
    return pad_sequence(list(texts), batch_first=True), torch.tensor(labels)


def with_object(items):
    texts, labels = zip(*items)
    return (pad_sequence([*texts, torch.ones(15)], True)[:-1].long(), Opaque()), torch.tensor(
        labels
    )


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(9, 8, padding_idx=0), nn.Linear(8, CLASSES)
        self.passes = []

    def forward(self, tokens, beside=None):
        self.passes.append((self.training, len(tokens)))
        return self.head(self.embedding(tokens).mean(1))


class Always:
    """Asks for candidates in every step, but as a controller of speed it may be told none."""

    settings = Settings()

    def __init__(self, plan):
        self.asked = plan

    def init(self):
        return 0

    def observe(self, state, seen):
        return state

    def clock(self, state, seconds, overhead):
        return state

    def plan(self, state):
        return self.asked

    def gain(self, state, seen):
        return 1.0


def model():
    torch.manual_seed(0)
    return Model()


def trainer_of(net, **options):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    if options["mode"] == "presample":
        options["scoring"] = isample.Scoring()  # whose precision no clock chooses
    return isample.Trainer(net, optimizer, batch_size=b, seed=3, **options)


def by_speed(net, plan, monkeypatch, **options):
    """A trainer whose speedup controller asks for ``plan`` whatever it measures."""
    monkeypatch.setattr("isample.engine.parts.make_controller", lambda *_: Always(plan))
    return trainer_of(net, **options)


def plainly_trained(loader, epochs):
    net = model()
    trainer_of(net, mode="presample", control="never", adapt=None).fit(loader, epochs=epochs)
    return net


def assert_equal(net, other):
    for mine, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


PLANS = {"more than a batch": Plan(candidates=3 * b), "a part of one": Plan(candidates=b, keep=4)}


@pytest.mark.parametrize(
    "collate,plan", [(padded, "more than a batch"), *((with_object, plan) for plan in PLANS)]
)
def test_where_speed_decides_there_is_no_difference_but_a_warning(collate, plan, monkeypatch):
    """Every parameter is that of uniform training, bit for bit; over two fits, and not once more
    is there a scoring pass or a warning."""
    loader = DataLoader(Texts(), b, collate_fn=collate)
    net = model()
    trainer = by_speed(net, PLANS[plan], monkeypatch, mode="presample", adapt=None)
    with pytest.warns(UserWarning, match="as they come, without candidates: batch") as caught:
        trainer.fit(loader, epochs=1)
        trainer.fit(loader, epochs=1)
    assert len(caught) == 1
    assert net.passes == [(True, b)] * 2 * len(loader)
    assert len(trainer.history.steps) == 2 * len(loader) and trainer.history.active_share == 0
    monkeypatch.undo()
    twice = plainly_trained(loader, 1)
    trainer_of(twice, mode="presample", control="never", adapt=None).fit(loader, epochs=1)
    assert_equal(net, twice)


def test_batches_of_other_lengths_are_still_thinned(monkeypatch):
    """A part of one batch is cut out of it, and nothing is joined."""
    net = model()
    trainer = by_speed(net, PLANS["a part of one"], monkeypatch, mode="presample")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.fit(DataLoader(Texts(), b, collate_fn=padded), epochs=1)
    assert net.passes == [(False, b), (True, 4)] * (N // b)


def test_batches_that_came_before_the_first_other_length_are_joined(monkeypatch):
    net = model()
    trainer = by_speed(net, PLANS["more than a batch"], monkeypatch, mode="presample")
    with pytest.warns(UserWarning, match="as they come"):
        trainer.fit(DataLoader(Texts(alike=slice(3 * b)), b, collate_fn=padded), epochs=1)
    assert net.passes == [(False, 3 * b), (True, b)] + [(True, b)] * (N // b - 3)


def test_nothing_is_joined_again(monkeypatch):
    """Or the same samples would now be candidates, and now not."""
    net = model()
    trainer = by_speed(net, PLANS["more than a batch"], monkeypatch, mode="presample")
    with pytest.warns(UserWarning, match="as they come"):
        trainer.fit(DataLoader(Texts(alike=slice(2 * b, N)), b, collate_fn=padded), epochs=1)
    assert net.passes == [(True, b)] * (N // b)


def test_a_memory_draws_what_cannot_be_cut_without_candidates(monkeypatch):
    net = model()
    plan = Plan(importance=True, candidates=3 * b)
    trainer = by_speed(net, Plan(), monkeypatch, mode="memory")
    loader = DataLoader(Texts(), b, shuffle=True, collate_fn=with_object)
    with pytest.warns(UserWarning, match="as they come, without candidates"):
        trainer.fit(loader, epochs=1)
    trainer.engine.steps.steering.controller.asked = plan
    trainer.fit(loader, epochs=3)
    assert {size for _, size in net.passes} == {b}
    assert trainer.history.steps[-1].active


def test_a_memory_joins_nothing():
    net = model()
    loader = DataLoader(Texts(), b, shuffle=True, collate_fn=padded)
    trainer_of(net, mode="memory", control="always").fit(loader, epochs=3)
    net = model()
    loader = DataLoader(Texts(), b, shuffle=True, collate_fn=with_object)
    trainer_of(net, mode="memory", control="always").fit(loader, epochs=2)


@pytest.mark.parametrize(
    "control,collate,error",
    [
        ("always", padded, CannotJoinError),
        ("always", with_object, CannotCutError),
        ("threshold", with_object, CannotCutError),
    ],
)
def test_what_was_asked_for_is_refused_before_the_first_step(control, collate, error):
    """``threshold`` begins with plain steps: what cannot be cut shows before them."""
    loader = DataLoader(Texts(), b, collate_fn=collate)
    net = model()
    before = copy.deepcopy(net)
    trainer = trainer_of(net, mode="presample", control=control, presample=3 * b)
    expected = (CannotJoinError, CannotCutError) if error is CannotCutError else error
    with pytest.raises(expected, match="collate_fn") as caught:
        trainer.fit(loader, epochs=1)
    if collate is padded:
        assert "[*, 3] torch.int64 on cpu and [*, 4]" in str(
            caught.value
        ) and "mode='memory'" in str(caught.value)
    else:
        assert "Opaque at [0][1]" in str(caught.value)
    assert trainer.step_count == 0 and not net.passes
    assert_equal(net, before)


def test_where_no_candidates_are_asked_for_nothing_is_refused():
    for options in ({"control": "never"}, {"control": "threshold", "presample": b}):
        for collate in (padded, with_object):
            loader = DataLoader(Texts(), b, collate_fn=collate)
            trainer_of(model(), mode="presample", **options).fit(loader, epochs=1)


def test_lists_of_samples_need_no_padding():
    """The remedy that the error names: one tensor a sample, padded in the model."""

    class Padding(Model):
        def forward(self, tokens):
            return super().forward(pad_sequence(list(tokens), batch_first=True))

    def listed(items):
        texts, labels = zip(*items)
        return {"tokens": list(texts)}, torch.tensor(labels)

    torch.manual_seed(0)
    net = Padding()
    trainer = trainer_of(net, mode="presample", control="always", presample=3 * b)
    trainer.fit(DataLoader(Texts(), b, collate_fn=listed), epochs=1)
    assert net.passes == [(False, 3 * b), (True, b)] * (N // (3 * b))

"""Scoring passes leave inputs and targets as they were, whatever a model or a function of the user
does to them."""

import copy

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import isample
from isample.scoring.forward import Scoring, ScoringPass
from isample.scoring.lending import Lending
from isample.support.errors import WrittenInputsError

pytestmark = pytest.mark.usefixtures("one_thread")

N, b, B, CLASSES, CPU = 96, 8, 24, 4, torch.device("cpu")


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, CLASSES)


class AddsInPlace(Base):
    def forward(self, x):
        return self.layer(x.add_(1.0))


class Masks(Base):
    def forward(self, x):
        x[x < 0] = 0.5
        x[:, :1].mul_(2.0)  # by a view
        return self.layer(x)


class Rectifies(Base):
    def forward(self, x):
        return self.layer(F.relu(x - 0.1, inplace=True) + F.relu(x, inplace=True) * x.exp_())


class WritesUnseen(Base):
    """Behind the version counter's back."""

    def forward(self, x):
        x.data.add_(1.0)
        x.detach().numpy()[:, 0] = 3.0
        return self.layer(x)


class TakesOut(Base):
    """Out of a dict within its inputs, and adds to a list of them."""

    def forward(self, batch, extra):
        extra.append("used")
        assert extra == ["used"]
        return self.layer(batch.pop("x") + batch.pop("shift").clamp_(min=0.2))


class Arrays(Base):
    def forward(self, x):
        x += 1.0  # numpy
        return self.layer(torch.from_numpy(x))


def plain(x):
    return x


INPUTS = {
    AddsInPlace: plain,
    Masks: plain,
    Rectifies: plain,
    WritesUnseen: plain,
    TakesOut: lambda x: ({"x": x, "shift": torch.linspace(-1, 1, len(x)).view(-1, 1)}, []),
    Arrays: lambda x: (x.numpy().copy(),),
}


class Rows(Dataset):
    """Makes every sample anew, so that nothing written to it lasts."""

    def __init__(self):
        self.x = torch.randn(N, 6, generator=torch.Generator().manual_seed(1))

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.x[i].clone(), i % CLASSES


def loader_of(kind):
    def collate(items):
        inputs, targets = zip(*items)
        return INPUTS[kind](torch.stack(inputs)), torch.tensor(targets)

    return DataLoader(Rows(), b, collate_fn=collate)


PATHS = {
    "always": {},
    "in chunks": {"scoring": Scoring(chunk=5)},
    "ahead": {"scoring": Scoring(ahead=True)},
    "prepared": {"scoring": Scoring(prepare=plain)},
    "trials of precision": {"scoring": Scoring(dtype="auto")},
    "by gradients": {"score": "gradient_norm"},
    "by the loss": {"score": "loss"},
}


@pytest.mark.parametrize("paper", [False, True])
@pytest.mark.parametrize(
    "kind,path",
    [
        (kind, path)
        for kind in INPUTS
        for path in PATHS  # torch.func maps over tensors alone, and knows no masks
        if path != "by gradients" or kind in (AddsInPlace, Rectifies)
    ],
)
def test_a_model_that_writes_to_its_inputs_trains_on_what_was_dealt(kind, path, paper):
    """The training pass is watched: its inputs are the loader's, to the bit, in every step; so are
    the logits that scores were made of."""
    model, steps = kind(), []

    def watch(module, args):
        if module.training:
            given = args[0]["x"] if kind is TakesOut else args[0]
            steps.append(torch.as_tensor(given).clone())

    model.register_forward_pre_hook(watch)
    make = isample.Trainer.paper if paper else isample.Trainer
    options = {"control": "always", "presample": B, **PATHS[path]}
    if paper and path == "by the loss":
        options = {"presample": B, "tau_threshold": 0.0, **PATHS[path]}
    trainer = make(model, torch.optim.SGD(model.parameters(), 0.0), batch_size=b, **options)
    seen = []
    trainer.fit(
        loader_of(kind),
        epochs=2,
        callbacks=[lambda t, r: seen.append((r.presample, t.batch.chosen))],
    )
    begin = 0
    for inputs, (size, chosen) in zip(steps, seen, strict=True):
        dealt = Rows().x[begin : begin + size]
        assert torch.equal(inputs, dealt if chosen is None else dealt[chosen])
        begin = (begin + size) % N
    assert any(chosen is not None for _, chosen in seen)


@pytest.mark.parametrize("kind", [AddsInPlace, Masks, WritesUnseen, TakesOut, Arrays])
@pytest.mark.parametrize("chunk", [5, None])
def test_logits_of_every_pass_are_of_the_inputs_as_they_were(kind, chunk):
    model, x = kind().eval(), Rows().x[:B]
    expected = model(*_as_arguments(INPUTS[kind](x.clone()))).detach()
    scoring = ScoringPass(Scoring(chunk=chunk, dtype="auto"), CPU)
    for _ in range(3):
        inputs = INPUTS[kind](x.clone())
        scoring.dtype = None
        torch.testing.assert_close(scoring.logits(model, inputs, B), expected)


def _as_arguments(inputs):
    return inputs if isinstance(inputs, tuple) else (inputs,)


@pytest.mark.parametrize("by", ["objective", "loss", "score", "prepare"])
def test_functions_of_the_user_s_own_may_write_too(by):
    """An objective that takes labels out of the batch, a loss that marks targets, and a function
    that makes inputs cheaper in place."""
    model, data = Base(), Rows()
    batch = {"x": data.x[:B].clone(), "labels": torch.arange(B) % CLASSES}
    before = copy.deepcopy(batch)

    def objective(model, batch):
        labels = batch.pop("labels")
        logits = model.layer(batch["x"].mul_(2.0))
        return F.cross_entropy(logits, labels.clamp_(max=2))

    def loss(logits, targets):
        return F.cross_entropy(logits, targets.clamp_(max=2), reduction="none")

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"batch_size": b, "control": "always", "seed": 1}
    if by == "objective":
        engine = isample.Engine(
            optimizer, head=model.layer, model=model, objective=objective, **options
        )
        given = batch
    else:
        sampling = {"score": "upper_bound"}
        if by == "prepare":
            sampling["scoring"] = Scoring(prepare=lambda x: x.mul_(0.5))
        known = "cross_entropy" if by == "prepare" else loss
        model.forward = model.layer.forward
        engine = isample.Engine(
            optimizer, model=model, loss=known, sampling=isample.Sampling(**sampling), **options
        )
        given = batch["x"], batch["labels"]
    for _ in range(2):
        kept = engine.choose(given)
        assert torch.equal(batch["x"], before["x"])
        assert torch.equal(batch["labels"], before["labels"])
        x, labels = kept.values() if by == "objective" else kept
        for row, label in zip(x, labels):
            (place,) = (before["x"] == row).all(1).nonzero()
            assert before["labels"][place] == label


def test_a_score_that_writes_is_refused():
    def score(logits, targets):
        return logits.exp_().sum(1)

    model = Base()
    model.forward = model.layer.forward
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = isample.Trainer(
        model, optimizer, batch_size=b, presample=B, control="always", score=score
    )
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="score must not write to logits or targets"):
        trainer.step(Rows().x[:B], torch.arange(B) % CLASSES)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_what_happens_to_change_nothing_is_written_all_the_same():
    """By its first samples a model looks harmless, by what it does it is not."""
    model = Masks().eval()
    scoring = ScoringPass(Scoring(), CPU)
    for fill in (0.0, -1.0):
        x = torch.full((B, 6), fill)
        scoring.logits(model, x, B)
        assert (x == fill).all()


class WritesLater(Base):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return self.layer(x.add_(1.0) if self.calls > 1 else x)


def test_a_model_that_begins_to_write_is_refused():
    """Its inputs are damaged then, and what was scored first tells nothing of that."""
    model = WritesLater()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"batch_size": b, "presample": B, "control": "always"}
    trainer = isample.Trainer(model, optimizer, **options)
    before = copy.deepcopy(model.state_dict())
    model.eval()
    with trainer.engine.paused(), torch.no_grad():
        trainer.engine.parts.scorer.scoring_pass.logits(model, Rows().x[:B].clone(), B)
    with pytest.raises(WrittenInputsError, match="samples are damaged"):
        trainer.step(Rows().x[:B].clone(), torch.arange(B) % CLASSES)
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_what_was_not_written_to_is_lent_without_a_copy():
    lending, x, array = Lending(), torch.zeros(3), numpy.zeros(3)
    with torch.inference_mode():
        uncounted = torch.zeros(3)
    for turn in range(3):
        with lending.lent((x, {"a": array, "u": uncounted})) as (lent, rest):
            assert (lent is x) == (turn > 0)
            rest["a"] += 1
            rest["u"].add_(1)  # neither counts what is written to it, so both are always copies
            rest.clear()
    assert not array.any() and not uncounted.any()
    lending = Lending()
    for _ in range(3):
        with lending.lent([x]) as lent:
            lent[0].add_(1)
    assert not x.any()

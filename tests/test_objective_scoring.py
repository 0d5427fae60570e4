"""Scores of the user's own objective, and batches of any form that are cut by them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isample
from tests.engine_loop import (
    CLASSES,
    N,
    b,
    equal,
    loss_of,
    make_data,
    make_engine,
    make_loader,
    make_model,
    make_optimizer,
    parameters_of,
    train,
)
from tests.row_losses import IGNORED, TOKENS, counted

pytestmark = pytest.mark.usefixtures("one_thread")


def make_scorer(model, objective=loss_of, batch_size=b, **options):
    return make_engine(model, model=model, objective=objective, batch_size=batch_size, **options)


def scores_of(engine, batch):
    """What the scorer tells of a batch of more than ``b`` samples."""
    engine.choose(batch)
    return engine.dealer.tickets.waiting[0].score


def test_scores_are_the_closed_form():
    """Also where candidates are scored in several chunks, of 64 samples and of the rest."""
    model = make_model()
    inputs, targets = (torch.cat([x, x, x]) for x in make_data().tensors)
    score = scores_of(make_scorer(model), (inputs, targets))
    with torch.no_grad():
        expected = isample.softmax_score(model(inputs), targets)[0]
    assert len(score) == 3 * N
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-7)


class Noisy(nn.Module):
    """All that a forward pass in training mode would change, or be changed by."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Dropout(0.5))
        self.frozen, self.head = nn.BatchNorm1d(10).eval(), nn.Linear(10, CLASSES)

    def forward(self, inputs):
        return self.head(self.frozen(self.trunk(inputs)))


def test_scoring_leaves_no_trace():
    model = Noisy()
    model.train()
    model.frozen.eval()
    loss_of(model, make_data().tensors).backward()
    engine = make_scorer(model, head=model.head)
    before = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters()]
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            engine.choose(make_data().tensors)
            assert torch.is_grad_enabled() == enabled
    assert equal(before.values(), model.state_dict().values())
    assert equal(gradients, [p.grad for p in model.parameters()])
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(random, torch.get_rng_state())
    assert not engine.history.steps


def test_an_objective_that_fails_leaves_no_trace():
    model = Noisy()

    def objective(model, batch):
        loss_of(model, batch)
        raise KeyError("its own")

    engine = make_scorer(model, objective, head=model.head)
    modes = [module.training for module in model.modules()]
    with pytest.raises(KeyError, match="its own"):
        engine.choose(make_data().tensors)
    assert modes == [module.training for module in model.modules()] and torch.is_grad_enabled()
    with pytest.raises(RuntimeError, match="none is under way"):
        model(torch.ones(3, 6))


def token_data():
    random = torch.Generator().manual_seed(3)
    inputs = torch.randn(N, 5, 6, generator=random)
    return inputs, TOKENS.targets(torch.Generator().manual_seed(3))[:40].repeat(2, 1)[:N]


@pytest.mark.parametrize("reduction", ["sum", "tokens", "mixed rows"])
def test_objectives_that_are_no_mean_over_rows(reduction):
    def objective(model, batch):
        inputs, targets = batch
        z = model(inputs)
        if reduction == "mixed rows":
            z = z - z.mean(0)
        return F.cross_entropy(
            z.flatten(0, -2),
            targets.flatten(),
            reduction="sum" if reduction == "sum" else "mean",
        )

    batch = token_data() if reduction == "tokens" else make_data().tensors
    engine = make_scorer(make_model(), objective)
    with pytest.raises(ValueError, match="objective must be a mean over the rows"):
        engine.choose(batch)


def test_token_means_with_counts():
    """The closed form of a sequence: the root of its tokens' squares over the mean count."""
    model = make_model()
    inputs, targets = token_data()

    def objective(model, batch):
        z = engine.rows(model(batch[0]), counted(batch[1]))
        return F.cross_entropy(z.flatten(0, 1), batch[1].flatten())

    engine = make_scorer(model, objective, head=None)
    score = scores_of(engine, (inputs, targets))
    z = model(inputs).detach().flatten(0, 1)
    tokens = isample.softmax_score(z, targets.flatten(), ignore_index=IGNORED)[0]
    expected = tokens.view(N, -1).norm(dim=1) / counted(targets).float().mean()
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=0)


def test_logits_that_are_not_a_row_a_sample():
    """Tokens that were flattened before the head."""

    def objective(model, batch):
        return F.cross_entropy(model(batch[0].flatten(0, 1)), batch[1].flatten())

    engine = make_scorer(make_model(), objective)
    with pytest.raises(ValueError, match=r"must have a row for each of .*50 samples"):
        engine.choose(token_data())


def test_an_objective_without_logits():
    model = make_model()
    engine = make_scorer(model, lambda model, batch: model[0](batch[0]).mean())
    with pytest.raises(
        RuntimeError, match="objective must compute its loss of logits that pass through"
    ):
        engine.choose(make_data().tensors)


def as_form(form, inputs, targets):
    one = targets.float()
    return {
        "one": (inputs, targets),
        "three": (inputs, targets, one),
        "list": [inputs, targets, one, one],
        "dict": {"inputs": inputs, "targets": targets, "scale": 2.0, "none": None},
        "nested": {"inputs": {"x": inputs}, "pair": (targets, [one])},
    }[form]


def parts_of(batch):
    if isinstance(batch, dict) and "pair" in batch:
        return batch["inputs"]["x"], batch["pair"][0]
    return tuple(batch.values())[:2] if isinstance(batch, dict) else tuple(batch[:2])


FORMS = ["one", "three", "list", "dict", "nested"]


def any_loss(model, batch):
    return loss_of(model, parts_of(batch))


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_any_form_is_cut(form):
    """In the same form; its rows are rows of the whole, and belong together."""
    whole = as_form(form, *make_data().tensors)
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer, model=model, objective=any_loss, batch_size=b)
    for _ in range(3):
        kept = engine.choose(whole)
        assert type(kept) is type(whole) and len(kept) == len(whole)
        inputs, targets = parts_of(kept)
        assert len(inputs) == len(targets) == b
        for row, target in zip(inputs, targets):
            (at,) = (parts_of(whole)[0] == row).all(1).nonzero()
            assert parts_of(whole)[1][at] == target
        any_loss(model, kept).backward()
        optimizer.step()
    assert engine.report.kept == b and engine.report.scored == N and engine.report.active
    if form == "dict":
        assert kept["scale"] == 2.0 and kept["none"] is None


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("source", ["memory", "stream"])
@pytest.mark.parametrize("form", FORMS)
def test_batches_of_any_form_are_dealt(form, source, scores):
    model, data = make_model(), make_data()
    optimizer = make_optimizer(model)
    options = {"model": model, "objective": any_loss} if scores else {}
    engine = make_engine(model, optimizer, batch_size=b, **options)
    if source == "stream":
        given = [as_form(form, *data[i : i + b]) for i in range(0, N, b)]
    else:
        given = make_loader(collate_fn=lambda items: as_form(form, *map(torch.stack, zip(*items))))
    loader, steps = engine.loader(given), 0
    for _ in range(2):
        for batch in loader:
            assert type(batch) is type(as_form(form, *data.tensors))
            train(model, optimizer, [parts_of(batch)])
            steps += 1
    assert len(engine.history.steps) == steps
    joins = scores and source == "stream"
    assert steps == (4 if joins else 14) and engine.report.active == (joins or source == "memory")


def test_what_cannot_be_cut():
    """What nobody knows to hold samples passes where nothing is cut, and is an error elsewhere."""
    model = make_model()
    inputs, targets = make_data().tensors
    batch = {"inputs": inputs, "targets": targets, "names": iter("a" * N)}
    engine = make_scorer(model, any_loss)
    before = parameters_of(model)
    with pytest.raises(
        TypeError, match="batch must hold tensors where samples are chosen.* got str_.*iterator"
    ):
        engine.choose(batch)
    assert equal(before, parameters_of(model))
    plain = make_engine(model, batch_size=N).loader([batch])
    assert next(iter(plain))["names"] is batch["names"]
    with pytest.raises(ValueError, match="as many samples in every tensor; got lengths"):
        engine.choose((inputs, targets[:-1]))
    with pytest.raises(ValueError, match="batch must be a tensor, or a tuple, list or dict"):
        engine.choose(["a", "b"])

"""What the engine refuses, and that nothing has moved by then."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
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
    train,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def begun(drop_last=False, **options):
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer, **options)
    return model, optimizer, engine, engine.loader(make_loader(drop_last=drop_last))


@pytest.mark.parametrize("left_out", [0, 2, 5])
def test_a_batch_that_is_left_out(left_out):
    """At the latest when the epoch is over: until then it might have been fetched ahead."""
    model, optimizer, engine, loader = begun(drop_last=True)
    with pytest.raises(RuntimeError, match=r"must be trained on, in order.*engine.skip\(\)"):
        for _ in range(2):
            train(model, optimizer, (x for i, x in enumerate(loader) if i != left_out))
    model, optimizer, engine, loader = begun(drop_last=True)
    for _ in range(2):
        for i, batch in enumerate(loader):
            if i == left_out:
                engine.skip()
            else:
                train(model, optimizer, [batch])
    assert len(engine.history.steps) == 10


def test_a_batch_without_a_backward_pass():
    """Its weights are not those of the next one."""
    for skips in (False, True):
        model, optimizer, engine, loader = begun()
        batches = iter(loader)
        train(model, optimizer, [next(batches)])
        loss_of(model, next(batches))
        if skips:
            engine.skip()
            assert len(train(model, optimizer, batches)) == 5
            assert len(train(model, optimizer, loader)) == 7
            continue
        with pytest.raises(RuntimeError, match="must be trained on, in order; got 1"):
            train(model, optimizer, batches)


def test_an_epoch_that_is_broken_off():
    """What was fetched or half trained on is void; the next epoch begins anew."""
    model, optimizer, engine, loader = begun()
    for trained in (True, False):
        for batch in loader:
            loss_of(model, batch)
            break
        if trained:
            train(model, optimizer, loader)
    assert len(train(model, optimizer, loader)) == 7


def test_rows_without_a_batch():
    model, optimizer, engine, loader = begun()
    with pytest.raises(RuntimeError, match="engine.rows must be called .* none is under way"):
        model(torch.ones(2, 6))
    train(model, optimizer, loader)
    with pytest.raises(RuntimeError, match="none is under way"):
        model(torch.ones(2, 6))
    with pytest.raises(RuntimeError, match="skip must follow a batch"):
        engine.skip()


def test_after_update_without_before_update():
    _, _, engine, _ = begun(attach=False)
    with pytest.raises(RuntimeError, match="after_update must follow before_update"):
        engine.after_update()


@pytest.mark.parametrize("shape", [(7, 4), (16, 4), (4,), ()])
def test_logits_of_another_batch(shape):
    _, _, engine, loader = begun()
    next(iter(loader))
    with pytest.raises(ValueError, match=r"the batch's 8 samples .* got shape \(") as raised:
        engine.rows(torch.zeros(shape, requires_grad=True))
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize("counts", [torch.ones(7), torch.ones(b, 2), torch.tensor(1.0)])
def test_counts_of_another_batch(counts):
    model, _, engine, loader = begun(head=None)
    inputs, _ = next(iter(loader))
    with pytest.raises(ValueError, match="counts must"):
        engine.rows(model(inputs), counts)


def test_rows_and_loss_of_one_batch():
    model, _, engine, loader = begun(loss="cross_entropy")
    inputs, targets = next(iter(loader))
    z = model(inputs)
    with pytest.raises(RuntimeError, match=r"not both; got engine.loss after engine.rows"):
        engine.loss(z, targets)


@pytest.mark.parametrize("where", [torch.optim.SGD, torch.optim.AdamW])
def test_a_head_that_is_never_called(where):
    model, unused = make_model(), nn.Linear(10, 4)
    optimizer = where(model.parameters(), lr=0.1)
    before = parameters_of(model)
    loader = make_engine(model, optimizer, head=unused).loader(make_loader())
    with pytest.raises(RuntimeError, match="logits must pass through engine.rows"):
        train(model, optimizer, loader)
    assert equal(before, parameters_of(model))


def spoilt(at):
    """A data set of which one sample, first fetched in the second batch or later, has no finite
    score."""
    inputs, targets = (tensor.clone() for tensor in make_data().tensors)
    inputs[at] = math.nan
    return TensorDataset(inputs, targets)


@pytest.mark.parametrize("known", [False, True])
def test_a_score_that_is_not_finite_stops_before_parameters_change(known):
    model = make_model()
    optimizer = make_optimizer(model)
    options = {"loss": "cross_entropy", "head": None} if known else {}
    engine = make_engine(model, optimizer, **options)
    before = parameters_of(model)
    with pytest.raises(isample.NonFiniteScoreError):
        for inputs, targets in engine.loader(make_loader(spoilt(20))):
            before = parameters_of(model)
            z = model(inputs)
            loss = engine.loss(z, targets) if known else F.cross_entropy(z, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert all(p.isfinite().all() for p in before) and equal(before, parameters_of(model))


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("source", ["memory", "stream"])
def test_a_scaler_leaves_an_update_out(source, known):
    """The overflow of a backward pass, which comes at the third and at the ninth batch: what is
    remembered of scores stays finite, and the batches after it are as good as any."""
    model = make_model()
    optimizer = make_optimizer(model)
    options = {"loss": "cross_entropy", "head": None} if known else {}
    engine = make_engine(model, optimizer, batch_size=b, **options)
    scaler, left_out = torch.amp.GradScaler("cpu", init_scale=2.0**10), 0
    loader = engine.loader(make_loader() if source == "memory" else [*make_loader()])
    for step, (inputs, targets) in enumerate(batch for _ in range(3) for batch in loader):
        z = model(inputs)
        loss = engine.loss(z, targets) if known else F.cross_entropy(z, targets)
        optimizer.zero_grad()
        before, factor = parameters_of(model), scaler.get_scale()
        scaler.scale(loss * (math.inf if step in (2, 8) else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if scaler.get_scale() < factor:
            left_out += 1
            assert equal(before, parameters_of(model))
    optimizer.zero_grad()
    state = engine.state_dict()
    assert left_out == 2 and all(p.isfinite().all() for p in model.parameters())
    assert state["dealer"]["selector"]["tau_ema"].isfinite()
    assert [r.active for r in engine.history.steps[-7:]] == [source == "memory"] * 7
    assert all(math.isfinite(r.tau) for r in engine.history.steps[-7:])


def test_a_scaler_leaves_the_last_update_out():
    """A checkpoint after it can be taken: no gradients wait for an update."""
    model, optimizer, engine, loader = begun()
    for batch in loader:
        optimizer.zero_grad()
        (loss_of(model, batch) * math.inf).backward()
        optimizer.zero_grad()
    engine.state_dict()
    with pytest.raises(RuntimeError, match="a batch is under way"):
        loss_of(model, next(iter(loader)))
        engine.state_dict()


def test_arguments():
    model = make_model()
    optimizer = make_optimizer(model)
    with pytest.raises(
        TypeError, match="optimizer must be a torch.optim.Optimizer; got Sequential"
    ):
        isample.Engine(model)
    with pytest.raises(ValueError, match="model must be given with objective="):
        isample.Engine(optimizer, objective=loss_of)
    with pytest.raises(ValueError, match="loss must be None with objective="):
        isample.Engine(optimizer, model=model, loss="mse", objective=loss_of)
    with pytest.raises(ValueError, match="batch_size must be given to Engine"):
        isample.Engine(optimizer).loader([(torch.ones(2, 6), torch.ones(2))])
    with pytest.raises(RuntimeError, match="choose must have something to score by"):
        isample.Engine(optimizer).choose(torch.ones(2, 6))
    with pytest.raises(RuntimeError, match="loss must be given to Engine for engine.loss"):
        isample.Engine(optimizer).loss(torch.ones(2, 6), torch.ones(2))


class Sorted:
    def __call__(self, items):
        return [torch.stack(part) for part in zip(*sorted(items, key=lambda item: item[0][0]))]


def mixed(items):
    inputs, targets = (torch.stack(part) for part in zip(*items))
    share, order = torch.rand(()), torch.randperm(len(items))
    return share * inputs + (1 - share) * inputs[order], targets


def kept(items):
    return tuple(torch.stack(part) for part in zip(*items))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("collate", [Sorted(), mixed])
def test_rows_that_are_not_items(collate, workers):
    def loader():
        return make_loader(collate_fn=collate, num_workers=workers)

    model = make_model()
    engine = make_engine(model)
    with pytest.raises(ValueError, match="collate_fn must keep item i in row i"):
        next(iter(engine.loader(loader())))
    trainer = isample.Trainer(model, make_optimizer(model), batch_size=b)
    with pytest.raises(ValueError, match="collate_fn must keep item i in row i"):
        trainer.fit(loader(), epochs=1)


def test_rows_that_are_not_items_behind_a_short_batch():
    """One item alone tells nothing of their order."""
    data = TensorDataset(*(tensor[:3] for tensor in make_data().tensors))
    loader = DataLoader(data, batch_size=1, shuffle=True, collate_fn=Sorted())
    collate = make_engine(make_model()).loader(loader).source.loader.collate
    items = [data[i] for i in range(3)]
    collate(([0], items[:1]))
    with pytest.raises(ValueError, match="collate_fn must keep item i in row i"):
        collate(([0, 1, 2], items))


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_that_are_trusted(workers):
    collate = Sorted()
    collate.keeps_rows = True
    model = make_model()
    optimizer = make_optimizer(model)
    for function in (collate, kept):
        engine = make_engine(model, optimizer, attach=False)
        loader = engine.loader(make_loader(collate_fn=function, num_workers=workers))
        assert len(list(loader)) == 7


def test_a_loader_that_can_only_be_passed_through_is_said_to_be():
    """A list of batches has no data set to draw from, and a head alone scores nothing before."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)) for _ in range(3)]
    with pytest.warns(UserWarning, match="batches pass as they are.*objective="):
        loader = isample.Engine(optimizer, head=model, batch_size=4).loader(batches)
    for (inputs, targets), (expected, _) in zip(loader, batches):
        assert torch.equal(inputs, expected)
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

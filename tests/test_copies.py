"""Copies of a model that an engine trains are modules like any other: no engine goes along."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from isample.engine.hooks import HeadHook, leave_alone
from tests.engine_loop import (
    assert_weighted,
    equal,
    loss_of,
    make_data,
    make_engine,
    make_loader,
    make_model,
    make_optimizer,
    parameters_of,
)


def saved(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "averaged": lambda model: AveragedModel(model).module,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
    "shallow": lambda model: nn.Sequential(*map(copy.copy, model)),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_trains_and_evaluates_like_a_module(kind):
    """In the midst of the engine's own training, whose weights and steps stay what they are."""
    model = make_model()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer, head=model[-1], control="always")
    loader = engine.loader(make_loader())
    inputs, targets = make_data().tensors
    for _ in range(3):
        for batch in loader:
            made = COPIES[kind](model).train()
            loss_of(made, (inputs, targets)).backward()
            made.eval()(inputs)
            optimizer.zero_grad()  # a shallow copy shares the parameters
            loss_of(model, batch).backward()
            (ticket,) = engine.dealer.tickets.under_way
            assert_weighted(model, engine, ticket)
            optimizer.step()
    assert engine.report.active and len(engine.history.steps) == 3 * len(loader)


def test_a_copy_holds_no_engine():
    model = make_model()
    engine = make_engine(model, head=model[-1])
    for make in COPIES.values():
        if make is COPIES["shallow"]:
            continue
        for module in make(model).modules():
            for hook in module._forward_hooks.values():
                assert isinstance(hook, HeadHook) and hook.func is leave_alone
    (hook,) = model[-1]._forward_hooks.values()
    assert hook.func == engine._at_head


def test_a_copy_can_have_an_engine_of_its_own():
    model = make_model()
    make_engine(model, head=model[-1])
    made = copy.deepcopy(model)
    optimizer = make_optimizer(made)
    engine = make_engine(made, optimizer, head=made[-1], control="always")
    before, steps = parameters_of(model), 0
    for _ in range(3):
        for batch in engine.loader(make_loader()):
            loss_of(made, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    assert engine.report.active and len(engine.history.steps) == steps
    assert equal(before, parameters_of(model)) and not equal(before, parameters_of(made))


@pytest.mark.parametrize("make", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_optimizer_has_no_hooks(make):
    model = make_model()
    optimizer = make_optimizer(model)
    make_engine(model, optimizer, head=model[-1])
    made = make(optimizer)
    made.step()  # no batch was fetched, of which an engine would complain
    assert not made._optimizer_step_pre_hooks and not made._optimizer_step_post_hooks

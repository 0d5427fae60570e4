"""A state goes on where its run is, wherever torch.load has put its tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

import isample
from tests.queueing_device import Queued, inner, make_queued, queueing

pytestmark = pytest.mark.usefixtures("one_thread")
b, N = 4, 48


def map_state(change, state):
    """``state`` with every tensor changed, as by map_location."""
    if isinstance(state, torch.Tensor):
        return change(state)
    if isinstance(state, dict):
        return {name: map_state(change, value) for name, value in state.items()}
    if isinstance(state, list | tuple) and not hasattr(state, "_fields"):
        return type(state)(map_state(change, value) for value in state)
    return state


def make_run(on_cuda, options, generator):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.2), nn.Tanh(), nn.Linear(8, 5))
    model = make_queued(model) if on_cuda else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trainer = isample.Trainer(model, optimizer, batch_size=b, seed=5, **options)
    random = torch.Generator("cpu").manual_seed(1)
    data = TensorDataset(
        torch.randn(N, 6, generator=random), torch.randint(5, (N,), generator=random)
    )
    order = {"shuffle": True}
    if generator:
        own = torch.Generator("cpu").manual_seed(9)
        order = {"sampler": RandomSampler(data, generator=own), "generator": own}
    return trainer, DataLoader(data, batch_size=b, **order)


def numbers(model):
    return [inner(parameter.detach()).clone() for parameter in model.parameters()]


@pytest.mark.parametrize("on_cuda", [True, False])
@pytest.mark.parametrize("generator", [True, False])
@pytest.mark.parametrize("at", [5, 18])
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "memory", "control": "always"},
        {"mode": "presample", "presample": 12, "control": "always"},
    ],
)
def test_a_state_whose_tensors_were_moved(monkeypatch, on_cuda, generator, at, options):
    """All of them to the GPU where the run is on the CPU, and where it is there: generators' states
    stay on the CPU."""
    with queueing(monkeypatch):
        trainer, loader = make_run(on_cuda, options, generator)
        for step, _ in enumerate(trainer.iterate(loader, epochs=5), 1):
            if step == at:
                saved = {"trainer": trainer.state_dict(), "model": numbers(trainer.model)}
                momentum = copy.deepcopy(trainer.optimizer.state_dict())
        gone_on = numbers(trainer.model)

        other, loader = make_run(on_cuda, options, generator)
        with torch.no_grad():
            for mine, theirs in zip(other.model.parameters(), saved["model"]):
                inner(mine).copy_(theirs)
        other.optimizer.load_state_dict(momentum)

        def moved(tensor):
            return Queued(inner(tensor).clone())

        other.load_state_dict(map_state(moved, saved["trainer"]))
        for _ in other.iterate(loader, epochs=5):
            pass
        assert all(map(torch.equal, numbers(other.model), gone_on))

"""The method that is isample's engine in a loop of one's own, against an engine that notes its
calls."""

from contextlib import contextmanager

import pytest

pytest.importorskip("scipy")

import torch
from torch import nn

import isample
from bench.training.methods.plain_loop import plain_loop
from tests.linear import begin


class NotingEngine:
    """Passes the loader's batches on, and is told of updates as the real one is: by a hook."""

    def __init__(self, optimizer, *, head, seed):
        self.head, self.seed, self.report, self.is_paused = head, seed, None, False
        self.steps, self.loaders = 0, []
        optimizer.register_step_post_hook(self.after_update)
        NotingEngine.made = self

    def after_update(self, *_):
        assert not self.is_paused
        self.steps += 1
        self.report = f"step {self.steps}"

    def loader(self, loader):
        self.loaders.append(loader)
        return loader

    @contextmanager
    def paused(self):
        self.is_paused = True
        yield
        self.is_paused = False


def test_the_loop_is_plain_and_paused_while_its_caller_works(monkeypatch):
    monkeypatch.setattr(isample, "Engine", NotingEngine, raising=False)
    x = torch.linspace(-1, 1, 24)[:, None]
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten())
    made = begin(x, 3 * x + 1, 8, 0.1, model=lambda: model)
    steps = plain_loop(made)
    told = []
    for _ in range(7):  # two epochs of three batches, and one
        told.append(next(steps))
        assert NotingEngine.made.is_paused
    engine = NotingEngine.made
    assert told == [f"step {i}" for i in range(1, 8)]
    assert engine.head is model[2] and engine.seed == made.seed
    assert [loader.batch_size for loader in engine.loaders] == [8]


@pytest.mark.skipif(not hasattr(isample, "Engine"), reason="isample has no Engine yet")
def test_a_line_is_learned_with_the_real_engine():
    x = torch.linspace(-1, 1, 320)[:, None]
    made = begin(x, 3 * x + 1, 16, 0.05, model=lambda: nn.Linear(1, 1))
    steps = plain_loop(made)
    reports = [next(steps) for _ in range(600)]
    assert all(report is None or isinstance(report, isample.StepReport) for report in reports)
    assert made.model.weight.item() == pytest.approx(3.0, abs=0.1)
    assert made.model.bias.item() == pytest.approx(1.0, abs=0.1)

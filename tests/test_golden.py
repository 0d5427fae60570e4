"""Five runs, number by number: what moves or rewrites code must leave every loss and every
parameter as it is.

The arithmetic is in float64, so that another processor's order of summation shows in the 12th digit
alone, and the numbers are compared to 1e-6. `python -m tests.test_golden` writes them anew, for a
change that is meant to change them.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Choices, Settings
from isample.control.noise import Noise, NoiseState
from isample.values import Plan

PATH = Path(__file__).parent / "golden" / "runs.json"
b, CLASSES, FEATURES = 32, 5, 8


class Scheduled:
    """Memory draws from the 20th step on; every third step candidates are scored."""

    settings = Settings()
    noise = Noise(Choices(b, remembers=True), settings)

    def init(self):
        return 1, NoiseState()

    def observe(self, state, seen):
        return state[0] + 1, self.noise.observe(state[1], seen)

    def clock(self, state, seconds, overhead):
        return state

    def plan(self, state):
        step, noise = state
        candidates = 2 * b if step % 3 == 0 else None
        cap = noise.gain_cap if step > 1 else math.inf
        return Plan(importance=step > 20, candidates=candidates, keep=b, gain_cap=cap)

    def gain(self, state, seen):
        return self.noise.memory_gain(state[1])


RUNS = {
    "memory": dict(mode="memory", control="always"),
    "never": dict(mode="memory", control="never"),
    "paper": dict(paper=True, presample=5 * b, tau_threshold=1.1),
    "presample": dict(mode="presample", control="always", presample=3 * b),
    "memory and presamples": dict(mode="memory", control=Scheduled()),
}


def data():
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(CLASSES, (600,), generator=random)
    centres = 2.0 * torch.randn(CLASSES, FEATURES, generator=random, dtype=torch.float64)
    return centres[targets] + torch.randn(
        600, FEATURES, generator=random, dtype=torch.float64
    ), targets


def run(name):
    """The losses of all steps, which of them importance chose, and the parameters at the end."""
    options = dict(RUNS[name])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    make = isample.Trainer.paper if options.pop("paper", False) else isample.Trainer
    trainer = make(model, optimizer, batch_size=b, seed=7, **options)
    torch.manual_seed(11)
    steps = trainer.fit(DataLoader(TensorDataset(*data()), b, shuffle=True), epochs=6).steps
    return {
        "loss": [report.loss for report in steps],
        "active": [int(report.active) for report in steps],
        "parameters": torch.cat([p.detach().flatten() for p in model.parameters()]).tolist(),
    }


@pytest.mark.parametrize("name", RUNS)
def test_runs_are_as_they_were(name):
    expected, got = json.loads(PATH.read_text())[name], run(name)
    assert got["active"] == expected["active"]
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert got["parameters"] == pytest.approx(expected["parameters"], rel=1e-6, abs=1e-9)


if __name__ == "__main__":
    PATH.write_text(json.dumps({name: run(name) for name in RUNS}, indent=0) + "\n")

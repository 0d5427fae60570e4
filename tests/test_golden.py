"""Five runs, number by number: what moves or rewrites code must leave every loss and every
parameter as it is.

The arithmetic is in float64, so that another processor's order of summation shows in the 12th digit
alone, and the numbers are compared to 1e-6. `python -m tests.test_golden` writes them anew, for a
change that is meant to change them.
"""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control.gate import Gate

PATH = Path(__file__).parent / "golden" / "runs.json"
b, CLASSES, FEATURES = 32, 5, 8


class Scheduled(Gate):
    """Memory draws from the 20th step on; every third step a presample is scored."""

    def __init__(self):
        super().__init__()
        self.steps = 0

    def is_open(self, tau_ema):
        self.steps += 1
        self.presample = 2 * b if self.steps % 3 == 0 else None
        return self.steps > 20


RUNS = {
    "memory": dict(mode="memory", gate="always"),
    "never": dict(mode="memory", gate="never"),
    "paper": dict(paper=True, presample=5 * b, tau_threshold=1.1),
    "presample": dict(mode="presample", gate="always", presample=3 * b),
    "memory and presamples": dict(mode="memory", gate=Scheduled),
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
    if isinstance(options.get("gate"), type):
        options["gate"] = options["gate"]()
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

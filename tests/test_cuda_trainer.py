"""Training on a CUDA device."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from tests.on_cuda import needs_cuda

pytestmark = needs_cuda


def blobs(n=600):
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(5, (n,), generator=random)
    centres = torch.randn(5, 8, generator=random) * 2
    return centres[targets] + torch.randn(n, 8, generator=random), targets


def make_trainer(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5)).cuda()
    return isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), batch_size=12, **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"presample": 60, "tau_threshold": 1.15},
        {"presample": 60, "control": "always", "score": "gradient_norm", "draws": "pps"},
        {"presample": 60, "control": "always", "autocast": torch.bfloat16, "clip_grad_norm": 1.0},
        {"mode": "memory", "control": "always"},
        {"mode": "memory", "control": "always", "adapt": "batch", "score": "loss"},
        {
            "presample": 60,
            "control": "always",
            "scoring": isample.Scoring(dtype=torch.bfloat16, chunk=32),
        },
        {"control": "never"},
    ],
)
def test_training_learns(options):
    trainer = make_trainer(**options)
    loader = DataLoader(TensorDataset(*blobs()), batch_size=12, shuffle=True)
    history = trainer.fit(loader, epochs=6)
    assert trainer.evaluate(loader).error < 0.1
    assert (history.active_share > 0) == (options.get("control") != "never")
    assert all(report.scoring_seconds >= 0 for report in history.steps)


def test_a_step_that_is_not_finite_moves_nothing():
    inputs, targets = (part.cuda() for part in blobs(60))
    for control in ("always", "threshold"):
        trainer = make_trainer(presample=60, control=control)
        trainer.step(inputs, targets)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        poisoned = inputs.clone()
        poisoned[3, 0] = math.nan
        with pytest.raises(isample.NonFiniteScoreError) as caught:
            trainer.step(poisoned, targets)
        assert caught.value.rows == [3]
        assert all(torch.equal(a, c) for a, c in zip(before, trainer.model.parameters()))

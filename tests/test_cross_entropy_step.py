"""A step that differentiates by the op moves as one that leaves it to autograd."""

import pytest
import torch
from torch.nn import functional as F

import isample
from tests.test_cross_entropy import B, labels, numbers


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "scaled", "accumulated"])
def test_a_step_moves_as_one_that_differentiates_the_loss(kind):
    """``score="loss"`` lets autograd do it. Rounded to bfloat16 the logits' gradient is good to a
    256th."""
    models = []
    for score in ("upper_bound", "loss"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
        options = {
            "bfloat16": {"autocast": torch.bfloat16},
            "scaled": {"scaler": torch.amp.GradScaler("cpu")},
            "accumulated": {"accumulate": 3},
        }.get(kind, {})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = isample.Trainer(
            model,
            optimizer,
            batch_size=12,
            presample=48,
            control="never",
            score=score,
            seed=0,
            **options,
        )
        for step in range(6):
            trainer.step(numbers(12, 6, seed=step), labels(5, seed=step)[:12])
        models.append(model)
    tolerance = 2e-3 if kind == "bfloat16" else 1e-6
    for mine, theirs in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_a_loss_derived_from_cross_entropy_is_the_caller_s_own():
    class Squared(torch.nn.CrossEntropyLoss):
        def forward(self, logits, targets):
            return super().forward(logits, targets) ** 2

    model = torch.nn.Linear(6, 5)
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss=Squared(reduction="none"),
        control="never",
    )
    inputs, targets = numbers(B, 6), labels(5)
    expected = (F.cross_entropy(model(inputs), targets, reduction="none") ** 2).mean().item()
    assert trainer.step(inputs, targets).loss == pytest.approx(expected, rel=1e-5)

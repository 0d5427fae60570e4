"""Outputs and targets of other shapes: nothing is broadcast, and the message has the remedy."""

import re
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.scoring.losses import make_loss, per_sample_loss
from isample.scoring.scores import loss_value, upper_bound
from isample.scoring.shapes import ELEMENTWISE

B = 8
KINDS = [kind for kind in ELEMENTWISE if kind is not nn.MultiLabelMarginLoss]
SHAPES = [  # of outputs, of targets, and what helps
    ((B, 1), (B,), "target.unsqueeze(1)", "output.squeeze(1)"),
    ((B,), (B, 1), "target.squeeze(1)", "output.unsqueeze(1)"),
    ((B, 1, 5), (B, 5), "target.unsqueeze(1)", "output.squeeze(1)"),
    ((B, 3, 1), (B, 3), "target.unsqueeze(2)", "output.squeeze(2)"),
    ((B, 3), (B,), "reshape the targets", ""),
    ((B, B), (B,), "reshape the targets", ""),
    ((B, 3), (B, 1), "expand_as(output)", ""),
    ((B, 1), (B, 3), "an output for each target", ""),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outputs, targets, remedy, other", SHAPES)
def test_torchs_losses(kind, outputs, targets, remedy, other):
    loss = kind(reduction="none")
    z, y = torch.rand(outputs), torch.rand(targets)
    for function in (per_sample_loss, upper_bound, loss_value):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="targets must have the logits' shape") as caught:
                function(loss, z, y)
        for said in (str(outputs), str(targets), remedy, other):
            assert said in str(caught.value)


class Squares(nn.Module):
    def forward(self, z, y):
        return (z - y) ** 2


CALLABLES = {
    "module [B, B]": Squares(),
    "functional": partial(F.mse_loss, reduction="none"),
    "averaged": lambda z, y: ((z - y) ** 2).mean(1),
    "Gauss": lambda z, y: F.gaussian_nll_loss(z, y, torch.ones_like(z), reduction="none").mean(1),
    "Poisson": lambda z, y: F.poisson_nll_loss(z, y, reduction="none").flatten(1).sum(1),
}


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("mode", ["presample", "memory"])
@pytest.mark.parametrize("control", ["never", "always"])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_losses_of_ones_own_are_refused_before_anything_is_trained(name, mode, control):
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(3, 1)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trainer = isample.Trainer(model, optimizer, CALLABLES[name], B, mode=mode, control=control)
    loader = DataLoader(TensorDataset(x, x[:, 0]), B)
    with pytest.raises(ValueError, match=r"unsqueeze\(1\)"):
        trainer.fit(loader, epochs=1)
    assert trainer.step_count == 0 and all(map(torch.equal, before, model.parameters()))
    with pytest.raises(ValueError, match=r"unsqueeze\(1\)"):
        trainer.evaluate(loader)


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: (z.squeeze(1) - y) ** 2,
        lambda z, y: F.mse_loss(z[:, 0], y, reduction="none"),
        lambda z, y: F.dropout((z.squeeze(1) - y) ** 2, 0.5),
    ],
)
def test_a_loss_that_squeezes_itself_is_taken(loss):
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Linear(3, 1)
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss, B)
    trainer.fit(DataLoader(TensorDataset(x, x[:, 0]), B), epochs=2)
    assert trainer.step_count == 16


def test_a_subclass_may_ask_for_other_shapes():
    class Squeezing(nn.MSELoss):
        def forward(self, z, y):
            return super().forward(z.squeeze(1), y)

    z, y = torch.rand(B, 1), torch.rand(B)
    loss = Squeezing(reduction="none")
    assert torch.equal(per_sample_loss(loss, z, y), (z.squeeze(1) - y) ** 2)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("kind", [nn.BCELoss, nn.BCEWithLogitsLoss, nn.HuberLoss])
def test_integer_targets(kind, dtype):
    model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
    loss = kind(reduction="none")
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss, B)
    x, y = torch.randn(B, 3), torch.ones(B, 1, dtype=dtype)
    said = f"targets must be floating-point for {kind.__name__}; got {dtype} (give targets.float())"
    with pytest.raises(TypeError, match=re.escape(said)):
        trainer.fit([(x, y)], epochs=1)
    assert trainer.step_count == 0


def test_integers_that_torch_differentiates_are_taken():
    z, y = torch.rand(B, 2), torch.ones(B, 2, dtype=torch.int64)
    assert torch.equal(per_sample_loss(make_loss("mse"), z, y), ((z - 1) ** 2).mean(1))


def test_a_double_model_is_scored_by_any_loss():
    z, y = torch.rand(B, 2, dtype=torch.float64), torch.rand(B, 2, dtype=torch.float64)
    expected = ((z - y) / (z * (1 - z)) / 2).norm(dim=1)
    torch.testing.assert_close(upper_bound(nn.BCELoss(reduction="none"), z, y), expected.float())

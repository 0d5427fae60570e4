"""Scores against autograd, one sample at a time, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from isample.scoring.losses import make_loss, per_sample_loss
from isample.scoring.scores import SCORES, gradient_norm, loss_value, make_score, upper_bound

B, C = 9, 6
GENERATOR = torch.Generator().manual_seed(5)


def randn(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def labels(*shape):
    return torch.randint(C, shape, generator=GENERATOR)


def padded(targets):
    targets = targets.clone()
    targets[0, 1:] = -100
    targets[1] = -100
    return targets


CASES = {
    "cross_entropy": ("cross_entropy", randn(B, C), labels(B)),
    "smoothed and weighted": (
        nn.CrossEntropyLoss(
            weight=torch.rand(C, generator=GENERATOR) + 0.5, label_smoothing=0.1, reduction="none"
        ),
        randn(B, C),
        labels(B),
    ),
    "soft targets": ("cross_entropy", randn(B, C), torch.softmax(randn(B, C), 1)),
    "sequence": ("cross_entropy", randn(B, C, 7), padded(labels(B, 7))),
    "image": ("cross_entropy", randn(B, C, 3, 4), labels(B, 3, 4)),
    "soft sequence": ("cross_entropy", randn(B, C, 7), torch.softmax(randn(B, C, 7), 1)),
    "binary": ("bce_with_logits", randn(B, 4), torch.rand(B, 4, generator=GENERATOR)),
    "binary, one logit": ("bce_with_logits", randn(B), torch.rand(B, generator=GENERATOR)),
    "weighted binary": (
        nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0, 4.0]), reduction="none"),
        randn(B, 4),
        torch.rand(B, 4, generator=GENERATOR),
    ),
    "mse": ("mse", randn(B, 3), randn(B, 3)),
    "callable": (lambda z, y: (z - y).abs().sum(1).sqrt(), randn(B, 3), randn(B, 3)),
}


def torch_mean_loss(loss, logits, targets):
    """The loss of one sample as torch's own reduction='mean' takes it."""
    if isinstance(loss, nn.CrossEntropyLoss):
        weight = None if loss.weight is None else loss.weight.double()
        if weight is None:
            return F.cross_entropy(
                logits, targets, label_smoothing=loss.label_smoothing
            ).nan_to_num(0.0)
        return F.cross_entropy(
            logits, targets, weight, label_smoothing=loss.label_smoothing, reduction="none"
        ).mean()
    if isinstance(loss, nn.BCEWithLogitsLoss):
        pos = None if loss.pos_weight is None else loss.pos_weight.double()
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos)
    if isinstance(loss, nn.MSELoss):
        return F.mse_loss(logits, targets)
    return loss(logits, targets)[0]


@pytest.mark.parametrize("case", CASES)
def test_upper_bound_and_loss_are_those_of_each_sample_alone(case):
    name, logits, targets = CASES[case]
    loss = make_loss(name)
    for i in range(B):
        leaf = logits[i : i + 1].double().requires_grad_(True)
        target = targets[i : i + 1]
        target = target.double() if target.is_floating_point() else target
        value = torch_mean_loss(loss, leaf, target)
        gradient = (
            torch.autograd.grad(value, leaf)[0] if value.requires_grad else torch.zeros_like(leaf)
        )
        # float32 arithmetic over at most 24 terms: a few units in the last place
        assert upper_bound(loss, logits, targets)[i].item() == pytest.approx(
            gradient.norm().item(), rel=3e-6, abs=1e-7
        )
        assert loss_value(loss, logits, targets)[i].item() == pytest.approx(
            value.item(), rel=3e-6, abs=1e-7
        )


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, C)
        self.head.bias.requires_grad_(False)

    def forward(self, image):
        return self.head(torch.relu(self.norm(self.conv(image))).mean((2, 3)))


def test_gradient_norm_is_that_of_backward_with_a_batch_of_one():
    torch.manual_seed(0)
    model = Convolutional().eval()
    images, targets = randn(B, 1, 6, 6), labels(B)
    norms = gradient_norm(make_loss("cross_entropy"), model, images, targets)
    for i in range(B):
        model.zero_grad()
        F.cross_entropy(model(images[i : i + 1]), targets[i : i + 1]).backward()
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        assert norms[i].item() == pytest.approx(torch.stack(squares).sum().sqrt().item(), rel=1e-5)


def test_upper_bound_times_input_norm_is_the_gradient_norm_of_a_linear_model():
    """For logits W x + c the gradient is the outer product (p - y) [x, 1], so its norm is known in
    closed form."""
    torch.manual_seed(0)
    model = nn.Linear(5, C)
    x, targets, loss = randn(B, 5), labels(B), make_loss("cross_entropy")
    bound = upper_bound(loss, model(x).detach(), targets)
    expected = bound * (x.square().sum(1) + 1).sqrt()
    torch.testing.assert_close(gradient_norm(loss, model, x, targets), expected, rtol=1e-5, atol=0)


def test_user_score_and_registry():
    assert make_score("loss") is SCORES["loss"]
    score = make_score(lambda logits, targets: logits.abs().amax(1))
    assert torch.equal(
        score.from_logits(None, torch.tensor([[1.0, -3.0]]), None), torch.tensor([3.0])
    )
    with pytest.raises(TypeError, match="score must be a name or a callable"):
        make_score(3)


def test_a_loss_that_is_reduced_is_refused():
    with pytest.raises(ValueError, match=r"shape \(9,\), not reduced; got \(\)"):
        per_sample_loss(lambda z, y: F.cross_entropy(z, y), randn(B, C), labels(B))

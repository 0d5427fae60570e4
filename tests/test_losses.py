"""The mean that a step differentiates, against sums written out in double precision."""

import math

import pytest
import torch
from torch import nn

from isample.scoring.losses import make_loss, mean_loss

B = 6


def numbers(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared(z, t):
    return (z - t) ** 2


def binary(z, t):
    p = 1 / (1 + math.exp(-z))
    return -t * math.log(p) - (1 - t) * math.log(1 - p)


@pytest.mark.parametrize("shape", [(B,), (B, 1), (B, 3), (B, 2, 4)])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 0.25, 1.0, 3.0, 0.0]])
@pytest.mark.parametrize("name, one", [("mse", squared), ("bce_with_logits", binary)])
def test_elements_are_averaged_within_a_sample_and_samples_by_weight(name, one, weights, shape):
    logits, targets = numbers(*shape), torch.sigmoid(numbers(*shape, seed=1))
    samples = [
        sum(map(one, z, t)) / len(z)
        for z, t in zip(logits.reshape(B, -1).tolist(), targets.reshape(B, -1).tolist())
    ]
    expected = sum(w * loss for w, loss in zip(weights or [1.0] * B, samples)) / B
    given = None if weights is None else torch.tensor(weights)
    assert mean_loss(make_loss(name))(logits, targets, given).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_a_module_of_ones_own_keeps_its_weights_and_stays_unreduced():
    positive = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    loss = nn.BCEWithLogitsLoss(reduction="none", pos_weight=positive)
    logits, targets = numbers(B, 3), torch.bernoulli(torch.full((B, 3), 0.5, dtype=torch.float64))
    p = torch.sigmoid(logits)
    expected = -(positive * targets * p.log() + (1 - targets) * (1 - p).log()).sum() / (3 * B)
    assert mean_loss(loss)(logits, targets).item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss(logits, targets).shape == (B, 3)


def test_ignored_and_weighted_classes_count_in_the_mean_over_the_batch():
    """Torch's own mean would divide by the number, or by the weight, of what is not ignored."""
    loss = nn.CrossEntropyLoss(
        reduction="none", weight=torch.tensor([1.0, 4.0, 0.5], dtype=torch.float64)
    )
    logits, targets = numbers(B, 3), torch.tensor([0, 1, 2, -100, 1, -100])
    log_p = logits.log_softmax(1).tolist()
    counted = [-[1.0, 4.0, 0.5][y] * row[y] for row, y in zip(log_p, targets.tolist()) if y >= 0]
    assert mean_loss(loss)(logits, targets).item() == pytest.approx(sum(counted) / B, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_broadcasts_to_more_samples_is_refused_as_it_is_with_weights():
    with pytest.raises(ValueError, match="one value a sample"):
        mean_loss(make_loss("mse"))(numbers(1, B), numbers(B, B))

"""What several processes were given is told apart by all that makes it what it is."""

import pytest
import torch
from torch import nn

from isample.support.alike import unlike
from isample.support.describe import described, told

LOSSES = [
    nn.CrossEntropyLoss(reduction="none"),
    nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1),
    nn.CrossEntropyLoss(reduction="none", ignore_index=0),
    nn.CrossEntropyLoss(reduction="none", weight=torch.tensor([1.0, 2.0])),
    nn.HuberLoss(reduction="none"),
    nn.HuberLoss(reduction="none", delta=2.0),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_options_of_a_loss_tell_it_apart(loss):
    """torch's own repr of a loss names none of them."""
    for other in LOSSES:
        given = [{"loss": told(described(loss))}, {"loss": told(described(other))}]
        differs = unlike(given, [None, None])
        assert (differs is None) == (other is loss)
        assert differs is None or "loss must be the same in all processes" in differs

"""Samples whose label the network contradicts, and their share of the draws (beyond the paper).

A sample that the network confidently takes for another class has the largest score there is. It is
hard or mislabelled, and no score tells which. Many of them, drawn in proportion to their scores,
would spend most of the training on wrong labels. Weights keep the gradient unbiased however often
such samples are drawn. So all of them together get a quarter of the draws at most, or their share
of the data if that is more:

    e_i <- min(1, a / (1 - a) * sum of the others' e / sum of theirs) e_i

with a = max(1/4, their share of the data).

Where that bound holds draws down and little is gained, these samples carry most of the gradient's
noise. The controller then asks for more gain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from isample.scoring.scores import Score, upper_bound


def contradicted_above(score: Score, loss: Callable[..., Any]) -> float | None:
    """The score above which a label is contradicted; None for scores that have no such bound.

    ||softmax(z) - onehot(y)|| is between 0 and sqrt(2). It exceeds 1 where the label has less than
    0.3 and one other class has all of the rest.
    """
    bounded = (
        score.from_logits is upper_bound
        and isinstance(loss, nn.CrossEntropyLoss)
        and loss.weight is None
    )
    return 1.0 if bounded else None

"""Samples whose label the network contradicts, and how much of the training they may have (beyond
the paper).

A sample that the network confidently takes for another class has the largest score there is. It is
either hard or mislabelled, and no score tells which. Where many are, drawing them in proportion to
their scores spends most of the training on learning wrong labels by heart, which weights do not
prevent: they keep the gradient unbiased, and so do they if such samples are drawn less. Hence their
share of the draws is at most a quarter, or what it would be under uniform draws if that is more:

    e_i <- min(1, a / (1 - a) * sum of the others' e / sum of theirs) e_i

with a = max(1/4, their share of the data).

Where that bound holds draws down and little is gained all the same, most of the gradient's noise is
that of such samples: there are many. Then the controller asks for more gain
before it draws by memory.
"""

from __future__ import annotations

from torch import nn

from isample.scoring.scores import Score, upper_bound


def contradicted_above(score: Score, loss: nn.Module) -> float | None:
    """The score above which a label is contradicted; None for scores that have no such bound.

    ||softmax(z) - onehot(y)|| is between 0 and sqrt(2). It is above 1 if another class has all of
    the rest and the label less than 0.3.
    """
    bounded = (
        score.from_logits is upper_bound
        and isinstance(loss, nn.CrossEntropyLoss)
        and loss.weight is None
    )
    return 1.0 if bounded else None

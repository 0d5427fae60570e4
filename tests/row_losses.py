"""Losses of torch as users reduce them, beside the same written as one term a sample.

A reduced loss is a mean over rows, or a ratio sum s_i / sum n_i. ``terms`` gives s_i, of each head
apart, and ``counts`` n_i. Both are written without torch's own reductions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N, FEATURES, IGNORED = 40, 3, -100
CLASS_WEIGHTS = torch.tensor([0.2, 1.0, 4.0], dtype=torch.float64)
POSITIVE = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)

Terms = list[Callable[[Tensor, Tensor], Tensor]]


class Head(NamedTuple):
    """A loss at one tensor of logits, of shape [b, *shape]."""

    shape: tuple[int, ...]
    targets: Callable[[torch.Generator], Tensor]
    reduced: Callable[[Tensor, Tensor], Tensor]
    terms: Callable[[Tensor, Tensor], Tensor]
    counts: Callable[[Tensor], Tensor] | None = None


def labels(*shape, ignored=0.0):
    """Labels of 3 classes; of each sample another share is ignored, ``ignored`` on the mean, and
    never all of it."""

    def make(random):
        made = torch.randint(3, (N, *shape), generator=random)
        share = 2 * ignored * torch.rand(N, *[1] * len(shape), generator=random)
        made[torch.rand(N, *shape, generator=random) < share] = IGNORED
        if shape:
            made.view(N, -1)[:, 0] = 1
        return made

    return make


def numbers(*shape):
    return lambda random: torch.randn(N, *shape, generator=random, dtype=torch.float64)


def negative_log(z, y, classes=-1):
    """-log p_y at each position, by log-sum-exp written out; 0 where y is ignored."""
    counted = y != IGNORED
    at = z.gather(classes, y.where(counted, 0).unsqueeze(classes)).squeeze(classes)
    return (z.exp().sum(classes).log() - at) * counted


def smoothed(z, y):
    return 0.9 * negative_log(z, y) + 0.1 * (z.exp().sum(1).log() - z.mean(1))


def huber(z, y):
    off = (z - y).abs()
    return torch.where(off < 1, off.square() / 2, off - 0.5).mean(1)


def binary(z, y):
    log_p, log_q = -(1 + (-z).exp()).log(), -(1 + z.exp()).log()
    return -(POSITIVE * y * log_p + (1 - y) * log_q).mean(1)


def counted(y):
    return (y != IGNORED).flatten(1).sum(1)


PLAIN = Head((3,), labels(), F.cross_entropy, negative_log)
SQUARES = Head((2,), numbers(2), F.mse_loss, lambda z, y: (z - y).square().mean(1))
TOKENS = Head(
    (5, 3),
    labels(5, ignored=0.4),
    lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten()),
    lambda z, y: negative_log(z, y).sum(1),
    counted,
)

LOSSES: dict[str, list[Head]] = {
    "cross-entropy": [PLAIN],
    "label smoothing": [
        Head((3,), labels(), lambda z, y: F.cross_entropy(z, y, label_smoothing=0.1), smoothed)
    ],
    "class weights": [
        Head(
            (3,),
            labels(),
            lambda z, y: F.cross_entropy(z, y, weight=CLASS_WEIGHTS.to(z)),
            lambda z, y: CLASS_WEIGHTS[y] * negative_log(z, y),
            lambda y: CLASS_WEIGHTS[y],
        )
    ],
    "ignored labels": [
        Head((3,), labels(ignored=0.3), F.cross_entropy, negative_log, lambda y: y != IGNORED)
    ],
    "Huber": [Head((2,), numbers(2), F.huber_loss, huber)],
    "squared error": [SQUARES],
    "binary, several labels": [
        Head(
            (3,),
            lambda random: (torch.rand(N, 3, generator=random) < 0.4).double(),
            lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=POSITIVE),
            binary,
        )
    ],
    "pixels": [
        Head(
            (3, 2, 3),
            labels(2, 3, ignored=0.4),
            F.cross_entropy,
            lambda z, y: negative_log(z, y, classes=1).flatten(1).sum(1),
            counted,
        )
    ],
    "tokens": [TOKENS],
    "two heads": [PLAIN, SQUARES],
    "two heads, one of tokens": [TOKENS, SQUARES],
}


class Problem:
    """``N`` samples and a frozen linear model with an output for each head, in float64."""

    def __init__(self, name: str, seed: int = 5):
        random = torch.Generator().manual_seed(seed)
        self.heads = LOSSES[name]
        self.inputs = torch.randn(N, FEATURES, generator=random, dtype=torch.float64)
        self.inputs *= torch.rand(N, 1, generator=random, dtype=torch.float64) * 3  # skewed
        self.targets = [head.targets(random) for head in self.heads]
        self.layers = [
            nn.Linear(FEATURES, torch.Size(head.shape).numel(), bias=False).double()
            for head in self.heads
        ]
        for layer in self.layers:
            nn.init.normal_(layer.weight, generator=random)
        self.parameters = [layer.weight for layer in self.layers]

    def logits(self, inputs: Tensor) -> list[Tensor]:
        pairs = zip(self.layers, self.heads)
        return [layer(inputs).view(len(inputs), *head.shape) for layer, head in pairs]

    def counts(self, targets: list[Tensor]) -> list[Tensor | None]:
        return [head.counts and head.counts(y) for head, y in zip(self.heads, targets)]

    def mean_counts(self) -> list[float]:
        """n' of each head; 1 of a mean over rows."""
        return [1.0 if n is None else n.double().mean().item() for n in self.counts(self.targets)]

    def reduced(self, logits: list[Tensor], targets: list[Tensor]) -> Tensor:
        return sum(head.reduced(z, y) for head, z, y in zip(self.heads, logits, targets))

    def row_gradients(self, logits: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
        """Of each head grad s_i / n' at the logits, [b, *shape]."""
        rows = []
        for head, z, y, mean in zip(self.heads, logits, targets, self.mean_counts()):
            leaf = z.detach().clone().requires_grad_()
            (row,) = torch.autograd.grad(head.terms(leaf, y).sum(), leaf)
            rows.append(row / mean)
        return rows

    def gradient(self) -> Tensor:
        """That of sum s_i / sum n_i over all of the data set, at the parameters, [P]."""
        loss = 0.0
        for head, z, y in zip(self.heads, self.logits(self.inputs), self.targets):
            n = N if head.counts is None else head.counts(y).sum()
            loss = loss + head.terms(z, y).sum() / n
        return flat(torch.autograd.grad(loss, self.parameters))


def flat(gradients) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])

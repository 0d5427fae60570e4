"""Selective-Backprop (Jiang et al. 2019, "Accelerating Deep Learning by Focusing on the Biggest
Losers").

A forward pass gives every sample's loss; a sample is kept with a probability that grows with the
rank of its loss among those seen of late; whenever b are kept, the network is trained on them.
There are no weights, so the estimate of the gradient is biased toward high losses, on purpose. The
reweighted variant takes that bias out again.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..training import Training

BETA = 2.0  # keeps a third of the samples
HISTORY = 1024  # losses that the percentiles are taken among
LEAST = 0.1  # probability of the reweighted variant: no weight exceeds 10


class Acceptance:
    """The probability of keeping a sample: max(least, P(loss of a recent sample <= its loss) **
    beta)."""

    def __init__(self, beta: float = BETA, history: int = HISTORY, least: float = 0.0):
        self.beta, self.history, self.least = beta, history, least
        self.recent = torch.empty(0)

    def __call__(self, losses: torch.Tensor) -> torch.Tensor:
        """Probabilities [B] for losses [B], which join the history first."""
        self.recent = torch.cat([self.recent, losses])[-self.history :]
        rank = torch.searchsorted(self.recent.sort().values, losses, right=True)
        return (rank / len(self.recent)).pow(self.beta).clamp(min=self.least)


def selective_backprop(training: Training) -> Iterator[None]:
    return train_on_accepted(training, Acceptance(), reweighted=False)


def selective_backprop_reweighted(training: Training) -> Iterator[None]:
    return train_on_accepted(training, Acceptance(least=LEAST), reweighted=True)


def train_on_accepted(
    training: Training, acceptance: Acceptance, reweighted: bool
) -> Iterator[None]:
    """Yields after every forward pass, whether an update followed or not."""
    generator, size = training.generator(), training.batch_size
    kept: list[tuple[torch.Tensor, ...]] = []  # (inputs, targets, weights) not trained on yet
    for inputs, targets in training.batches(size):
        probability = acceptance(scored_losses(training, inputs, targets))
        accepted = torch.rand(len(targets), generator=generator) < probability
        weights = 1 / probability if reweighted else torch.ones_like(probability)
        kept.append((inputs[accepted], targets[accepted], weights[accepted]))
        if sum(len(weights) for *_, weights in kept) >= size:
            joined = [torch.cat(parts) for parts in zip(*kept)]
            kept = [tuple(part[size:] for part in joined)]
            inputs, targets, weights = (part[:size] for part in joined)
            training.update(
                weighted_mean(training.losses(training.model(inputs), targets), weights)
            )
        yield


def scored_losses(training: Training, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The losses that the selection goes by, in evaluation mode and without gradients."""
    training.model.eval()
    with torch.inference_mode():
        losses = training.losses(training.model(inputs), targets)
    training.model.train()
    return losses.clone()


def weighted_mean(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (weights * losses).sum() / weights.sum()

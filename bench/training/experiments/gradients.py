"""What the experiments of section 4.1 measure on a network as it stands, leaving no trace in it.

Everything is in evaluation mode, as the scoring of a presample is: only there has a sample a
gradient of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import isample
from isample.scoring.losses import make_loss, per_sample_loss
from isample.scoring.scores import gradient_norm, leaving_no_trace, loss_value, upper_bound

SCORES = ("loss", "upper_bound", "gradient_norm")
GRADIENT_NORM = "gradient_norm"  # the ideal, which the others are compared with
PRESAMPLE = 1024  # samples within which the probabilities add up to one
GRADIENT_BATCH = 128  # samples of one backward pass

Scores = dict[str, torch.Tensor]


def scores_of(model: nn.Module, loss: str, inputs: Any, targets: Any) -> Scores:
    """Each of ``SCORES``, float32 [B] on the CPU, by isample's own functions."""
    loss_function, device = make_loss(loss), next(model.parameters()).device
    with leaving_no_trace(model, device):
        logits = model(inputs).float()
        scores = (
            loss_value(loss_function, logits, targets),
            upper_bound(loss_function, logits, targets),
            gradient_norm(loss_function, model, inputs, targets),
        )
    return {name: score.detach().cpu() for name, score in zip(SCORES, scores)}


def distances(
    model: nn.Module,
    loss: str,
    inputs: Any,
    targets: Any,
    draws: int,
    repeats: int,
    generator: torch.Generator,
) -> Scores:
    """The distances of figure 1, [repeats] for ``uniform`` and for each of ``SCORES``.

    From the B samples given, ``draws`` = b are drawn with replacement, with probabilities p in
    proportion to the score; the distance is ||G_B - G_b||_2 of the mean gradient G_B = 1/B sum_i
    g_i and G_b = 1/b sum_j g_j / (B p_j).
    """
    large = mean_gradient(model, loss, inputs, targets, torch.ones(len(targets)))
    scores = {"uniform": torch.ones(len(targets)), **scores_of(model, loss, inputs, targets)}
    result = {}
    for name, score in scores.items():
        drawn = []
        for _ in range(repeats):
            index, weights = isample.draw(score, draws, method="alias", generator=generator)
            index = index.to(targets.device)
            small = mean_gradient(model, loss, inputs[index], targets[index], weights)
            drawn.append((small - large).norm())
        result[name] = torch.stack(drawn).cpu()
    return result


def mean_gradient(
    model: nn.Module, loss: str, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """1/n sum_i w_i grad L_i over all trainable parameters, [parameters]; ``weights`` are [n]."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss_function, device = make_loss(loss), parameters[0].device
    total = torch.zeros(sum(p.numel() for p in parameters), device=device)
    parts = zip(*(part.split(GRADIENT_BATCH) for part in (inputs, targets, weights.to(device))))
    with leaving_no_trace(model, device), torch.enable_grad():
        for some_inputs, some_targets, some_weights in parts:
            losses = per_sample_loss(loss_function, model(some_inputs), some_targets)
            gradients = torch.autograd.grad((some_weights * losses).sum(), parameters)
            total += torch.cat([gradient.flatten() for gradient in gradients])
    return total / len(targets)


def probabilities(model: nn.Module, loss: str, inputs: Any, targets: Any) -> Scores:
    """The probabilities of figure 2, [N] for each of ``SCORES``, normalised within each presample
    of 1,024.

    The paper does not say over what the probabilities of its 16,384 points are normalised. Over all
    of them, each would be about 6e-5 and a sum of squared errors of 0.017 out of reach; 16
    presamples of 1,024, the size of figure 1's, give errors of that order.
    """
    parts = []
    for some_inputs, some_targets in zip(inputs.split(PRESAMPLE), targets.split(PRESAMPLE)):
        scores = scores_of(model, loss, some_inputs, some_targets)
        parts.append({name: isample.distribution(score)[0] for name, score in scores.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in SCORES}


def squared_errors(of_scores: Scores) -> dict[str, float]:
    """Sum over the samples of (p_i - p_i of the gradient norm)^2, for the other scores."""
    ideal = of_scores[GRADIENT_NORM].double()
    return {
        name: (of_scores[name].double() - ideal).square().sum().item()
        for name in SCORES
        if name != GRADIENT_NORM
    }

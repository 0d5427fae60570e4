"""Each op again in a few lines of plain torch.

Tests compare the compiled ops with these. The integer stages are exact, draw for draw and bit for
bit. Only the last part, ``plain_*``, is meant to be fast: a careful user of torch would write it
without this package. It is the baseline of the benchmarks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# ---- Score ---------------------------------------------------------------------------------------


def softmax_score(
    logits: Tensor,
    targets: Tensor,
    *,
    weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Norm of the gradient of cross_entropy by autograd, and the loss, in float64."""
    logits = logits.detach().double().requires_grad_()
    weight = None if weight is None else weight.double()
    targets = targets.double() if targets.is_floating_point() else targets
    loss = F.cross_entropy(
        logits,
        targets,
        weight,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return gradient.norm(dim=1), loss.detach()


# ---- Distribution and tau, in integers -----------------------------------------------------------


SUM_BITS = 30  # of the largest mass


def product_bits(n: int) -> int:
    """Bits of the largest mass where n times a sum of n masses must stay below 2^63."""
    return min(SUM_BITS, 63 - 2 * math.ceil(math.log2(n)))


def masses(score: Tensor, floor: float = 0.0, bits: int = SUM_BITS) -> Tensor:
    """Scores float32 [N] quantised to int64 [N]: the distribution is masses / sum(masses).

    Alias tables, and pps of up to 2^24 items, have ``bits`` of :func:`product_bits`.
    """
    n, largest = len(score), float(score.max())
    if largest == 0:
        mass = torch.ones(n, dtype=torch.int64, device=score.device)
    else:
        scale = 2.0**bits / largest
        mass = torch.where(score > 0, (score.double() * scale).round().clamp_min(1), 0).long()
    if floor > 0:
        share = floor * (float(mass.sum()) / n)
        # a fused multiply-add: rounded once
        lifted = [round(float(Fraction(1.0 - floor) * k + Fraction(share))) for k in mass.tolist()]
        mass = torch.tensor(lifted, device=score.device).clamp_min(1)
    return mass


def probabilities(mass: Tensor) -> Tensor:
    return (mass.double() / mass.sum().double()).float()


def tau(mass: Tensor) -> float:
    """Equation (29) in closed form: sqrt(n * sum(p^2))."""
    ks = mass.tolist()
    return math.sqrt(len(ks) * sum(k * k for k in ks)) / sum(ks)


# ---- Alias table ---------------------------------------------------------------------------------


def alias_table(mass: Tensor) -> tuple[Tensor, Tensor]:
    """Threshold and alias of each bucket, from the prefix sums of excesses and deficits."""
    own, total = len(mass) * mass, mass.sum()
    heavy = own >= total
    items = heavy.nonzero().flatten()
    excess = (own - total)[heavy].cumsum(0)
    deficit = F.pad((total - own)[~heavy].cumsum(0), (1, 0))
    threshold, alias = own.clone(), torch.empty_like(own)
    alias[~heavy] = items[torch.searchsorted(excess, deficit[:-1], right=True)]
    threshold[heavy] = total + excess - deficit[torch.searchsorted(deficit, excess)]
    alias[heavy] = torch.cat([items[1:], items[-1:]])
    return threshold, alias


# ---- Random words --------------------------------------------------------------------------------


def philox(seed: int, offset: int, index: int) -> tuple[int, int]:
    """Philox4x32-10 (Salmon et al. 2011) of counter (offset, index) and key seed, as two 64-bit
    words."""
    low = 0xFFFFFFFF
    counter = [offset & low, offset >> 32 & low, index & low, index >> 32 & low]
    key = [seed & low, seed >> 32 & low]
    for _ in range(10):
        a, b = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [b >> 32 ^ counter[1] ^ key[0], b & low, a >> 32 ^ counter[3] ^ key[1], a & low]
        key = [key[0] + 0x9E3779B9 & low, key[1] + 0xBB67AE85 & low]
    return counter[1] << 32 | counter[0], counter[3] << 32 | counter[2]


def scaled(word: int, n: int) -> int:
    """A 64-bit word mapped onto [0, n)."""
    return word * n >> 64


def permutation(seed: int, offset: int, n: int, places: Iterable[int] | None = None) -> list[int]:
    """A keyed permutation of range(n), or what it has at ``places``: four Feistel rounds on an even
    number of bits, repeated until inside."""
    low = 0xFFFFFFFF
    x, y = philox(seed, offset, 1)
    keys = [x & low, x >> 32, y & low, y >> 32]
    bits = (max(n - 1, 0).bit_length() + 1) // 2
    mask = (1 << bits) - 1

    def step(word):
        left, right = word >> bits, word & mask
        for key in keys:
            h = (right ^ key) * 0x85EBCA6B & low
            h = (h ^ h >> 13) * 0xC2B2AE35 & low
            left, right = right, left ^ (h ^ h >> 16) & mask
        return left << bits | right

    def inside(word):
        word = step(word)
        while word >= n:
            word = step(word)
        return word

    return [inside(place) for place in (range(n) if places is None else places)]


# ---- Draws ---------------------------------------------------------------------------------------


def draw(
    mass: Tensor, count: int, method: str, seed: int, offset: int = 0
) -> tuple[Tensor, Tensor]:
    """The indices and weights of isample.draw with this seed, in Python's integers."""
    draws = {
        "alias": _draw_alias,
        "systematic": _draw_systematic,
        "stratified": _draw_stratified,
        "pps": _draw_pps,
    }
    return draws[method](mass, count, seed, offset)


def _on_cpu(numbers: list[Any], dtype: torch.dtype) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device="cpu")


def _with_weights(mass: Tensor, indices: list[int]) -> tuple[Tensor, Tensor]:
    n, total = len(mass), int(mass.sum())
    weights = [float(total) / (float(n) * float(mass[i])) for i in indices]
    return _on_cpu(indices, torch.int64), _on_cpu(weights, torch.float64).float()


def _draw_alias(mass, count, seed, offset):
    n, total = len(mass), int(mass.sum())
    threshold, alias = (column.tolist() for column in alias_table(mass))
    indices = []
    for j in range(count):
        x, y = philox(seed, offset, j)
        bucket = scaled(x, n)
        indices.append(bucket if scaled(y, total) < threshold[bucket] else alias[bucket])
    return _with_weights(mass, indices)


def _first_above(ends: Tensor, points: list[int]) -> list[int]:
    return torch.searchsorted(
        ends, torch.tensor(points, dtype=torch.int64, device=ends.device), right=True
    ).tolist()


def _draw_systematic(mass, count, seed, offset):
    total = int(mass.sum())
    start = scaled(philox(seed, offset, 0)[0], total)
    return _with_weights(
        mass, _first_above(mass.cumsum(0), [(start + j * total) // count for j in range(count)])
    )


def _draw_stratified(mass, count, seed, offset):
    total = int(mass.sum())
    starts = [scaled(philox(seed, offset, j)[0], total) for j in range(count)]
    return _with_weights(
        mass, _first_above(mass.cumsum(0), [(x + j * total) // count for j, x in enumerate(starts)])
    )


def pps_lengths(mass: Tensor, count: int) -> tuple[int, int, list[int]]:
    """Sure rounds, step and lengths: item i is drawn ``rounds + lengths[i] / step`` times in
    expectation.

    The inclusion probabilities are min(1, c k_i): items that would exceed 1 are capped, the others
    share the rest.
    """
    ks = mass.tolist()
    positives = sum(k > 0 for k in ks)
    rounds, remaining = divmod(count, positives)
    certain = set()
    while True:
        room, rest = remaining - len(certain), sum(ks) - sum(ks[i] for i in certain)
        over = {i for i, k in enumerate(ks) if k > 0 and k * room >= rest} if remaining else set()
        if over == certain:
            break
        certain = over
    step = max(rest, 1)
    lengths = [step if i in certain else k * room for i, k in enumerate(ks)]
    return rounds, step, lengths


def _draw_pps(mass, count, seed, offset):
    n = len(mass)
    rounds, step, lengths = pps_lengths(mass, count)
    order = permutation(seed, offset, n)
    ends = torch.tensor([lengths[i] for i in order], device="cpu").cumsum(0)
    start = scaled(philox(seed, offset, 0)[0], step)
    sure = [i for i in range(n) if mass[i] > 0] * rounds
    points = [start + j * step for j in range(count - len(sure))]
    indices = sure + [order[place] for place in _first_above(ends, points)]
    weights = [
        float(count) * float(step) / (float(n) * float(rounds * step + lengths[i])) for i in indices
    ]
    return _on_cpu(indices, torch.int64), _on_cpu(weights, torch.float64).float()


# ---- What one writes without isample -------------------------------------------------------------


def plain_softmax_score(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    log_p = F.log_softmax(logits, dim=1)
    loss = F.nll_loss(log_p, targets, reduction="none")
    gradient = log_p.exp_()
    gradient.scatter_add_(1, targets[:, None], gradient.new_full((len(targets), 1), -1))
    return torch.linalg.vector_norm(gradient, dim=1), loss


def plain_distribution(score: Tensor) -> tuple[Tensor, Tensor]:
    p = score / score.sum()
    return p, (len(p) * p.square().sum()).sqrt()


def plain_draw(p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    indices = torch.multinomial(p, count, replacement=True)
    return indices, 1 / (len(p) * p[indices])


def plain_importance_sample(
    logits: Tensor, targets: Tensor, batch_size: int, tau_ema: Tensor, *, momentum: float = 0.9
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As ops.importance_sample, up to rounding and the random numbers."""
    score, loss = plain_softmax_score(logits, targets)
    p, tau_ = plain_distribution(score)
    tau_ema.mul_(momentum).add_(tau_, alpha=1 - momentum)
    indices, weights = plain_draw(p, batch_size)
    return indices, weights, score, loss, tau_

"""Scores to a distribution, tau, and the tables that draws are made from."""

from __future__ import annotations

import math
import weakref
from typing import NamedTuple

import torch
from torch import Tensor

from isample.ops.arguments import check_given
from isample.ops.fakes import register_fake
from isample.support.devices import is_read_freely
from isample.support.errors import NonFiniteScoreError


def distribution(
    score: Tensor, *, floor: float = 0.0, tau_ema: Tensor | None = None, momentum: float = 0.9
) -> tuple[Tensor, Tensor]:
    """The distribution that is sampled, ``p = (1 - floor) * g / sum(g) + floor / B``, and tau of it
    (29).

    tau is ``sqrt(B * sum(p^2))``, the closed form, between 1 (uniform) and sqrt(B). ``B / tau^2``
    is the effective sample size of the candidates. If all scores are 0, p is uniform.

    Args:
        score: float32 [B], finite and not negative, 1 <= B <= 2^32.
        floor: share of the uniform distribution mixed in, in [0, 1]. It bounds every weight by
            1 / floor.
        tau_ema: float32, 0-dimensional, or None. Updated in place, ``momentum * tau_ema + (1 -
            momentum) * tau`` (Algorithm 1, line 17).
        momentum: in [0, 1].

    Returns:
        probabilities: float32 [B].
        tau: float32, 0-dimensional, on the device of ``score``.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA tau and the probabilities are NaN instead, and tau_ema
        keeps its value.
        ValueError, TypeError: an argument breaks a rule above. An empty ``score`` has no
            distribution: ValueError.
    """
    check_given("score", score)
    probabilities, tau = torch.ops.isample.distribution.default(
        score, floor=floor, tau_ema=tau_ema, momentum=momentum
    )
    raise_if_nan(tau, score)
    return probabilities, tau


@register_fake("isample::distribution")
def _fake_distribution(score, *, floor=0.0, tau_ema=None, momentum=0.9):
    return torch.empty_like(score, memory_format=torch.contiguous_format), score.new_empty(())


class AliasTable(NamedTuple):
    """A distribution over N items, ready for draws in constant time, exact in integers.

    Item i has probability ``mass[i] / total``. Bucket i is drawn with probability 1/N and gives
    item i for heights below ``threshold[i]``, of ``total``, and item ``alias[i]`` above.
    :func:`alias_table` makes it; draws check one from elsewhere, once. ``torch.load`` reads a saved
    one also with ``weights_only=True``.
    """

    threshold: Tensor
    """int64 [N], in [0, total]."""
    alias: Tensor
    """int32 [N]."""
    mass: Tensor
    """int32 [N]: the scores, quantised."""
    total: Tensor
    """int64, 0-dimensional: the sum of ``mass``."""


def alias_table(score: Tensor, *, floor: float = 0.0) -> AliasTable:
    """Alias table of the distribution of ``score``, for many draws from the same scores.

    Args:
        score: float32 [N], finite and not negative, 1 <= N <= 2^24.
        floor: as in :func:`distribution`.

    Above 2^16 items masses have fewer than 30 bits, 15 at 2^24: buckets hold N times a mass.
    :func:`prefix_sum` keeps 30 bits, and takes up to 2^32 items.

    Raises:
        NonFiniteScoreError: on CPU. On CUDA the table's ``total`` is 0 instead, and draws from it
        have weight NaN.
        ValueError, TypeError: an argument breaks a rule above.
    """
    check_given("score", score)
    table = AliasTable(*torch.ops.isample.alias_table(score, floor=floor))
    _vouch_for(table)
    if can_look(score) and table.total == 0:
        raise NonFiniteScoreError.from_scores(score)
    return table


@register_fake("isample::alias_table")
def _fake_alias_table(score, *, floor=0.0):
    n = score.shape[0]
    return (
        score.new_empty(n, dtype=torch.int64),
        score.new_empty(n, dtype=torch.int32),
        score.new_empty(n, dtype=torch.int32),
        score.new_empty((), dtype=torch.int64),
    )


class PrefixSum(NamedTuple):
    """A distribution over N items as the running sums of its masses, for stratified and systematic
    draws."""

    sums: Tensor
    """int64 [N], inclusive and ascending. Item i has probability ``(sums[i] - sums[i - 1]) /
    sums[-1]``."""
    tau: Tensor
    """float32, 0-dimensional: as of :func:`distribution`."""


def prefix_sum(score: Tensor, *, floor: float = 0.0, into: Tensor | None = None) -> PrefixSum:
    """The prefix sums of the distribution of ``score``, for many spread draws from the same scores.

    Args:
        score: float32 [N], finite and not negative, 1 <= N <= 2^32.
        floor: as in :func:`distribution`.
        into: int64 [N], contiguous, which becomes the sums; by default a new tensor does. ``score``
            may be its upper half, ``into.view(torch.float32)[N:]``: then no other memory is needed.

    Raises:
        NonFiniteScoreError: on CPU, where ``into`` keeps what it holds. On CUDA the sums are 0
        instead, and tau is NaN.
        ValueError, TypeError: an argument breaks a rule above.
    """
    check_given("score", score)
    if into is None:
        table = PrefixSum(*torch.ops.isample.prefix_sum(score, floor=floor))
    else:
        table = PrefixSum(into, torch.ops.isample._prefix_sum_into(into, score, floor=floor))
    _vouch_for(table)
    raise_if_nan(table.tau, score)
    return table


@register_fake("isample::_check_table")
def _fake_check_table(threshold, alias, mass, total):
    return None


@register_fake("isample::_check_prefix_sums")
def _fake_check_prefix_sums(sums):
    return None


@register_fake("isample::_prefix_sum_into")
def _fake_prefix_sum_into(sums, score, *, floor=0.0):
    return score.new_empty(())


@register_fake("isample::prefix_sum")
def _fake_prefix_sum(score, *, floor=0.0):
    return score.new_empty(score.shape[0], dtype=torch.int64), score.new_empty(())


torch.serialization.add_safe_globals([AliasTable, PrefixSum])


# ---- Tables from elsewhere -----------------------------------------------------------------------

# By the id of a table's first tensor: its tensors and their versions, when last they were a table.
_known: dict[int, list[tuple[weakref.ref[Tensor], int]]] = {}


def check_table(table: AliasTable | PrefixSum) -> None:
    """Raises ValueError or TypeError unless ``table`` is one that isample makes.

    A table is looked at once, and again after its tensors were changed in place.
    """
    if torch.compiler.is_compiling() or _is_known(table):
        return
    if isinstance(table, PrefixSum):
        check_given("sums", table.sums)
        torch.ops.isample._check_prefix_sums.default(table.sums)
    else:
        check_given("threshold", table.threshold)
        torch.ops.isample._check_table.default(*table)
    _vouch_for(table)


def _is_known(table: AliasTable | PrefixSum) -> bool:
    parts = _parts(table)
    known = _known.get(id(parts[0]))
    if known is None or len(known) != len(parts):
        return False
    for part, (seen, version) in zip(parts, known):
        if seen() is not part or version != _version(part):
            return False
    return True


def _vouch_for(table: AliasTable | PrefixSum) -> None:
    if torch.compiler.is_compiling():
        return
    first, *others = _parts(table)
    key = id(first)
    forgotten = weakref.ref(first, lambda _: _known.pop(key, None))
    _known[key] = [
        (forgotten, _version(first)),
        *((weakref.ref(each), _version(each)) for each in others),
    ]


def _parts(table: AliasTable | PrefixSum) -> tuple[Tensor, ...]:
    """What draws read."""
    return (table.sums,) if isinstance(table, PrefixSum) else tuple(table)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def can_look(tensor: Tensor) -> bool:
    """Whether a value may be read at once: on CUDA the host would wait, and torch.compile would
    break its graph."""
    return is_read_freely(tensor) and not torch.compiler.is_compiling()


def raise_if_nan(status: Tensor, score: Tensor) -> None:
    if can_look(score) and math.isnan(status.item() if status.dim() == 0 else status[0].item()):
        raise NonFiniteScoreError.from_scores(score)

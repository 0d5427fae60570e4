"""Means over what labels count, and numbers in a row: from their definitions, in long doubles."""

import numpy as np
import torch

from isample.ops.scores import mean_cross_entropy
from tests.fuzz.dice import FLOATS
from tests.fuzz.judge import Fault, Op, as_integer, near
from tests.fuzz.scores import EXP_FLOOR, FLOAT_TOP, Truth, constant_rules, make_rows, row_rules

TINY = 1e-30  # in place of 0 as a divisor
PACKED = (*FLOATS, torch.int64, torch.bool, torch.int32)


def make_mean(dice):
    given = make_rows(dice)
    given["logits"].requires_grad_(dice.odds(2))
    return given


def mean_rules(rules):
    row_rules(rules)
    constant_rules(rules, ("targets", "weight"))


def counted(given, truth):
    """What the labels count in all."""
    targets, weight = given["targets"].detach(), given["weight"]
    if targets.dtype != torch.int64:
        return np.longdouble(len(targets))
    kept = targets[targets != as_integer(given["ignore_index"])]
    if weight is None:
        return np.longdouble(len(kept))
    return weight.detach().double()[kept].numpy().astype(np.longdouble).sum()


def check_parts(given, loss, score, count):
    """Of all but the gradient; gives truth, and the ratio of rows to what counts."""
    truth = Truth(given)
    near("score", score, truth.score, truth.score_error, beyond=truth.beyond)
    total, rows = counted(given, truth), len(truth.loss)
    with np.errstate(all="ignore"):
        near("count", count, total, 1e-12 * np.abs(total), torch.float64)
        ratio = rows / (TINY if total < TINY else total)
        losses = np.where(truth.loss > FLOAT_TOP, np.inf, truth.loss)  # of a row, they are float32s
        of_rows = losses.sum() / rows if rows else np.longdouble(np.nan)
        mean = of_rows * ratio
        flushed = EXP_FLOOR + 1e-7 * np.abs(of_rows)
        error = (truth.loss_error.sum() / max(rows, 1) + flushed) * np.abs(ratio)
    near("loss", loss, mean, error, beyond=truth.beyond.any())
    return truth, ratio


def check_mean(given, after, result):
    loss, score, count = result
    truth, ratio = check_parts(given, loss.detach(), score.detach(), count.detach())
    if not after["logits"].requires_grad or not torch.is_grad_enabled():
        return
    if score.requires_grad or count.requires_grad:
        raise Fault("score or count requires grad")
    (got,) = torch.autograd.grad(loss, after["logits"], torch.tensor(2.0))
    _check_gradient(given, truth, got, 2 * ratio, given["logits"].dtype)


def check_with_gradient(given, after, result):
    loss, score, gradient, count, ratio = result
    truth, of_rows = check_parts(given, loss, score, count)
    wide = given["logits"].dtype == torch.float64
    _check_gradient(given, truth, gradient, of_rows, torch.float64 if wide else torch.float32)
    if ratio.shape != (0,):
        raise Fault("a ratio, though the gradient needs none on the CPU")


def _check_gradient(given, truth, got, factor, dtype):
    scale = factor / max(len(truth.loss), 1)
    with np.errstate(all="ignore"):
        wanted = truth.gradient * scale
        slack = (truth.gradient_error + EXP_FLOOR) * np.abs(scale)
        wanted[truth.ignored] = slack[truth.ignored] = 0
    near("gradient", got, wanted, slack, dtype, beyond=truth.beyond[:, None])


# ---- Numbers in a row ----------------------------------------------------------------------------


def make_pack(dice):
    def value():
        shape = dice.choice(((), (1,), (0,), (3,), (2, 5), (1, 2, 3)))
        made = dice.tensor(dice.numpy.normal(size=shape) * 100, dice.choice(PACKED))
        return made.t() if made.dim() == 2 and dice.odds(2) else made

    return {"values": [value() for _ in range(dice.size(20))]}


def pack_rules(rules):
    values = rules.given["values"]
    rules.require("values", isinstance(values, list) and len(values) > 0, "is empty")


def check_pack(given, after, result):
    expected = torch.cat([value.double().reshape(-1) for value in given["values"]])
    near("packed", result, expected.numpy(), 0.0, torch.float64)


OPS = [
    Op("_mean_cross_entropy", make_mean, mean_rules, check_mean, mean_cross_entropy),
    Op(
        "_mean_cross_entropy_with_gradient",
        make_mean,
        mean_rules,
        check_with_gradient,
        only=("op",),
    ),
    Op("_pack", make_pack, pack_rules, check_pack, only=("op",)),
]

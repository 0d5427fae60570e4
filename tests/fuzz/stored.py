"""Tables that may come from elsewhere: what they must hold, and the two ops that look at it."""

import numpy as np
import torch

from isample.ops import reference
from tests.fuzz import tables
from tests.fuzz.judge import Op, exact

TABLE = ("threshold", "alias", "mass", "total")


# ---- Inputs --------------------------------------------------------------------------------------


def _masses(dice, n):
    valid = dice.scores(n, invalid=10**9)
    floor = dice.share() if dice.odds(3) else 0.0
    return torch.from_numpy(tables.masses(torch.from_numpy(valid), floor))


def make_table(dice):
    """An alias table; now and then of zeros, which CUDA gives for scores that are not valid."""
    mass = _masses(dice, dice.size(150))
    threshold, alias = reference.alias_table(mass)
    columns = (threshold, alias.int(), mass.int(), mass.sum())
    if dice.odds(20):
        columns = tuple(torch.zeros_like(column) for column in columns)
    return dict(zip(TABLE, map(dice.laid, columns)))


def make_sums(dice):
    """Prefix sums; now and then of zeros, or of larger masses than any score gets."""
    mass = _masses(dice, dice.size(150))
    if dice.odds(4):
        mass = mass * dice.choice((0, 2, 3, 2**20))
    return {"sums": dice.laid(mass.cumsum(0))}


# ---- Rules ---------------------------------------------------------------------------------------


def table_rules(rules):
    threshold = rules.tensor("threshold", [torch.int64], 1)
    if threshold is None or not rules.require("threshold", len(threshold) >= 1, "is empty"):
        return
    n = len(threshold)
    alias = rules.tensor("alias", [torch.int32], shape=(n,))
    mass = rules.tensor("mass", [torch.int32], shape=(n,))
    total = rules.tensor("total", [torch.int64], 0)
    if alias is None or mass is None or total is None:
        return
    if int(total) == 0 and not (threshold.any() or alias.any() or mass.any()):
        rules.doubt("total", False, "is 0")
    else:
        _look(rules, threshold.tolist(), alias.tolist(), mass.tolist(), int(total))


def _look(rules, threshold, alias, mass, total):
    n = len(threshold)
    kept = [
        rules.contents("total", 0 < total == sum(mass), "is not the sum of mass"),
        rules.contents("mass", min(mass) >= 0, "is negative"),
        rules.contents("threshold", min(threshold) >= 0 and max(threshold) <= total, "is outside"),
        rules.contents("alias", min(alias) >= 0 and max(alias) < n, "is outside"),
    ]
    if all(kept):
        own = list(threshold)
        for i in range(n):
            own[alias[i]] += total - threshold[i]
        rules.contents("mass", own == [n * k for k in mass], "is not what the buckets give")


def sums_rules(rules):
    sums = rules.tensor("sums", [torch.int64], 1)
    if sums is None or not rules.require("sums", len(sums) >= 1, "is empty"):
        return None
    if not sums.any():
        rules.doubt("sums", False, "is 0")
        return sums
    steps = np.diff(sums.numpy().astype(object), prepend=0)
    if rules.contents("sums", bool((steps >= 0).all()), "does not ascend"):
        rules.contents("sums", bool((steps < 2**31).all()), "has a mass beyond an int32")
    return sums


# ---- The ops -------------------------------------------------------------------------------------


def check_nothing(given, after, result):
    exact("nothing", torch.tensor(result is None), torch.tensor(True))


OPS = [
    Op("_check_table", make_table, table_rules, check_nothing, only=("op",), looks=True),
    Op("_check_prefix_sums", make_sums, sums_rules, check_nothing, only=("op",), looks=True),
]

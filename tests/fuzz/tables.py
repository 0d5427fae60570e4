"""distribution, alias_table and prefix_sum: masses, tau and tables in exact integers."""

from fractions import Fraction

import numpy as np
import torch

from isample import ops
from isample.ops import reference
from isample.ops.reference import SUM_BITS, product_bits
from tests.fuzz.judge import Fault, Op, exact, near

FLOAT_ULP = 1.2e-7


# ---- Inputs --------------------------------------------------------------------------------------


def make_scores(dice):
    large = dice.odds(60)
    n = dice.randint(30_000, 90_000) if large else dice.size(400)
    given = {"score": dice.tensor(dice.scores(n), torch.float32)}
    if not large and dice.odds(3):
        given["floor"] = dice.share()
    return given


def make_into(dice):
    given = make_scores(dice)
    given["sums"] = dice.inside(torch.zeros(len(given["score"]), dtype=torch.int64))
    return given


def make_distribution(dice):
    given = make_scores(dice)
    if dice.odds(2):
        value = dice.choice((0.0, 1.0, dice.random() * 10, 1e-40, np.nan))
        given["tau_ema"] = dice.tensor(value, torch.float32)
    if dice.odds(2):
        given["momentum"] = dice.share()
    return given


# ---- Rules ---------------------------------------------------------------------------------------


def score_rules(rules):
    rules.scores()
    rules.share("floor")


def into_rules(rules):
    score_rules(rules)
    score = rules.given["score"]
    if isinstance(score, torch.Tensor):
        sums = rules.tensor("sums", [torch.int64], shape=score.shape)
        if sums is not None:
            rules.require("sums", sums.is_contiguous(), "is not contiguous")


def distribution_rules(rules):
    score_rules(rules)
    rules.tensor("tau_ema", [torch.float32], 0, optional=True)
    rules.share("momentum")


# ---- Truth ---------------------------------------------------------------------------------------


def valid(score):
    return bool((score.isfinite() & (score >= 0)).all())


def masses(score, floor, bits=SUM_BITS):
    """The masses of scores [n], int64, by their definition: Python floats are C's doubles."""
    g = score.detach().double().numpy()
    n, largest = len(g), float(g.max())
    if largest == 0:
        mass = np.ones(n, np.int64)
    else:
        scale = 2.0**bits / largest
        mass = np.where(g > 0, np.maximum(1.0, np.rint(g * scale)), 0.0).astype(np.int64)
    if floor > 0:
        share = floor * (float(int(mass.sum())) / float(n))
        rest = Fraction(1.0 - floor)
        lifted = {k: max(1, round(float(rest * k + Fraction(share)))) for k in set(mass.tolist())}
        mass = np.array([lifted[k] for k in mass.tolist()])
    return mass


def tau(mass):
    ks = mass.tolist()
    return float(Fraction(len(ks) * sum(k * k for k in ks), sum(ks) ** 2)) ** 0.5


def check_distribution(given, after, result):
    p, tau_ = result
    score, ema = given["score"], given["tau_ema"]
    n = len(score)
    if not valid(score):
        near("probabilities", p, np.full(n, np.nan), 0)
        near("tau", tau_, np.nan, 0)
        if ema is not None:
            exact("tau_ema", after["tau_ema"], ema)
        return
    mass = masses(score, float(given["floor"]))
    exact("probabilities", p, torch.from_numpy(mass / float(mass.sum())).float())
    near("tau", tau_, tau(mass), FLOAT_ULP)
    if ema is not None:
        a, before, now = float(given["momentum"]), ema.item(), tau_.item()
        parts = np.array([a * before, (1 - a) * now])
        near("tau_ema", after["tau_ema"].detach(), parts.sum(), FLOAT_ULP * np.abs(parts).sum())


def check_alias_table(given, after, result):
    threshold, alias, mass, total = result
    n = len(given["score"])
    if not valid(given["score"]):
        exact("total", total, torch.tensor(0))
        for name, column in (("threshold", threshold), ("alias", alias), ("mass", mass)):
            exact(name, column, torch.zeros(n, dtype=column.dtype))
        return
    expected = masses(given["score"], float(given["floor"]), product_bits(n))
    exact("mass", mass.long(), torch.from_numpy(expected))
    exact("total", total, mass.sum())
    if (threshold.dtype, alias.dtype, mass.dtype) != (torch.int64, torch.int32, torch.int32):
        raise Fault(f"table is of {threshold.dtype}, {alias.dtype}, {mass.dtype}")
    if len(threshold) != n or len(alias) != n:
        raise Fault(f"table has {len(threshold)} and {len(alias)} buckets, not {n}")
    if not ((alias >= 0) & (alias < n) & (threshold >= 0) & (threshold <= total)).all():
        raise Fault("table leaves its range")
    # bucket by bucket every item gets n times its mass
    own = threshold.clone().index_add_(0, alias.long(), total - threshold)
    exact("n * mass, put together from the table", own, n * mass.long())
    for name, got, closed in zip(
        ("threshold", "alias"), result, reference.alias_table(mass.long())
    ):
        exact(name, got.long(), closed)


def check_prefix_sum(given, after, result):
    sums, tau_ = result
    n = len(given["score"])
    if not valid(given["score"]):
        exact("sums", sums, torch.zeros(n, dtype=torch.int64))
        near("tau", tau_, np.nan, 0)
        return
    mass = masses(given["score"], float(given["floor"]))
    exact("sums", sums, torch.from_numpy(mass).cumsum(0))
    near("tau", tau_, tau(mass), FLOAT_ULP * tau(mass))


def check_into(given, after, result):
    if valid(given["score"]):
        check_prefix_sum(given, after, (after["sums"], result))
    else:
        exact("sums", after["sums"], given["sums"])
        near("tau", result, np.nan, 0)


def wrap_prefix_sum(score, floor=0.0):
    return ops.prefix_sum(score, floor=floor)


def wrap_into(sums, score, floor=0.0):
    if sums is None:
        raise TypeError("sums must be given: None asks another op; got None")
    table = ops.prefix_sum(score, floor=floor, into=sums)
    if table.sums is not sums:
        raise Fault("the sums are another tensor")
    return table.tau


OPS = [
    Op(
        "distribution",
        make_distribution,
        distribution_rules,
        check_distribution,
        ops.distribution,
        writes=("tau_ema",),
    ),
    Op("alias_table", make_scores, score_rules, check_alias_table, ops.alias_table),
    Op("prefix_sum", make_scores, score_rules, check_prefix_sum, wrap_prefix_sum),
    Op("_prefix_sum_into", make_into, into_rules, check_into, wrap_into, writes=("sums",)),
]

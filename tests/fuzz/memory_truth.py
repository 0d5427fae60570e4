"""What is right for the ops of memory."""

import math

import numpy as np
import torch

from isample.ops import memory as wrappers
from isample.ops import reference
from tests.fuzz import memory
from tests.fuzz.dice import DENORMAL, TINY
from tests.fuzz.draws import weights_of
from tests.fuzz.judge import Op, exact, near

FLOAT_ULP = 1.2e-7
DIVISOR = 1e-30  # at least


def _sums_weights(sums, indices):
    ends = [0, *sums.tolist()]
    mass = [ends[i + 1] - ends[i] for i in indices.tolist()]
    return weights_of(mass, ends[-1], len(ends) - 1)


def check_draw_weights(given, after, result):
    exact("weights", result, _sums_weights(given["sums"], given["indices"]))


# ---- Moments -------------------------------------------------------------------------------------


def thinned(x, keep):
    """The sum of x^2 / pi over positive x, pi_i = min(1, x_i / bound) with a sum of ``keep``.

    The k largest are certain, for the least k that leaves no other above its bound.
    """
    x = np.sort(x[x > 0])[::-1].astype(np.longdouble)
    if len(x) <= keep:
        return (x * x).sum()
    rest = np.cumsum(x[::-1])[::-1]
    for k in range(len(x)):
        if keep - k > 0 and x[k] * (keep - k) <= rest[k]:
            return (x[:k] ** 2).sum() + rest[k] * rest[k] / (keep - k)
    raise AssertionError("no bound divides them")


def moments(score, weights, drawn, fractions):
    g, w = (each.double().numpy().astype(np.longdouble) for each in (score, weights))
    x = g * w if drawn else g
    n = len(g)
    three = [x.mean(), (g * x).mean(), (x * x if drawn else w * g * g).mean()]
    parts = [thinned(x, np.longdouble(f) * n) / n for f in fractions]
    return np.array([*three, w.min(), w.max(), (x * x).mean(), *parts])


def _check_moments(numbers, score, weights, drawn, fractions):
    if not (score.isfinite() & (score >= 0)).all():
        exact("finite", numbers[0].isfinite(), torch.tensor(False))
        return
    expected = moments(score, weights, drawn, [float(each) for each in fractions])
    if not (weights.isfinite() & (weights >= 0)).all():  # of what is no draw, nothing is foretold
        numbers, expected = numbers[:3], expected[:3]
    near("moments", numbers, expected, 1e-9 * np.abs(expected) + 1e-300, torch.float64)


def check_moments(given, after, result):
    _check_moments(
        result, given["score"], given["weights"], bool(given["drawn"]), given["fractions"]
    )


# ---- Remembering ---------------------------------------------------------------------------------


def blended(before, fresh, rate):
    if not (0 <= fresh < math.inf):
        return before
    if not (before > 0 and fresh > 0) or rate == 1:
        return fresh
    return math.exp((1 - rate) * math.log(before) + rate * math.log(fresh))


def check_remember(given, after, result):
    memory_, indices = given["memory"], given["indices"]
    exact("before", result, memory_[indices])
    _check_memory(given, after)


def _check_memory(given, after):
    memory_, rate = given["memory"].tolist(), float(given["rate"])
    left = list(memory_)
    for place, fresh in zip(given["indices"].tolist(), given["score"].tolist()):
        left[place] = blended(memory_[place], fresh, rate)
    near("memory", after["memory"], np.array(left), FLOAT_ULP * np.abs(np.array(left)))


def octave(value):
    if value == math.inf:
        return 255
    return 0 if value < 2.0**-126 else min(255, math.frexp(value)[1] + 126)


def _check_met(met, after, remembered, fresh):
    sums = met.double().numpy().copy()
    size, added = np.abs(sums), np.zeros((memory.OCTAVES, 1))
    for old, new in zip(remembered.tolist(), fresh.tolist()):
        if old >= 0 and math.isfinite(new):
            row = octave(old)
            sums[row] += (new * new, old * old, 1)
            size[row] += (new * new, old * old, 1)
            added[row] += 1
    near("met", after, sums, FLOAT_ULP * (added + 1) * size + DENORMAL * added)


def check_meet(given, after, result):
    exact("nothing", torch.tensor(result is None), torch.tensor(True))
    _check_met(given["met"], after["met"], given["remembered"], given["fresh"])


def check_recall(given, after, result):
    score, indices, weights = given["score"], given["indices"], given["weights"]
    dealt = torch.ones_like(score)
    if weights is None and given["sums"] is not None:
        dealt = _sums_weights(given["sums"], indices)
    drawn = weights is not None
    _check_moments(result, score, weights if drawn else dealt, drawn, given["fractions"])
    _check_memory(given, after)
    _check_met(given["met"], after["met"], given["memory"][indices], score)


# ---- Expected scores -----------------------------------------------------------------------------


class Curve:
    """Fresh scores over remembered ones: a point an octave, straight lines between them."""

    def __init__(self, experience, prior):
        sums = experience.numpy()
        begin = np.where(np.arange(256) > 0, 2.0 ** (np.arange(256) - 127.0), 0.0)
        begin[0], end = 0.0, 2.0 ** (np.arange(256) - 126.0)
        with np.errstate(all="ignore"):
            mean = np.sqrt(sums[:, 1] / sums[:, 2]).astype(float)  # in float32, as it is kept
        count = sums[:, 2].astype(float)
        self.x = np.where(count > 0, np.clip(mean, begin, end), 1.5 * begin)
        self.y = np.sqrt((sums[:, 0].astype(float) + prior * self.x**2) / (count + prior))

    def at(self, score):
        """The value, and how large the terms are that it is the sum of."""
        place = octave(score)
        line = place + (score >= self.x[place])
        if line in (0, 256):
            return self.y[min(line, 255)], 0.0
        length = self.x[line] - self.x[line - 1]
        slope = (self.y[line] - self.y[line - 1]) / length if length > 0 else 0.0
        size = abs(slope) * (score + self.x[line]) + self.y[line]
        return self.y[line] + slope * (score - self.x[line]), size


def check_expected(given, after, result):
    expected, bounded = result
    scores, prior = given["score"].tolist(), float(given["prior"])
    if math.inf in scores or prior < TINY:
        return  # neither is remembered; and such a prior has no digits left
    seen = [score for score in scores if score >= 0]
    mean = float(np.float32(math.fsum(seen) / len(seen))) if seen else 0.0
    curve = Curve(given["experience"], prior)
    pairs = [curve.at(score if score >= 0 else mean) for score in scores]
    value, size = (np.array(each, dtype=float) for each in (zip(*pairs) if pairs else ([], [])))
    bound = given["contradicted"]
    above = np.array(scores) > (math.inf if bound is None else np.float32(float(bound)))
    factor, lowered = 1.0, 0.0
    if above.any():
        floats = value.astype(np.float32).astype(float)  # what the op sums
        theirs, others = floats[above].sum(), floats[~above].sum()
        most = max(above.mean(), float(given["share"]))
        with np.errstate(all="ignore"):
            factor = np.float64(most * others) / np.float64((1 - most) * theirs)
        lowered = float(factor < 1)
    # which side of 1 it falls on is a matter of rounding, as whether what is tiny is 0
    edge = abs(factor - 1) < 1e-6 or np.abs(value).sum() < 1e7 * len(scores) * DENORMAL
    near("bounded", bounded, lowered, 1.0 if edge and above.any() else 0.0)
    value = np.where(above, value * (factor if lowered else 1.0), value)
    error = 4 * FLOAT_ULP * np.abs(value) + 1e-12 * size
    cap = math.inf if given["gain_cap"] is None else float(given["gain_cap"])
    if math.isfinite(cap) and len(scores):
        if lowered:  # by a float32, which may be 0
            value = np.where(above, floats * float(np.float32(factor)), value)
        value, error = flattened(value.astype(np.longdouble), error, cap, float(given["floor"]))
    near("expected", expected, value, error)


def flattened(value, error, gain_cap, floor):
    """In units of the mean, mixed with the uniform distribution until a draw gains ``gain_cap``."""
    mean = max(value.mean(), DIVISOR)
    surplus = (value**2).mean() / mean**2 - 1
    room = (1 - floor) * surplus
    kept = min(1, (gain_cap - 1) / max(room, DIVISOR))
    # the squares' rounding, of which a surplus near 0 is made; no more than all can be kept
    slack = 1e-5 * kept * (1 + 1e-2 / max(surplus, 1e-9)) if kept < 1 or room < 1e-6 else 0
    relative = value / mean
    error = error / mean * kept + np.abs(relative - 1) * slack + 4 * FLOAT_ULP * (relative + 1)
    return relative * kept + 1 - kept, error


def check_permuted(given, after, result):
    size, places = int(given["size"]), given["places"].tolist()
    order = reference.permutation(int(given["seed"]), 0, size, places)
    exact("permuted", result, torch.tensor(order, dtype=torch.int64))


OPS = [
    Op(
        "draw_weights",
        memory.make_draw_weights,
        memory.draw_weights_rules,
        check_draw_weights,
        memory.wrap_draw_weights,
    ),
    Op(
        "draw_moments",
        memory.make_moments,
        memory.moments_rules,
        check_moments,
        memory.wrap_moments,
    ),
    Op(
        "remember",
        memory.make_remember,
        memory.remember_rules,
        check_remember,
        wrappers.remember,
        writes=("memory",),
    ),
    Op(
        "meet",
        memory.make_meet,
        memory.meet_rules,
        check_meet,
        wrappers.meet,
        writes=("met",),
    ),
    Op(
        "recall",
        memory.make_recall,
        memory.recall_rules,
        check_recall,
        memory.wrap_recall,
        writes=("memory", "met"),
    ),
    Op(
        "expected_scores",
        memory.make_expected,
        memory.expected_rules,
        check_expected,
        memory.wrap_expected,
    ),
    Op(
        "_expected_scores_into",
        memory.make_into,
        memory.into_rules,
        lambda given, after, result: check_expected(given, after, (after["expected"], result)),
        memory.wrap_into,
        writes=("expected",),
    ),
    Op(
        "permuted",
        memory.make_permuted,
        memory.permuted_rules,
        check_permuted,
        wrappers.permuted,
    ),
]

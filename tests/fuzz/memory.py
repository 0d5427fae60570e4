"""The ops of memory: moments in long doubles, blends and sums by their formulas."""

import math

import numpy as np
import torch

from isample import ops
from isample.ops import memory as wrappers
from isample.values import KEEP_FRACTIONS
from tests.fuzz.judge import Fault
from tests.fuzz.stored import make_sums, sums_rules

F32 = [torch.float32]
OCTAVES = 256


# ---- Inputs --------------------------------------------------------------------------------------


def make_draw_weights(dice):
    sums = make_sums(dice)["sums"]
    places = dice.numpy.integers(0, len(sums), dice.choice((0, 1, dice.size(60))))
    return {"sums": sums, "indices": dice.tensor(_astray(dice, places), torch.int64)}


def _astray(dice, places):
    if len(places) and dice.odds(20):
        places[dice.randrange(len(places))] = dice.choice((-1, 10**6, 2**63 - 1, -(2**63)))
    return places


def _fractions(dice):
    if dice.odds(2):
        return list(KEEP_FRACTIONS)
    return [dice.choice((1.0, 0.5, 1e-3, 1 - dice.random())) for _ in range(dice.randint(0, 16))]


def _batch(dice, n):
    """Scores and weights of a batch, whose products stay finite."""
    score = np.minimum(dice.scores(n), 1e30) if dice.odds(2) else dice.numpy.exponential(size=n)
    weights = dice.numpy.exponential(size=n) * dice.choice((1.0, 1e-6, 1e6))
    weights[dice.numpy.random(n) < 0.1] = 0.0
    return dice.tensor(score, torch.float32), dice.tensor(weights, torch.float32)


def make_moments(dice):
    score, weights = _batch(dice, dice.size(200))
    return {
        "score": score,
        "weights": weights,
        "drawn": dice.odds(2),
        "fractions": _fractions(dice),
    }


def _remembered(dice, n):
    values = np.minimum(dice.scores(n), 1e38)
    values[dice.numpy.random(n) < dice.choice((0, 0.3))] = -1.0
    return values


def make_remember(dice):
    items, n = dice.size(100), dice.size(100)
    given = {
        "memory": dice.tensor(_remembered(dice, items), torch.float32, contiguous=True),
        "indices": dice.numpy.integers(0, items, n),
        "score": dice.tensor(np.minimum(dice.scores(n, invalid=4), 1e38), torch.float32),
    }
    if dice.odds(2):
        given["indices"] = dice.numpy.permutation(max(items, n))[:n] % items
    given["indices"] = dice.tensor(_astray(dice, given["indices"]), torch.int64)
    if dice.odds(2):
        given["rate"] = dice.choice((1.0, 0.5, 1e-9, 1 - dice.random()))
    return given


def _octave_sums(dice, n):
    rows = np.zeros((OCTAVES, 3))
    for _ in range(n):
        remembered = 2.0 ** dice.uniform(-149, 60)
        fresh = remembered * dice.choice((0.0, 1.0, 0.1, 3.0))
        row = rows[np.clip(np.floor(np.log2(remembered)) + 127, 0, 255).astype(int)]
        row += np.array([fresh**2, remembered**2, 1.0]) * dice.choice((1.0, 0.3, 1e-6))
    return dice.tensor(rows, torch.float32, contiguous=True)


def make_meet(dice):
    n = dice.choice((0, 1, dice.size(100)))
    return {
        "met": _octave_sums(dice, dice.randint(0, 20)),
        "remembered": dice.tensor(_remembered(dice, n) if n else np.zeros(0), torch.float32),
        "fresh": dice.tensor(dice.scores(n) if n else np.zeros(0), torch.float32),
    }


def make_recall(dice):
    given = make_remember(dice)
    given["score"], weights = _batch(dice, len(given["score"]))
    given["met"] = _octave_sums(dice, dice.randint(0, 20))
    given["weights"] = weights if dice.odds(2) else None
    sums = torch.from_numpy(dice.numpy.integers(1, 2**31, len(given["memory"]))).cumsum(0)
    given["sums"] = dice.laid(sums) if dice.odds(2) else None
    given["fractions"] = _fractions(dice)
    return given


def make_expected(dice):
    n = dice.choice((0, 1, dice.size(200)))
    return {
        "score": dice.tensor(_remembered(dice, n) if n else np.zeros(0), torch.float32),
        "experience": _octave_sums(dice, dice.choice((0, 1, 5, 100))),
        "prior": dice.choice((2.0, 1e-6, 1e6, dice.random() + 1e-9)),
        "contradicted": dice.choice((None, 0.0, 1.0, 0.3, 1e-30, dice.random())),
        "share": dice.choice((0.0, 0.25, 0.999999, dice.random())),
        "gain_cap": dice.choice((None, math.inf, 1.0, 1.5, 1e6, 1 + dice.random())),
        "floor": dice.share(),
    }


def make_into(dice):
    given = make_expected(dice)
    return {**given, "expected": dice.inside(torch.zeros(len(given["score"])))}


def make_permuted(dice):
    size = dice.choice((1, 2, dice.size(200), 2**24, 2**32, dice.getrandbits(31) + 1))
    places = dice.numpy.integers(0, size, dice.choice((0, 1, dice.size(40))))
    return {
        "places": dice.tensor(_astray(dice, places), torch.int64),
        "size": size,
        "seed": dice.choice((0, -1, -(2**63), 2**63 - 1, dice.getrandbits(63))),
    }


# ---- Rules ---------------------------------------------------------------------------------------


def draw_weights_rules(rules):
    sums = sums_rules(rules)
    _places(rules, sums, rules.tensor("indices", [torch.int64], 1))


def _places(rules, items, indices):
    if items is not None and indices is not None:
        inside = (indices >= 0) & (indices < len(items))
        rules.require("indices", bool(inside.all()), "leaves its range")


def moments_rules(rules):
    score = rules.tensor("score", F32, 1)
    if score is not None and rules.require("score", len(score) >= 1, "is empty"):
        rules.tensor("weights", F32, shape=score.shape)
    # torch reads much as a bool, None included; the wrapper takes none but these two
    known = type(rules.given["drawn"]) is bool
    if rules.face == "wrapper":
        rules.require("drawn", known, "is no bool")
    rules.doubt("drawn", known, "is no bool")
    fraction_rules(rules)


def fraction_rules(rules):
    fractions = rules.given["fractions"]
    try:
        kept = all(0 < float(each) <= 1 for each in fractions) and len(fractions) <= 16
    except (TypeError, ValueError, RuntimeError):
        kept = False
    rules.require("fractions", kept, f"is {fractions!r:.80}")
    rules.doubt("fractions", isinstance(fractions, (list, tuple)), "is no list")


def remember_rules(rules):
    memory = rules.tensor("memory", F32, 1)
    if memory is not None:
        rules.require("memory", memory.is_contiguous(), "is not contiguous")
    rules.number("rate", lambda value: 0 < value <= 1)
    score = rules.tensor("score", F32, 1)
    if score is not None and rules.require("score", len(score) >= 1, "is empty"):
        _places(rules, memory, rules.tensor("indices", [torch.int64], shape=score.shape))


def by_octave_rules(rules, name):
    sums = rules.tensor(name, F32, shape=(OCTAVES, 3))
    if sums is not None:
        rules.require(name, sums.is_contiguous(), "is not contiguous")


def meet_rules(rules):
    by_octave_rules(rules, "met")
    fresh = rules.tensor("fresh", F32, 1)
    if fresh is not None:
        rules.tensor("remembered", F32, shape=fresh.shape)


def recall_rules(rules):
    remember_rules(rules)
    by_octave_rules(rules, "met")
    fraction_rules(rules)
    score = rules.given["score"]
    if isinstance(score, torch.Tensor):
        rules.tensor("weights", F32, shape=score.shape, optional=True)
    if rules.given["sums"] is not None and not rules.broken:
        sums = sums_rules(rules)
        if rules.given["weights"] is None:
            _places(rules, sums, rules.given["indices"])


def expected_rules(rules):
    rules.tensor("score", F32, 1)
    by_octave_rules(rules, "experience")
    rules.number("prior", lambda value: value > 0)
    rules.number("share", lambda value: 0 <= value < 1)
    rules.number("contradicted", lambda value: True, optional=True)
    rules.number("gain_cap", lambda value: value >= 1, optional=True)
    rules.share("floor")


def into_rules(rules):
    expected_rules(rules)
    score = rules.given["score"]
    if isinstance(score, torch.Tensor):
        expected = rules.tensor("expected", F32, shape=score.shape)
        if expected is not None:
            rules.require("expected", expected.is_contiguous(), "is not contiguous")


def permuted_rules(rules):
    size = rules.integer("size", 1, 2**32)
    rules.integer("seed", -(2**63), 2**64 - 1, doubtful_from=2**63)
    places = rules.tensor("places", [torch.int64], 1)
    if size is not None and places is not None:
        rules.require("places", bool(((places >= 0) & (places < size)).all()), "leaves its range")


# ---- The ops -------------------------------------------------------------------------------------


def wrap_draw_weights(sums, indices):
    return wrappers.draw_weights(ops.PrefixSum(sums, torch.tensor(1.0)), indices)


def wrap_moments(score, weights, drawn, fractions):
    return wrappers.draw_moments(score, weights, drawn=drawn, fractions=fractions)


def wrap_recall(memory, met, score, indices, weights, sums, fractions, **rest):
    table = None if sums is None else ops.PrefixSum(sums, torch.tensor(1.0))
    rest |= {"weights": weights, "table": table, "fractions": fractions}
    return wrappers.recall(memory, met, score, indices, **rest)


def wrap_expected(score, experience, **rest):
    return wrappers.expected_scores(score, experience, **rest)


def wrap_into(expected, score, experience, **rest):
    if expected is None:
        raise TypeError("expected must be given: None asks another op; got None")
    into, bounded = wrappers.expected_scores(score, experience, **rest, into=expected)
    if into is not expected:
        raise Fault("the expected scores are another tensor")
    return bounded

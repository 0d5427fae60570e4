"""Draws: index for index and weight for weight, by Python's integers."""

from bisect import bisect_right

import numpy as np
import torch

from isample import ops
from isample.ops import reference
from isample.ops.draws import Sample
from tests.fuzz import scores, stored, tables
from tests.fuzz.judge import Fault, Op, exact, near

MOST = 2**24


# ---- Inputs --------------------------------------------------------------------------------------


def add_stream(dice, given):
    """seed, offset, generator; now and then the default generator."""
    if dice.odds(5):
        if dice.odds(2):
            given["generator"] = torch.Generator().manual_seed(dice.getrandbits(40))
        return given
    given["seed"] = dice.choice(
        (0, 1, -1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1, dice.getrandbits(63))
    )
    if dice.odds(2):
        given["offset"] = dice.choice((0, 1, 2**32, 2**63 - 1, dice.getrandbits(62)))
    return given


def make_draw(dice):
    n = dice.size(150)
    given = {"score": dice.tensor(dice.scores(n), torch.float32)}
    given["method"] = dice.choice(("alias", "systematic", "pps"))
    most = n if given["method"] == "pps" and not dice.odds(20) else 200
    given["count"] = dice.randint(1, most)
    if dice.odds(3):
        given["floor"] = dice.share()
    return add_stream(dice, given)


def make_table_draw(dice):
    given = {**stored.make_table(dice), "count": dice.randint(1, 200)}
    return add_stream(dice, given)


def make_sums_draw(dice):
    given = {**stored.make_sums(dice), "count": dice.randint(1, 200)}
    if dice.odds(2):
        given["method"] = dice.choice(("stratified", "systematic"))
    return add_stream(dice, given)


def make_all(dice):
    given = scores.make_rows(dice)
    n = len(given["logits"])
    given["draws"] = dice.choice(("alias", "systematic", "pps"))
    given["batch_size"] = dice.randint(1, max(1, n) if given["draws"] == "pps" else 100)
    given["tau_ema"] = dice.tensor(dice.choice((0.0, 1.0, 3.5)), torch.float32)
    if dice.odds(2):
        given["momentum"] = dice.share()
    if dice.odds(3):
        given["floor"] = dice.share()
    return add_stream(dice, given)


# ---- Rules ---------------------------------------------------------------------------------------


def draw_rules(rules):
    tables.score_rules(rules)
    _draw_rules(rules, "count", "method", rules.given["score"])


def _draw_rules(rules, count, method, items):
    number = rules.integer(count, 1, 2**63 - 1, doubtful_from=MOST + 1)
    word = rules.given[method]
    if not (rules.face == "wrapper" and method == "method" and word is None):
        word = rules.word(method, ("alias", "systematic", "pps"))
    if word == "pps" and number is not None and isinstance(items, torch.Tensor) and items.dim():
        rules.require(count, number <= len(items), "exceeds the number of items")
    rules.stream()


def table_draw_rules(rules):
    stored.table_rules(rules)
    rules.integer("count", 1, 2**63 - 1, doubtful_from=MOST + 1)
    rules.stream()


def sums_draw_rules(rules):
    stored.sums_rules(rules)
    rules.integer("count", 1, 2**63 - 1, doubtful_from=MOST + 1)
    if not (rules.face == "wrapper" and rules.given["method"] is None):
        rules.word("method", ("stratified", "systematic"))
    rules.stream()


def all_rules(rules):
    given = rules.given
    scores.row_rules(rules)
    rules.tensor("tau_ema", [torch.float32], 0)
    rules.share("momentum")
    rules.share("floor")
    _draw_rules(rules, "batch_size", "draws", given["logits"])
    logits = given["logits"]
    if isinstance(logits, torch.Tensor) and logits.dim():
        rules.require("logits", len(logits) >= 1, "is empty")
    if rules.face == "wrapper" and not rules.broken:
        truth = scores.Truth(given).score
        rules.doubt("scores", bool((truth < 3e38).all()), "is not finite")
        rules.require("scores", bool((np.isfinite(truth) & (truth >= 0)).all()), "is not finite")


# ---- Truth ---------------------------------------------------------------------------------------


def seed_of(given):
    """The seed of a call: the given one, or the next 64 bits of its generator's state before."""
    if given["seed"] is not None:
        return int(given["seed"]) % 2**64
    source = torch.Generator()
    source.set_state(given["generator state"])
    word = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=source)
    return int(word) % 2**64


def check_draw(given, after, result):
    indices, weights = result
    score = given["score"]
    if not tables.valid(score):
        _nothing(int(given["count"]), indices, weights)
        return
    mass = torch.from_numpy(tables.masses(score, float(given["floor"])))
    count, method = int(given["count"]), given["method"] or "alias"
    _drawn(result, reference.draw(mass, count, method, seed_of(given), int(given["offset"])))
    if (mass[indices] == 0).any():
        raise Fault("an item of score 0 was drawn")
    if method == "pps" and (mass > 0).sum() >= count and len(set(indices.tolist())) < count:
        raise Fault("pps drew an item twice")


def _nothing(count, indices, weights):
    exact("indices", indices, torch.zeros(count, dtype=torch.int64))
    near("weights", weights, np.full(count, np.nan), 0)


def _drawn(result, expected):
    exact("indices", result[0], expected[0])
    exact("weights", result[1], expected[1])


def weights_of(mass, total, n):
    """1 / (n p), float32, as the rounding of a quotient of doubles."""
    with np.errstate(all="ignore"):
        quotient = np.float64(total) / (np.float64(n) * np.asarray(mass, np.float64))
    return torch.from_numpy(quotient).float()


def check_table_draw(given, after, result):
    n, total, count = len(given["threshold"]), int(given["total"]), int(given["count"])
    if total == 0:
        _nothing(count, *result)
        return
    threshold, alias, mass = (given[name].tolist() for name in ("threshold", "alias", "mass"))
    seed, offset, indices = seed_of(given), int(given["offset"]), []
    for j in range(count):
        x, y = reference.philox(seed, offset, j)
        bucket = reference.scaled(x, n)
        own = reference.scaled(y, total) < threshold[bucket]
        indices.append(bucket if own else alias[bucket])
    _drawn(result, (torch.tensor(indices), weights_of([mass[i] for i in indices], total, n)))


def check_sums_draw(given, after, result):
    sums, count = given["sums"].tolist(), int(given["count"])
    n, total = len(sums), sums[-1]
    if total == 0:
        _nothing(count, *result)
        return
    seed, offset = seed_of(given), int(given["offset"])
    spread = (given["method"] or "stratified") == "stratified"
    starts = [reference.philox(seed, offset, j if spread else 0)[0] for j in range(count)]
    points = [(reference.scaled(x, total) + j * total) // count for j, x in enumerate(starts)]
    indices = [bisect_right(sums, point) for point in points]
    mass = [sums[i] - (sums[i - 1] if i else 0) for i in indices]
    _drawn(result, (torch.tensor(indices), weights_of(mass, total, n)))


def check_all(given, after, result):
    indices, weights, score, loss, tau = result
    scores.check_rows(given, after, (score, loss))
    first = {**given, "score": score}
    p = (
        ops.distribution(score, floor=float(given["floor"]))[0]
        if tables.valid(score)
        else score * np.nan
    )
    tables.check_distribution(first, after, (p, tau))
    drawn = {**first, "count": given["batch_size"], "method": given["draws"]}
    check_draw(drawn, after, (indices, weights))


def wrap_table(threshold, alias, mass, total, count, **rest):
    return ops.draw(ops.AliasTable(threshold, alias, mass, total), count, **rest)


def wrap_sums(sums, count, **rest):
    return ops.draw(ops.PrefixSum(sums, torch.tensor(1.0)), count, **rest)


def wrap_draw(score, count, **rest):
    return ops.draw(score, count, **rest)


def wrap_all(**given):
    sample = ops.importance_sample(**given)
    if not isinstance(sample, Sample):
        raise Fault(f"importance_sample gave {type(sample)}")
    return sample


OPS = [
    Op("draw", make_draw, draw_rules, check_draw, wrap_draw),
    Op("draw.table", make_table_draw, table_draw_rules, check_table_draw, wrap_table),
    Op("draw.prefix_sum", make_sums_draw, sums_draw_rules, check_sums_draw, wrap_sums),
    Op("importance_sample", make_all, all_rules, check_all, wrap_all, writes=("tau_ema",)),
]

"""softmax_score and cross_entropy: from their definitions, in long doubles."""

import numpy as np
import torch

from isample import ops
from tests.fuzz.dice import FLOATS
from tests.fuzz.judge import Fault, Op, as_integer, near

CLASSES = (1, 2, 3, 5, 10, 31, 32, 33, 63, 64, 65, 100, 257, 1030)
FLOAT_ERROR = 8e-6  # of a float32 sum over terms that are each good to some ulps
DOUBLE_ERROR = 1e-12
FLOAT_TOP = 3.4028235e38
EXP_FLOOR = 1e-37  # what a float32 exp flushes to 0
SQUARE_TOP, SQUARE_BOTTOM = 1.8e19, 1.5e-45  # a float32 whose square overflows; an ulp near 0


# ---- Inputs --------------------------------------------------------------------------------------


def make_rows(dice):
    rows = 0 if dice.odds(20) else dice.size(40)
    classes = dice.choice(CLASSES[: 7 if rows > 20 else None])
    dtype = dice.choice(FLOATS)
    given = {"logits": dice.tensor(dice.logits((rows, classes)), dtype)}
    if dice.odds(3):
        given["targets"] = dice.tensor(_soft(dice, rows, classes), dice.choice(FLOATS))
    else:
        given["targets"] = _labels(dice, rows, classes, given)
    if dice.odds(3):
        weight = dice.numpy.exponential(size=classes)
        weight[dice.randrange(classes)] = dice.choice((0.0, 1.0, 1e6, 1e-20))
        if dice.odds(12):
            weight[dice.randrange(classes)] = dice.choice((-1.0, np.nan, np.inf))
        given["weight"] = dice.tensor(weight, dice.choice(FLOATS[:2]))
    if dice.odds(3):
        given["label_smoothing"] = dice.share()
    return given


def _soft(dice, rows, classes):
    mass = dice.numpy.exponential(size=(rows, classes)) ** dice.choice((0.2, 1, 8))
    mass /= np.maximum(mass.sum(1, keepdims=True), 1e-30)
    if dice.odds(4):
        mass[dice.numpy.random(mass.shape) < 0.5] = 0.0
    if mass.size and dice.odds(12):
        mass[dice.randrange(rows), dice.randrange(classes)] = dice.choice((-0.5, np.nan))
    return mass


def _labels(dice, rows, classes, given):
    labels = dice.numpy.integers(0, classes, rows)
    if dice.odds(3):
        ignored = dice.choice((-100, 0, -1, classes, 2**63 - 1, -(2**63)))
        labels[dice.numpy.random(rows) < 0.3] = ignored
        if ignored != -100:
            given["ignore_index"] = ignored
    if rows and dice.odds(20):
        labels[dice.randrange(rows)] = dice.choice((classes, -1, -100, 2**40, -(2**63)))
    return dice.tensor(labels, torch.int64)


def make_loss(dice):
    given = make_rows(dice)
    rows = len(given["logits"])
    if dice.odds(2):
        weights = dice.numpy.exponential(size=rows) * dice.choice((0.0, 1.0, 1e4))
        given["weights"] = dice.tensor(weights, torch.float32)
    given["logits"].requires_grad_(dice.odds(2))
    return given


# ---- Rules ---------------------------------------------------------------------------------------


def row_rules(rules):
    given = rules.given
    logits = rules.tensor("logits", FLOATS, 2)
    targets = rules.tensor("targets", (*FLOATS, torch.int64))
    ignored = rules.integer("ignore_index", -(2**63), 2**63 - 1)
    rules.share("label_smoothing")
    if logits is None:
        return
    rows, classes = logits.shape
    rules.require("logits", classes >= 1, "has no classes")
    if given["weight"] is not None:
        weight = rules.tensor("weight", FLOATS, shape=(classes,))
        if weight is not None:
            rules.doubt("weight", bool((weight.isfinite() & (weight >= 0)).all()), "is negative")
    if targets is None or ignored is None:
        return
    if targets.dtype == torch.int64:
        if rules.require("targets", targets.shape == (rows,), "has another shape"):
            known = (targets >= 0) & (targets < classes) | (targets == ignored)
            rules.require("targets", bool(known.all()), "is out of range")
    elif rules.require("targets", targets.shape == logits.shape, "has another shape"):
        rules.doubt("targets", bool((targets.isfinite() & (targets >= 0)).all()), "is negative")
        rules.require("ignore_index", ignored < 0, "is not negative, with soft targets")


def loss_rules(rules):
    row_rules(rules)
    rules.tensor(
        "weights",
        [torch.float32],
        1,
        optional=True,
        shape=rules.given["logits"].shape[:1]
        if isinstance(rules.given["logits"], torch.Tensor)
        else None,
    )
    constant_rules(rules, ("targets", "weights", "weight"))


def constant_rules(rules, names):
    for name in names:
        value = rules.given[name]
        constant = not (isinstance(value, torch.Tensor) and value.requires_grad)
        rules.doubt(name, constant, "requires grad")


# ---- Truth ---------------------------------------------------------------------------------------


class Truth:
    """p, target masses a [rows, classes] and what follows from them, with bounds on the error."""

    def __init__(self, given):
        wide = given["logits"].dtype == torch.float64
        arithmetic = torch.float64 if wide else torch.float32
        self.error = DOUBLE_ERROR if wide else FLOAT_ERROR
        z = given["logits"].detach().double().numpy().astype(np.longdouble)
        rows, classes = z.shape
        w = np.ones(classes, np.longdouble)
        if given["weight"] is not None:
            w = _numbers(given["weight"].to(arithmetic))
        smoothing = np.longdouble(float(given["label_smoothing"]))
        targets, ignored = given["targets"].detach(), as_integer(given["ignore_index"])
        self.hard = targets.dtype == torch.int64
        plain = self.hard and smoothing == 0  # one class has all the mass
        labels = targets.numpy() if self.hard else np.zeros(rows, np.int64)
        self.ignored = labels == ignored if self.hard else np.zeros(rows, bool)
        at = np.where(self.ignored, 0, labels)
        rows_at = np.arange(rows)
        if self.hard:
            q = np.zeros(z.shape, np.longdouble)
            q[rows_at, at] = 1
        else:
            q = _numbers(targets.to(arithmetic))
        with np.errstate(all="ignore"):
            top = z.max(1, keepdims=True, initial=-np.inf)
            e = np.exp(np.where(z == top, 0, z - top))
            total = e.sum(1, keepdims=True)
            p, log_p = e / total, np.where(z == top, 0, z - top) - np.log(total)
            if self.hard:  # without the cancellation of 1 - p
                others = e.copy()
                others[rows_at, at] = 0
                rest = others.sum(1)
                sure = e[rows_at, at] == 1
                log_p[rows_at[sure], at[sure]] = -np.log1p(rest[sure])
            a = w * ((1 - smoothing) * q + smoothing / classes)
            if plain:  # the other classes' weights are not read
                a = np.where(q > 0, w, 0)
            mass = a.sum(1, keepdims=True)
            self.beyond = np.abs(a).max(1, initial=0) > SQUARE_TOP / classes
            if not plain:  # the way to a loss leaves the floats before the loss does
                lowest = np.where(np.isfinite(z), z, 0).min(1, initial=0)
                self.beyond |= np.where(np.isfinite(top[:, 0]), top[:, 0], 0) - lowest > 1e38
            self.gradient = mass * p - a
            if plain:
                self.gradient[rows_at, at] = -w[at] * rest / total[:, 0]
            terms = np.where(q == 0 if plain else a == 0, 0, -a * log_p)
            self.loss, self.score = terms.sum(1), np.sqrt((self.gradient**2).sum(1))
            largest = np.abs(a).sum(1, keepdims=True)  # the mass may cancel to less
            size = largest * p + np.abs(a)
            self.gradient_error = self.error * size + EXP_FLOOR * largest
            self.score_error = np.sqrt((self.gradient_error**2).sum(1))
            if not wide and not plain:  # squares are float32s
                self.score[self.score > SQUARE_TOP] = np.inf
                least = np.sqrt(self.score**2 + classes * SQUARE_BOTTOM) - self.score
                self.score_error += np.where(self.score < SQUARE_TOP, least, 0)
            self.loss_error = self.error * (np.abs(terms).sum(1) + np.abs(mass[:, 0]))
            if plain:  # promised relative to the score, to e^-85
                self.score_error = FLOAT_ERROR * np.abs(self.score) + EXP_FLOOR * np.abs(w[at])
                self.loss_error = FLOAT_ERROR * np.abs(self.loss) + EXP_FLOOR * np.abs(w[at])
        self._settle(z, classes)

    def _settle(self, z, classes):
        """Rows that no formula gives: NaN and +inf poison, one class scores 0, ignored rows too."""
        poisoned = (np.isnan(z) | (z == np.inf)).any(1) | np.isneginf(z).all(1)
        for values in (self.score, self.loss):
            if classes == 1 and self.hard:
                values[:] = np.where(np.isnan(values), values, 0)
            values[poisoned] = np.nan
            values[self.ignored] = 0
        for error in (self.score_error, self.loss_error):
            error[self.ignored] = 0
        self.gradient[poisoned] = np.nan
        self.gradient[self.ignored] = 0


def _numbers(tensor):
    return tensor.detach().double().numpy().astype(np.longdouble)


def check_rows(given, after, result):
    score, loss = result
    truth = Truth(given)
    near("score", score, truth.score, truth.score_error, beyond=truth.beyond)
    near("loss", loss, truth.loss, truth.loss_error, beyond=truth.beyond)


def _mean_loss(given, truth):
    rows = len(truth.loss)
    w = np.ones(rows) if given["weights"] is None else _numbers(given["weights"])
    with np.errstate(all="ignore"):
        losses = np.where(truth.loss > FLOAT_TOP, np.inf, truth.loss)  # of a row, they are float32s
        mean = (w * losses).sum() / rows if rows else np.nan
        error = (np.abs(w) * (truth.loss_error + 1e-7 * np.abs(truth.loss))).sum() / max(rows, 1)
        scale = (w / max(rows, 1))[:, None]
        gradient = truth.gradient * scale
        gradient[truth.ignored] = 0  # whatever their weight is, as torch's own
        return mean, error, gradient, truth.gradient_error * np.abs(scale)


def check_loss(given, after, result):
    loss, score = result
    truth = Truth(given)
    near("score", score.detach(), truth.score, truth.score_error, beyond=truth.beyond)
    mean, error, gradient, gradient_error = _mean_loss(given, truth)
    near(
        "loss",
        loss.detach(),
        mean,
        error,
        beyond=truth.beyond.any(),
    )
    if not after["logits"].requires_grad or not torch.is_grad_enabled():
        return
    (got,) = torch.autograd.grad(loss, after["logits"], torch.tensor(2.0))
    if score.requires_grad:
        raise Fault("score requires grad")
    near(
        "gradient",
        got,
        2 * gradient,
        2 * gradient_error,
        given["logits"].dtype,
        beyond=truth.beyond[:, None],
    )


def check_with_gradient(given, after, result):
    loss, score, gradient = result
    truth = Truth(given)
    near("score", score, truth.score, truth.score_error, beyond=truth.beyond)
    mean, error, expected, slack = _mean_loss(given, truth)
    near("loss", loss, mean, error, beyond=truth.beyond.any())
    wide = given["logits"].dtype == torch.float64
    near(
        "gradient",
        gradient,
        expected,
        slack,
        torch.float64 if wide else torch.float32,
        beyond=truth.beyond[:, None],
    )


OPS = [
    Op("softmax_score", make_rows, row_rules, check_rows, ops.softmax_score),
    Op("cross_entropy", make_loss, loss_rules, check_loss, ops.cross_entropy),
    Op(
        "_cross_entropy_with_gradient",
        make_loss,
        loss_rules,
        check_with_gradient,
        only=("op",),
    ),
]

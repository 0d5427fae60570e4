"""Every combination of targets, class weights and label smoothing is torch's own cross-entropy,
also where targets or weights are negative, or not finite."""

import math

import pytest
import torch
from torch.nn import functional as F

import isample
from isample.ops import reference

ROWS = 21  # more than one block of rows, and a part of one
CLASSES = [1, 2, 7, 33, 200]  # below, at and above the widths that are run row by row


def targets_of(kind, classes, generator):
    labels = torch.randint(classes, (ROWS,), generator=generator)
    if kind == "labels":
        return labels
    if kind == "ignored labels":
        return torch.where(torch.arange(ROWS) % 3 == 1, -100, labels)
    q = torch.rand(ROWS, classes, generator=generator, dtype=torch.float64)
    return {
        "soft": q / q.sum(1, keepdim=True),
        "one-hot": F.one_hot(labels, classes).double(),
        "no sum of 1": q * 3,
        "negative": q - 0.5,
        "all negative": -q,
        "zero": q * 0,
    }[kind]


def weight_of(kind, classes, generator):
    w = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    return {
        "none": None,
        "positive": w,
        "some zero": w * (torch.arange(classes) % 2),
        "negative": w - 0.6,
        "all negative": -w,
    }[kind]


KINDS = [
    "labels",
    "ignored labels",
    "soft",
    "one-hot",
    "no sum of 1",
    "negative",
    "all negative",
    "zero",
]
WEIGHTS = ["none", "positive", "some zero", "negative", "all negative"]


def combinations(smoothings=(0.0, 0.1, 1.0)):
    """logits, targets and options; the logits are spread so far that some p_k are near 0."""
    generator = torch.Generator().manual_seed(1)
    for classes in CLASSES:
        logits = torch.randn(ROWS, classes, generator=generator, dtype=torch.float64) * 6
        for kind in KINDS:
            targets = targets_of(kind, classes, generator)
            for weight in WEIGHTS:
                for smoothing in smoothings:
                    options = {
                        "weight": weight_of(weight, classes, generator),
                        "label_smoothing": smoothing,
                    }
                    yield f"{kind}, {weight}, {smoothing}, {classes}", logits, targets, options


def sizes(logits, targets, options):
    """S |a_k ln p_k| and S |a_k| of each row: what rounding errors of a loss and a norm go by."""
    classes, eps = logits.shape[1], options["label_smoothing"]
    q = targets
    if not targets.is_floating_point():
        q = F.one_hot(targets.clamp(min=0), classes).double()
    weight = torch.ones(classes) if options["weight"] is None else options["weight"]
    mass = (weight * ((1 - eps) * q + eps / classes)).abs()
    return (mass * (logits.log_softmax(1).abs() + 1)).sum(1), mass.sum(1)


@pytest.mark.parametrize("dtype, bound", [(torch.float64, 2e-7), (torch.float32, 3e-6)])
def test_scores_and_losses_are_torchs(dtype, bound):
    """Results of float64 logits are rounded to float32 once, by 2^-24 = 6e-8; those of float32 ones
    some times a row."""
    for name, exact, targets, options in combinations():
        logits = exact.to(dtype)
        narrowed = {
            key: value.to(dtype).double() if isinstance(value, torch.Tensor) else value
            for key, value in options.items()
        }
        goals = targets.to(dtype).double() if targets.is_floating_point() else targets
        score, loss = isample.softmax_score(logits, goals, **narrowed)
        true_score, true_loss = reference.softmax_score(logits, goals, **narrowed)
        of_loss, of_score = sizes(logits.double(), goals, narrowed)
        assert ((loss - true_loss).abs() <= bound * of_loss).all(), name
        assert ((score - true_score).abs() <= bound * of_score).all(), name
        assert (score >= 0).all(), name


def test_gradients_are_torchs():
    weights = torch.rand(ROWS) * 2
    for name, logits, targets, options in combinations():
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        loss, _ = isample.ops.cross_entropy(ours, targets, weights, **options)
        truth = (weights * F.cross_entropy(theirs, targets, reduction="none", **options)).mean()
        loss.backward()
        truth.backward()
        of_loss, of_score = sizes(logits, targets, options)
        assert abs(loss - truth) <= 2e-7 * (weights * of_loss).mean(), name
        assert ((ours.grad - theirs.grad).abs() <= 1e-12 * (1 + of_score[:, None])).all(), name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("where", ["targets", "weight", "logits"])
def test_what_is_not_finite_shows_as_it_does_in_torch(where, smoothing, bad):
    """But for a logit of -inf, a class of probability 0: see the next test."""
    if where == "logits" and bad == -math.inf:
        return
    for classes in CLASSES[1:]:
        for soft in (False, True):
            if where == "targets" and not soft:
                continue
            given = {
                "logits": torch.randn(ROWS, classes, dtype=torch.float64),
                "targets": targets_of("soft", classes, torch.Generator()),
                "weight": torch.ones(classes, dtype=torch.float64),
            }
            if not soft:
                given["targets"] = torch.arange(ROWS) % classes
            given[where][..., 1] = bad
            score, loss = isample.softmax_score(**given, label_smoothing=smoothing)
            _, truth = reference.softmax_score(**given, label_smoothing=smoothing)
            assert torch.equal(loss.isfinite(), truth.isfinite())
            assert torch.equal(score.isfinite() & loss.isfinite(), truth.isfinite())


def test_a_class_of_probability_0_costs_what_its_mass_asks():
    """torch gives NaN for a mass of 0 there, 0 times infinity; the loss has a limit."""
    logits = torch.tensor([[0.0, -math.inf, 0.0]], dtype=torch.float64)
    for mass, truth in ((0.0, math.log(2)), (0.5, math.inf), (-0.5, -math.inf)):
        _, loss = isample.softmax_score(logits, torch.tensor([[1.0, mass, 0.0]]))
        assert loss.item() == pytest.approx(truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_logits_are_read_as_they_are(dtype):
    for name, exact, targets, options in combinations(smoothings=(0.1,)):
        got = isample.softmax_score(exact.to(dtype), targets, **options)
        wide = isample.softmax_score(exact.to(dtype).float(), targets, **options)
        for column, truth in zip(got, wide):
            torch.testing.assert_close(column, truth, rtol=1e-6, atol=1e-6, msg=name)

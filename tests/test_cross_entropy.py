"""The loss of a batch, its gradient and its scores in one op, against torch's own cross-entropy in
float64 and autograd."""

import math

import pytest
import torch
from torch.nn import functional as F

import isample
from isample.ops import cross_entropy

B = 48
# Of the arithmetic: float32, and of logits that are rounded before.
ACCURACY = {torch.float32: 2e-6, torch.bfloat16: 2e-6, torch.float16: 2e-6, torch.float64: 1e-12}


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(classes, seed=1):
    return torch.randint(classes, (B,), generator=torch.Generator().manual_seed(seed))


def truth(logits, targets, weights, **options):
    leaf = logits.detach().double().requires_grad_()
    options = {
        name: value.double() if isinstance(value, torch.Tensor) else value
        for name, value in options.items()
    }
    targets = targets.double() if targets.is_floating_point() else targets
    losses = F.cross_entropy(leaf, targets, reduction="none", **options)
    (of_rows,) = torch.autograd.grad(losses.sum(), leaf, retain_graph=True)
    mean = (losses if weights is None else weights.double() * losses).mean()
    (gradient,) = torch.autograd.grad(mean, leaf)
    return mean.item(), of_rows.norm(dim=1), gradient


def check(logits, targets, weights=None, **options):
    loss, score, gradient = cross_entropy(logits, targets, weights, **options)
    expected_loss, expected_score, expected_gradient = truth(logits, targets, weights, **options)
    accuracy = ACCURACY[logits.dtype]
    assert loss.shape == () and loss.item() == pytest.approx(expected_loss, rel=2e-6)
    torch.testing.assert_close(score.double(), expected_score, rtol=2e-5, atol=1e-6)
    largest = 0.0 if weights is None else weights.max().item()
    torch.testing.assert_close(
        gradient.double(), expected_gradient, rtol=10 * accuracy, atol=accuracy * (1 + largest) / B
    )
    assert gradient.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", list(ACCURACY))
@pytest.mark.parametrize("classes", [1, 2, 10, 32, 33, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_labels(dtype, classes, weighted):
    check(
        (4 * numbers(B, classes)).to(dtype),
        labels(classes),
        3 * numbers(B, seed=2).abs() if weighted else None,
    )


@pytest.mark.parametrize("classes", [7, 40])
@pytest.mark.parametrize(
    "options",
    [
        {"ignore_index": 3},
        {"label_smoothing": 0.2},
        {"weight": "given"},
        {"weight": "given", "label_smoothing": 0.3, "ignore_index": 1},
    ],
)
def test_options(classes, options):
    if "weight" in options:
        options = {**options, "weight": numbers(classes, seed=5).abs()}
    check(2 * numbers(B, classes), labels(classes), numbers(B, seed=2).abs(), **options)


@pytest.mark.parametrize("classes", [7, 40])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2, "weight": "given"}])
def test_probabilities(classes, options):
    if options:
        options = {**options, "weight": numbers(classes, seed=5).abs()}
    check(
        2 * numbers(B, classes),
        numbers(B, classes, seed=4).softmax(1),
        numbers(B, seed=2).abs(),
        **options,
    )


def test_any_layout_gives_the_same():
    logits, goals = numbers(B, 10), labels(10)
    expected = cross_entropy(logits, goals)
    for view in (
        logits.t().contiguous().t(),
        torch.cat([logits, logits], 1)[:, :10],
        logits.clone().requires_grad_(),
    ):
        got = cross_entropy(view, goals)
        assert all(map(torch.equal, got, expected)) and not any(part.requires_grad for part in got)
    weights = torch.rand(2 * B)[::2]
    assert all(
        map(
            torch.equal,
            cross_entropy(logits, goals, weights),
            cross_entropy(logits, goals, weights.clone()),
        )
    )


@pytest.mark.parametrize("classes", [10, 3000])
def test_any_number_of_threads_gives_the_same(classes):
    logits, goals, kept = numbers(B, classes), labels(classes), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(cross_entropy(logits, goals))
    finally:
        torch.set_num_threads(kept)
    assert all(map(torch.equal, *results))


def test_an_ignored_row_says_nothing_whatever_it_holds():
    logits, goals = numbers(B, 10), labels(10)
    logits[5], goals[5] = math.nan, -100
    loss, score, gradient = cross_entropy(logits, goals)
    assert (
        loss.isfinite() and score[5] == 0 and (gradient[5] == 0).all() and gradient.isfinite().all()
    )
    goals[5] = 0
    loss, score, gradient = cross_entropy(logits, goals)
    assert (
        loss.isnan()
        and score[5].isnan()
        and gradient[5].isnan().all()
        and gradient[:5].isfinite().all()
    )


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "scaled", "accumulated"])
def test_a_step_moves_as_one_that_differentiates_the_loss(kind):
    """``score="loss"`` lets autograd do it. Rounded to bfloat16 the logits' gradient is good to a
    256th."""
    models = []
    for score in ("upper_bound", "loss"):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 5))
        options = {
            "bfloat16": {"autocast": torch.bfloat16},
            "scaled": {"scaler": torch.amp.GradScaler("cpu")},
            "accumulated": {"accumulate": 3},
        }.get(kind, {})
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = isample.Trainer(
            model,
            optimizer,
            batch_size=12,
            presample=48,
            gate="never",
            score=score,
            seed=0,
            **options,
        )
        for step in range(6):
            trainer.step(numbers(12, 6, seed=step), labels(5, seed=step)[:12])
        models.append(model)
    tolerance = 2e-3 if kind == "bfloat16" else 1e-6
    for mine, theirs in zip(*(model.parameters() for model in models)):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_a_loss_derived_from_cross_entropy_is_the_caller_s_own():
    class Squared(torch.nn.CrossEntropyLoss):
        def forward(self, logits, targets):
            return super().forward(logits, targets) ** 2

    model = torch.nn.Linear(6, 5)
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        loss=Squared(reduction="none"),
        gate="never",
    )
    inputs, targets = numbers(B, 6), labels(5)
    expected = (F.cross_entropy(model(inputs), targets, reduction="none") ** 2).mean().item()
    assert trainer.step(inputs, targets).loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "call,error,match",
    [
        (
            lambda: cross_entropy(numbers(4, 3), torch.tensor([0, 1, 2, 3])),
            ValueError,
            "targets must be labels in",
        ),
        (
            lambda: cross_entropy(numbers(4, 3), labels(3)[:4], torch.ones(3)),
            ValueError,
            r"weights must have shape \[4\]",
        ),
        (
            lambda: cross_entropy(numbers(4, 3), labels(3)[:4], torch.ones(4).double()),
            TypeError,
            "weights must be torch.float32",
        ),
        (lambda: cross_entropy(numbers(4), labels(3)[:4]), ValueError, "logits must be"),
        (
            lambda: cross_entropy(numbers(4, 3), labels(3)[:4].int()),
            TypeError,
            "targets must be int64",
        ),
        (
            lambda: cross_entropy(numbers(4, 3), labels(3)[:4], label_smoothing=2.0),
            ValueError,
            "label_smoothing must",
        ),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()

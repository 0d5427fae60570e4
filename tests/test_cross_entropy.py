"""The differentiable loss of a batch and its scores in one op, against torch's own cross-entropy in
float64 and autograd."""

import math

import pytest
import torch
from torch.nn import functional as F

from isample.ops import cross_entropy

B = 48
with_gradient = torch.ops.isample._cross_entropy_with_gradient.default
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


def compare(result, logits, targets, weights=None, **options):
    loss, score, gradient = result
    expected_loss, expected_score, expected_gradient = truth(logits, targets, weights, **options)
    accuracy = ACCURACY[logits.dtype]
    assert loss.shape == () and loss.item() == pytest.approx(expected_loss, rel=2e-6)
    torch.testing.assert_close(score.double(), expected_score, rtol=2e-5, atol=1e-6)
    largest = 0.0 if weights is None else weights.max().item()
    torch.testing.assert_close(
        gradient.double(), expected_gradient, rtol=10 * accuracy, atol=accuracy * (1 + largest) / B
    )
    assert gradient.dtype == (torch.float64 if logits.dtype == torch.float64 else torch.float32)


def check(logits, targets, weights=None, **options):
    """The op and its node."""
    result = with_gradient(logits, targets, weights, **options)
    compare(result, logits, targets, weights, **options)
    leaf = logits.detach().clone().requires_grad_()
    loss, score = cross_entropy(leaf, targets, weights, **options)
    loss.backward()
    assert torch.equal(loss, result[0]) and torch.equal(score, result[1])
    assert torch.equal(leaf.grad, result[2].to(leaf.dtype)) and leaf.grad.dtype == leaf.dtype


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
    expected = with_gradient(logits, goals)
    for view in (
        logits.t().contiguous().t(),
        torch.cat([logits, logits], 1)[:, :10],
        logits.clone().requires_grad_(),
    ):
        got = with_gradient(view, goals)
        assert all(map(torch.equal, got, expected)) and not any(part.requires_grad for part in got)
    weights = torch.rand(2 * B)[::2]
    assert all(
        map(
            torch.equal,
            with_gradient(logits, goals, weights),
            with_gradient(logits, goals, weights.clone()),
        )
    )


# ---- The node ------------------------------------------------------------------------------------


def test_the_backward_pass_scales_and_may_run_twice():
    leaf, goals = numbers(B, 10).requires_grad_(), labels(10)
    gradient = with_gradient(leaf, goals)[2]
    loss, _ = cross_entropy(leaf, goals)
    (3.0 * loss).backward(retain_graph=True)
    assert torch.equal(leaf.grad, 3.0 * gradient)
    leaf.grad = None
    loss.backward()
    assert torch.equal(leaf.grad, gradient)


def test_the_score_and_what_needs_no_gradient_are_not_recorded():
    leaf, goals = numbers(B, 10).requires_grad_(), labels(10)
    loss, score = cross_entropy(leaf, goals)
    assert loss.requires_grad and not score.requires_grad
    with torch.no_grad():
        alone = cross_entropy(leaf, goals)
    for part in (*alone, *cross_entropy(leaf.detach(), goals)):
        assert not part.requires_grad
    assert torch.equal(alone[0], loss) and torch.equal(alone[1], score)


def test_a_score_alone_leaves_no_gradient_behind():
    leaf, goals = numbers(B, 10).requires_grad_(), labels(10)
    loss, score = cross_entropy(leaf, goals)
    with pytest.raises(RuntimeError, match="does not require grad"):
        score.sum().backward()
    (loss + score.sum()).backward()
    assert torch.equal(leaf.grad, with_gradient(leaf, goals)[2])


def test_a_second_derivative_is_refused():
    leaf, goals = numbers(B, 10).requires_grad_(), labels(10)
    (gradient,) = torch.autograd.grad(cross_entropy(leaf, goals)[0], leaf, create_graph=True)
    assert torch.equal(gradient, with_gradient(leaf, goals)[2])
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("argument", ["targets", "weights", "weight"])
def test_only_logits_may_require_grad(argument):
    arguments = {
        "targets": numbers(B, 10, seed=4).softmax(1),
        "weights": numbers(B).abs(),
        "weight": numbers(10).abs(),
    }
    arguments[argument].requires_grad_()
    with pytest.raises(ValueError, match=f"{argument} must not require grad"):
        cross_entropy(numbers(B, 10), **arguments)
    with torch.no_grad():
        cross_entropy(numbers(B, 10), **arguments)


def test_it_compiles_with_its_backward_pass():
    def step(leaf, goals, weights):
        loss, score = cross_entropy(2 * leaf, goals, weights)
        return loss * 1.5, score

    goals, weights = labels(10), numbers(B, seed=2).abs()
    results = []
    torch._dynamo.reset()
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaf = numbers(B, 10).requires_grad_()
        loss, score = run(leaf, goals, weights)
        loss.backward()
        results.append((loss.detach(), score, leaf.grad))
    assert all(map(torch.equal, *results))


# ---- Threads, rows that hold nothing, training ---------------------------------------------------


@pytest.mark.parametrize("classes", [10, 3000])
def test_any_number_of_threads_gives_the_same(classes):
    logits, goals, kept = numbers(B, classes), labels(classes), torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(with_gradient(logits, goals))
    finally:
        torch.set_num_threads(kept)
    assert all(map(torch.equal, *results))


def test_an_ignored_row_says_nothing_whatever_it_holds():
    logits, goals = numbers(B, 10), labels(10)
    logits[5], goals[5] = math.nan, -100
    loss, score, gradient = with_gradient(logits, goals)
    assert (
        loss.isfinite() and score[5] == 0 and (gradient[5] == 0).all() and gradient.isfinite().all()
    )
    goals[5] = 0
    loss, score, gradient = with_gradient(logits, goals)
    assert (
        loss.isnan()
        and score[5].isnan()
        and gradient[5].isnan().all()
        and gradient[:5].isfinite().all()
    )


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_batch_of_upstream_gradients(dtype):
    leaf, goals = numbers(B, 10).to(dtype).requires_grad_(), labels(10)
    loss, upstream = cross_entropy(leaf, goals)[0], torch.tensor([1.0, 2.0])
    (batch,) = torch.autograd.grad(loss, leaf, upstream, is_grads_batched=True)
    (one,) = torch.autograd.grad(cross_entropy(leaf, goals)[0], leaf)
    assert batch.dtype == dtype and torch.equal(batch[0], one) and torch.equal(batch[1], 2 * one)

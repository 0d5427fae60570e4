"""Scores, losses and rows on a CUDA device are those of the CPU."""

import pytest
import torch

import isample
from isample.ops.scores import mean_cross_entropy
from tests.on_cuda import SHAPES, make_logits, needs_cuda, to_cuda

pytestmark = needs_cuda
ops = torch.ops.isample


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_the_cpu(shape, dtype):
    """Within 2e-6: both sides round a float32 sum of up to C terms, in different orders."""
    logits, labels = make_logits(shape, dtype)
    for options in (
        {},
        {"ignore_index": 0},
        {"label_smoothing": 0.1},
        {"weight": torch.rand(shape[1]) + 0.5},
    ):
        expected = isample.softmax_score(logits, labels, **options)
        on_device = {name: to_cuda(value) for name, value in options.items()}
        got = isample.softmax_score(logits.cuda(), labels.cuda(), **on_device)
        for mine, theirs in zip(got, expected):
            torch.testing.assert_close(
                mine.cpu(), theirs, rtol=2e-6, atol=1e-30 if not options else 1e-6
            )


def test_strided_and_misaligned_rows():
    logits, labels = make_logits((64, 103))
    expected = isample.softmax_score(logits[:, 1:102].contiguous(), labels % 101)
    wide = logits.cuda()
    for view in (wide[:, 1:102], wide.t().contiguous().t()[:, 1:102]):
        got = isample.softmax_score(view, (labels % 101).cuda())
        torch.testing.assert_close(got[0].cpu(), expected[0], rtol=2e-6, atol=0)


def test_soft_targets():
    logits, _ = make_logits((130, 1003))
    targets = torch.softmax(torch.randn(130, 1003), 1)
    expected = isample.softmax_score(logits, targets, label_smoothing=0.2)
    got = isample.softmax_score(logits.cuda(), targets.cuda(), label_smoothing=0.2)
    for mine, theirs in zip(got, expected):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-5, atol=1e-6)


# ---- Losses and rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_and_its_gradient_are_those_of_the_cpu(dtype, soft):
    """The softmax and the sums round in other orders, and bfloat16 keeps 8 bits of a gradient."""
    logits, targets = make_logits((640, 100), dtype)
    targets = torch.softmax(torch.randn(640, 100), 1) if soft else targets
    weights, options = torch.rand(640) + 0.5, {"label_smoothing": 0.1, "weight": torch.rand(100)}
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).requires_grad_()
        on_device = {
            name: value if name != "weight" else value.to(device) for name, value in options.items()
        }
        loss, score = isample.ops.cross_entropy(
            leaf, targets.to(device), weights.to(device), **on_device
        )
        loss.backward()
        results.append([part.detach().cpu() for part in (loss, score, leaf.grad)])
    for mine, theirs in zip(*results):
        tolerance = 1e-2 if mine.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mean_over_what_counts_is_that_of_the_cpu(shape, dtype):
    """The gradients of half types are rounded to them, here and there from neighbouring floats."""
    logits, labels = make_logits(shape, dtype)
    labels[:: max(2, len(labels) // 2)] = -100
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).requires_grad_()
        weight = torch.linspace(0.5, 2.0, shape[1], device=device)
        loss, score, count = mean_cross_entropy(leaf, labels.to(device), weight=weight)
        loss.backward()
        results.append([part.detach().cpu() for part in (loss, score, count, leaf.grad)])
    rounding = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}.get(dtype, 2e-5)
    for mine, theirs, rtol in zip(*results, (5e-6, 5e-6, 1e-12, rounding)):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(64, 10), (3, 70001), (1, 1), (4, 3, 20, 20)])
def test_rows_are_those_of_the_cpu(shape, dtype):
    """Products to the bit, squares to float32 rounding."""
    gradient, factors = torch.randn(shape).to(dtype), torch.rand(shape[0])
    results = []
    for device in ("cpu", "cuda"):
        leaf = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
        squares = torch.ones(shape[0], device=device)
        isample.ops.rows(leaf, factors.to(device), squares, scale=2.0).backward(gradient.to(device))
        results.append((leaf.grad.cpu(), squares.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=4e-6, atol=0)


def test_numbers_of_all_kinds_are_packed():
    values = [
        torch.tensor(0.5),
        torch.arange(3),
        torch.rand(2, 3).double()[:, 1:],
        torch.ones(1).bool(),
    ]
    values += [torch.tensor(float(i)).bfloat16() for i in range(20)]  # more than a launch takes
    expected = torch.cat([value.double().reshape(-1) for value in values])
    packed = ops._pack([value.cuda() for value in values])
    assert packed.dtype == torch.float64 and torch.equal(packed.cpu(), expected)

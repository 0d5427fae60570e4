"""The differentiable mean over what labels count, in one op, against torch's own in float64."""

import pytest
import torch
from torch.nn import functional as F

from isample.ops import cross_entropy
from isample.ops.scores import mean_cross_entropy
from tests.test_cross_entropy import ACCURACY, B, labels, numbers


@pytest.mark.parametrize("dtype", list(ACCURACY))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore_index": 3},
        {"weight": "given"},
        {"weight": "given", "label_smoothing": 0.3, "ignore_index": 1},
    ],
)
def test_the_mean_is_torchs_over_what_the_labels_count(dtype, options):
    classes, goals = 7, labels(7)
    if "weight" in options:
        options = {**options, "weight": numbers(classes, seed=5).abs()}
    leaf = (2 * numbers(B, classes)).to(dtype).requires_grad_()
    loss, score, count = mean_cross_entropy(leaf, goals, **options)
    (3.0 * loss).backward()
    exact = leaf.detach().double().requires_grad_()
    wide = {**options, **({"weight": options["weight"].double()} if "weight" in options else {})}
    expected = F.cross_entropy(exact, goals, **wide)
    (3.0 * expected).backward()
    counted = goals != options.get("ignore_index", -100)
    weight = wide.get("weight", torch.ones(classes).double())[goals]
    assert count.item() == pytest.approx((weight * counted).sum().item(), rel=1e-12)
    assert loss.item() == pytest.approx(expected.item(), rel=2e-6)
    rounding = {torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}.get(dtype, 1e-5)
    torch.testing.assert_close(leaf.grad.double(), exact.grad, rtol=rounding, atol=1e-7)
    assert leaf.grad.dtype == dtype and not score.requires_grad and not count.requires_grad
    assert torch.equal(score, cross_entropy(leaf, goals, **options)[1])
    with torch.no_grad():
        alone = mean_cross_entropy(leaf, goals, **options)
    assert all(map(torch.equal, alone, (loss, score, count)))


def test_the_mean_of_nothing_that_counts_is_zero():
    leaf = numbers(B, 4).requires_grad_()
    loss, _, count = mean_cross_entropy(leaf, torch.full((B,), -100))
    loss.backward()
    assert loss == 0 and count == 0 and (leaf.grad == 0).all()


def test_the_mean_is_refused_a_second_derivative_and_compiles():
    goals = labels(10)
    leaf = numbers(B, 10).requires_grad_()
    (gradient,) = torch.autograd.grad(mean_cross_entropy(leaf, goals)[0], leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        gradient.sum().backward()
    torch._dynamo.reset()
    run = torch.compile(mean_cross_entropy, fullgraph=True, backend="aot_eager")
    other = numbers(B, 10).requires_grad_()
    run(other, goals, ignore_index=2)[0].backward()
    mean_cross_entropy(leaf, goals, ignore_index=2)[0].backward()
    assert torch.equal(other.grad, leaf.grad)

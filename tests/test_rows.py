"""The identity that sees the rows of a gradient, against the same by autograd in float64."""

import pytest
import torch
from torch import library

from isample.ops import rows

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
B = 9


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(gradient, factors=None, scale=1.0, z=None, squares=None):
    """What comes back to z, and the squares, where ``gradient`` arrives."""
    z = torch.zeros_like(gradient) if z is None else z
    z = z.detach().requires_grad_()
    squares = torch.zeros(len(gradient)) if squares is None else squares
    rows(z, factors, squares, scale=scale).backward(gradient)
    return z.grad, squares


def row_squares(gradient, scale=1.0):
    return (scale * gradient.double()).flatten(1).square().sum(1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (16,), (17,), (1000,), (5000,), (7, 3, 5)])
@pytest.mark.parametrize("weighted", [False, True])
def test_squares_and_products(dtype, shape, weighted):
    """A float32 sum of up to 64 squares a lane: 64 half roundings of 6e-8 at most. A product is
    rounded once, as torch rounds the float32 product."""
    gradient, factors = numbers(B, *shape).to(dtype), 3 * numbers(B, seed=1) if weighted else None
    got, squares = seen(gradient, factors, scale=2.5)
    expected = row_squares(gradient.view(B, -1), 2.5)
    torch.testing.assert_close(squares.double(), expected, rtol=4e-6, atol=0)
    factor = 1.0 if factors is None else factors.view(B, *[1] * len(shape))
    assert torch.equal(got, (gradient * factor).to(dtype)) and got.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_are_rounded_as_torch_rounds(dtype):
    """Every number of the type, into halfway cases, subnormals, infinities and NaN."""
    bits = torch.arange(65536, dtype=torch.int32).to(torch.int16)
    gradient = bits.view(dtype).view(16, -1)
    exponents = torch.tensor([-30.0, -25, -24, -14, -13, -8, -1, 0, 1, 2, 8, 15, 16, 30, 100, -100])
    for mantissa in (1.0, 1.5, 1 + 2**-10, 1 + 2**-11):
        factors = mantissa * exponents.exp2()
        expected = (gradient.float() * factors.unsqueeze(1)).to(dtype)
        assert torch.equal(expected.isnan(), seen(gradient, factors)[0].isnan())
        torch.testing.assert_close(
            seen(gradient, factors)[0], expected, rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.parametrize(
    "layout", ["transposed", "expanded", "channels last", "one row", "strided"]
)
def test_any_layout_gives_the_same(layout):
    gradient = {
        "transposed": numbers(40, B).t(),
        "expanded": numbers(B, 1).expand(B, 30),
        "channels last": numbers(B, 3, 4, 5).to(memory_format=torch.channels_last),
        "one row": numbers(1, 6, 4).transpose(1, 2),
        "strided": numbers(2 * B, 24)[::2, ::3],
    }[layout]
    factors = numbers(2 * len(gradient), seed=1)[::2]
    got, squares = seen(gradient, factors, z=torch.zeros(gradient.shape))
    whole, expected = seen(gradient.contiguous(), factors.clone(), z=torch.zeros(gradient.shape))
    assert torch.equal(got, whole)
    torch.testing.assert_close(squares, expected, rtol=4e-6, atol=0)


def test_squares_of_several_heads_add_up():
    z, other = numbers(B, 4).requires_grad_(), numbers(B, 5, 2).requires_grad_()
    squares = torch.zeros(2 * B)[::2]  # written where it lies, whatever its stride
    loss = rows(z, squares=squares).square().sum() + rows(other, squares=squares).sin().sum()
    loss.backward()
    expected = row_squares(2 * z.detach()) + row_squares(other.detach().cos())
    torch.testing.assert_close(squares.double(), expected, rtol=4e-6, atol=0)
    assert torch.equal(z.grad, 2 * z.detach())


def test_weighing_rows_weighs_the_samples():
    """A mean of losses whose rows are multiplied by w has the gradient of the mean of w times the
    losses; at float32 the two round differently."""
    weights, inputs, goals = 3 * numbers(B).abs(), numbers(B, 6), numbers(B, 3)
    layers = [torch.nn.Linear(6, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    losses = torch.nn.functional.huber_loss(layers[0](inputs), goals, reduction="none").mean(1)
    (weights * losses).mean().backward()
    torch.nn.functional.huber_loss(rows(layers[1](inputs), weights), goals).backward()
    torch.testing.assert_close(layers[1].weight.grad, layers[0].weight.grad, rtol=1e-5, atol=1e-7)


def test_it_is_an_alias_that_may_be_changed_in_place():
    leaf = numbers(B, 4).requires_grad_()
    z, squares = leaf * 2, torch.zeros(B)
    result = rows(z, numbers(B, seed=1), squares)
    assert result.data_ptr() == z.data_ptr() and torch.equal(result, z)
    result.div_(4)
    result.sum().backward()
    assert squares.tolist() == [4 * 0.25**2] * B
    assert torch.equal(leaf.grad, (0.5 * numbers(B, seed=1)).unsqueeze(1).expand(B, 4))


def test_a_change_in_place_is_noticed_by_whoever_saved_z():
    leaf = numbers(B, 4).requires_grad_()
    z = leaf.exp()  # saves its result
    rows(z, squares=torch.zeros(B)).div_(4)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_nothing_is_done_where_nothing_is_asked():
    z, squares = numbers(B, 4).requires_grad_(), torch.zeros(B)
    assert rows(z) is z and rows(z.detach(), squares=squares).grad_fn is None
    with torch.no_grad():
        assert rows(z, squares=squares) is z
    assert rows(z, squares=squares).grad_fn is not None and not squares.any()
    with torch.inference_mode():
        assert not rows(numbers(B, 4), squares=squares).requires_grad


def test_the_factors_are_those_of_the_backward_pass():
    z, factors = numbers(B, 4).requires_grad_(), torch.ones(B)
    result = rows(z, factors)
    factors.fill_(3.0)
    result.sum().backward()
    assert (z.grad == 3).all()


def test_it_differentiates_twice():
    """With create_graph the rows pass through torch's own ops."""
    z, factors, squares = (
        numbers(B, 4).double().requires_grad_(),
        numbers(B, seed=1),
        torch.zeros(B),
    )
    loss = rows(z, factors, squares).pow(3).sum()
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    expected = 3 * z.detach().square()
    torch.testing.assert_close(gradient.detach(), factors.double().unsqueeze(1) * expected)
    torch.testing.assert_close(squares.double(), row_squares(expected), rtol=1e-6, atol=0)
    (second,) = torch.autograd.grad(gradient.sum(), z)
    assert second.isfinite().all() and second.any()


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)])
def test_empty(shape):
    got, squares = seen(torch.zeros(shape), torch.ones(shape[0]))
    assert got.shape == shape and not squares.any()


def test_any_number_of_threads_gives_the_same():
    gradient, kept, results = numbers(50, 3000), torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            results.append(seen(gradient, torch.arange(50.0)))
    finally:
        torch.set_num_threads(kept)
    assert all(map(torch.equal, *results))


def test_it_compiles_with_its_backward_pass():
    def step(leaf, factors, squares):
        return rows(leaf * 2, factors, squares, scale=3.0).square().sum()

    results = []
    torch._dynamo.reset()
    for run in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaf, squares = numbers(B, 10).requires_grad_(), torch.zeros(B)
        loss = run(leaf, numbers(B, seed=1), squares)
        loss.backward()
        results.append((loss.detach(), leaf.grad, squares))
    assert all(map(torch.equal, *results))


@pytest.mark.parametrize("factors", [None, torch.ones(12)])
def test_opcheck(factors):
    op = torch.ops.isample.rows.default
    for z in (numbers(12, 10), numbers(12, 10).requires_grad_()):
        library.opcheck(op, (z, factors, None, 1.0), test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    "call,error,match",
    [
        (
            lambda z: rows(z, torch.ones(3)),
            ValueError,
            r"factors must have shape \[9\].* got \[3\]",
        ),
        (lambda z: rows(z, torch.ones(9, 1)), ValueError, r"factors must have shape \[9\]"),
        (lambda z: rows(z, squares=torch.ones(8)), ValueError, r"squares must have shape \[9\]"),
        (
            lambda z: rows(z, squares=torch.ones(9).double()),
            TypeError,
            "squares must be torch.float32, got torch.float64",
        ),
        (lambda z: rows(z, torch.ones(9).int()), TypeError, "factors must be torch.float32"),
        (
            lambda z: rows(z, torch.ones(9, device="meta")),
            ValueError,
            "factors must be on the device of z, cpu, got meta",
        ),
        (lambda z: rows(z, scale=float("nan")), ValueError, "scale must be finite"),
        (lambda z: rows(z, scale=1e39), ValueError, "as a float32 too, got 1e"),
        (lambda z: rows(z.to(torch.int64)), TypeError, "z must be float32, bfloat16"),
        (lambda z: rows(z.sum()), ValueError, "z must have a row for each sample"),
    ],
)
def test_bad_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call(numbers(B, 4))

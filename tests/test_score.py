"""Scores and losses against 60-digit arithmetic, and against autograd of cross_entropy in
float64."""

import mpmath
import pytest
import torch

import isample
from isample.ops import reference

mpmath.mp.dps = 60

# Float sums of C exponentials good to an ulp, and one rounding at the end: 5e-6 leaves room for C =
# 32000.
RELATIVE = 5e-6


def exact_score_and_loss(logits, label):
    """||softmax(z) - onehot(y)|| and -ln p_y, without rounding that matters."""
    others = [mpmath.mpf(z) for k, z in enumerate(logits) if k != label]
    if not others:
        return 0.0, 0.0
    shift = mpmath.mpf(logits[label])
    powers = [mpmath.exp(z - shift) for z in others]
    rest = mpmath.fsum(powers)
    p_rest = rest / (1 + rest)
    score = mpmath.sqrt(p_rest**2 + mpmath.fsum(p * p for p in powers) / (1 + rest) ** 2)
    return float(score), float(mpmath.log1p(rest))


@pytest.mark.parametrize("classes", [1, 2, 10, 1000, 32000])
def test_score_and_loss_match_60_digits(classes):
    margins = [-20.0, -5.0, 0.0, 5.0, 20.0, 45.0, 85.0] if classes < 32000 else [-20.0, 30.0, 85.0]
    logits = torch.randn(len(margins), classes) * 3
    labels = torch.randint(classes, (len(margins),))
    for row, margin in enumerate(margins):
        others = [z for k, z in enumerate(logits[row].tolist()) if k != labels[row]]
        logits[row, labels[row]] = max(others, default=0.0) + margin
    score, loss = isample.softmax_score(logits, labels)
    for row in range(len(margins)):
        expected = exact_score_and_loss(logits[row].tolist(), int(labels[row]))
        assert (score[row].item(), loss[row].item()) == pytest.approx(
            expected, rel=RELATIVE, abs=1e-44
        ), margins[row]


WIDTHS = [1, 2, 3, 9, 15, 16, 17, 31, 32, 33, 47, 64, 65, 100, 127, 1023, 1025, 2047, 2049, 5000]


@pytest.mark.parametrize("classes", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_shape_of_row(classes, dtype):
    """Widths around those of vectors and blocks, in a number of rows that fills no block, the
    target in every place."""
    rows = max(37, min(classes, 130))
    logits = (torch.randn(rows, classes) * 4).to(dtype)
    labels = torch.arange(rows) * max(1, classes // rows) % classes
    labels[-1] = classes - 1
    score, loss = isample.softmax_score(logits, labels)
    expected_score, expected_loss = reference.softmax_score(logits, labels)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=RELATIVE, atol=1e-7)
    # the reference, though in float64, cancels: 1e-12 absolute
    torch.testing.assert_close(score.double(), expected_score, rtol=RELATIVE, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [10, 1000])
def test_low_precision_is_the_float32_score_of_the_rounded_logits(dtype, classes):
    logits = (torch.randn(64, classes) * 5).to(dtype)
    labels = torch.randint(classes, (64,))
    for got, expected in zip(
        isample.softmax_score(logits, labels), isample.softmax_score(logits.float(), labels)
    ):
        assert torch.equal(got, expected)


def test_every_float16_value_is_read_right():
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    values = bits.view(torch.float16)
    values = values[values.isfinite()]
    for classes in (2, 40):  # a row a lane, and vectors along the row
        logits = torch.zeros(len(values), classes, dtype=torch.float16)
        logits[:, 1] = values
        labels = torch.zeros(len(values), dtype=torch.int64)
        for got, expected in zip(
            isample.softmax_score(logits, labels), isample.softmax_score(logits.float(), labels)
        ):
            assert torch.equal(got, expected)


def general_cases():
    for classes in (1, 3, 10, 16, 33, 257):
        for soft in (False, True):
            for weighted in (False, True):
                for smoothing in (0.0, 0.1, 1.0):
                    if soft or weighted or smoothing:
                        yield pytest.param(classes, soft, weighted, smoothing)


@pytest.mark.parametrize("classes, soft, weighted, smoothing", list(general_cases()))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weights_smoothing_and_soft_targets_follow_cross_entropy(
    classes, soft, weighted, smoothing, dtype
):
    rows = 21
    logits = torch.randn(rows, classes, dtype=dtype) * 3
    targets = torch.randint(classes, (rows,))
    if soft:
        targets = torch.softmax(torch.randn(rows, classes) * 2, dim=1)
        targets[:, ::3] = 0  # classes without mass, and rows that do not add up to one
    else:
        targets[::5] = -100
    options = {
        "weight": torch.rand(classes) + 0.1 if weighted else None,
        "label_smoothing": smoothing,
    }
    score, loss = isample.softmax_score(logits, targets, **options)
    expected_score, expected_loss = reference.softmax_score(logits, targets, **options)
    # A p_k - a_k cancels in float32: an ulp of 1 in each class
    torch.testing.assert_close(score.double(), expected_score, rtol=RELATIVE, atol=3e-7)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=RELATIVE, atol=1e-6)


@pytest.mark.parametrize("classes", [10, 40])
def test_ignored_rows_are_zero_and_leave_the_others_alone(classes):
    logits = torch.randn(50, classes)
    labels = torch.randint(classes, (50,))
    score, loss = isample.softmax_score(logits, labels)
    ignored = torch.arange(0, 50, 3)
    for index in (-100, 255, 4):
        marked = torch.where(labels == index, 0, labels)
        logits_score, logits_loss = isample.softmax_score(logits, marked)
        marked[ignored] = index
        got_score, got_loss = isample.softmax_score(logits, marked, ignore_index=index)
        logits_score[ignored] = 0
        logits_loss[ignored] = 0
        assert torch.equal(got_score, logits_score) and torch.equal(got_loss, logits_loss)


@pytest.mark.parametrize("classes", [3, 10, 16, 40, 100, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_with_nan_or_infinity_gives_nan_and_only_that_row(classes, dtype, bad):
    for smoothing in (0.0, 0.1):
        for place in (0, 1, classes // 2, classes - 1):
            logits = torch.randn(20, classes).to(dtype)
            logits[7, place] = bad
            labels = torch.ones(20, dtype=torch.int64)
            score, loss = isample.softmax_score(logits, labels, label_smoothing=smoothing)
            assert score.isnan().nonzero().flatten().tolist() == [7]
            assert loss.isnan().nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("classes", [3, 40, 3000])
def test_minus_infinity_is_a_class_of_probability_zero(classes):
    inf = float("inf")
    logits = torch.randn(4, classes)
    labels = torch.ones(4, dtype=torch.int64)
    logits[0, 0] = -inf  # another class: as if it were not there
    logits[1, 1] = -inf  # the target: the loss is infinite, the gradient is not
    logits[2, :] = -inf
    logits[2, 1] = 0.0  # all but the target: perfect
    logits[3, :] = -inf  # everything: not a distribution
    score, loss = isample.softmax_score(logits, labels)
    without = torch.cat([logits[:1, 1:]], dim=1)
    expected = isample.softmax_score(without, labels[:1] - 1)
    torch.testing.assert_close((score[:1], loss[:1]), expected, rtol=1e-6, atol=0)
    others = torch.softmax(logits[1].double(), dim=0)
    assert loss[1] == inf and score[1].item() == pytest.approx(
        (1 + others.square().sum().item()) ** 0.5, rel=1e-6
    )
    assert (score[2], loss[2]) == (0, 0)
    assert score[3].isnan() and loss[3].isnan()


def test_large_and_equal_logits():
    logits = torch.tensor([[3e38, 3e38, -3e38], [-3e38, -3e38, -3e38], [1e4, 1e4, 1e4]])
    score, loss = isample.softmax_score(logits, torch.zeros(3, dtype=torch.int64))
    third = (4 / 9 + 2 / 9) ** 0.5
    assert score.tolist() == pytest.approx([0.5**0.5, third, third], rel=1e-6)
    assert loss.exp().tolist() == pytest.approx([2, 3, 3], rel=1e-6)


@pytest.mark.parametrize("classes", [10, 100])
def test_strides_do_not_matter(classes):
    labels = torch.randint(classes, (30,))
    wide = torch.randn(60, classes * 2)
    for logits in (
        wide[::2, :classes],
        wide[::2, ::2],
        wide.t()[:classes, :30].t(),
        wide[:1, :classes].expand(30, -1),
    ):
        for got, expected in zip(
            isample.softmax_score(logits, labels), isample.softmax_score(logits.clone(), labels)
        ):
            assert torch.equal(got, expected)
    soft = torch.rand(classes, 30).t()
    logits = wide[:30, :classes]
    assert torch.equal(
        isample.softmax_score(logits, soft)[0], isample.softmax_score(logits, soft.clone())[0]
    )
    strided = torch.stack([labels, labels], dim=1)[:, 0]
    assert torch.equal(
        isample.softmax_score(logits, strided)[0], isample.softmax_score(logits, labels)[0]
    )


def test_no_rows_give_no_scores():
    score, loss = isample.softmax_score(torch.empty(0, 10), torch.empty(0, dtype=torch.int64))
    assert score.shape == loss.shape == (0,)


def test_threads_do_not_change_a_bit():
    logits, labels = torch.randn(700, 300), torch.randint(300, (700,))
    threads = torch.get_num_threads()
    many = isample.softmax_score(logits, labels)[0]
    torch.set_num_threads(1)
    try:
        assert torch.equal(isample.softmax_score(logits, labels)[0], many)
    finally:
        torch.set_num_threads(threads)


LOGITS, LABELS = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (
            (LOGITS[0], LABELS),
            {},
            ValueError,
            r"logits must be \[batch, classes\], got shape \[3\]",
        ),
        ((LOGITS.long(), LABELS), {}, TypeError, "logits must be float32, .* got torch.int64"),
        (
            (LOGITS[:, :0], LABELS),
            {},
            ValueError,
            r"logits must have between 1 and 2\^31 classes, got shape \[4, 0\]",
        ),
        ((LOGITS, LABELS.int()), {}, TypeError, "targets must be int64 .* got torch.int32"),
        ((LOGITS, LABELS[:3]), {}, ValueError, r"labels must have shape \[4\].* got \[3\]"),
        (
            (LOGITS, torch.zeros(4, 2)),
            {},
            ValueError,
            r"soft targets must have the shape of logits.* got \[4, 2\]",
        ),
        (
            (LOGITS, torch.tensor([0, 1, 3, 0])),
            {},
            ValueError,
            r"targets must be labels in \[0, 3\).* got 3 in row 2",
        ),
        ((LOGITS, torch.tensor([0, 1, 2, -1])), {}, ValueError, "got -1 in row 3"),
        (
            (LOGITS, LABELS),
            {"weight": torch.ones(2)},
            ValueError,
            r"weight must have shape \[3\].* got \[2\]",
        ),
        (
            (LOGITS, LABELS),
            {"weight": torch.ones(3).int()},
            TypeError,
            "weight must be floating point, got torch.int32",
        ),
        (
            (LOGITS, LABELS),
            {"label_smoothing": 1.5},
            ValueError,
            r"label_smoothing must lie in \[0, 1\], got 1.5",
        ),
        (
            (LOGITS, LABELS),
            {"label_smoothing": float("nan")},
            ValueError,
            "label_smoothing .* got nan",
        ),
        (
            (LOGITS, LOGITS),
            {"ignore_index": 1},
            ValueError,
            "ignore_index must be negative .* got 1",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        torch.ops.isample.softmax_score(*arguments, **options)

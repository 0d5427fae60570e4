"""What torch asks of an op: schemas, fakes, torch.compile, opcheck; and the fused op's own
rules."""

import pytest
import torch
from torch import library

import isample
from isample import _C

ops = torch.ops.isample
LOGITS, LABELS = torch.randn(12, 10), torch.randint(10, (12,))
SCORE = torch.rand(12)

# opcheck's autograd test compiles gradients, which no op of these has
CHECKS = (
    "test_schema",
    "test_faketensor",
    "test_autograd_registration",
    "test_aot_dispatch_dynamic",
)


def cases():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        yield ops.softmax_score, (LOGITS.to(dtype), LABELS), {}
    yield (
        ops.softmax_score,
        (LOGITS, torch.rand(12, 10)),
        {"weight": torch.rand(10), "label_smoothing": 0.1},
    )
    yield ops.softmax_score, (LOGITS.t().contiguous().t(), LABELS), {"ignore_index": 3}
    yield ops.softmax_score, (LOGITS.clone().requires_grad_(), LABELS), {}
    for op in (ops.cross_entropy, ops._cross_entropy_with_gradient):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            yield op, (LOGITS.to(dtype), LABELS), {}
        yield (
            op,
            (LOGITS, torch.rand(12, 10), torch.rand(12)),
            {"weight": torch.rand(10), "label_smoothing": 0.1},
        )
    for op in (ops._mean_cross_entropy, ops._mean_cross_entropy_with_gradient):
        for dtype in (torch.float32, torch.bfloat16, torch.float64):
            yield op, (LOGITS.to(dtype), LABELS), {"weight": torch.rand(10), "ignore_index": 3}
    for op in (ops.cross_entropy, ops._mean_cross_entropy):
        yield op, (LOGITS.clone().requires_grad_(), LABELS), {}
    yield ops._pack, ([SCORE, torch.tensor(1.0).bfloat16(), LABELS],), {}
    yield ops._add_row_squares, (torch.rand(12), LOGITS, 1.0), {}
    yield ops._scale_rows, (LOGITS, torch.rand(12), torch.rand(12), 2.0), {}
    yield ops._scale_rows, (LOGITS.t().contiguous().t(), torch.rand(12), None, 1.0), {}
    pixels = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    yield ops._scale_rows, (pixels, torch.rand(2), None, 1.0), {}
    yield ops.distribution, (SCORE,), {"floor": 0.1}
    yield ops.distribution, (SCORE,), {"tau_ema": torch.tensor(1.0)}
    yield ops.distribution, (torch.rand(24)[::2],), {}
    yield ops.alias_table, (SCORE,), {}
    for method in ("alias", "systematic", "pps"):
        yield ops.draw, (SCORE, 4), {"method": method, "seed": 1}
        yield (
            ops.importance_sample,
            (LOGITS, LABELS, 4, torch.tensor(1.0)),
            {"draws": method, "seed": 1},
        )
    yield ops.draw.table, (*ops.alias_table(SCORE), 4), {"seed": 1}
    yield ops.prefix_sum, (SCORE,), {"floor": 0.1}
    yield ops.draw.prefix_sum, (ops.prefix_sum(SCORE)[0], 4), {"seed": 1}
    yield ops._prefix_sum_into, (torch.empty(12, dtype=torch.int64), SCORE), {"floor": 0.1}
    yield ops.permuted, (torch.arange(20)[::2], 20), {"seed": 1}
    yield ops.draw_weights, (ops.prefix_sum(SCORE)[0], torch.tensor([3, 0, 11])), {}
    yield ops.draw_moments, (SCORE, torch.rand(12), True, [0.25, 0.5]), {}
    memory, places = torch.rand(30), torch.arange(12) * 2
    met = torch.rand(256, 3)
    yield ops.recall, (memory, met, SCORE, places, torch.rand(12), None, [0.5]), {}
    yield ops.recall, (memory, met, SCORE, places, None, ops.prefix_sum(memory)[0], [0.5]), {}
    yield ops.recall, (memory, met, SCORE, places, None, None, []), {"rate": 0.3}
    yield ops.remember, (torch.rand(30), torch.tensor([3, 0, 29]), SCORE[:3]), {"rate": 0.3}
    yield ops.meet, (torch.rand(256, 3), SCORE, torch.rand(12)), {}
    yield (
        ops.expected_scores,
        (SCORE, torch.rand(256, 3)),
        {"prior": 2.0, "contradicted": None, "share": 0.25},
    )
    yield (
        ops.expected_scores,
        (torch.rand(24)[::2], torch.rand(256, 3)),
        {"prior": 2.0, "contradicted": 0.5, "share": 0.1},
    )
    yield (
        ops._expected_scores_into,
        (torch.empty(12), SCORE, torch.rand(256, 3)),
        {"prior": 2.0, "contradicted": 0.5, "share": 0.1},
    )


@pytest.mark.parametrize("op, arguments, options", list(cases()))
def test_opcheck(op, arguments, options):
    op = op if isinstance(op, torch._ops.OpOverload) else op.default
    library.opcheck(op, arguments, options, test_utils=CHECKS)


def test_the_whole_pipeline_compiles_in_one_graph():
    def pipeline(logits, labels, ema):
        score, loss = ops.softmax_score(logits * 2, labels)
        probabilities, tau = ops.distribution(score, tau_ema=ema)
        table = ops.alias_table(score)
        indices, weights = ops.draw.table(*table, 4, seed=3)
        fused = ops.importance_sample(logits * 2, labels, 4, ema, seed=3)
        return loss, probabilities, tau, indices, weights * 1.0, *fused, ema + 0

    expected_ema, ema = torch.tensor(1.0), torch.tensor(1.0)
    expected = pipeline(LOGITS, LABELS, expected_ema)
    torch._dynamo.reset()
    got = torch.compile(pipeline, fullgraph=True, backend="aot_eager")(LOGITS, LABELS, ema)
    for each, truth in zip((*got, ema), (*expected, expected_ema)):
        torch.testing.assert_close(each, truth, rtol=0, atol=0, equal_nan=True)


def test_the_wrappers_compile_too():
    torch._dynamo.reset()
    compiled = torch.compile(isample.importance_sample, fullgraph=True, backend="aot_eager")
    expected = isample.importance_sample(LOGITS, LABELS, 4, torch.tensor(1.0), seed=3)
    for got, truth in zip(compiled(LOGITS, LABELS, 4, torch.tensor(1.0), seed=3), expected):
        assert torch.equal(got, truth)


def test_nothing_is_recorded_for_autograd():
    logits = LOGITS.clone().requires_grad_()
    score, loss = isample.softmax_score(logits, LABELS)
    assert not score.requires_grad and not loss.requires_grad


def test_invalid_logits_raise_before_anything_changes():
    logits = LOGITS.clone()
    logits[[2, 5], 3] = float("nan")
    ema = torch.tensor(1.5)
    with pytest.raises(isample.NonFiniteScoreError, match="got 2 that are not, in rows 2, 5"):
        isample.importance_sample(logits, LABELS, 4, ema)
    assert ema == 1.5


def test_one_row_and_one_class():
    sample = isample.importance_sample(
        torch.randn(1, 1), torch.zeros(1, dtype=torch.int64), 3, torch.zeros(())
    )
    assert sample.indices.tolist() == [0, 0, 0] and sample.weights.tolist() == [1, 1, 1]
    assert sample.score.item() == sample.loss.item() == 0 and sample.tau == 1


@pytest.mark.parametrize(
    "arguments, options, error, message",
    [
        (
            (LOGITS, LABELS, 0, torch.zeros(())),
            {},
            ValueError,
            r"batch_size must lie in \[1, .* got 0",
        ),
        (
            (LOGITS, LABELS, 13, torch.zeros(())),
            {"draws": "pps"},
            ValueError,
            "batch_size must not exceed .* 12.* got 13",
        ),
        (
            (LOGITS, LABELS, 4, torch.zeros(1)),
            {},
            ValueError,
            r"tau_ema must be a 0-dimensional tensor, got shape \[1\]",
        ),
        (
            (LOGITS, LABELS, 4, torch.zeros(())),
            {"draws": "best"},
            ValueError,
            "draws must be one of .* got 'best'",
        ),
        (
            (LOGITS, LABELS, 4, torch.zeros(())),
            {"momentum": -1.0},
            ValueError,
            r"momentum must lie in \[0, 1\], got -1",
        ),
        (
            (LOGITS[:0], LABELS[:0], 4, torch.zeros(())),
            {},
            ValueError,
            "logits must hold between 1 .* got 0",
        ),
        ((LOGITS, LABELS + 9, 4, torch.zeros(())), {}, ValueError, "targets must be labels"),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(arguments, options, error, message):
    state = torch.get_rng_state()
    with pytest.raises(error, match=message):
        isample.importance_sample(*arguments, **options)
    assert bool((arguments[3] == 0).all()) and torch.equal(torch.get_rng_state(), state)


def test_build_info_says_what_was_built():
    info = _C.build_info()
    assert info["cpu"] in ("avx512", "avx2", "baseline")
    assert info["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert bool(info["cuda_architectures"]) != bool(info["why_no_cuda"])

"""What the ops' wrappers take for numbers, names and dtypes, and what comes of nothing at all."""

import math

import numpy as np
import pytest
import torch

import isample
from isample.ops import memory, reference

SCORE = torch.rand(12)
TABLES = {
    "scores": SCORE,
    "alias": isample.alias_table(SCORE),
    "sums": isample.prefix_sum(SCORE),
}
LOGITS, LABELS = torch.randn(12, 10), torch.randint(10, (12,))
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def draw_by(source, **options):
    if source == "fused":
        options["batch_size"] = options.pop("count", 4)
        if "method" in options:
            options["draws"] = options.pop("method")
        return isample.importance_sample(LOGITS, LABELS, tau_ema=torch.zeros(()), **options)
    return isample.draw(TABLES[source], options.pop("count", 4), **options)


SOURCES = [*TABLES, "fused"]


# ---- Numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"count": 0}, ValueError, r"must lie in \[1, .* got 0"),
        ({"count": -3}, ValueError, r"must lie in \[1, .* got -3"),
        ({"count": 2**63}, ValueError, "must lie in .* got 9223372036854775808"),
        ({"count": True}, TypeError, "must be an int, got True of type bool"),
        ({"count": 4.0}, TypeError, "must be an int, got 4.0 of type float"),
        ({"count": "4"}, TypeError, "must be an int, got '4' of type str"),
        ({"count": None}, TypeError, "must be an int, got None"),
        ({"seed": True}, TypeError, "seed must be an int, got True"),
        ({"seed": 1.5}, TypeError, "seed must be an int, got 1.5"),
        ({"seed": "a"}, TypeError, "seed must be an int, got 'a'"),
        (
            {"seed": 2**64},
            ValueError,
            r"seed must lie in \[-2\^63, 2\^64\), got 18446744073709551616",
        ),
        ({"seed": -(2**63) - 1}, ValueError, r"seed must lie in \[-2\^63, 2\^64\), got -9"),
        ({"seed": 1, "offset": -1}, ValueError, "offset must not be negative, got -1"),
        (
            {"seed": 1, "offset": 2**63},
            ValueError,
            r"offset must lie in .* got 9223372036854775808",
        ),
        ({"seed": 1, "offset": False}, TypeError, "offset must be an int, got False"),
        ({"method": ""}, ValueError, "got ''"),
        ({"method": "Alias"}, ValueError, "got 'Alias'"),
        ({"method": 3}, (TypeError, ValueError), "got 3"),
    ],
)
def test_what_is_no_number_or_name_is_refused_by_name(source, options, error, message):
    state = torch.get_rng_state()
    with pytest.raises(error, match=message) as caught:
        draw_by(source, **options)
    names = ("count", "batch_size", "seed", "offset", "method", "draws")
    assert str(caught.value).startswith(names)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "seed", [0, 2**63 - 1, 2**63, 2**64 - 1, np.uint64(2**64 - 1), np.int32(7)]
)
@pytest.mark.parametrize("method", ["alias", "systematic", "pps"])
def test_every_seed_of_64_bits_is_that_seed(method, seed):
    got = isample.draw(SCORE, np.int64(5), method=method, seed=seed)
    expected = reference.draw(reference.masses(SCORE), 5, method, int(seed))
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_a_source_is_scores_or_a_table():
    for source in (SCORE.tolist(), tuple(TABLES["alias"]), None):
        with pytest.raises(TypeError, match="source must be a tensor of scores, an AliasTable"):
            isample.draw(source, 4)


@pytest.mark.parametrize(
    "prior, contradicted, message",
    [
        (math.inf, None, "prior must be finite, got inf"),
        (math.nan, None, "prior must be > 0, got nan"),
        (1.0, math.nan, "contradicted must not be NaN"),
    ],
)
def test_what_no_experience_can_use_is_refused(prior, contradicted, message):
    with pytest.raises(ValueError, match=message):
        memory.expected_scores(
            SCORE, torch.rand(256, 3), prior=prior, contradicted=contradicted, share=0.1
        )


# ---- Dtypes --------------------------------------------------------------------------------------

EXPERIENCE, PLACES = torch.rand(256, 3), torch.arange(12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize(
    "call, named",
    [
        (isample.distribution, "score"),
        (isample.alias_table, "score"),
        (isample.prefix_sum, "score"),
        (lambda s: isample.draw(s, 4), "score"),
        (lambda s: isample.distribution(SCORE, tau_ema=s[0]), "tau_ema"),
        (lambda s: isample.importance_sample(LOGITS, LABELS, 4, s[0]), "tau_ema"),
        (lambda s: isample.ops.cross_entropy(LOGITS, LABELS, s), "weights"),
        (lambda s: isample.ops.rows(LOGITS, s), "factors"),
        (lambda s: isample.ops.rows(LOGITS, None, s), "squares"),
        (lambda s: memory.draw_moments(s, SCORE, drawn=True), "score"),
        (lambda s: memory.draw_moments(SCORE, s, drawn=True), "weights"),
        (lambda s: memory.remember(s, PLACES, SCORE), "memory"),
        (lambda s: memory.remember(SCORE.clone(), PLACES, s), "score"),
        (lambda s: memory.meet(EXPERIENCE.clone(), s, SCORE), "remembered"),
        (lambda s: memory.meet(EXPERIENCE.clone(), SCORE, s), "fresh"),
        (lambda s: memory.meet(s.expand(256, 12)[:, :3].contiguous(), SCORE, SCORE), "met"),
        (
            lambda s: memory.expected_scores(s, EXPERIENCE, prior=1, contradicted=None, share=0),
            "score",
        ),
    ],
)
def test_scores_are_float32(call, named, dtype):
    with pytest.raises(TypeError, match=f"^{named} must be torch.float32, got {dtype}"):
        call((SCORE * 9).to(dtype))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_logits_are_floating_point(dtype):
    for call in (isample.softmax_score, isample.ops.cross_entropy):
        with pytest.raises(TypeError, match=f"logits must be float32, .* got {dtype}"):
            call(LOGITS.to(dtype), LABELS)
    with pytest.raises(TypeError, match=f"z must be float32, .* got {dtype}"):
        isample.ops.rows(LOGITS.to(dtype), SCORE)


# ---- Nothing -------------------------------------------------------------------------------------

NONE = torch.empty(0)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: isample.distribution(NONE), "score must hold between 1"),
        (lambda: isample.alias_table(NONE), "score must hold between 1"),
        (lambda: isample.prefix_sum(NONE), "score must hold between 1"),
        (lambda: isample.draw(NONE, 1), "score must hold between 1"),
        (lambda: memory.draw_moments(NONE, NONE, drawn=True), "score must hold between 1"),
        (lambda: memory.remember(SCORE.clone(), NONE.long(), NONE), "score must hold between 1"),
        (lambda: isample.softmax_score(LOGITS[:, :0], LABELS), "logits must have between 1"),
        (
            lambda: isample.importance_sample(LOGITS[:0], LABELS[:0], 1, torch.zeros(())),
            "logits must hold between 1",
        ),
    ],
)
def test_nothing_to_draw_from_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_rows_give_no_scores(dtype):
    logits = LOGITS[:0].to(dtype).requires_grad_()
    for targets in (LABELS[:0], logits.detach()):
        assert [len(part) for part in isample.softmax_score(logits, targets)] == [0, 0]
        loss, score = isample.ops.cross_entropy(logits, targets)
        assert loss.isnan() and len(score) == 0  # the mean of nothing, as torch has it
        loss.backward()
        assert logits.grad.shape == (0, 10) and logits.grad.dtype == dtype


def test_no_rows_pass():
    for shape in ((0, 4), (3, 0), (0,)):
        z = torch.empty(shape, requires_grad=True)
        squares = torch.zeros(shape[0])
        isample.ops.rows(z, torch.ones(shape[0]), squares).sum().backward()
        assert z.grad.shape == shape and not squares.any()


def test_nobody_met_and_nothing_remembered():
    met = EXPERIENCE.clone()
    memory.meet(met, NONE, NONE)
    assert torch.equal(met, EXPERIENCE)
    expected, bounded = memory.expected_scores(
        NONE, EXPERIENCE, prior=1.0, contradicted=0.5, share=0.1
    )
    assert len(expected) == 0 and bounded == 0
    assert len(memory.draw_weights(TABLES["sums"], NONE.long())) == 0


@pytest.mark.parametrize("count", [-(2**63), -1, 0, 2**24 + 1, torch.tensor(-1)])
@pytest.mark.parametrize("source", ["score", "alias", "sums", "fused"])
def test_a_number_of_draws_is_refused_by_name_of_shapes_alone_too(source, count):
    meta = LOGITS.to("meta")
    table = [part.to("meta") for part in TABLES["alias"]]
    calls = {
        "score": lambda: torch.ops.isample.draw(meta[:, 0], count),
        "alias": lambda: torch.ops.isample.draw.table(*table, count),
        "sums": lambda: torch.ops.isample.draw.prefix_sum(TABLES["sums"].sums.to("meta"), count),
        "fused": lambda: torch.ops.isample.importance_sample(
            meta, LABELS.to("meta"), count, torch.zeros((), device="meta")
        ),
    }
    name = "batch_size" if source == "fused" else "count"
    with pytest.raises(ValueError, match=f"^{name} must lie in"):
        calls[source]()

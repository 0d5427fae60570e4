"""Arguments that ops change in place: autograd notices, and what would not be right is refused
before anything has changed."""

import pytest
import torch

import isample
from isample.ops import memory

N, B = 30, 12
ops = torch.ops.isample


def pieces():
    score = torch.rand(B) + 0.5
    return {
        "memory": torch.rand(N),
        "met": torch.rand(256, 3),
        "tau_ema": torch.tensor(1.5),
        "squares": torch.rand(B),
        "score": score,
        "fresh": torch.rand(B),
        "weights": torch.rand(B),
        "indices": torch.arange(B) * 2,
        "sums": isample.prefix_sum(torch.rand(N))[0],
        "logits": torch.randn(B, 10),
        "targets": torch.randint(10, (B,)),
        "weight": torch.rand(10) + 0.1,
        "gradient": torch.randn(B, 7),
        "factors": torch.rand(B),
    }


CALLS = {
    "distribution": lambda p: ops.distribution(p["score"], tau_ema=p["tau_ema"]),
    "importance_sample": lambda p: ops.importance_sample(
        p["logits"], p["targets"], 4, p["tau_ema"], weight=p["weight"], seed=1
    ),
    "remember": lambda p: ops.remember(p["memory"], p["indices"], p["score"]),
    "meet": lambda p: ops.meet(p["met"], p["score"], p["fresh"]),
    "recall": lambda p: ops.recall(
        p["memory"], p["met"], p["score"], p["indices"], p["weights"], p["sums"], [0.5]
    ),
    "_add_row_squares": lambda p: ops._add_row_squares(p["squares"], p["gradient"], 1.0),
    "_scale_rows": lambda p: ops._scale_rows(p["gradient"], p["factors"], p["squares"], 1.0),
}
WRITTEN = {
    "distribution": ["tau_ema"],
    "importance_sample": ["tau_ema"],
    "remember": ["memory"],
    "meet": ["met"],
    "recall": ["memory", "met"],
    "_add_row_squares": ["squares"],
    "_scale_rows": ["squares"],
}
INTO = {"_prefix_sum_into": ["sums"], "_expected_scores_into": ["expected"]}
READ = {
    "distribution": ["score"],
    "importance_sample": ["logits", "targets", "weight"],
    "remember": ["indices", "score"],
    "meet": ["score", "fresh"],
    "recall": ["score", "indices", "weights", "sums"],
    "_add_row_squares": ["gradient"],
    "_scale_rows": ["gradient", "factors"],
}
PAIRS = [(op, name) for op, names in WRITTEN.items() for name in names]


def test_the_lists_are_those_of_the_schemas():
    for op in [name for name in dir(torch.ops.isample) if not name.startswith("__")]:
        packet = getattr(ops, op)
        if not hasattr(packet, "overloads"):
            continue
        for overload in packet.overloads():
            arguments = getattr(packet, overload)._schema.arguments
            written = [a.name for a in arguments if a.alias_info and a.alias_info.is_write]
            assert sorted(written) == sorted((WRITTEN | INTO).get(op, []))


@pytest.mark.parametrize("op, name", PAIRS)
def test_a_write_is_counted(op, name):
    parts = pieces()
    before = parts[name].clone(), parts[name]._version
    factor = torch.ones_like(parts[name], requires_grad=True)
    product = (factor * parts[name]).sum()  # keeps what is written for the backward pass
    CALLS[op](parts)
    assert not torch.equal(parts[name], before[0]) and parts[name]._version == before[1] + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


@pytest.mark.parametrize("op", CALLS)
def test_nothing_is_counted_for_what_is_only_read(op):
    parts = pieces()
    before = {name: part._version for name, part in parts.items()}
    CALLS[op](parts)
    assert [n for n, part in parts.items() if part._version != before[n]] == WRITTEN[op]


def refused(op, parts, error, message):
    before = {
        name: (part.clone(), part.is_inference() or part._version) for name, part in parts.items()
    }
    with pytest.raises(error, match=message):
        CALLS[op](parts)
    for name, part in parts.items():
        assert torch.equal(part, before[name][0]), name
        assert part.is_inference() or part._version == before[name][1], name


@pytest.mark.parametrize("op, name", PAIRS)
@pytest.mark.parametrize("leaf", [True, False])
def test_a_gradient_through_it_is_refused(op, name, leaf):
    parts = pieces()
    parts[name].requires_grad_()
    if not leaf:
        parts[name] = parts[name] * 1
    refused(op, parts, ValueError, f"{name} must not require grad")
    with torch.no_grad():  # as torch has it
        CALLS[op](parts)


@pytest.mark.parametrize("op, name", PAIRS)
def test_one_memory_for_several_elements_is_refused(op, name):
    parts = pieces()
    if parts[name].dim() == 0:
        return
    parts[name] = parts[name].flatten()[:1].expand(parts[name].shape)
    refused(op, parts, ValueError, f"{name} must (have memory of its own|be .*contiguous)")


@pytest.mark.parametrize("op, name", PAIRS)
def test_memory_in_common_is_refused(op, name):
    for other in READ[op] + [each for each in WRITTEN[op] if each != name]:
        parts = pieces()
        size = max(part.numel() * part.element_size() for part in parts.values()) * 2
        bytes_ = torch.zeros(size, dtype=torch.uint8)
        for each in (name, other):
            room = bytes_[: parts[each].numel() * parts[each].element_size()]
            place = room.view(parts[each].dtype).view(parts[each].shape)
            parts[each] = place
        refused(op, parts, ValueError, "must share no memory with")


def test_neighbours_in_one_storage_are_not_in_common():
    whole = torch.rand(N + B)
    memory.remember(whole[:N], torch.arange(B), whole[N:])
    columns = torch.rand(B, 2)
    ops._scale_rows(torch.rand(B, 7), columns[:, 0], columns[:, 1], 1.0)
    with pytest.raises(ValueError, match="share no memory"):
        memory.remember(whole[:N], torch.arange(B), whole[N - 1 : N + B - 1])
    with pytest.raises(ValueError, match="share no memory"):
        ops._scale_rows(torch.rand(B, 7), columns[:, 0], columns[:, 0], 1.0)


@pytest.mark.parametrize("op, name", PAIRS)
def test_inference_tensors_are_written_in_inference_mode_alone(op, name):
    parts = pieces()
    with torch.inference_mode():
        parts[name] = parts[name].clone()
        CALLS[op](parts)
    refused(op, parts, RuntimeError, f"{name} must not be an inference tensor")


def test_rows_refuses_squares_before_the_backward_pass():
    z = torch.rand(B, 3, requires_grad=True)
    for squares, message in (
        (torch.zeros(B, requires_grad=True), "squares must not require grad"),
        (torch.zeros(1).expand(B), "squares must have memory of its own"),
    ):
        with pytest.raises(ValueError, match=message):
            isample.ops.rows(z, None, squares)
    shared = torch.rand(B)
    with pytest.raises(ValueError, match="squares must share no memory with factors"):
        isample.ops.rows(z, shared, shared)


def test_what_receives_a_result_is_counted_and_checked():
    score, sums = torch.rand(B), torch.zeros(B, dtype=torch.int64)
    ops._prefix_sum_into(sums, score)
    assert torch.equal(sums, isample.prefix_sum(score).sums) and sums._version == 1
    expected, experience = torch.zeros(B), torch.zeros(256, 3)
    options = {"prior": 1.0, "contradicted": None, "share": 0.25}
    ops._expected_scores_into(expected, score, experience, **options)
    assert torch.equal(expected, ops.expected_scores(score, experience, **options)[0])
    assert expected._version == 1
    with pytest.raises(ValueError, match="expected must share no memory with score"):
        ops._expected_scores_into(score, score, experience, **options)
    with pytest.raises(ValueError, match="expected must not require grad"):
        ops._expected_scores_into(expected.requires_grad_(), score, experience, **options)

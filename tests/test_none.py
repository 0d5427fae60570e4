"""None for what an op must be given is refused by the argument's name, on every way into the op."""

import itertools
import re

import pytest
import torch

import isample
from isample.ops import memory
from tests.fuzz import play


def inputs(name):
    """What keeps the rules of an op, and the names of its arguments that must be tensors."""
    for seed in range(100):
        made = play.Play(f"values/{name}/{seed}")
        rules = made._rules()
        if not (rules.broken or rules.doubtful):
            break
    arguments = made.schema.arguments
    return made.given, [each.name for each in arguments if str(each.type) == "Tensor"]


def refused(name, given, nones):
    named = "|".join(nones)
    with pytest.raises(TypeError, match=rf"^({named}) must be .*got None"):
        play.overload(play.OPS[name])(**{**given, **dict.fromkeys(nones)})


@pytest.mark.parametrize("name", play.OPS)
@pytest.mark.parametrize("grad", [True, False])
def test_no_tensor(name, grad):
    given, tensors = inputs(name)
    for each in {"logits", "z"} & given.keys():
        given[each] = given[each].detach().clone().requires_grad_(grad)
    for count in range(1, len(tensors) + (name == "rows")):  # one is left, but for rows
        for nones in itertools.combinations(tensors, count):
            refused(name, given, nones)


@pytest.mark.parametrize("name", [op.name for op in play.OPS.values() if op.wrapper])
def test_no_tensor_at_all(name):
    """Without a device, torch asks no op: the wrappers refuse."""
    given, tensors = inputs(name)
    nothing = {
        key: None if isinstance(value, torch.Tensor) else value for key, value in given.items()
    }
    with pytest.raises(TypeError, match=rf"^({'|'.join(tensors)}|source) must be .*got None"):
        play.OPS[name].wrapper(**nothing)


@pytest.mark.parametrize("name", play.OPS)
def test_no_tensor_beside_meta(name):
    """Of shapes alone, too."""
    given, tensors = inputs(name)
    for each, value in given.items():
        if isinstance(value, torch.Tensor):
            given[each] = value.to("meta")
    for each in tensors:
        if any(isinstance(given[other], torch.Tensor) for other in given if other != each):
            refused(name, given, [each])


@pytest.mark.parametrize("name", play.OPS)
def test_no_number_or_name(name):
    """``drawn`` is the wrapper's to refuse: torch reads None as a bool."""
    given, _ = inputs(name)
    arguments = play.overload(play.OPS[name])._schema.arguments
    for each in arguments:
        if each.type.kind() not in ("TensorType", "OptionalType") and each.name != "drawn":
            with pytest.raises((TypeError, RuntimeError), match=rf"'{each.name}'"):
                play.overload(play.OPS[name])(**{**given, each.name: None})


LOGITS, LABELS, SCORE = torch.rand(6, 3), torch.arange(6) % 3, torch.rand(6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: isample.distribution(None), "score must be a tensor, got None"),
        (lambda: isample.alias_table(None), "score must be a tensor, got None"),
        (lambda: isample.prefix_sum(None), "score must be a tensor, got None"),
        (lambda: isample.softmax_score(None, None), "logits must be a tensor, got None"),
        (lambda: isample.ops.cross_entropy(LOGITS, None), "targets must be a tensor, got None"),
        (
            lambda: isample.importance_sample(LOGITS, LABELS, 2, torch.zeros(()), draws=None),
            "draws must be a string, got None",
        ),
        (
            lambda: memory.draw_moments(SCORE, SCORE, drawn=None),
            "drawn must be True or False, got None",
        ),
        (
            lambda: memory.draw_moments(SCORE, SCORE, drawn=float("nan")),
            "drawn must be True or False, got nan",
        ),
        (
            lambda: memory.expected_scores(
                None, torch.rand(256, 3), prior=1.0, contradicted=None, share=0.1
            ),
            "score must be a tensor, got None",
        ),
    ],
)
def test_the_wrappers(call, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        call()

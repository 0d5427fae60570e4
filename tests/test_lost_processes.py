"""Several processes of which one is lost, or is given something else: all end by one clear error.

``python tests/reliability/ranks.py`` loses many more.
"""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

import isample
from isample.control import Choices, Speedup
from isample.support.alike import unlike
from isample.support.describe import described, told
from isample.support.processes import Processes
from isample.training import trainer as training
from tests.reliability.ranks import WAYS, Loss, lose_one

BOUND = 60.0  # seconds; no verdict of these tests goes by how fast the machine is


LOSSES = [
    Loss("raise", "own", "memory", 3, 1, 4),
    Loss("raise", "fit", "presample", 2, 0, 2),
    Loss("kill", "fit", "memory", 2, 1, 3),
    Loss("stop", "fit", "presample", 2, 0, 3),
    Loss("stop", "own", "memory", 3, 2, 2),
    Loss("not a number", "fit", "memory", 2, 1, 3),
    Loss("uneven stream", "own", "presample", 2, 1, 3),
    Loss("uneven stream", "fit", "presample", 3, 0, 4),
    Loss("uneven batch", "fit", "presample", 2, 0, 2),
    Loss("uneven lengths", "fit", "presample", 2, 1, 1),
    Loss("other argument", "fit", "memory", 2, 1, 1),
    Loss("invalid argument", "fit", "memory", 2, 0, 1),
    Loss("nothing", "own", "memory", 3, 0, 1),
    Loss("slow", "fit", "presample", 2, 1, 3),
]


@pytest.fixture(scope="module")
def ends():
    """Three at a time: most of what they take is waiting."""
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(LOSSES, pool.map(lambda loss: lose_one(loss, BOUND), LOSSES)))


@pytest.mark.parametrize(
    "loss", LOSSES, ids=lambda loss: f"{loss.way}, {loss.loop}, {loss.mode}, {loss.processes}"
)
def test_the_others_end_by_the_right_error(ends, loss):
    faults, _ = ends[loss]
    assert not faults


def test_the_harness_finds_a_wrong_end(monkeypatch):
    monkeypatch.setitem(WAYS, "kill", "ValueError")
    faults, _ = lose_one(Loss("kill", "fit", "memory", 2, 1, 2), BOUND)
    assert len(faults) == 1 and "ended by LostProcessError" in faults[0]


# --- what must be alike ---------------------------------------------------------------------------


class Two(Processes):
    """As a process of two is told what it was given; the other one is not there."""

    def __init__(self, group=None):
        super().__init__()
        self.count = 2

    @classmethod
    def of_model(cls, model):
        return cls()


def given(monkeypatch, **options):
    monkeypatch.setattr(training, "Processes", Two)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return isample.Trainer(model, optimizer, **options).engine.steps.processes.given


def own_score(logits, targets):
    return logits.new_ones(len(logits))


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("loss", "mse", {}),
        ("loss", nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1), {}),
        ("presample", 512, {}),
        ("control", "always", {}),
        ("control", Speedup(Choices(128)), {}),
        ("adapt", None, {}),
        ("adapt", "batch", {}),
        ("score", "loss", {}),
        ("score", own_score, {}),
        ("draws", "systematic", {}),
        ("scoring", isample.Scoring(dtype=torch.bfloat16), {}),
        ("tau_momentum", 0.5, {}),
        ("clip_grad_norm", 1.0, {}),
        ("accumulate", 2, {}),
        ("autocast", torch.bfloat16, {}),
        ("seed", 3, {}),
        ("tau_threshold", 1.5, {"control": "threshold"}),
    ],
)
def test_another_argument_shows(monkeypatch, name, value, before):
    plain, other = given(monkeypatch, **before), given(monkeypatch, **{**before, name: value})
    message = unlike([plain, other], [None, None])
    named = {"tau_threshold": "threshold"}.get(name, name)
    assert f"{named} must be the same in all processes; process 0 got" in message
    assert unlike([other, given(monkeypatch, **{**before, name: value})], [None, None]) is None


def test_seeds_may_differ_but_not_in_kind(monkeypatch):
    assert unlike([given(monkeypatch, seed=3), given(monkeypatch, seed=4)], [None, None]) is None


def test_a_difference_names_each_value():
    alike = {"mode": "'memory'"}
    message = unlike([{**alike, "epochs": "3"}, {**alike, "epochs": "4"}, alike], [None] * 3)
    assert message == (
        "epochs must be the same in all processes; process 0 got 3, process 1 got 4, process 2 got "
        "nothing"
    )
    assert "process 1 refused its: ValueError: no" in unlike([alike] * 2, [None, "ValueError: no"])


def test_descriptions_hold_no_address_and_no_tensor():
    for value in (Speedup(Choices(8)), own_score, nn.MSELoss(), isample.Scoring(), lambda x: x):
        assert "0x" not in told(described(value)) and "tensor(" not in told(described(value))
    assert told(described(Speedup(Choices(8)))) == told(described(Speedup(Choices(8))))


@pytest.mark.parametrize(
    "error", [isample.LostProcessError(2, "it was killed"), isample.UnevenProcessesError("one")]
)
def test_the_errors_are_of_the_family_and_can_be_sent(error):
    assert isinstance(error, isample.IsampleError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)

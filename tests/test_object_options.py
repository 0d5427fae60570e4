"""A state is compared with an object's options, and with nothing that changes while it is used."""

import math
from enum import Enum
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Choices, Speedup
from isample.control.rates import LearningRate, RateSettings
from isample.support.describe import described, told
from tests.small_training import b, make_data, make_model

pytestmark = pytest.mark.usefixtures("one_thread")


class Slower(Speedup):
    """A controller with an option, and with a number of its own that changes from step to step."""

    def __init__(self, patience):
        super().__init__(Choices(b, remembers=True))
        self.patience, self.observed = patience, 0

    def observe(self, state, seen):
        self.observed += 1
        return super().observe(state, seen)


class Counting(nn.CrossEntropyLoss):
    """A loss with a number and a buffer that change from call to call."""

    def __init__(self):
        super().__init__(reduction="none")
        self.register_buffer("calls", torch.zeros(()))
        self.seen = 0

    def forward(self, logits, targets):
        self.calls.add_(1)
        self.seen += 1
        return super().forward(logits, targets)


def scaled(scale, logits, targets, *, shift=0.0):
    return scale * nn.functional.cross_entropy(logits, targets, reduction="none") + shift


def make(**options):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    if "rates" in options:
        options["adapt"] = LearningRate(optimizer, options.pop("rates"))
    return isample.Trainer(model, optimizer, batch_size=b, mode="memory", seed=3, **options)


def after_an_epoch(**options):
    trainer = make(**options)
    loader = DataLoader(TensorDataset(*make_data(8 * b)), batch_size=b, shuffle=True)
    trainer.fit(loader, epochs=1)
    return trainer


class Colour(Enum):
    RED, BLUE = 1, 2


class Slotted:
    __slots__ = ("_hidden", "lacking", "rate")

    def __init__(self):
        self.rate, self._hidden = 0.5, 3


class OneSlot:
    __slots__ = "rate"

    def __init__(self, rate):
        self.rate = rate


class Decorated:
    """As decorators that are classes: an instance with a ``__get__``."""

    def __init__(self, function):
        self.function = function

    def __get__(self, owner, kind):
        return self

    def __call__(self, *args):
        return self.function(*args)


class Nested(nn.Module):
    """A loss of torch's within one's own."""

    def __init__(self, weight, function=nn.functional.cross_entropy):
        super().__init__()
        self.inner = nn.CrossEntropyLoss(torch.tensor(weight), reduction="none")
        self.function = function


HERE = "tests.test_object_options."
RATES = "isample.control.rates."
OPTIONS = {
    "control": (
        lambda: Slower(3),
        lambda: Slower(4),
        f"{HERE}Slower(patience=3), here {HERE}Slower(patience=4)",
    ),
    "loss": (
        lambda: partial(scaled, np.float64(2.0), shift=1.0),
        lambda: partial(scaled, np.float64(2.0), shift=3.0),
        f"{HERE}scaled(shift=1.0), here {HERE}scaled(shift=3.0)",
    ),
    "rates": (
        RateSettings,
        lambda: RateSettings(cap=3.0),
        f"adapt={RATES}LearningRate(settings={RATES}RateSettings(cap=10.0)), here "
        f"{RATES}LearningRate(settings={RATES}RateSettings(cap=3.0))",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_compared(name):
    saved, own, message = OPTIONS[name]
    state = after_an_epoch(**{name: saved()}).state_dict()
    for strict in (True, False):
        with pytest.raises(isample.StateError) as refused:
            make(**{name: own()}).load_state_dict(state, strict)
        assert message in str(refused.value)
    make(**{name: saved()}).load_state_dict(state)


@pytest.mark.parametrize(
    "name, new, use",
    [
        ("control", lambda: Slower(3), lambda control: setattr(control, "observed", 7)),
        ("loss", Counting, lambda loss: setattr(loss, "seen", 7)),
    ],
)
def test_what_changes_while_it_is_used_is_no_option(name, new, use):
    again = make(**{name: new()})
    again.load_state_dict(after_an_epoch(**{name: new()}).state_dict())
    assert again.step_count == 8
    used = new()
    other = make(draws="alias", **{name: used})
    use(used)
    other.load_state_dict(again.state_dict(), strict=False)  # its engine is made anew
    make(**{name: new()}).load_state_dict(other.state_dict())


def test_a_file_of_numpy_s_numbers_loads(tmp_path):
    """They are no plain types, which files hold."""
    loss = partial(scaled, np.float64(2.0), shift=np.float32(0.5))
    after_an_epoch(loss=loss).save(tmp_path / "run.pt")
    again = make(loss=loss)
    isample.load(tmp_path / "run.pt", again)
    assert again.step_count == 8


@pytest.mark.parametrize("damaged", [{}, {"of": 3}, {"of": "x", "options": 3}, [{}], None])
def test_a_damaged_description_is_refused(damaged):
    state = after_an_epoch().state_dict()
    state["engine"]["config"]["loss"] = damaged
    with pytest.raises(isample.StateError, match="loss="):
        make().load_state_dict(state)


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "None"),
        ((1, "a"), "[1, 'a']"),
        (torch.float16, "'torch.float16'"),
        (math.nan, "'nan'"),
        (np.float64(2.0), "2.0"),
        (np.bool_(True), "True"),
        (Colour.RED, "'Colour.RED'"),
        (torch.tensor([1.0, 2.0]), "torch.Tensor(shape=[2], sum=3.0)"),
        (torch.zeros(2, device="meta"), "torch.Tensor(shape=[2], sum=None)"),
        (scaled, f"{HERE}scaled"),
        (Slotted, f"{HERE}Slotted"),
        (Slotted(), f"{HERE}Slotted(rate=0.5)"),
        (OneSlot(0.5), f"{HERE}OneSlot(rate=0.5)"),
        (RateSettings(), f"{RATES}RateSettings(least_gain=1.5, cap=10.0, headroom=2.0)"),
        (object(), "builtins.object"),
        (Decorated(scaled), f"{HERE}Decorated(function={HERE}scaled)"),
        (partial(scaled, 1, of=2), f"{HERE}scaled(args[0]=1, of=2)"),
        (partial(scaled, torch.device("cpu")), f"{HERE}scaled"),
        (partial(scaled, {"a": 1}), f"{HERE}scaled(args[0]=builtins.dict(a=1))"),
        (nn.MSELoss(reduction="none").eval(), "torch.nn.modules.loss.MSELoss(reduction='none')"),
    ],
)
def test_what_is_told(value, words):
    assert told(described(value)) == words


@pytest.mark.parametrize(
    "one, other",
    [
        (Nested([1.0, 2.0]), Nested([9.0, 9.0])),
        (Nested([1.0]), Nested([1.0], nn.functional.nll_loss)),
        (torch.ops.aten.mse_loss, torch.ops.aten.l1_loss),
        (np.add, np.subtract),
        (OneSlot(1), OneSlot(2)),
        (partial(scaled, Colour.RED), partial(scaled, Colour.BLUE)),
    ],
)
def test_what_differs_is_told_apart(one, other):
    assert told(described(one)) != told(described(other))

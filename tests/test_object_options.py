"""A state is compared with an object's options, and with nothing that changes while it is used."""

from functools import partial

import pytest
import torch
from torch import nn

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
    """A loss with a buffer that changes from call to call."""

    def __init__(self):
        super().__init__(reduction="none")
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, logits, targets):
        self.calls.add_(1)
        return super().forward(logits, targets)


def scaled(scale, logits, targets, *, shift=0.0):
    return scale * nn.functional.cross_entropy(logits, targets, reduction="none") + shift


def make(**options):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    if "rates" in options:
        options["adapt"] = LearningRate(optimizer, options.pop("rates"))
    return isample.Trainer(model, optimizer, batch_size=b, mode="memory", seed=3, **options)


def after_three_steps(**options):
    trainer = make(**options)
    inputs, targets = make_data(8 * b)
    dataset = torch.utils.data.TensorDataset(inputs, targets)
    trainer.fit(torch.utils.data.DataLoader(dataset, batch_size=b, shuffle=True), epochs=1)
    return trainer.state_dict()


OPTIONS = {
    "control": (
        lambda: Slower(3),
        lambda: Slower(4),
        "Slower(patience=3), here Slower(patience=4)",
    ),
    "loss": (
        lambda: partial(scaled, 2.0, shift=1.0),
        lambda: partial(scaled, 2.0, shift=3.0),
        "scaled(shift=1.0), here scaled(shift=3.0)",
    ),
    "rates": (
        RateSettings,
        lambda: RateSettings(cap=3.0),
        "adapt=LearningRate(settings=RateSettings(cap=10.0)), here "
        "LearningRate(settings=RateSettings(cap=3.0))",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_compared(name):
    saved, own, message = OPTIONS[name]
    state = after_three_steps(**{name: saved()})
    for strict in (True, False):
        with pytest.raises(isample.StateError) as refused:
            make(**{name: own()}).load_state_dict(state, strict)
        assert message in str(refused.value)
    make(**{name: saved()}).load_state_dict(state)


@pytest.mark.parametrize("name, new", [("control", lambda: Slower(3)), ("loss", Counting)])
def test_what_changes_while_it_is_used_is_no_option(name, new):
    again = make(**{name: new()})
    again.load_state_dict(after_three_steps(**{name: new()}))
    assert again.step_count == 8


class Slotted:
    __slots__ = ("_hidden", "lacking", "rate")

    def __init__(self):
        self.rate, self._hidden = 0.5, 3


@pytest.mark.parametrize(
    "value, words",
    [
        (None, "None"),
        ((1, "a"), "[1, 'a']"),
        (torch.float16, "'torch.float16'"),
        (torch.tensor([1.0, 2.0]), "Tensor(shape=[2], sum=3.0)"),
        (scaled, "tests.test_object_options.scaled"),
        (Slotted, "tests.test_object_options.Slotted"),
        (Slotted(), "Slotted(rate=0.5)"),
        (RateSettings(), "RateSettings(least_gain=1.5, cap=10.0, headroom=2.0)"),
        (object(), "builtins.object"),
    ],
)
def test_what_is_told(value, words):
    assert told(described(value)) == words

"""Which mode a Trainer is in, and what the paper's preset is."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import isample
from isample.control import Always, Choices, Never, Speedup, Threshold
from isample.control.rates import SteadyRate
from tests.small_training import B, b, make_data, make_model

DATA = TensorDataset(*make_data(120))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(DATA)


def make(**options):
    model = make_model()
    return isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 0.05), **{"batch_size": b, "seed": 1, **options}
    )


@pytest.mark.parametrize(
    "options,loader,mode,control",
    [
        ({}, DataLoader(DATA, b, shuffle=True), "memory", Speedup),
        ({"control": "always"}, DataLoader(DATA, b, shuffle=True), "memory", Always),
        ({}, DataLoader(Stream(), b), "presample", Speedup),
        ({}, [DATA[:b], DATA[b : 2 * b]], "presample", Speedup),
        ({"presample": B}, DataLoader(DATA, b), "presample", Speedup),
        ({"draws": "systematic"}, DataLoader(DATA, b), "presample", Speedup),
        ({"control": "threshold"}, DataLoader(DATA, b), "presample", Threshold),
        ({"tau_threshold": 1.5}, DataLoader(DATA, b), "presample", Threshold),
        (
            {"score": "gradient_norm", "control": "never"},
            DataLoader(DATA, b),
            "presample",
            Never,
        ),
    ],
)
def test_fit_settles_the_mode(options, loader, mode, control):
    trainer = make(**options)
    trainer.fit(loader, epochs=1)
    assert trainer.mode == mode and type(trainer.engine.steps.steering.controller) is control
    assert (trainer.memory is not None) == (mode == "memory")
    assert trainer.engine.steps.steering.plan.importance == (options.get("control") == "always")


def test_what_goes_with_no_presample_and_what_with_one_only():
    proxy = isample.Scoring(proxy=make_model())
    with pytest.raises(ValueError, match="scoring must have no proxy in mode='memory'"):
        make(mode="memory", scoring=proxy)
    with pytest.raises(
        ValueError, match="presample must be None for control='always' in mode='memory'; got 60"
    ):
        make(mode="memory", control="always", presample=60)
    with pytest.raises(
        ValueError, match="control must be one of always, never, speedup for mode='memory'"
    ):
        make(mode="memory", control="threshold")


def test_a_controller_of_one_s_own_is_asked_in_either_mode():
    for presample, remembers, mode in ((None, True, "memory"), (B, False, "presample")):
        control = Always(Choices(b, remembers=remembers, candidates=(B,)))
        trainer = make(control=control, presample=presample)
        history = trainer.fit(DataLoader(DATA, b, shuffle=True), epochs=2)
        assert trainer.mode == mode and trainer.engine.steps.steering.controller is control
        assert history.steps[-1].active
        assert not trainer.engine.parts.selector.draw.with_replacement  # pps is the default draw


def test_a_step_without_indices_is_refused_in_memory_mode():
    trainer = make(mode="memory", control="always")
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(ValueError, match="mode must be 'presample' for step"):
        trainer.step(*DATA[: 5 * b])
    assert all(map(torch.equal, before, trainer.model.parameters())) and trainer.step_count == 0


def test_step_settles_it_too():
    trainer = make()
    report = trainer.step(*DATA[:b])
    assert trainer.mode == "presample" and not report.active and math.isnan(report.tau)
    trainer.fit(DataLoader(DATA, b), epochs=1)
    assert trainer.mode == "presample"


def test_a_state_of_another_mode_is_refused():
    memory, presample = make(), make(presample=B)
    memory.fit(DataLoader(DATA, b, shuffle=True), epochs=1)
    with pytest.raises(isample.StateError, match="got mode='memory', here 'presample'"):
        presample.load_state_dict(memory.state_dict())
    fresh = make()
    fresh.load_state_dict(memory.state_dict())
    fresh.iterate(DataLoader(DATA, b, shuffle=True), epochs=1)  # a state waits for the loader
    assert fresh.mode == "memory" and torch.equal(fresh.memory.score, memory.memory.score)


def test_the_paper_s_preset():
    model = make_model()
    trainer = isample.Trainer.paper(
        model, torch.optim.SGD(model.parameters(), 0.05), "cross_entropy", b, B, seed=1
    )
    assert trainer.mode == "presample" and trainer.engine.parts.selector.draw.name == "alias"
    assert isinstance(trainer.engine.steps.rates, SteadyRate) and trainer.next_size == b
    controller = trainer.engine.steps.steering.controller
    assert controller.threshold == (B + 3 * b) / (3 * b) and controller.choices.presample == B
    always = isample.Trainer.paper(model, trainer.optimizer, batch_size=b, control="always")
    assert always.next_size == 5 * b

"""Which mode a Trainer is in, and what the paper's preset is."""

import math

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import isample
from isample.control.gate import ConstantGate, MemoryGate, SpeedupGate, ThresholdGate
from tests.test_trainer import B, b, make_data, make_model

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
    "options,loader,mode,gate",
    [
        ({}, DataLoader(DATA, b, shuffle=True), "memory", MemoryGate),
        ({"gate": "always"}, DataLoader(DATA, b), "memory", ConstantGate),
        ({}, DataLoader(Stream(), b), "presample", SpeedupGate),
        ({}, [DATA[:b], DATA[b : 2 * b]], "presample", SpeedupGate),
        ({"presample": B}, DataLoader(DATA, b), "presample", SpeedupGate),
        ({"draws": "systematic"}, DataLoader(DATA, b), "presample", SpeedupGate),
        ({"gate": "threshold"}, DataLoader(DATA, b), "presample", ThresholdGate),
        ({"tau_threshold": 1.5}, DataLoader(DATA, b), "presample", ThresholdGate),
        (
            {"score": "gradient_norm", "gate": "never"},
            DataLoader(DATA, b),
            "presample",
            ConstantGate,
        ),
    ],
)
def test_fit_settles_the_mode(options, loader, mode, gate):
    trainer = make(**options)
    trainer.fit(loader, epochs=1)
    assert trainer.mode == mode and type(trainer.sampler.gate) is gate
    assert (trainer.memory is not None) == (mode == "memory")
    assert trainer.sampler.active == (options.get("gate") == "always")


def test_what_goes_with_no_presample_and_what_with_one_only():
    proxy = isample.Scoring(proxy=make_model())
    with pytest.raises(ValueError, match="scoring must have no proxy in mode='memory'"):
        make(mode="memory", scoring=proxy)
    with pytest.raises(
        ValueError, match="presample must be None for gate='always' in mode='memory'; got 60"
    ):
        make(mode="memory", gate="always", presample=60)
    trainer = make(gate=SpeedupGate(b, [B]))
    trainer.fit(DataLoader(DATA, b), epochs=1)
    assert (
        trainer.mode == "presample" and not trainer.sampler.gate.foresight.replaces
    )  # pps is the default draw


def test_a_step_without_indices_is_refused_in_memory_mode():
    trainer = make(mode="memory", gate="always")
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
    memory.fit(DataLoader(DATA, b), epochs=1)
    with pytest.raises(
        ValueError, match="state must be of a trainer in mode 'presample'; got 'memory'"
    ):
        presample.load_state_dict(memory.state_dict())
    fresh = make()
    fresh.load_state_dict(memory.state_dict())
    assert fresh.mode == "memory" and torch.equal(fresh.memory.score, memory.memory.score)


def test_the_paper_s_preset():
    model = make_model()
    trainer = isample.Trainer.paper(
        model, torch.optim.SGD(model.parameters(), 0.05), "cross_entropy", b, B, seed=1
    )
    assert (trainer.mode, trainer.adapt, trainer.sampler.draw.name) == ("presample", None, "alias")
    assert trainer.sampler.gate.threshold == (B + 3 * b) / (3 * b) and trainer.presample == B
    threshold = isample.Trainer.paper(model, trainer.optimizer, batch_size=b, gate="always")
    assert threshold.sampler.active and threshold.presample == 5 * b


def test_a_loader_cannot_go_by_the_clock():
    with pytest.raises(
        ValueError, match="gate must be one of threshold, always, never for an ImportanceLoader"
    ):
        isample.ImportanceLoader([], make_model(), batch_size=b, gate="speedup")

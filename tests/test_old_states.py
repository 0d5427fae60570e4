"""Runs that earlier versions saved go on where they were; tests/states/README.md tells of them.

What the saving version made of each run is in the file, so it is compared with that. Runs that a
clock decides on are compared as far as it has no say: to the end of the epoch, which is dealt.
"""

import copy
import lzma
import warnings
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_flatten

import isample
from isample.sources.upgrade import upgraded as upgraded_memory
from isample.training.upgrade import upgraded
from tests.states.make import (
    EPOCHS,
    TRAINERS,
    N,
    Net,
    b,
    engine_steps,
    epoch_of,
    make_engine,
    make_loader,
    make_optimizer,
    make_trainer,
    sampler_steps,
)

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:state is of isample 0.1"),
]


def read(name):
    with lzma.open(Path(__file__).parent / "states" / f"{name}.pt.xz") as file:
        return torch.load(file, weights_only=True)


SAVED = {"0.1": read("isample_0_1"), "version 1": read("version_1")}
BY_CLOCK = {name for name in TRAINERS if "speedup" in name or "auto" in name}
DEALT = BY_CLOCK | {"memory_never", "sampler_dealt", "engine_dealt"}
WARN = {"presample_speedup", "presample_speedup_epoch_end", "paper", "paper_epoch_end"} | {
    name for name in BY_CLOCK if name != "auto_fresh"
}


@pytest.fixture(params=SAVED)
def saved(request):
    return copy.deepcopy(SAVED[request.param])


def equal(state, other):
    """Whether two nested states hold the same, number by number."""
    (parts, form), (others, other_form) = tree_flatten(state), tree_flatten(other)
    tensors = [(p, o) for p, o in zip(parts, others) if isinstance(p, torch.Tensor)]
    plain = [(p, o) for p, o in zip(parts, others) if not isinstance(p, torch.Tensor)]
    same = all(p == o for p, o in plain) and all(torch.equal(p, o) for p, o in tensors)
    return form == other_form and same


def resumed(name, run):
    """A new trainer of the same arguments that goes on, its network, and its steps to come."""
    arguments, loading, _ = TRAINERS[name]
    model = Net()
    trainer = make_trainer(model, **arguments)
    model.load_state_dict(run["model"])
    trainer.optimizer.load_state_dict(run["optimizer"])
    trainer.load_state_dict(upgraded(run["trainer"]))
    return trainer, model, trainer.iterate(make_loader(**loading), epochs=EPOCHS)


def check_goes_on(name, run, places, losses=None):
    """``places`` and ``losses`` of the steps since are those of the run that was saved."""
    if name not in BY_CLOCK:
        assert places == [expected for expected, _ in run["after"]]
        assert losses is None or losses == pytest.approx([loss for _, loss in run["after"]], 1e-6)
    if name in DEALT:
        epoch = run["before"] + sum(places, [])[: N - len(run["before"])]
        assert name == "auto_over" or sorted(epoch) == [*range(N)]


@pytest.mark.parametrize("name", TRAINERS)
def test_trainer_goes_on(saved, name):
    run = saved[name]
    trainer, model, steps = resumed(name, run)
    losses, numbers, epochs = [], [], []
    for report in steps:
        losses.append(report.loss)
        numbers.append(report.step)
        epochs.append(epoch_of(trainer))
    check_goes_on(name, run, model.places, losses)
    assert numbers == [*range(run["step"] + 1, run["step"] + 1 + len(numbers))]
    assert epochs[:1] == ([] if name == "auto_over" else [run["epoch"] + ("end" in name)])
    assert {*epochs} == {*range(run["epoch"] + ("end" in name), EPOCHS)}
    if "paper" not in name and "presample" not in name:  # where a step is a batch
        assert trainer.step_count == EPOCHS * len(make_loader())


@pytest.mark.parametrize("name", TRAINERS)
def test_trainer_remembers(saved, name):
    run = saved[name]
    old = run["trainer"].get("sampler")  # None in version 1
    steps = run["trainer"].get("engine", {}).get("dealer", {}).get("steps")
    memory = run["trainer"]["memory"] if old else run["trainer"]["engine"]["dealer"]["source"]
    elapsed = run["trainer"]["loop"]["elapsed"]
    expected = run["trainer"]["update"] if old else steps["rates"]
    trainer, _, _ = resumed(name, run)
    assert trainer.step_count == run["step"]
    assert trainer.engine.elapsed == trainer._loop.elapsed == elapsed
    assert trainer.engine.steps.rates.state_dict() in (expected, {})  # the paper raises none
    selector = old or run["trainer"]["engine"]["dealer"]["selector"]
    assert torch.equal(trainer.engine.parts.selector.tau_ema, selector["tau_ema"])
    generator = torch.Generator()
    generator.set_state(selector["generator"])
    if name == "auto_fresh":  # the memory took its seed, as that of the saved run would have
        torch.randint(2**62, (), generator=generator)
    assert torch.equal(trainer.engine.parts.selector.generator.get_state(), generator.get_state())
    assert torch.equal(torch.get_rng_state(), run["trainer"]["random"]["cpu"])
    if memory is not None:
        score = memory["score"] if old else memory["memory"]["score"]
        assert torch.equal(trainer.memory.score, score)
        assert torch.equal(trainer.memory.generator.get_state(), memory["generator"])
    if "memory_always" in name:  # what a rate is of use for that may be doubled
        assert trainer.memory.plan.gain_cap == 2.0


@pytest.mark.parametrize("make", ["load_state_dict", "from_state"])
@pytest.mark.parametrize("name", ["sampler_dealt", "sampler_drawn"])
def test_sampler_goes_on(saved, name, make):
    run = saved[name]
    if make == "from_state":
        sampler = isample.MemorySampler.from_state(run["sampler"])
    else:
        sampler = isample.MemorySampler(N, b, seed=0)
        sampler.load_state_dict(run["sampler"])
    assert sampler.score.tolist() == run["score"]
    steps = [*islice(sampler_steps(sampler, run["step"]), len(run["after"]))]
    check_goes_on(name, run, [indices for indices, _ in steps])
    for (_, weights), (_, expected) in zip(steps, run["after"]):
        assert weights == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["engine_dealt", "engine_drawn"])
def test_engine_goes_on(name):
    run = copy.deepcopy(SAVED["version 1"][name])
    model = Net()
    optimizer = make_optimizer(model)
    engine = make_engine(model, optimizer)
    for part, of in ((model, "model"), (optimizer, "optimizer"), (engine, "engine")):
        part.load_state_dict(run[of])
    torch.set_rng_state(run["random"])
    losses = [*engine_steps(model, optimizer, engine)]
    check_goes_on(name, run, model.places, losses)
    assert engine.report.step == EPOCHS * len(make_loader())


@pytest.mark.parametrize("name", TRAINERS)
def test_what_begins_anew_is_told_once(name):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        upgraded(SAVED["0.1"][name]["trainer"])
        upgraded(SAVED["version 1"][name]["trainer"])
    assert len(told) == (name in WARN)
    assert all("begins anew" in str(warning.message) for warning in told)


@pytest.mark.parametrize("name", TRAINERS)
def test_an_upgrade_changes_nothing_in_what_it_is_given(name):
    state = copy.deepcopy(SAVED["0.1"][name]["trainer"])
    once = upgraded(state)
    assert upgraded(once) is once
    resumed(name, {**SAVED["0.1"][name], "trainer": once})[2].close()
    assert equal(state, SAVED["0.1"][name]["trainer"])


def no_states(owner):
    """Dicts that are no state of ``owner``: a trainer, or else a sampler."""
    model, old, new = Net(), SAVED["0.1"], SAVED["version 1"]
    sampler = old["sampler_drawn"]["sampler"]
    of_trainer = owner == "trainer"
    whole = old["memory_always"]["trainer"] if of_trainer else sampler
    last = [*whole][-1]
    return {
        "model": model.state_dict(),
        "optimizer": make_optimizer(model).state_dict(),
        "checkpoint": new["memory_always"],
        "engine": new["engine_drawn"]["engine"],
        "other": sampler if of_trainer else new["memory_always"]["trainer"],
        "damaged": {name: part for name, part in whole.items() if name != last},
        "empty": {},
    }


LOADS = {
    "trainer": upgraded,
    "sampler": upgraded_memory,
    "load": lambda state: isample.MemorySampler(N, b).load_state_dict(state),
    "from": isample.MemorySampler.from_state,
}


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("case", no_states("sampler"))
def test_what_is_no_state_is_refused(load, case):
    state = no_states(load)[case]
    with pytest.raises(
        ValueError, match=r"state must be what \w+\.state_dict\(\) gave; got"
    ) as told:
        LOADS[load](state)
    assert all(repr(key) in str(told.value) for key in [*state][:3])
    assert "own load_state_dict" in str(told.value)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(
    "state", [None, [], "checkpoint.pt", Net()], ids=lambda s: type(s).__name__
)
def test_what_is_no_dict_is_refused(load, state):
    with pytest.raises(TypeError, match=f"state must be .*; got {type(state).__name__}"):
        LOADS[load](state)


def test_a_refused_state_leaves_a_sampler_as_it_was():
    sampler = isample.MemorySampler.from_state(SAVED["0.1"]["sampler_drawn"]["sampler"])
    before = sampler.state_dict()
    for state in no_states("sampler").values():
        with pytest.raises(ValueError, match="state must be"):
            sampler.load_state_dict(state)
    assert equal(sampler.state_dict(), before)

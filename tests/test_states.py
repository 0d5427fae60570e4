"""A state is loaded whole or not at all, and never as that of another run."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from tests.small_training import b, make_data, make_model

pytestmark = pytest.mark.usefixtures("one_thread")

N = 8 * b


def make(mode="memory", **options):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    options = {"batch_size": b, "mode": mode, "seed": 3} | options
    return isample.Trainer(model, optimizer, **options)


def make_loader(n=N, size=b):
    return DataLoader(TensorDataset(*make_data(n)), batch_size=size, shuffle=True)


def after(trainer, steps, size=b):
    """The trainer in mid-epoch."""
    for report in trainer.iterate(make_loader(size=size), epochs=9):
        if report.step == steps:
            break
    return trainer


def equal(one, other):
    """Whether two states hold the same, the time but for which the clock goes on."""
    if isinstance(one, dict):
        same = (equal(one[k], other[k]) for k in one if k != "elapsed")
        return one.keys() == other.keys() and all(same)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other or one != one


def everything(trainer):
    return copy.deepcopy(
        [trainer.state_dict(), trainer.model.state_dict(), trainer.optimizer.state_dict()]
    )


OTHERS = {  # by argument: what the saved run had, what this one has, what the message says
    "batch_size": (6, b, "batch_size=6, here 12"),
    "control": ("always", "never", "control='always', here 'never'"),
    "mode": ("presample", "memory", "mode='presample', here 'memory'"),
    "adapt": ("batch", "lr", "adapt='batch', here 'lr'"),
    "score": ("loss", "upper_bound", "score='loss', here 'upper_bound'"),
    "draws": ("alias", "pps", "draws='alias', here 'pps'"),
    "accumulate": (2, 1, "accumulate=2, here 1"),
    "clip_grad_norm": (1.0, None, "clip_grad_norm=1.0, here None"),
    "presample": (36, 24, "presample=36, here 24"),
    "tau_threshold": (1.5, 9.0, "threshold=1.5, here 9.0"),
    "tau_momentum": (0.5, 0.9, "tau_momentum=0.5, here 0.9"),
}
TAKEN = {  # where an argument is to be found that was taken over
    "batch_size": lambda t: t.batch_size,
    "control": lambda t: t.engine.config["control"],
    "mode": lambda t: t.mode,
    "adapt": lambda t: t.engine.config["adapt"],
    "score": lambda t: t.engine.parts.objective.score.name,
    "draws": lambda t: t.engine.parts.selector.draw.name,
    "accumulate": lambda t: t._step.update.accumulate,
    "clip_grad_norm": lambda t: t._step.update.clip_grad_norm,
    "presample": lambda t: t.engine.config["presample"],
    "tau_threshold": lambda t: t.engine.steps.steering.controller.threshold,
    "tau_momentum": lambda t: t.engine.parts.selector.tau_momentum,
}


def pair(name):
    """Two trainers that differ in one argument; both in presample mode where that asks for it."""
    saved, own, _ = OTHERS[name]
    mode = "presample" if name in ("presample", "tau_threshold", "draws") else "memory"
    first, second = ({"mode": mode, name: value} for value in (saved, own))
    return make(**first), make(**second)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("name", OTHERS)
def test_another_argument_is_named_and_nothing_changes(name, begun):
    first, second = pair(name)
    state = after(first, 6, first.batch_size).state_dict()
    if begun:
        after(second, 4, second.batch_size)
    before = everything(second)
    with pytest.raises(isample.StateError, match=OTHERS[name][2]):
        second.load_state_dict(state)
    assert equal(everything(second), before)


@pytest.mark.parametrize("name", OTHERS)
def test_or_it_is_taken_over(name):
    first, second = pair(name)
    state = after(first, 6, first.batch_size).state_dict()
    second.load_state_dict(state, strict=False)
    second.fit(make_loader(size=first.batch_size), epochs=2)
    assert TAKEN[name](second) == OTHERS[name][0]
    batches = N // first.batch_size
    assert second.step_count == 2 * batches, "it goes on at step 6"


@pytest.mark.parametrize(
    "name, value, named",
    [
        ("loss", nn.CrossEntropyLoss(label_smoothing=0.1, reduction="none"), "loss"),
        ("score", lambda logits, targets: logits.norm(dim=1), "score"),
        ("autocast", torch.bfloat16, "autocast='torch.bfloat16', here None"),
        ("scoring", isample.Scoring(chunk=5), "scoring"),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_an_object_is_never_taken_over(name, value, named, strict):
    mode = "presample" if name == "scoring" else "memory"
    state = after(make(mode, **{name: value}), 3).state_dict()
    with pytest.raises(isample.StateError, match=named):
        make(mode).load_state_dict(state, strict)
    again = make(mode, **{name: value})
    again.load_state_dict(state, strict)


def places_of(state, path=()):
    """The path of every dict's entry in a state."""
    for key, value in state.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places_of(value, (*path, key))


def at(state, path):
    return functools.reduce(lambda parent, key: parent[key], path, state)


def changed(state, path, change):
    state = copy.deepcopy(state)
    change(at(state, path[:-1]), path[-1])
    return state


# What states of before, or of another use of a gain, do not have.
MAY_LACK = ("version", "config", "rates", "highest_lr", "length", "generators", "mean_count")


@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_a_damaged_state_is_refused_whole(mode):
    trainer = after(make(mode), 11)
    state = trainer.state_dict()
    other = after(make(mode), 4)
    before, refused = everything(other), 0
    for path in places_of(state):
        if path[-1] in MAY_LACK or "config" in path:
            continue
        for change in (dict.__delitem__, lambda parent, key: parent.update({key: b"x"})):
            if change is not dict.__delitem__ and at(state, path) is None:
                continue  # what may be None has no type to go by
            damaged = changed(state, path, change)
            try:
                other.load_state_dict(damaged)
            except (isample.StateError, TypeError):
                assert equal(everything(other), before), path
                refused += 1
            else:
                pytest.fail(f"{path} was taken without a word")
    assert refused > 40
    other.load_state_dict(state)
    assert equal(other.state_dict(), state)


@pytest.mark.parametrize(
    "state", [None, [], "state", make_model().state_dict(), {}, {"mode": "memory"}]
)
def test_what_is_no_state(state):
    trainer = make()
    before = everything(trainer)
    with pytest.raises((isample.StateError, TypeError), match="what Trainer.state_dict"):
        trainer.load_state_dict(state)
    assert equal(everything(trainer), before)


@pytest.mark.parametrize("where", ["", "engine"])
def test_a_version_to_come(where):
    state = make().state_dict()
    (state[where] if where else state)["version"] = 99
    with pytest.raises(isample.StateError, match="version 1 to 2; got 99"):
        make().load_state_dict(state)


def test_a_data_set_that_has_shrunk_is_found_before_a_step():
    state = after(make(), 5).state_dict()
    trainer = make()
    trainer.load_state_dict(state)
    with pytest.raises(isample.StateError, match=f"must not shrink.*{N} samples; got {N - b}"):
        trainer.fit(make_loader(N - b), epochs=2)
    assert trainer.step_count == 5
    trainer.fit(make_loader(), epochs=2)
    assert trainer.step_count == 16


def test_a_state_that_waits_for_its_loader_is_the_state():
    """Saved again before a run has taken it up."""
    state = after(make(), 5).state_dict()
    trainer = make()
    trainer.load_state_dict(state)
    assert equal(trainer.state_dict(), state)


def test_a_memory_alone_is_loaded_whole_or_not_at_all():
    sampler = isample.MemorySampler(50, 8, seed=1)
    for batch in sampler:
        sampler.update(sampler.take(batch).indices, torch.rand(len(batch)))
    state, other = sampler.state_dict(), isample.MemorySampler(50, 8, seed=2)
    before = other.state_dict()
    damages = [
        lambda s: s["memory"].update(score=s["memory"]["score"][:-1]),
        lambda s: s["memory"].update(score=s["memory"]["score"].double()),
        lambda s: s.update(pending=[3]),
        lambda s: s.update(generator=s["generator"][:-1]),
        lambda s: s["plan"].update(importance=[]),
        lambda s: s.update(unknown=1),
        lambda s: s.pop("left"),
    ]
    for damage in damages:
        damaged = copy.deepcopy(state)
        damage(damaged)
        with pytest.raises((isample.StateError, TypeError)):
            other.load_state_dict(damaged)
        assert equal(other.state_dict(), before)
    other.load_state_dict(state)
    assert equal(other.state_dict(), state)


def test_a_state_of_before_the_first_run_makes_all_forgotten():
    """Nothing that was learnt since is remembered."""
    trainer = make(control="always")
    fresh, values = trainer.state_dict(), copy.deepcopy(trainer.model.state_dict())
    trainer.fit(make_loader(), epochs=3)
    first = [p.clone() for p in trainer.model.parameters()]
    trainer.load_state_dict(fresh)
    trainer.model.load_state_dict(values)
    assert trainer.memory is None and trainer.step_count == 0
    trainer.fit(make_loader(), epochs=3)
    assert all(map(torch.equal, trainer.model.parameters(), first))

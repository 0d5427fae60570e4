"""The module paths of 0.1 lead to what is in its place, and say so."""

import importlib
import pickle
import subprocess
import sys
import warnings

import pytest

import isample
from isample import _moved

# Where 0.1 defined the public names; its ops were at isample.ops already.
PUBLIC = {
    "Evaluation": "history",
    "History": "history",
    "ImportanceLoader": "loader",
    "ImportanceSampler": "sampler",
    "IsampleError": "errors",
    "MemoryOrderError": "memory",
    "MemorySampler": "memory",
    "NonFiniteScoreError": "errors",
    "StepReport": "history",
    "Trainer": "trainer",
    "WeightedBatch": "loader",
}


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() & set(isample.__all__)))
def test_an_old_path_of_a_public_name_works_and_warns(name):
    old = importlib.import_module(f"isample.{PUBLIC[name]}")
    with pytest.warns(DeprecationWarning, match=rf"\.{PUBLIC[name]}\.{name} is isample\.{name}"):
        assert getattr(old, name) is getattr(isample, name)


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - set(isample.__all__)))
def test_a_public_name_that_is_gone_says_where_to_look(name):
    old = importlib.import_module(f"isample.{PUBLIC[name]}")
    match = rf"\.{PUBLIC[name]}\.{name} is gone; look in isample"
    with pytest.raises(AttributeError, match=match):
        getattr(old, name)


@pytest.mark.parametrize("old", _moved.MOVED)
def test_every_old_module_leads_somewhere(old):
    assert not importlib.util.find_spec(f"isample.{old}").origin.endswith(f"isample/{old}.py")
    assert [module.__name__ for module in _moved._modules(old)] == [
        f"isample.{place}" for place in _moved.MOVED[old]
    ]


def test_an_import_warns_once_and_names_the_defining_module():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        from isample.random_state import random_state

    assert random_state is isample.support.random_state.random_state
    assert [str(each.message).split(" is ")[1].split(" ")[0] for each in told] == [
        "isample.support.random_state.random_state"
    ]
    assert told[0].filename == __file__


def test_a_constant_is_found_in_its_module():
    with pytest.warns(DeprecationWarning, match="is isample.scoring.losses.LOSSES now"):
        assert isample.losses.LOSSES is isample.scoring.losses.LOSSES


def test_a_name_that_is_gone_says_where_to_look():
    with pytest.raises(AttributeError, match=r"isample\.memory\.Nothing is gone.*isample\.sources"):
        _ = isample.memory.Nothing
    with pytest.raises(ImportError, match=r"_moved\.py"):
        from isample.memory import Nothing  # noqa: F401
    with pytest.raises(AttributeError, match="'isample' has no attribute 'nothing'"):
        _ = isample.nothing
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("isample.nothing")


@pytest.mark.parametrize("name", ["gate.SpeedupGate", "gain.Foresight", "recent.Recent"])
def test_a_gate_that_is_gone_says_where_controllers_stand(name):
    old, _, name = name.partition(".")
    match = rf"isample\.{old}\.{name} is gone; controllers stand in isample\.control"
    with pytest.raises(AttributeError, match=match):
        getattr(importlib.import_module(f"isample.{old}"), name)


def test_a_name_is_found_in_its_module_not_as_a_module():
    with pytest.warns(DeprecationWarning, match=r"is isample\.training\.evaluate\.evaluate now"):
        assert callable(isample.loop.evaluate)
    with pytest.warns(DeprecationWarning, match=r"is isample\.control\.threshold\."):
        assert isample.gain.break_even_tau(128, 640) == 8 / 3


def test_who_does_not_ask_meets_no_old_module():
    code = (
        "import sys, isample; from isample import _moved;"
        "print([old for old in _moved.MOVED if f'isample.{old}' in sys.modules])"
    )
    run = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_pickle_of_0_1_loads():
    text = b"cisample.errors\nNonFiniteScoreError\n(I1\n(lI3\natR."  # protocol 0
    with pytest.warns(DeprecationWarning):
        error = pickle.loads(text)
    assert type(error) is isample.NonFiniteScoreError
    assert (error.count, error.rows) == (1, [3])


@pytest.mark.parametrize("name", ["ImportanceLoader", "ImportanceSampler"])
def test_a_class_that_is_gone_names_its_successor(name):
    with pytest.raises(AttributeError, match=f"isample.{name} is gone; isample.Engine"):
        getattr(isample, name)

"""The fuzzers' short form, and that they find what is broken. ``make fuzz`` is the long form."""

import os
import sys
from dataclasses import replace

import pytest
import torch

import isample.ops
from isample.ops import memory
from tests.fuzz import page, play, workers

INPUTS = 30  # of each op and part


@pytest.mark.parametrize("part", play.PARTS)
def test_inputs_of_a_fixed_seed(part):
    inputs = workers.names(0, parts=[part])
    tally = workers.run(inputs, most=INPUTS * len(play.OPS))
    assert not tally.faults
    assert tally.tried() == INPUTS * len(play.OPS)


def test_every_op_is_played():
    schemas = (
        each for each in torch._C._jit_get_all_schemas() if each.name.startswith("isample::")
    )
    names = {f"{each.name[9:]}.{each.overload_name}".rstrip(".") for each in schemas}
    assert names == set(play.OPS)


def test_every_wrapper_is_played():
    """``draw`` and what takes a table are called through functions that make the table."""
    wrapped = {op.wrapper.__name__ for op in play.OPS.values() if op.wrapper}
    public = {name for name in isample.ops.__all__ if name.islower()}
    public |= {
        name
        for name, value in vars(memory).items()
        if getattr(value, "__module__", "") == memory.__name__
        and name != "moments_of"
        and name[0] != "_"
    }
    made = {
        "draw",
        "draw_weights",
        "draw_moments",
        "recall",
        "importance_sample",
        "prefix_sum",
        "expected_scores",
    }
    assert public <= wrapped | made


# ---- That faults are found -----------------------------------------------------------------------


def broken(monkeypatch, name, change):
    """The faults among 60 inputs of an op whose results ``change`` has changed."""
    op, raw = play.OPS[name], play.overload

    def call(**given):
        return change(raw(op)(**given), given)

    monkeypatch.setattr(play, "overload", lambda op: call if op.name == name else raw(op))
    call._schema = raw(op)._schema
    monkeypatch.setitem(play.OPS, name, replace(op, only=("op",)))
    return [play.verdict(f"values/{name}/{seed}")[1] for seed in range(60)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("softmax_score", lambda got, given: (got[0] * (1 + 1e-4), got[1])),
        ("cross_entropy", lambda got, given: (got[0] + 1e-3, got[1])),
        ("distribution", lambda got, given: (got[0], got[1].double())),
        ("prefix_sum", lambda got, given: (got[0] + 1, got[1])),
        ("draw", lambda got, given: (got[0].flip(0), got[1])),
        ("draw.table", lambda got, given: (got[0], got[1] * (1 + 2e-7))),
        ("remember", lambda got, given: (given["memory"].mul_(1.001), got)[1]),
        ("recall", lambda got, given: (given["score"].zero_(), got)[1]),
        ("meet", lambda got, given: given["met"].untyped_storage().fill_(0)),
        ("rows", lambda got, given: got.clone()),
    ],
)
def test_a_wrong_result_is_a_fault(monkeypatch, name, change):
    assert any(broken(monkeypatch, name, change))


@pytest.mark.parametrize("word", ["INTERNAL ASSERT FAILED", "something is wrong"])
def test_an_error_that_helps_nobody_is_a_fault(monkeypatch, word):
    def refuse(got, given):
        raise RuntimeError(word)

    assert any(
        "RuntimeError" in why or "assertion" in why for why in broken(monkeypatch, "draw", refuse)
    )


def test_a_crash_is_told_with_its_input(monkeypatch):
    """A worker that dies of its second input; the third is played by another one."""
    program = (
        "import os, sys; from tests.fuzz import workers\n"
        "def verdict(name): return os.abort() if name == 'values/draw/2' else ('right', '')\n"
        "workers.verdict = verdict; workers.work(int(sys.argv[1]))"
    )
    monkeypatch.setattr(workers, "COMMAND", [sys.executable, "-c", program])
    tally = workers.Tally()
    workers.play_slice([f"values/draw/{seed}" for seed in (1, 2, 3)], tally)
    assert tally.counts["draw", "values", "right"] == 2
    assert tally.faults.keys() == {"values/draw/2"}
    assert "SIGABRT" in tally.faults["values/draw/2"]


def test_the_same_name_makes_the_same_input():
    for name in ("values/recall/3", "garbage/draw.table/3", "garbage/rows/8"):
        first, second = play.Play(name), play.Play(name)
        assert str(first) == str(second)


# ---- The table -----------------------------------------------------------------------------------


def test_the_table_is_put_between_its_markers(tmp_path):
    tally = workers.Tally()
    tally.add("values/draw/1", "right", "")
    tally.add("garbage/draw/1", "fault", "wrong")
    path = tmp_path / "page.md"
    path.write_text("before <!-- begin fuzz -->old<!-- end fuzz --> after")
    page.put(path, "fuzz", page.table(tally))
    assert "| `draw` | 2 | 1 | 0 | 1 |" in path.read_text()
    assert path.read_text().startswith("before <!--") and "old" not in path.read_text()
    with pytest.raises(ValueError, match="must hold <!-- begin kills -->"):
        page.put(path, "kills", "")
    assert os.listdir(tmp_path) == ["page.md"]

"""Ctrl-C in the middle of a long op.

A signal is raised in C, and the op is called, without a bytecode between them: Python has the
signal still to handle when the op begins. Whether its handler ran within the op or behind it shows
in the order of what they note, and no clock is asked.
"""

import ctypes
import signal
from collections import deque
from functools import partial

import pytest
import torch

from isample.ops import reference

ITEMS, DRAWS = 2**22 + 1, 2**17 + 1  # one more than are done without a look
ops = torch.ops.isample
raise_signal = partial(getattr(ctypes.CDLL(None), "raise"), signal.SIGINT)


def call_all(functions):
    """Calls them from C, one after the other."""
    deque(map(partial.__call__, functions), maxlen=0)


def op(overload, *arguments, **options):
    """The compiled op without the Python around it."""
    return partial(overload._op, *arguments, **options)


@pytest.fixture
def on_signal():
    """Sets what SIGINT does, and puts back what it did."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def long_calls():
    many, few = torch.rand(ITEMS), torch.rand(500)
    sums, table = torch.rand(500).mul(1e6).long().cumsum(0), ops.alias_table(few)
    yield "distribution", op(ops.distribution.default, many)
    yield "prefix_sum", op(ops.prefix_sum.default, many)
    yield "alias_table", op(ops.alias_table.default, many)
    for method in ("alias", "systematic", "pps"):
        yield f"draw {method}", op(ops.draw.default, many, 5, method=method, seed=1)
    yield "draws", op(ops.draw.table, *table, DRAWS, seed=1)
    yield "draw_prefix_sum", op(ops.draw.prefix_sum, sums, DRAWS, seed=1)
    yield (
        "expected_scores",
        op(
            ops.expected_scores.default,
            many,
            torch.zeros(256, 3),
            prior=2.0,
            contradicted=None,
            share=0.25,
        ),
    )


@pytest.mark.parametrize("number", range(9))
def test_handlers_run_within_a_long_op(on_signal, number):
    _, call = list(long_calls())[number]
    notes = []
    on_signal(lambda *_: notes.append("handled"))
    call_all([raise_signal, call, partial(notes.append, "op is over")])
    assert notes == ["handled", "op is over"]


def test_an_op_is_left_at_once_and_has_changed_nothing(on_signal):
    on_signal(signal.default_int_handler)
    ema, notes, score = torch.tensor(1.5), [], torch.rand(ITEMS)
    call = op(ops.distribution.default, score, tau_ema=ema)
    with pytest.raises(KeyboardInterrupt):
        call_all([raise_signal, call, partial(notes.append, "op is over")])
    assert notes == [] and ema == 1.5
    _, tau = ops.distribution(score, tau_ema=ema)
    assert tau.isfinite() and ema != 1.5  # and it can be called again


def test_short_ops_leave_signals_to_python(on_signal):
    """The way that a step takes costs nothing more."""
    notes = []
    on_signal(lambda *_: notes.append("handled"))
    call = op(ops.draw.default, torch.rand(640), 128, seed=1)
    call_all([raise_signal, call, partial(notes.append, "op is over")])
    assert notes == ["op is over", "handled"]


def test_ops_in_other_threads_are_not_held_up():
    """Only the main thread handles signals."""
    from concurrent.futures import ThreadPoolExecutor

    score = torch.rand(ITEMS)
    with ThreadPoolExecutor(1) as pool:
        sums, _ = pool.submit(ops.prefix_sum, score).result()
    assert torch.equal(sums, reference.masses(score).cumsum(0))

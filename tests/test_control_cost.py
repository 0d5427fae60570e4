"""The cost model against machines whose coefficients are known."""

import random

import pytest

from isample.control.base import Settings
from isample.control.cost import Cost, CostState, Kind

PLAIN, WATCHED = Kind(1.0, 0.0, 0.0, 1.0), Kind(1.0, 1.0, 0.0, 1.0)
SCORED, FEWER = Kind(1.0, 1.0, 2.0, 1.0), Kind(1.0, 1.0, 1.0, 0.25)
TRUE = (0.002, 0.0005, 0.001, 0.004)  # seconds


def run(cost, state, kinds, parts=TRUE, noise=0.05, told=0.0, pauses=0.0, seed=0, cold=1.0):
    """``told`` is the part of o that the clocks see; a first step takes ``cold`` times as long."""
    generator, before = random.Random(seed), None
    for kind in kinds:
        seconds = sum(a * b for a, b in zip(parts, kind)) * generator.lognormvariate(0, noise)
        seconds *= 10.0 if generator.random() < pauses else 1.0
        seconds *= cold if kind != before else 1.0
        before = kind
        state = cost.clock(state, kind, seconds, told * parts[1] * kind.remembers)
    return state


def rows(count, *kinds, length=20):
    return [kind for _ in range(count) for kind in kinds for _ in range(length)]


@pytest.mark.parametrize("told", [0.0, 0.5, 1.0])
def test_known_coefficients_are_found(told):
    cost = Cost(Settings())
    state = run(cost, CostState(), rows(8, PLAIN, WATCHED, SCORED, FEWER), told=told)
    for kind in (PLAIN, WATCHED, SCORED, FEWER):
        true = sum(a * b for a, b in zip(TRUE, kind))
        assert cost.seconds(state, kind) == pytest.approx(true, rel=0.04)
    assert cost.seconds(state, Kind(0.0, 0.0, 1.0, 0.0)) == pytest.approx(0.001, rel=0.15)


def test_pauses_and_cold_steps_are_not_believed():
    """A hundredth of the steps take ten times as long, and the first of a row twice as long."""
    cost = Cost(Settings())
    kinds = rows(20, PLAIN, SCORED)
    state = run(cost, CostState(), kinds, pauses=0.01, cold=2.0)
    for kind in (PLAIN, SCORED):
        true = sum(a * b for a, b in zip(TRUE, kind))
        assert cost.seconds(state, kind) == pytest.approx(true, rel=0.06)


def test_a_machine_that_becomes_slower_moves_what_was_not_tried_since():
    """Half as slow again: plain steps show it, and the time of scored ones is known to follow."""
    cost = Cost(Settings())
    state = run(cost, CostState(), rows(10, PLAIN, SCORED, FEWER))
    slower = tuple(1.5 * part for part in TRUE)
    state = run(cost, state, [PLAIN] * 300, parts=slower)
    for kind in (PLAIN, SCORED, FEWER):
        true = sum(a * b for a, b in zip(slower, kind))
        assert cost.seconds(state, kind) == pytest.approx(true, rel=0.08)


def test_what_was_tried_is_known_and_the_rest_is_not():
    cost = Cost(Settings())
    state = run(cost, CostState(), [PLAIN] * 100)
    unknown = cost.doubt(state, SCORED, PLAIN)
    assert unknown > 0.3 * cost.seconds(state, PLAIN)
    state = run(cost, state, rows(3, SCORED, PLAIN))
    known = cost.doubt(state, SCORED, PLAIN)
    assert known < 0.1 * unknown
    state = run(cost, state, [PLAIN] * 3000)
    assert known < cost.doubt(state, SCORED, PLAIN) <= 1.1 * unknown


def test_the_doubt_says_how_far_off_the_time_is():
    """Over many machines the error of a difference is about its standard error."""
    cost, squares = Cost(Settings(drift=0.0, fading=0.0)), []
    for seed in range(60):
        state = run(cost, CostState(), rows(4, PLAIN, SCORED), seed=seed, noise=0.1)
        found = cost.seconds(state, SCORED) - cost.seconds(state, PLAIN)
        mean = TRUE[1] + 2 * TRUE[2]  # the mean of the noise is 1.005
        squares.append(((found - 1.005 * mean) / cost.doubt(state, SCORED, PLAIN)) ** 2)
    # Of 60 squares the standard error is sqrt(2 / 60) = 0.18; the clip takes a little off.
    assert 0.4 < sum(squares) / len(squares) < 1.7


def test_an_overhead_that_clocks_do_not_see_shows_in_whole_steps():
    """They see 9 % of a step where remembering takes 110 %."""
    cost, parts = Cost(Settings()), (0.0, 0.011, 0.003, 0.010)
    state = run(cost, CostState(), rows(6, PLAIN, WATCHED), parts=parts, told=0.09 / 1.1)
    ratio = cost.seconds(state, WATCHED) / cost.seconds(state, PLAIN)
    assert ratio == pytest.approx(2.1, rel=0.05)


def test_a_clock_changes_no_state_that_was_given():
    cost = Cost(Settings())
    state = run(cost, CostState(), rows(1, PLAIN, SCORED))
    before = tuple(state)
    run(cost, state, rows(2, PLAIN, SCORED))
    assert tuple(state) == before

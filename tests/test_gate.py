"""The speedup gate against simulated machines: does it find what pays, and what does finding out cost?"""

import copy
import math
import random

import pytest

from isample.gate import SpeedupGate, effective_batch, make_gate


def run(gate, steps, gain, cost, noise=0.1, share=0.2, seed=0):
    """A machine whose active steps take ``cost(step)`` times a uniform one and remove ``gain(step)`` of the noise.

    Returns total time over that of as many uniform steps with the same noise of the clock, and the share of active
    steps. Moments are heavy-tailed, the clock has spikes.
    """
    rng, spent, uniform, active_steps, active = random.Random(seed), 0.0, 0.0, 0, gate.is_open(0.0)
    for step in range(steps):
        base = rng.lognormvariate(0, noise) * (5.0 if rng.random() < 0.01 else 1.0)
        seconds = base * (cost(step) if active else 1.0)
        if active:
            first = rng.lognormvariate(0, 0.5)
            ratio = 1 / gain(step) - share
            gate.observe(True, first, first * ratio * rng.lognormvariate(-0.045, 0.3), share)
        gate.clock(active, seconds)
        spent, uniform, active_steps = spent + seconds, uniform + base, active_steps + active
        active = gate.is_open(0.0)
    return spent / uniform, active_steps / steps


@pytest.mark.parametrize("cost", [1.2, 2.0, 4.7, 9.0])
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_where_nothing_is_gained_little_is_lost(cost, noise):
    slower, share = run(SpeedupGate(), 20000, lambda step: 1.0, lambda step: cost, noise)
    assert slower < 1.03 and share < 0.1


@pytest.mark.parametrize("gain,cost", [(3.0, 2.0), (4.5, 3.0), (1.5, 1.1)])
def test_where_much_is_gained_it_is_on(gain, cost):
    _, share = run(SpeedupGate(), 20000, lambda step: gain, lambda step: cost)
    assert share > 0.8


def test_it_switches_on_late_and_off_again():
    gate = SpeedupGate()
    for gain, expected in ((1.0, False), (4.0, True), (1.2, False)):
        _, share = run(gate, 15000, lambda step: gain, lambda step: 2.0)
        assert gate.opened == expected, gain


def test_memory_mode_asks_for_gain_alone():
    """No probes where an active step takes no longer; closed while stale scores add noise, open when they remove it."""
    gate = SpeedupGate(free=True)
    assert not gate.is_open(0.0) and math.isnan(gate.gain)
    for uniform, importance, opened in ((1.0, 1.1, False), (1.0, 0.5, True), (1.0, 0.97, True), (1.0, 1.2, False)):
        for _ in range(400):
            gate.observe(False, uniform, importance, 0.0)
        assert gate.is_open(0.0) == opened and gate.gain == pytest.approx(uniform / importance, rel=0.01)


def test_effective_batch_of_the_paper_s_own_example():
    """B = 3b with tau = 2.13: on by the paper's threshold of 2, yet worth 1.80 at a cost of 2.00."""
    assert effective_batch(16, 48, 2.13) / 16 == pytest.approx(1.80, abs=0.01)
    assert make_gate("threshold", "presample", 16, 48, None).is_open(2.13)


def test_state_round_trip():
    gate, other = SpeedupGate(), SpeedupGate()
    run(gate, 500, lambda step: 3.0, lambda step: 2.0)
    other.load_state_dict(copy.deepcopy(gate.state_dict()))
    assert (other.gain, other.cost, other.opened) == (gate.gain, gate.cost, gate.opened)
    run(gate, 100, lambda step: 1.0, lambda step: 2.0)
    assert other.gain != gate.gain


def test_a_gate_must_be_one():
    with pytest.raises(TypeError, match="gate must be a name or an isample.gate.Gate; got int"):
        make_gate(3, "presample", 1, 1, None)
    with pytest.raises(ValueError, match="gate must be one of always, never, speedup for mode='memory'"):
        make_gate("threshold", "memory", 1, 1, None)

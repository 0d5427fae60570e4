"""The speedup gate against simulated machines: does it find what pays, and what does finding out
cost?"""

import copy
import math
import random

import pytest
import torch

import isample
from isample.control.gain import Foresight, Gain, effective_batch
from isample.control.gate import MemoryGate, SpeedupGate, make_gate


def run(gate, steps, gain, cost, noise=0.1, share=0.2, seed=0):
    """A machine whose active steps take ``cost(step)`` times a uniform one and remove
    ``gain(step)`` of the noise.

    Returns total time over that of as many uniform steps with the same noise of the clock, and the
    share of active steps. Moments are heavy-tailed, the clock has spikes.
    """
    rng, spent, uniform, active_steps, active = random.Random(seed), 0.0, 0.0, 0, gate.is_open(0.0)
    for step in range(steps):
        base = rng.lognormvariate(0, noise) * (5.0 if rng.random() < 0.01 else 1.0)
        seconds = base * (cost(step) if active else 1.0)
        if active:
            first = rng.lognormvariate(0, 0.5)
            ratio = 1 / gain(step) - share
            found = first * ratio * rng.lognormvariate(-0.045, 0.3)
            gate.foresee(math.sqrt(first * ratio), first, (first, found), scored=5)
        gate.clock(active, seconds, 0.0, 5 if active else 0)
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


@pytest.mark.parametrize(
    "ratio,sample_time,best",
    [(0.02, 0.0005, 800), (0.1, 0.008, 300), (0.1, 0.003, 500), (0.1, 0.02, 200)],
)
def test_it_chooses_the_presample_that_pays_best(ratio, sample_time, best):
    """A machine on which scoring a sample takes ``sample_time`` of a uniform step; the best of the
    candidates by hand."""
    rng, gate = random.Random(0), SpeedupGate(100, [200, 300, 500, 800])
    assert best == min(
        gate.presamples, key=lambda size: (100 / size + ratio) * (1 + size * sample_time)
    )
    for _ in range(40000):
        active, size = gate.is_open(0.0), gate.presample
        if active:
            gate.foresee(
                math.sqrt(ratio), 1.0, (1.0, ratio * rng.lognormvariate(-0.045, 0.3)), scored=size
            )
        gate.clock(
            active,
            rng.lognormvariate(0, 0.05) * (1 + active * size * sample_time),
            0.0,
            size if active else 0,
        )
    assert gate.presample == best


def run_memory(gate, steps, gain, overhead, noise=0.3, seed=0, scale=1.0):
    """A machine on which remembering takes ``overhead`` of a plain step, in every active step and
    in those uniform ones that the gate wants scored; squared scores are about ``scale``. Returns
    total time over that of plain steps, and the share of active steps."""
    rng, spent, uniform, active_steps, active = random.Random(seed), 0.0, 0.0, 0, gate.is_open(0.0)
    for step in range(steps):
        base = rng.lognormvariate(0, noise) * (5.0 if rng.random() < 0.01 else 1.0)
        scored = active or gate.scores_uniform_steps
        extra = overhead * rng.lognormvariate(-0.02, 0.2) if scored else 0.0
        if scored:
            first = scale * rng.lognormvariate(0, 0.5)
            gate.gain.observe(first, first / gain(step) * rng.lognormvariate(-0.045, 0.3), 0.0)
        gate.clock(active, base + extra, extra, 0)
        spent, uniform, active_steps = spent + base + extra, uniform + base, active_steps + active
        active = gate.is_open(0.0)
    return spent / uniform, active_steps / steps


@pytest.mark.parametrize("overhead", [0.001, 0.02, 0.04, 0.1, 0.8, 5.0])
@pytest.mark.parametrize("gain", [0.5, 1.0, 1.1, 3.0, 30.0])
def test_memory_mode_costs_less_than_it_gains_whatever_the_overhead(overhead, gain):
    slower, share = run_memory(MemoryGate(), 20000, lambda step: gain, overhead)
    allowed = 0.03 + 0.1 * min(max(gain, 1.0) - 1.0, 3.0)
    assert slower < 1.002 + allowed  # the overhead is in units of a step that jitters
    if gain < 1 or overhead > 1.7 * allowed:
        assert share < 0.01
    if gain > 1.05 and overhead < 0.5 * allowed:
        assert share > 0.95


def test_what_may_be_paid_is_not_known_before_the_gain():
    assert math.isnan(MemoryGate().most_paid)


def run_fresh(gate, steps, left, cost, coarse=1.0, noise=0.1, seed=0):
    """A machine on which scoring a batch's worth takes ``cost(step)`` of a step, and the exact draw
    of a fresh presample would leave ``left(step)`` of the noise. Returns total time over that of
    plain steps, and the share of steps with a presample."""
    rng, spent, plain, presampled = random.Random(seed), 0.0, 0.0, 0
    for step in range(steps):
        gate.is_open(0.0)
        base = rng.lognormvariate(0, noise) * (5.0 if rng.random() < 0.01 else 1.0)
        seconds = base * (
            1.0 + cost(step) * gate.presample / gate.fresh.batch_size if gate.presample else 1.0
        )
        first, mean = rng.lognormvariate(0, 0.5), math.sqrt(left(step)) * rng.lognormvariate(0, 0.1)
        gate.foresee(
            mean, first, (first, mean**2 * coarse) if gate.presample else (), gate.presample or 0
        )
        gate.clock(gate.presample is not None, seconds, 0.0, gate.presample or 0)
        spent, plain, presampled = (
            spent + seconds,
            plain + base,
            presampled + (gate.presample is not None),
        )
    return spent / plain, presampled / steps


SIZES = (20, 30, 50, 80, 120)


@pytest.mark.parametrize("left,cost", [(0.9, 0.05), (0.9, 5.0), (0.3, 0.4), (0.02, 5.0)])
def test_fresh_presamples_that_do_not_pay_cost_less_than_a_hundredth(left, cost):
    slower, share = run_fresh(MemoryGate(10, SIZES), 5000, lambda step: left, lambda step: cost)
    assert slower < (1.01 if cost < 1 else 1.02) and share < max(
        0.01, 0.01 / (2 * cost)
    )  # trials are of 2b


@pytest.mark.parametrize("left,cost,best", [(0.1, 0.2, 80), (0.2, 0.15, 50), (0.02, 0.01, 120)])
def test_fresh_presamples_that_pay_are_used_at_the_best_size(left, cost, best):
    assert best == max(SIZES, key=lambda size: 1 / ((10 / size + left) * (1 + cost * size / 10)))
    gate = MemoryGate(10, SIZES)
    assert run_fresh(gate, 5000, lambda step: left, lambda step: cost, noise=0.03)[1] > 0.8
    assert gate.fresh.speedup(gate.presample) > 0.97 * gate.fresh.speedup(best)
    assert gate.worth(False, best) == pytest.approx(1 / (10 / best + left * 1.02), rel=0.15)


def test_no_more_noise_is_paid_for_than_can_be_used():
    """With remembered scores alone a batch is worth twelve, and the learning rate can make use of
    ten."""
    for gain, pays in ((1.5, True), (12.0, False)):
        gate = MemoryGate(10, SIZES)
        gate.usable = 10.0
        for _ in range(100):
            gate.gain.observe(gain, 1.0, 0.0)
            gate.clock(False, 1.0, 0.001, 0)
        run_fresh(gate, 2000, lambda step: 0.02, lambda step: 0.1)
        assert (run_fresh(gate, 1000, lambda step: 0.02, lambda step: 0.1)[1] > 0.8) == pays


def test_without_replacement_a_draw_s_noise_is_all_there_is():
    """Equal scores: no presample is worth more than a batch. One score above all others: one that
    holds it is worth B / b."""
    for ratio, worth in ((1.0, [1.0, 1.0]), (0.001, [2.0, 12.0])):
        gate = SpeedupGate(10, SIZES, replaces=False)
        gate.usable = 100.0
        for _ in range(50):
            gate.foresee(math.sqrt(ratio), 1.0, (1.0, max(ratio, 0.5)), scored=20)
            gate.clock(False, 1.0, 0.0, 0)
        for _ in range(50):
            gate.clock(True, 1.0, 0.0, 20)  # scoring for nothing
        assert [gate.speedup(size) for size in (20, 120)] == pytest.approx(worth)


def test_workers_that_are_ahead_get_one_trial_at_a_time():
    gate, asked = MemoryGate(10, SIZES), 0
    for _ in range(3000):
        gate.clock(False, 1.0, 0.0, 0)
        gate.is_open(0.0)
        asked += gate.presample is not None
    assert (
        20 < asked / gate.fresh.ROW < 3000 / gate.fresh.PATIENCE
    )  # none comes back; each is given up after a while
    gate.clock(True, 2.0, 0.0, 50)
    asked = False
    for _ in range(gate.fresh.EVERY):
        gate.clock(False, 1.0, 0.0, 0)
        gate.is_open(0.0)
        asked = asked or gate.presample is not None
    assert asked


def test_scores_too_coarse_to_draw_by_are_found_out():
    """Foreseen to leave a fiftieth of the noise, a fresh presample leaves nine tenths."""
    gate = MemoryGate(10, SIZES)
    assert run_fresh(gate, 5000, lambda step: 0.02, lambda step: 0.05, coarse=45.0)[1] < 0.02


def test_what_pays_late_is_found_and_what_pays_no_more_is_left():
    gate = MemoryGate(10, SIZES)
    for left, cost, on in ((0.9, 0.05, False), (0.05, 0.05, True), (0.05, 1.0, False)):
        run_fresh(gate, 3000, lambda step: left, lambda step: cost)
        assert (run_fresh(gate, 1000, lambda step: left, lambda step: cost)[1] > 0.8) == on, (
            left,
            cost,
        )


def test_a_gate_that_was_open_for_long_is_not_blind_once_it_has_closed():
    """A fifth of the time went into active steps while that paid. Afterwards scoring is rationed by
    itself."""
    gate = MemoryGate()
    assert run_memory(gate, 5000, lambda step: 30.0, 0.2)[1] > 0.9
    run_memory(gate, 3000, lambda step: 0.5, 0.005)
    assert not gate.opened
    assert run_memory(gate, 3000, lambda step: 3.0, 0.005)[1] > 0.8


def test_a_state_is_the_gate_s_as_it_was_whatever_comes_after():
    for gate in (MemoryGate(), SpeedupGate()):
        run(gate, 500, lambda step: 3.0, lambda step: 2.0)
        state = gate.state_dict()
        kept = copy.deepcopy(state)
        other = type(gate)()
        other.load_state_dict(state)
        for running in (gate, other):
            run(running, 500, lambda step: 1.5, lambda step: 2.0)
            assert state == kept


def test_what_cannot_pay_is_watched_less_and_still_seen_to_pay_in_the_end():
    """An overhead of 30 % for a gain of 1.1, ten times too much, gets a tenth of the time; a gain
    of 30 is noticed."""
    gate = MemoryGate()
    run_memory(gate, 3000, lambda step: 1.1, 0.3)  # to know the gain costs 2 %
    before, elapsed = gate.overhead, gate.elapsed
    run_memory(gate, 100_000, lambda step: 1.1, 0.3)
    assert before < 0.03 * elapsed
    assert 0.0015 < gate.overhead / gate.elapsed < 0.003
    _, share = run_memory(gate, 100_000, lambda step: 30.0, 0.25)
    assert share > 0.3


def test_a_gain_shows_however_large_scores_were_before():
    """Ten thousand times larger, and there was no gain. With an overhead of 10 % some 15 steps in
    1,000 are scored."""
    gate = MemoryGate()
    assert run_memory(gate, 1000, lambda step: 1.0, 0.1, scale=1e4)[1] == 0.0
    assert run_memory(gate, 2000, lambda step: 8.0, 0.1)[1] > 0.5


def test_a_closed_gate_scores_uniform_steps_in_rows():
    """Long enough to know the gain, and for a small data set to be seen once."""
    gate = MemoryGate()
    run_memory(gate, 2000, lambda step: 1.0, 0.1)
    scored = []
    for _ in range(20000):
        run_memory(gate, 1, lambda step: 1.0, 0.1)
        scored.append(gate.scores_uniform_steps)
    begun = sum(later > before for before, later in zip(scored, scored[1:]))
    assert 3 <= begun <= sum(scored) / 11


def test_memory_mode_closes_while_stale_scores_add_noise():
    gate = MemoryGate()
    for gain, expected in ((0.9, False), (3.0, True), (0.6, False), (1.3, True), (0.98, True)):
        run_memory(gate, 3000, lambda step: gain, 0.005)
        assert gate.opened == expected and gate.gain.value == pytest.approx(gain, rel=0.3), gain


def test_memory_mode_asks_for_more_where_labels_may_be_wrong():
    """A gain of 1.3 opens the gate but for that; one of 1.8 does, and once open a smaller one keeps
    it so."""
    gate = MemoryGate()
    for bounded, gain, expected in (
        (True, 1.25, False),
        (True, 1.9, True),
        (True, 1.25, True),
        (False, 0.6, False),
        (False, 1.25, True),
    ):
        gate.bounded = bounded
        run_memory(gate, 3000, lambda step: gain, 0.005)
        assert gate.opened == expected, (bounded, gain)


def test_no_presample_is_scored_where_labels_may_be_wrong():
    """Draws by fresh scores are not held down, so these wait for the gain that the memory's have to
    promise."""
    gate = MemoryGate(10, [20])
    gate.WATCH = math.inf
    gate.fresh.is_open = lambda tau_ema: True
    for bounded, gain, expected in ((False, 1.2, 20), (True, 1.2, None), (True, 1.9, 20)):
        gate.bounded = bounded
        run_memory(gate, 600, lambda step: gain, overhead=9.0)  # too dear for remembered scores
        assert not gate.opened and gate.presample == expected, (bounded, gain)


def test_gain_is_what_is_left_of_the_noise():
    """1 / (b/B + ratio); of half the draws, 1 / (b/B + 2 ratio). NaN before there is enough to
    tell."""
    gain = Gain()
    for count in range(30):
        gain.observe(2.0, 0.5, share=0.1)
        assert (gain.value == pytest.approx(1 / (0.1 + 0.25))) == (count >= 10), count
    gain.drawn = 0.5
    assert gain.value == pytest.approx(1 / (0.1 + 0.5)) and gain.ratio == 0.25


def test_a_presample_of_another_size_is_foretold_from_one_in_which_some_are_sure_to_be_drawn():
    """Heavy-tailed scores, draws of 10 without replacement from 20, where the largest are sure:
    half of the noise is left by the presample. From 80 it would be an eighth, or as much as an
    exact draw leaves."""
    rng, foresight = random.Random(0), Foresight(replaces=False)
    population = [rng.lognormvariate(0, 1.5) for _ in range(2000)]
    mean = sum(population) / len(population)
    moment = sum(g * g for g in population) / len(population)
    for _ in range(3000):
        g = rng.sample(population, 20)
        indices, weights = isample.draw(
            torch.tensor(g), 10, method="pps", seed=rng.randrange(2**31)
        )
        drawn = [
            (w * g[i] ** 2, (w * g[i]) ** 2) for i, w in zip(indices.tolist(), weights.tolist())
        ]
        drawn = [sum(values) / 10 for values in zip(*drawn)]
        seen = sum(g) / 20, sum(value**2 for value in g) / 20
        foresight.see(*seen)
        foresight.compare(0.5, *seen, drawn)
    assert 1 / foresight.worth(10 / 80) == pytest.approx(max(1 / 8, mean**2 / moment), rel=0.35)
    assert foresight.worth(10 / 80) > 2 * foresight.worth(10 / 20)


def test_effective_batch_of_the_paper_s_own_example():
    """B = 3b with tau = 2.13: on by the paper's threshold of 2, yet worth 1.80 at a cost of
    2.00."""
    assert effective_batch(16, 48, 2.13) / 16 == pytest.approx(1.80, abs=0.01)
    assert effective_batch(16, 48, 2.13, replaces=False) / 16 == pytest.approx(
        3.0
    )  # a third is the presample's
    assert effective_batch(16, 48, 1.0, replaces=False) == 16
    assert make_gate("threshold", "presample", 16, 48, None).is_open(2.13)


def test_state_round_trip():
    gate, other = SpeedupGate(), SpeedupGate()
    run(gate, 3000, lambda step: 3.0, lambda step: 2.0)
    other.load_state_dict(gate.state_dict())
    assert (other.speedup(5), other.cost(5), other.opened) == (
        gate.speedup(5),
        gate.cost(5),
        gate.opened,
    )
    run(gate, 100, lambda step: 1.0, lambda step: 2.0)
    assert other.speedup(5) != gate.speedup(5)


def test_a_gate_must_be_one():
    with pytest.raises(TypeError, match="gate must be a name or an isample.gate.Gate; got int"):
        make_gate(3, "presample", 1, 1, None)
    with pytest.raises(
        ValueError, match="gate must be one of always, never, speedup for mode='memory'"
    ):
        make_gate("threshold", "memory", 1, 1, None)

"""Steps that are told together lead to the plans that they lead to one by one."""

import math
import random

import pytest

from isample.control import Choices, Speedup, make_controller
from isample.engine.steering import Steering
from isample.values import KEEP_FRACTIONS, Moments, Observation, Thinning

b = 64
CHOICES = Choices(b, True, (b, 3 * b), thins=True)
THINNING = Thinning(1.0, tuple(0.5 + 0.5 / fraction for fraction in KEEP_FRACTIONS))


def shown(size):
    return Observation(math.nan, kept=size, gain_cap=2.0)


class OneByOne:
    """A controller that hears of each step at once."""

    def __init__(self, controller):
        self.controller, self.state = controller, controller.init()

    @property
    def plan(self):
        return self.controller.plan(self.state)

    def tell(self, seen, seconds, overhead):
        self.state = self.controller.observe(self.state, seen)
        self.state = self.controller.clock(self.state, seconds, overhead)


def seen_of(plan, gain):
    """None of a plain step."""
    scored, keep = plan.candidates or 0, plan.keep or b
    if not (plan.observe or plan.importance or scored):
        return None
    memory = Moments(1.0, 1.0, 1.0 / gain, 0.1, 9.0)
    return Observation(
        1.0, 2.0, 2.0, memory, None, THINNING, plan.importance, scored, keep, True, gain_cap=2.0
    )


@pytest.mark.parametrize("gain", [0.9, 1.2, 4.0])
def test_plans_are_those_of_steps_told_one_by_one(gain):
    randomness = random.Random(int(10 * gain))
    together, alone = Steering(Speedup(CHOICES), shown), OneByOne(Speedup(CHOICES))
    plain = 0
    for step in range(3000):
        plan = together.plan
        assert plan == alone.plan
        size = b if step % 50 else b // 2  # an epoch's last batch is short
        scored, keep = plan.candidates or 0, plan.keep or b
        seconds = 1e-3 * (1 + scored / b + 4 * keep / b) * randomness.lognormvariate(0.0, 0.1)
        seen = seen_of(plan, gain)
        if seen is None:
            together.plain(size, seconds)
            alone.tell(shown(size), seconds, 0.0)
            plain += 1
        else:
            together.observe(seen)
            together.clock(seconds, 3e-4)
            alone.tell(seen, seconds, 3e-4)
        if step == 1500:  # a saved run goes on as it was
            state = together.state_dict()
            together = Steering(Speedup(CHOICES), shown)
            together.load_state_dict(state)
    assert plain > 100


def test_a_plan_that_never_changes_is_told_of_in_groups():
    told = []

    class Counts(type(make_controller("never", CHOICES))):
        def clock(self, state, seconds, overhead):
            told.append(seconds)
            return state

    steering = Steering(Counts(CHOICES), shown)
    lengths = []
    for step in range(100):
        steering.plain(b, float(step))
        lengths.append(len(told))
    every = steering.controller.settings.every
    assert told == [float(step) for step in range(100 // every * every)]
    assert set(lengths) == {every * group for group in range(100 // every + 1)}

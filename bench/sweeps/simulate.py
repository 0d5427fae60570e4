"""A controller drives a simulated training; what it made of it, against the best fixed plan of each
moment and against plain steps."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import NamedTuple

from bench.sweeps.scores import BATCH, some_batch, true_growth
from bench.sweeps.workloads import Workload
from isample.control import Settings, Speedup
from isample.control.speedup import Option, list_groups
from isample.values import Moments, Observation, Plan, Thinning

STRETCH = 50  # steps of a machine that is busy, or is not
LOOK = 25  # steps from one look at the truth to the next
PARTS = (1.0, 0.5)  # of a gain that is really gained
KEEPS = (1.0, 3 / 4, 1 / 2, 3 / 8, 1 / 4)  # of the plans that are compared with
TRUE_LIMIT = 1.1  # V of the plans that are compared with


class Result(NamedTuple):
    regret: float
    """The share of the best plans' progress that is lost, in the same time."""
    half_gained: float
    """The same if only half of a gain beyond 1 were gained in time."""
    speedup: float
    """Progress over that of plain steps, in the same time."""
    slowdown: float
    """Time over that of as many plain steps."""
    share: float
    """Of steps that were not plain ones."""
    noisier: float
    """The share of steps whose V was above the limit of what is compared with."""


class Truth:
    """V and T as they are."""

    def __init__(self, workload: Workload, progress: float):
        self.workload, self.width = workload, workload.width(progress)
        self.use = workload.use(progress)

    def memory_gain(self, cap: float = math.inf) -> float:
        return min(math.exp(self.workload.quality * self.width**2), cap)

    def remaining_width(self, gain: float) -> float:
        """Of weighted scores, where the memory drew."""
        return math.sqrt(max(self.width**2 - math.log(gain), 0.0))

    def noise(self, by_memory: bool, candidates: int, keep: int, cap: float = math.inf) -> float:
        prior = self.memory_gain(cap) if by_memory else 1.0
        if not candidates:
            return BATCH / keep / prior
        if self.workload.with_replacement:
            left = self.workload.coarse * math.exp(-(self.width**2)) * BATCH / keep
            return BATCH / candidates / prior + left
        width = self.remaining_width(prior)
        grown = true_growth(width, keep / candidates)
        return self.workload.coarse * BATCH / candidates / prior * grown

    def seconds(self, remembers: bool, candidates: int, keep: int) -> float:
        w = self.workload
        scoring = w.score * candidates / BATCH
        return 1e-3 * (w.fixed + w.remember * remembers + scoring + w.train * keep / BATCH)

    def progress(self, noise: float, part: float) -> float:
        """Of a step, in plain ones, if a ``part`` of what could be gained is."""
        gain = min(1.0 / noise, self.use)
        return gain if gain < 1.0 else 1.0 + part * self.workload.gained * (gain - 1.0)

    def best(self, options: list[Option]) -> list[float]:
        """The progress a second of the best plan, for each of ``PARTS``."""
        plain = 1.0 / self.seconds(False, 0, BATCH)
        best = [plain for _ in PARTS]
        for option in options[1:]:
            cap = self.use * BATCH / option.fewer
            noise = self.noise(option.by_memory, option.candidates, option.keep, cap)
            if noise <= TRUE_LIMIT:
                took = self.seconds(True, option.candidates, option.keep)
                rates = [self.progress(noise, part) / took for part in PARTS]
                best = list(map(max, best, rates))
        return best


def simulate(workload: Workload, settings: Settings | None = None, seed: int = 0) -> Result:
    """``workload`` under a :class:`isample.control.Speedup`."""
    generator = random.Random(seed)
    controller = Speedup(workload.choices, settings)
    state = controller.init()
    compared = [one for group in list_groups(workload.choices, KEEPS) for one in group]
    ahead = deque([controller.plan(state)] * workload.delay)
    made, best, spent, busy = [0.0, 0.0], [0.0, 0.0], 0.0, 0.0
    used = noisier = scored_steps = 0
    before = None
    truth, rates, plan_seen, noise, took = None, [], None, 1.0, 0.0
    for step in range(workload.steps):
        if step % LOOK == 0:
            truth = Truth(workload, step / workload.steps)
            rates, plan_seen = truth.best(compared), None
        if step % STRETCH == 0:
            busy = workload.busy * (generator.random() < 0.5)
        ahead.append(controller.plan(state))
        plan = ahead.popleft()
        if plan is not plan_seen:
            plan_seen, keep = plan, plan.keep or BATCH
            scored = plan.candidates or 0
            noise = 1.0
            if plan.importance or scored:
                noise = truth.noise(plan.importance, scored, keep, plan.gain_cap)
            took = truth.seconds(plan.importance or scored > 0 or plan.observe, scored, keep)
        kind = (scored, keep)
        cold = workload.cold if kind != before else 0.0
        before = kind
        remembers = plan.importance or plan.observe or scored > 0
        scored_steps += remembers
        informed = scored_steps > workload.epoch
        state = controller.observe(state, look(plan, truth, noise, informed, generator))
        slow = (1.0 + busy) * (workload.slows if 2 * step > workload.steps else 1.0)
        pause = 20.0 if generator.random() < workload.pauses else 1.0
        measured = (
            took
            * (1.0 + cold)
            * slow
            * pause
            * math.exp(workload.jitter * generator.gauss(0.0, 1.0))
        )
        told = 1e-3 * workload.remember * workload.told * slow if remembers else 0.0
        state = controller.clock(state, measured, told)
        spent += took * (1.0 + cold)
        for i, part in enumerate(PARTS):
            made[i] += truth.progress(noise, part)
            best[i] += took * (1.0 + cold) * rates[i]
        used += plan.importance or scored > 0
        noisier += noise > 1.05 * TRUE_LIMIT
    plain, steps = truth.seconds(False, 0, BATCH), workload.steps
    return Result(
        1.0 - made[0] / best[0],
        1.0 - made[1] / best[1],
        made[0] * plain / spent,
        spent / plain / steps,
        used / steps,
        noisier / steps,
    )


def look(
    plan: Plan, truth: Truth, noise: float, informed: bool, generator: random.Random
) -> Observation:
    """What is seen of a step."""
    workload, scored = truth.workload, plan.candidates or 0
    keep = plan.keep or BATCH
    if not (plan.observe or plan.importance or scored):
        return Observation(1.0, kept=keep, gain_cap=truth.use, bounded=workload.bounded)
    width, memory, weighted = truth.width, None, 1.0
    if workload.quality is not None:
        gain = truth.memory_gain(plan.gain_cap)
        moment = some_batch(width, generator).thinning.whole
        second = moment / gain * math.exp(0.3 * generator.gauss(0.0, 1.0) - 0.045)
        memory = Moments(moment**0.5 * math.exp(-0.5 * width**2), moment, second, 0.1, 9.0)
        if plan.importance:
            width, weighted = truth.remaining_width(gain), 1.0 / gain
    seen = some_batch(width, generator)
    thinning = seen.thinning
    if weighted != 1.0:
        parts = tuple([weighted * part for part in thinning.parts])
        thinning = Thinning(weighted * thinning.whole, parts)
    fresh = None
    if scored:
        left = noise * keep / BATCH
        if workload.with_replacement:
            left -= keep / scored / (truth.memory_gain(plan.gain_cap) if plan.importance else 1.0)
        left *= math.exp(0.3 * generator.gauss(0.0, 1.0) - 0.045)
        fresh = Moments(1.0, 1.0, left, 0.1, 9.0)
    tau = math.sqrt(seen.thinning.whole) / seen.mean
    return Observation(
        1.0,
        tau,
        tau,
        memory,
        fresh,
        thinning,
        plan.importance,
        scored,
        keep,
        True,
        workload.bounded,
        informed,
        truth.use,
    )

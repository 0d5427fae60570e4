"""A run that is saved at a random step goes on, in new objects, as if nothing had been."""

import random
import tempfile
from dataclasses import replace
from pathlib import Path

import isample
from tests.reliability.runs import (
    SCHEDULES,
    Begun,
    Run,
    differences,
    evaluations,
    everything,
)

RIGHT = (
    "parameters, states of optimizer, schedule, scaler, memory and controller, and evaluations are "
    "bit-equal to the uninterrupted run's"
)


def run_of(dice):
    run = Run.of(dice, controls=("always", "always", "never", "threshold"))
    if run.score == "gradient_norm":
        run = replace(run, autocast=False)  # torch's vmap has no batch norm in bfloat16
    schedule = dice.choice((None, *SCHEDULES))
    return replace(
        run,
        schedule=schedule,
        evaluates=run.evaluates or schedule == "ReduceLROnPlateau",
        scaler=dice.random() < 0.25,
        workers=int(not run.stream and dice.random() < 0.1),
    )


def resume(seed):
    """What was mishandled when the run of ``seed`` was saved and resumed once, or None."""
    dice = random.Random(seed)
    run = run_of(dice)
    by_iterating = dice.random() < 0.2
    if by_iterating:  # a generator steps no schedule, and evaluates nothing
        run = replace(run, schedule=None, evaluates=False)
    whole = Begun(run).fit()
    expected, steps = everything(whole), whole.trainer.step_count
    ends = sorted({e.step for e in whole.trainer.history.evaluations})
    step = dice.choice(ends) if ends and dice.random() < 0.3 else dice.randint(1, steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        save = saved_in_iteration if by_iterating else saved_in_callback
        step, is_over = save(Begun(run), step, path)
        resumed = Begun(run, seed=99)
        isample.load(path, resumed.trainer)
    faults = differences(expected, everything(resumed.fit()), "resumed")
    own = [] if is_over else [e for e in evaluations(whole) if e[0] >= step]
    if evaluations(resumed) != own:
        faults += [f"evaluations {evaluations(resumed)}, of {own}"]
    return f"at step {step} of {steps} of {run}: {faults}" if faults else None


class Broken(Exception):
    """What ends a run behind its save."""


def saved_in_callback(begun, step, path):
    """The step at which the run was saved, and whether it was over: ``step``, or the first after it
    at which no gradient waits for others."""

    def save(trainer, report):
        if report.step >= step and begun.saves(path):
            raise Broken

    try:
        begun.fit(callbacks=[save])
    except Broken:
        return begun.trainer.step_count, False
    begun.trainer.save(path)
    return begun.trainer.step_count, True


def saved_in_iteration(begun, step, path):
    for report in begun.trainer.iterate(begun.loader, epochs=begun.run.epochs):
        if report.step >= step and begun.saves(path):
            return report.step, False
    begun.trainer.save(path)
    return begun.trainer.step_count, True

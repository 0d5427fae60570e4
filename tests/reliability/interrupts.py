"""Ctrl-C at random moments of a fit: nothing is left half done, and the run goes on from there."""

import functools
import gc
import random
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import isample
from tests.reliability.runs import DECAY, RATES, Begun, Run, Shuffled, differences, everything
from tests.reliability.strikes import Strike, lines_of, moments

RIGHT = (
    "KeyboardInterrupt reaches the caller; modes, rates, gradients' and autocast's switches are as "
    "before; the next fit trains whole epochs; saved after Ctrl-C, the run resumes bit for bit"
)
KINDS = 60  # of runs; what is known of one serves many interrupts


def run_of(dice):
    """One of a few runs, with a schedule whose rates can be told from raised ones."""
    dice = random.Random(dice.randrange(KINDS))
    run = Run.of(dice, controls=("always", "always", "speedup", "speedup", "threshold", "never"))
    schedule = "StepLR" if dice.random() < 0.6 else None
    if run.score == "gradient_norm":
        run = replace(run, autocast=False)  # torch's vmap has no batch norm in bfloat16
    return replace(run, schedule=schedule, epochs=3)


def interrupt(seed, by_line=None):
    """What was mishandled when the run of ``seed`` was interrupted once, or None.

    By a line of code the moment is the same every time; by the clock (``by_line`` False) it may be
    within any instruction. Seeds take turns.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in a shell's background
    dice = random.Random(seed)
    run, by_signal = run_of(dice), dice.random() < 0.6
    by_line = dice.random() < 0.5 if by_line is None else by_line
    lines, seconds = measured(run)
    expected = None if run.goes_by_clock else whole(run)
    for moment in moments(dice, lines if by_line else seconds):
        begun, strike = Begun(run), Strike(by_signal)
        reached = strike.at_line if by_line else strike.after
        arrived = reached(begun.fit, moment)
        if strike.came and not strike.lost:
            break  # else the run was over before, or Python's finalizers swallowed it
    faults = [] if arrived else ["no KeyboardInterrupt reached the caller of fit"]
    faults += [*faults_of(begun, by_signal)]
    if not faults and by_signal and not run.goes_by_clock:
        faults += resumed_otherwise(begun, expected)
    faults += faults_of_next(begun, by_signal)
    kind = "SIGINT" if by_signal else "a KeyboardInterrupt raised anywhere"
    return (
        f"{kind} at {moment:.4g} {'lines' if by_line else 's'} of {run}: {faults}"
        if faults
        else None
    )


@functools.cache
def measured(run):
    """How many lines, and seconds, the run takes."""
    begun = Begun(run)
    begin = time.perf_counter()
    begun.fit()
    seconds = time.perf_counter() - begin
    return lines_of(Begun(run).fit), seconds


@functools.cache
def whole(run):
    return everything(Begun(run).fit())


def faults_of(begun, by_signal):
    """What an interrupt must have left as it was."""
    gc.collect()  # the run's generator is closed
    if begun.modes() != begun.modes_before:
        yield "modules are in other modes"
    if not torch.is_grad_enabled():
        yield "gradients are switched off"
        torch.set_grad_enabled(True)
    if torch.is_autocast_enabled("cpu"):
        yield "autocast is on"
        torch.set_autocast_enabled("cpu", False)
    if not ctrl_c_works():
        yield "Ctrl-C does nothing"
    rates = [group["lr"] for group in begun.optimizer.param_groups]
    if rates not in expected_rates(begun, by_signal):
        yield f"rates are {rates}, of {expected_rates(begun, by_signal)}"
    try:
        begun.trainer.state_dict()
    except RuntimeError as error:
        yield f"state_dict raises {error!r}"


def ctrl_c_works():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return True
    return False


def expected_rates(begun, by_signal):
    """Those of the schedule; without Ctrl-C's hold it may have been broken off half way itself."""
    if begun.scheduler is None:
        return [list(RATES)]
    last = begun.scheduler.last_epoch
    steps = [last] if by_signal else [last, last - 1]
    return [[closest(rate, step) for rate in RATES] for step in steps]


def closest(rate, steps):
    for _ in range(steps):
        rate *= DECAY
    return rate


def resumed_otherwise(begun, expected):
    """Differences of the saved and resumed run from the one that was not interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        begun.trainer.save(path, begun.scheduler)
        resumed = Begun(begun.run, seed=99)
        isample.load(path, resumed.trainer)
    return differences(expected, everything(resumed.fit()), "resumed")


def faults_of_next(begun, by_signal):
    """The next fit over an epoch must train on the whole of it."""
    run, trainer = begun.run, begun.trainer
    before = trainer.step_count
    if run.mode == "presample":
        begun.loader = Shuffled(begun.data, run.batch_size)
    try:
        begun.fit(epochs=1)
    except Exception as error:
        return [f"the next fit raises {error!r}"]
    batches = -(-run.samples // run.batch_size)
    came = begun.loader.dealt if run.mode == "presample" else trainer.step_count - before
    faults = [] if came == batches else [f"the next epoch had {came} batches of {batches}"]
    if by_signal and len(trainer.history.steps) != trainer.step_count:
        faults += [f"{len(trainer.history.steps)} reports of {trainer.step_count} steps"]
    if not all(parameter.isfinite().all() for parameter in begun.model.parameters()):
        faults += ["parameters are not finite"]
    return faults

"""A process that saves over and over is killed: the file is always a whole save, and no old one."""

import functools
import hashlib
import multiprocessing
import os
import random
import signal
import tempfile
import time
import warnings
from pathlib import Path

import torch

import isample
from tests.reliability.runs import CLOCK, Begun, Run, everything

RIGHT = "the file loads, and is the whole of the last save that was reported, or of one after it"
RUNS = (
    Run(schedule="StepLR", optimizer="adam", dropout=0.3, epochs=5),
    Run(mode="presample", draws="alias", epochs=10),
    Run(control="never", scaler=True, epochs=5),
)
LONGEST = 0.25  # seconds from the first save to the kill


def kill(seed):
    """What was mishandled when the child of ``seed`` was killed once, or None."""
    dice = random.Random(seed)
    number = dice.randrange(len(RUNS))
    digests = expected(number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.pt"
        reported = killed(number, path, dice.random() * LONGEST)
        begun = Begun(RUNS[number], seed=99)
        try:
            isample.load(path, begun.trainer, scheduler=begun.scheduler)
        except Exception as error:
            return f"the file does not load: {error!r}"
    step = begun.trainer.state_dict()["engine"]["dealer"]["steps"]["count"]
    if step < reported:
        return f"save {reported} was reported, the file is of {step}"
    if digest(begun) != digests[step]:
        return f"the file is of step {step}, and not what that save was"
    return None


def killed(number, path, seconds):
    """The last step that a child reported to have saved, before it was killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=save_every_step, args=(number, path, there))
    child.start()
    there.close()
    last = here.recv()
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    try:
        while True:  # what it reported until then
            last = here.recv()
    except EOFError:
        return last


def save_every_step(number, path, pipe):
    """Trains and saves; it waits for its end where it is not killed before."""
    prepare()
    begun = Begun(RUNS[number])

    def save(trainer, report):
        trainer.save(path)
        pipe.send(report.step)

    begun.fit(callbacks=[save])
    signal.pause()


def prepare():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")


@functools.cache
def expected(number):
    """The digest of what every save of the run must hold, by step."""
    digests, begun = {}, Begun(RUNS[number])
    begun.fit(callbacks=[lambda trainer, report: digests.update({report.step: digest(begun)})])
    return digests


def digest(begun):
    return hashlib.sha256(repr(plain(everything(begun))).encode()).hexdigest()


def plain(state):
    """``state`` without tensors, and without what the clock told."""
    if isinstance(state, dict):
        return [(str(k), plain(state[k])) for k in sorted(state, key=str) if k not in CLOCK]
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    if isinstance(state, torch.Tensor):
        return str(state.dtype), list(state.shape), state.contiguous().flatten().tolist()
    return repr(state)

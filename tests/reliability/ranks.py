"""Loses one of several processes that train together, in many ways, and looks at how the others
end: with the right error, soon, and by no abort of C++.

    python tests/reliability/ranks.py [count] [seed]
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

import isample
from isample.support.watch import SILENCE

BATCH, SAMPLES, EPOCHS = 8, 30, 400
SOON = 10.0  # seconds from the loss to the end of the others
WAYS = {
    "raise": "LostProcessError",  # and the process lives on
    "interrupt": "LostProcessError",
    "not a number": "NonFinite",  # all are told by the numbers
    "kill": "LostProcessError",
    "exit": "LostProcessError",
    "stop": "LostProcessError",
    "uneven stream": "UnevenProcessesError",
    "uneven batch": "UnevenProcessesError",
    "uneven lengths": "ValueError: batches_an_epoch must be the same",
    "other argument": "ValueError: accumulate must be the same",
    "invalid argument": "ValueError: arguments must be valid",
    "nothing": "NoneType",
    "slow": "NoneType",  # for longer than a process may stand still
}
LIVING = {
    "nothing",
    "slow",
    "uneven stream",
    "uneven batch",
    "uneven lengths",
    "other argument",
    "not a number",
}
OWN_LOOP = {"nothing", "slow", "raise", "kill", "exit", "stop", "uneven stream", "uneven batch"}


@dataclass(frozen=True)
class Loss:
    """One way to lose ``rank`` of ``processes``, at a ``step`` from 1."""

    way: str
    loop: str
    mode: Literal["memory", "presample"]
    processes: int
    rank: int
    step: int

    @classmethod
    def by(cls, way: str, chance: random.Random) -> Loss:
        loop = chance.choice(("fit", "own")) if way in OWN_LOOP else "fit"
        mode: Literal["memory", "presample"] = chance.choice(("memory", "presample"))
        if way in ("uneven stream", "uneven batch"):  # a memory deals what it counts itself
            mode = "presample"
        processes = chance.choice((2, 3))
        return cls(way, loop, mode, processes, chance.randrange(processes), chance.randint(1, 12))


@dataclass
class Counts:
    """How many losses ended as they should; ``faults`` tells of each other one."""

    losses: int = 0
    right: int = 0
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)


class Numbered(IterableDataset):
    """So many samples, of a stream that does not know its length."""

    def __init__(self, data: TensorDataset, count: int):
        self.data, self.count = data, count

    def __iter__(self):
        return (self.data[place % SAMPLES] for place in range(self.count))


def data(rank: int) -> TensorDataset:
    torch.manual_seed(rank)
    return TensorDataset(torch.randn(SAMPLES, 6), torch.randint(3, (SAMPLES,)))


def loader_of(loss: Loss, rank: int) -> Any:
    """The lost process has one step fewer in a stream, or one sample."""
    whole, is_lost = data(rank), rank == loss.rank
    if loss.way in ("uneven stream", "uneven batch"):
        count = (loss.step + 1) * BATCH
        fewer = BATCH if loss.way == "uneven stream" else 1
        return DataLoader(Numbered(whole, count - fewer * is_lost), BATCH)
    if loss.way == "uneven lengths" and is_lost:
        whole = TensorDataset(*whole[:BATCH])
    if loss.mode == "presample":
        return DataLoader(whole, BATCH, shuffle=True, drop_last=True)
    if loss.way != "uneven lengths":
        everything = TensorDataset(
            *(
                torch.cat(part)
                for part in zip(*(data(one).tensors for one in range(loss.processes)))
            )
        )
        return DataLoader(
            everything, BATCH, sampler=DistributedSampler(everything, loss.processes, rank)
        )
    return DataLoader(whole, BATCH, shuffle=True)


def lose(loss: Loss, rank: int, step: int, folder: Path) -> None:
    """At the end of each step of each process; of the lost one's it may be the last."""
    if rank != loss.rank or step != loss.step:
        return
    if loss.way == "slow":
        time.sleep(SILENCE + 2.0)
    if loss.way in LIVING:
        return
    (folder / "lost").write_text(str(time.time()))
    if loss.way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif loss.way == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif loss.way == "exit":
        os._exit(3)
    elif loss.way == "interrupt":
        raise KeyboardInterrupt
    elif loss.way == "raise":
        raise OSError("the disk is full")


def train(loss: Loss, rank: int, folder: Path) -> None:
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    loader, is_lost = loader_of(loss, rank), rank == loss.rank
    epochs = 20 if WAYS[loss.way] == "NoneType" else EPOCHS
    if loss.loop == "own":
        engine = isample.Engine(
            optimizer, head=model.module[-1], control="always", batch_size=BATCH
        )
        with engine.together():
            chosen = engine.loader(loader)
            for _ in range(epochs):
                for inputs, targets in chosen:
                    optimizer.zero_grad()
                    F.cross_entropy(model(inputs), targets).backward()
                    optimizer.step()
                    lose(loss, rank, engine.steps.count, folder)
        return

    def after(trainer: isample.Trainer, report: isample.StepReport) -> None:
        if loss.way == "not a number" and is_lost and report.step == loss.step:
            (folder / "lost").write_text(str(time.time()))
            loader.dataset.tensors[0].fill_(float("nan"))
        lose(loss, rank, report.step, folder)

    trainer = isample.Trainer(
        model,
        optimizer,
        batch_size=BATCH,
        mode=loss.mode,
        control="always",
        presample=3 * BATCH if loss.mode == "presample" else None,
        accumulate=2 if loss.way == "other argument" and is_lost else 1,
    )
    epochs = -1 if loss.way == "invalid argument" and is_lost else epochs
    trainer.fit(loader, epochs=epochs, callbacks=[after])


def work(loss: Loss, rank: int, folder: Path) -> None:
    """Trains until it is lost, or another is; says on a file how it ended."""
    sys.stderr = (folder / f"{rank}.err").open("w")
    os.dup2(sys.stderr.fileno(), 2)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=loss.processes
    )
    error: BaseException | None = None
    try:
        train(loss, rank, folder)
    except BaseException as raised:
        error = raised.with_traceback(None)
    told = {"error": f"{type(error).__name__}: {error}", "rank": getattr(error, "rank", None)}
    told["at"] = time.time()
    (folder / f"{rank}.new").write_text(json.dumps(told))
    (folder / f"{rank}.new").rename(folder / f"{rank}.end")
    if rank == loss.rank and loss.way not in LIVING:
        time.sleep(600)  # it lives on, and trains no more


def judged(loss: Loss, rank: int, process: Any, folder: Path, bound: float) -> tuple[str, float]:
    """What is wrong with how ``rank`` ended, empty where nothing is, and how long it took."""
    said = folder / f"{rank}.err"
    err = said.read_text() if said.exists() else ""
    end = folder / f"{rank}.end"
    if not end.exists():
        return f"process {rank} did not end (exit code {process.exitcode}) {err[-400:]}", bound
    told = json.loads(end.read_text())
    lost = folder / "lost"
    took = max(0.0, told["at"] - float(lost.read_text())) if lost.exists() else 0.0
    wanted = WAYS[loss.way]
    if not told["error"].startswith(wanted):
        return f"process {rank} ended by {told['error'][:400]} instead of {wanted}", took
    if wanted == "LostProcessError" and told["rank"] != loss.rank:
        return f"process {rank} blames process {told['rank']}", took
    if wanted == "NoneType" and "is lost" in err:
        return f"process {rank} ended well but said {err[-400:]}", took
    if process.exitcode != 0 or "terminate called" in err:
        return f"process {rank} exited by {process.exitcode} {err[-400:]}", took
    return (f"process {rank} took {took:.1f} s" if took > bound else ""), took


def lose_one(loss: Loss, bound: float) -> tuple[list[str], float]:
    """The faults of all that remain, and the seconds that the slowest took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.reliability.ranks"])
    with tempfile.TemporaryDirectory() as name:
        folder, ranks = Path(name), range(loss.processes)
        processes = [context.Process(target=work, args=(loss, rank, folder)) for rank in ranks]
        for process in processes:
            process.start()
        rest = [rank for rank in ranks if rank != loss.rank or loss.way in LIVING]
        try:
            until = time.monotonic() + bound + 60.0  # to start and to train
            for rank in rest:
                processes[rank].join(max(0.0, until - time.monotonic()))
            judgements = [judged(loss, rank, processes[rank], folder, bound) for rank in rest]
        finally:
            for process in processes:
                process.kill()
                process.join()
    return [fault for fault, _ in judgements if fault], max(took for _, took in judgements)


def lose_ranks(count: int, seed: int, bound: float = SOON) -> Counts:
    """Loses ``count`` processes, each way as often as another, drawn by ``seed``."""
    chance, counts, ways = random.Random(seed), Counts(), list(WAYS)
    for number in range(count):
        loss = Loss.by(ways[number % len(ways)], chance)
        faults, took = lose_one(loss, bound)
        counts.losses += 1
        counts.right += not faults
        counts.slowest = max(counts.slowest, took)
        counts.faults += [f"{loss}: {fault}" for fault in faults]
    return counts


def main() -> int:
    given = [int(argument) for argument in sys.argv[1:]]
    count, seed = (*given, *(50, 0)[len(given) :])
    counts = lose_ranks(count, seed)
    print(f"{counts.right} of {counts.losses} right, the slowest after {counts.slowest:.1f} s")
    print("\n".join(counts.faults))
    return counts.right != counts.losses


if __name__ == "__main__":
    sys.exit(main())

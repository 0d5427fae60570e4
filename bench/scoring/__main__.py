"""`python -m bench.scoring`: each way to score a presample, its time and its correlation with the
true gradient norm.

A network is trained uniformly up to the middle of its schedule. Then every way scores the same
samples, in training's own data: the time is that of one presample in units of a uniform training
step, the ways taking turns, median of many; the correlation is Spearman's, with the norm of each
sample's gradient over all parameters. Writes scoring-TASK.json and .md.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from bench.training.tasks import find_task
from bench.training.training import Training
from isample import MemorySampler, Scoring
from isample.scoring.forward import ScoringPass
from isample.scoring.losses import make_loss
from isample.scoring.scores import gradient_norm, leaving_no_trace, upper_bound

RATIO = 5  # B / b
JUDGED = 1024  # samples
ROUNDS = 21
STALE = 50  # updates

CPU = torch.device("cpu")


class Bench:
    def __init__(self, training: Training, whole: bool):
        self.training, self.loss = training, make_loss(training.task.loss)
        sets, generator = training.sets, torch.Generator().manual_seed(1)
        index = torch.randperm(len(sets.training), generator=generator)
        self.judged = index[:JUDGED]
        self.inputs, self.targets = sets.training.__getitems__(self.judged)
        self.presample = self.inputs[: RATIO * training.batch_size]
        self.ways: dict[str, Scoring] = {"all at once (the paper)": Scoring(chunk=1 << 30)}
        self.ways |= {f"chunks of {size}": Scoring(chunk=size) for size in (16, 32, 64, 128)}
        self.ways["bfloat16, chunks of 64"] = Scoring(dtype=torch.bfloat16)
        self.ways["torch.compile, chunks of 64"] = Scoring(compile=True)
        if whole:  # a network that takes images of any size
            self.ways["half the resolution, chunks of 64"] = Scoring(
                prepare=lambda images: F.avg_pool2d(images, 2)
            )

    def train(self, seconds: float) -> None:
        """Uniformly for half of a schedule, while remembering scores as memory mode does, and
        keeping the parameters of STALE updates ago and of one."""
        training = self.training
        self.memory = MemorySampler(len(training.sets.training), training.batch_size, seed=0)
        self.memory.active = False
        self.updates = 0
        began, kept = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds or kept < 2:
            training.progress = min(1.0, elapsed / seconds) / 2
            training.decay_learning_rate()
            if self.updates % STALE == 0:
                stale, kept = copy.deepcopy(training.model), kept + 1
            self.update()
        while self.updates % STALE > 0:
            self.update()
        self.ways[f"parameters of {STALE} updates ago"] = Scoring(proxy=stale)
        self.ways["parameters of one update ago (ahead=True)"] = Scoring(
            proxy=copy.deepcopy(training.model)
        )
        self.update()

    def update(self) -> None:
        training, indices = self.training, self.memory.draw().indices
        self.updates += 1
        inputs, targets = training.sets.training.__getitems__(indices)
        outputs = training.model(inputs)
        self.memory.update(indices, upper_bound(self.loss, outputs.detach(), targets))
        training.update(training.losses(outputs, targets).mean())

    def scores(self, scoring: Scoring) -> torch.Tensor:
        scoring_pass = ScoringPass(scoring, CPU)
        with leaving_no_trace(scoring_pass.module(self.training.model), CPU):
            logits = scoring_pass.logits(self.training.model, self.inputs, JUDGED)
        return upper_bound(self.loss, logits.float(), self.targets)

    def truth(self) -> torch.Tensor:
        with leaving_no_trace(self.training.model, CPU):
            return gradient_norm(self.loss, self.training.model, self.inputs, self.targets)

    def times(self) -> dict[str, float]:
        """Each way's share of a uniform training step, loading left out of both."""
        calls: dict[str, Callable[[], None]] = {}
        for name, scoring in self.ways.items():
            scoring_pass = ScoringPass(scoring, CPU)
            calls[name] = partial(
                scoring_pass.logits, self.training.model, self.presample, len(self.presample)
            )
        model, targets = self.training.model, self.targets[: self.training.batch_size]
        inputs = self.inputs[: self.training.batch_size]
        seconds: dict[str, list[float]] = {"step": [], **{name: [] for name in calls}}
        for _ in range(ROUNDS + 3):  # the first three warm up
            model.train()
            began = time.perf_counter()
            self.training.losses(model(inputs), targets).mean().backward()
            seconds["step"].append(time.perf_counter() - began)
            model.eval()
            for name, call in calls.items():
                began = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - began)
        median = {name: statistics.median(values[3:]) for name, values in seconds.items()}
        return {name: median[name] / median["step"] for name in calls}

    def run(self) -> list[dict]:
        from scipy.stats import spearmanr

        truth = self.truth()
        correlation = {
            name: spearmanr(self.scores(scoring), truth).statistic
            for name, scoring in self.ways.items()
        }
        rows = [
            {"way": name, "time": share, "correlation": correlation[name]}
            for name, share in self.times().items()
        ]
        remembered = self.memory.score[self.judged]
        rows.append(
            {
                "way": "remembered (memory mode)",
                "time": 0.0,
                "correlation": spearmanr(remembered, truth).statistic,
            }
        )
        return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scoring", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--task", default="digits", help="a task of the referee's, with class labels"
    )
    parser.add_argument(
        "--root", type=Path, default=Path("data"), help="where the data sets' files are"
    )
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="of training before the ways are compared"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("bench/results"))
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    task = find_task(arguments.task)
    if task.loss != "cross_entropy":
        parser.error(f"--task must be one with class labels; got {arguments.task}")
    bench = Bench(
        Training.begin(task, task.data.sets(arguments.root), arguments.seconds, 0),
        "resnet" in arguments.task,
    )
    bench.train(arguments.seconds)
    write(arguments, task, bench.run(), bench.updates)
    return 0


def write(arguments: argparse.Namespace, task, rows: list[dict], updates: int) -> None:
    command = (
        f"python -m bench.scoring --task {arguments.task} --seconds {arguments.seconds:g} "
        f"--threads {arguments.threads}"
    )
    facts = {
        "command": command,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "updates": updates,
    }
    path = arguments.results / f"scoring-{arguments.task}.json"
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    lines = [
        f"# Ways to score a presample: {task.data.title}, {task.title}",
        "",
        f"`{command}`, torch {torch.__version__}, after {updates:,} uniform updates. "
        f"Time: scoring B = {RATIO}b samples in units of a training step on b = {task.batch_size}. "
        f"Correlation: Spearman's, with the true gradient norm of {JUDGED:,} training samples.",
        "",
        "| way | time | correlation |",
        "|---|---:|---:|",
        *(f"| {row['way']} | {row['time']:.2f} | {row['correlation']:.4f} |" for row in rows),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

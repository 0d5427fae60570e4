"""Small trainings of every kind, and all that can be seen of one that has ended."""

import copy
import random
from dataclasses import dataclass, replace
from functools import partial

import numpy
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules
from torch.utils.data import DataLoader, TensorDataset

import isample

FEATURES, CLASSES, RATES = 6, 4, (0.08, 0.03)
CLOCK = ("elapsed", "draw_seconds", "rebuild_seconds")  # entries of states
DECAY = 0.7  # no rate that a gain raises, by 1 to 2, is one that this schedule gives

SCHEDULES = {
    "StepLR": partial(schedules.StepLR, step_size=1, gamma=DECAY),
    "LambdaLR": partial(schedules.LambdaLR, lr_lambda=lambda epoch: 1.0 / (1.0 + epoch)),
    "OneCycleLR": partial(schedules.OneCycleLR, max_lr=list(RATES), total_steps=20),
    "CosineAnnealingWarmRestarts": partial(schedules.CosineAnnealingWarmRestarts, T_0=2),
    "SequentialLR": lambda optimizer: schedules.SequentialLR(
        optimizer,
        [
            schedules.LinearLR(optimizer, 0.5, total_iters=2),
            schedules.ExponentialLR(optimizer, 0.9),
        ],
        milestones=[1],
    ),
    "ReduceLROnPlateau": partial(schedules.ReduceLROnPlateau, factor=0.5, patience=0),
}


@dataclass(frozen=True)
class Run:
    """What a training is made of. ``stream`` gives no length, ``workers`` fetch batches."""

    mode: str = "memory"
    control: str = "always"
    draws: str | None = None
    adapt: str | None = "lr"
    score: str = "upper_bound"
    optimizer: str = "sgd"
    schedule: str | None = None
    evaluates: bool = False
    accumulate: int = 1
    clip: float | None = None
    scaler: bool = False
    autocast: bool = False
    dropout: float = 0.0
    stream: bool = False
    workers: int = 0
    samples: int = 70
    batch_size: int = 8
    epochs: int = 4

    @property
    def goes_by_clock(self):
        return self.control == "speedup"

    @classmethod
    def of(cls, dice: random.Random, controls):
        """A random one, of which most are of the everyday kind."""
        mode = dice.choice(("memory", "presample"))
        control = dice.choice(controls)
        if control == "threshold":
            mode = "presample"
        run = cls(
            mode=mode,
            control=control,
            adapt=dice.choice(("lr", "lr", "batch", None)),
            score=dice.choice(("upper_bound", "upper_bound", "loss", "gradient_norm")),
            optimizer=dice.choice(("sgd", "adam")),
            evaluates=dice.random() < 0.5,
            accumulate=dice.choice((1, 1, 1, 2, 3)),
            clip=dice.choice((None, None, 0.5)),
            dropout=dice.choice((0.0, 0.3)),
            autocast=dice.random() < 0.2,
            samples=dice.choice((64, 70)),
        )
        if mode == "presample" and control != "never":
            run = replace(run, draws=dice.choice((None, "pps", "systematic", "alias")))
        return replace(run, stream=True) if mode == "presample" and dice.random() < 0.3 else run


class Shuffled:
    """A stream of batches: another order every time, no length."""

    def __init__(self, data, batch_size):
        self.data, self.batch_size = data, batch_size
        self.dealt = 0

    def __iter__(self):
        for rows in torch.randperm(len(self.data[0])).split(self.batch_size):
            self.dealt += 1
            yield tuple(part[rows] for part in self.data)


def make_data(samples):
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(CLASSES, (samples,), generator=generator)
    centres = torch.randn(CLASSES, FEATURES, generator=generator)
    return centres[targets] + torch.randn(samples, FEATURES, generator=generator), targets


def make_model(dropout):
    """A network whose second norm is frozen, as in fine-tuning."""
    model = nn.Sequential(
        nn.Linear(FEATURES, 12),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.BatchNorm1d(12),
        nn.Linear(12, CLASSES),
    )
    model[4].eval()
    return model


class Begun:
    """A run's objects, new ones; the global random states are those of ``seed``."""

    def __init__(self, run, seed=0, draws_seed=5):
        torch.manual_seed(seed)
        numpy.random.seed(seed)
        random.seed(seed)
        self.run = run
        self.model = make_model(run.dropout)
        self.optimizer = make_optimizer(run.optimizer, self.model)
        self.scheduler = SCHEDULES[run.schedule](self.optimizer) if run.schedule else None
        data = self.data = make_data(run.samples)
        if run.stream:
            self.loader = Shuffled(data, run.batch_size)
        else:
            options = {"shuffle": True, "num_workers": run.workers}
            self.loader = DataLoader(TensorDataset(*data), run.batch_size, **options)
        held_out = DataLoader(TensorDataset(*make_data(20)), run.batch_size)
        self.evaluate = held_out if run.evaluates else None
        self.trainer = self._make_trainer(draws_seed)
        self.modes_before = self.modes()

    def modes(self):
        return [module.training for module in self.model.modules()]

    def _make_trainer(self, seed):
        run = self.run
        candidates = run.mode == "presample" and run.control != "never"
        return isample.Trainer(
            self.model,
            self.optimizer,
            batch_size=run.batch_size,
            presample=3 * run.batch_size if candidates else None,
            mode=run.mode,
            score=run.score,
            draws=run.draws,
            control=run.control,
            adapt=run.adapt,
            tau_threshold=1.05 if run.control == "threshold" else None,
            clip_grad_norm=run.clip,
            autocast=torch.bfloat16 if run.autocast else None,
            scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10) if run.scaler else None,
            accumulate=run.accumulate,
            seed=seed,
        )

    def fit(self, epochs=None, callbacks=()):
        self.trainer.fit(
            self.loader,
            epochs=epochs or self.run.epochs,
            evaluate=self.evaluate,
            scheduler=self.scheduler,
            callbacks=callbacks,
        )
        return self

    def saves(self, path):
        """Whether the trainer could be saved: not between two steps whose gradients accumulate."""
        try:
            self.trainer.save(path)
        except RuntimeError as error:
            if "pending" not in str(error):
                raise
            return False
        return True


def make_optimizer(name, model):
    halves = [[*model[:3].parameters()], [*model[3:].parameters()]]
    groups = [{"params": part, "lr": rate} for part, rate in zip(halves, RATES)]
    if name == "adam":
        return torch.optim.Adam(groups)
    return torch.optim.SGD(groups, momentum=0.9)


def everything(begun):
    """All that is bit-equal after a run that was resumed, but for the evaluations."""
    states = {
        "trainer": begun.trainer.state_dict(),
        "model": begun.model.state_dict(),
        "optimizer": begun.optimizer.state_dict(),
        "scheduler": begun.scheduler.state_dict() if begun.scheduler else None,
    }
    return copy.deepcopy(states)


def evaluations(begun):
    return [(e.step, e.loss, e.error) for e in begun.trainer.history.evaluations]


def differences(one, other, place=""):
    """The places where two states differ; what the clock told is left out."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{place}: keys {sorted(map(str, one.keys() ^ other.keys()))}"]
        keys = (key for key in one if key not in CLOCK)
        return [d for k in keys for d in differences(one[k], other[k], f"{place}.{k}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{place}: length {len(one)} and {len(other)}"]
        pairs = enumerate(zip(one, other))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{place}[{k}]")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if _same(one, other) else [f"{place}: tensors differ"]
    if callable(one) and callable(other):
        return []
    return (
        [] if one == other or (one != one and other != other) else [f"{place}: {one} and {other}"]
    )


def _same(one, other):
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool(((one == other) | (one.ne(one) & other.ne(other))).all())

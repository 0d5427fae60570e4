"""A run of an experiment small enough for a test: CIFAR-10's settings, 100 images of noise, a
narrow network."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from bench.common.images import Images
from bench.common.networks import wide_resnet
from bench.common.sets import SHIFT, image_sets
from bench.training.experiments.registry import EXPERIMENTS
from bench.training.experiments.session import Session, do_run
from bench.training.methods.importance import isample_default, upper_bound
from bench.training.runfile import Run

ALWAYS = partial(upper_bound, presample=24, tau_threshold=None, control="always")


@pytest.fixture(autouse=True)
def steady_clock(monkeypatch):
    """In the tests of a module that imports it, each step takes a quarter of a second of the
    meter's clock, and the machine's load is none."""
    ticks = iter(range(10**9))
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 4, process_time=lambda: 0.0)
    monkeypatch.setattr("bench.training.meter.time", clock)
    monkeypatch.setattr("bench.common.machine.load", lambda: 0.0)


def images(count=100, size=8, classes=10):
    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(count, size, size, 3), dtype=np.uint8)
    return Images(pixels, np.arange(count) % classes, pixels[:20], np.arange(20) % classes)


SETS = image_sets(images(), SHIFT)
SMALL = replace(
    EXPERIMENTS["cifar10"],
    # Not narrower: oneDNN's backward pass of a strided 1 x 1 convolution of fewer than 8 channels,
    # channels last, writes beyond its memory on processors without AVX-512 (torch 2.13), and then
    # no two runs are alike.
    model=lambda scale, normalisation, classes: wide_resnet(10, 1, classes, normalisation, width=8),
    entrants={
        **EXPERIMENTS["cifar10"].entrants,
        "always": ALWAYS,
        "memory": partial(isample_default, control="always"),
    },
    batch_size=8,
    every=1 / 8,
)


def new_session(experiment=SMALL, method="uniform", budget=6.0, seed=0, normalisation="batch"):
    scale = 0.01 if experiment.measure != "variance" else 0.001  # 32 samples, of which 4 are drawn
    run = Run(
        "run", "small", method, seed, budget, "noise", scale=scale, normalisation=normalisation
    )
    return Session(run, experiment, SETS)


def finished(made, folder):
    for _ in do_run(made, folder):
        pass
    return made

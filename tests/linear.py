"""Trainings of a linear layer, small enough to follow by hand."""

import torch
from torch import nn

from bench.common.datasets import Rows, Sets
from bench.common.sets import Data
from bench.training.tasks import Task
from bench.training.training import Training


def begin(
    inputs, targets, batch_size, rate, momentum=0.0, weight_decay=0.0, model=None, kind=Training
):
    """A training of one linear layer, in the precision of ``inputs``."""
    rows = Rows(inputs, targets)
    sets = Sets(rows, rows, rows)

    def linear():
        return nn.Linear(inputs.shape[1], 1, bias=False).to(inputs.dtype)

    data = Data("", lambda root: sets)
    task = Task(data, "", model or linear, "mse", batch_size, rate, momentum, weight_decay)
    return kind.begin(task, sets, 60.0, seed=0)


def parameters(made):
    return torch.cat([p.detach().flatten() for p in made.model.parameters()])

"""Methods that deal their samples themselves, in a form that can be stopped and resumed between any
two batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from isample.support.random_state import random_state, restore_random_state

from ..training import Training


class Dealt:
    """Works through phases: indices of samples, which one of its methods, the phase's ``name``, is
    given a batch at a time as ``(index, inputs, targets)``.

    A subclass has ``next_phase() -> (name, index int64 [n])`` and names in ``saved`` the attributes
    that it adds to the state: numbers and tensors, or what holds them. The phase's remaining
    indices, the generators, torch's own among them, are saved here. ``model`` and ``optimizer`` are
    saved by whoever made them.
    """

    saved: tuple[str, ...] = ()

    def __init__(self, training: Training, batch_size: int | None = None):
        self.training, self.batch_size = training, batch_size or training.batch_size
        self.size = len(training.sets.training)
        self.generator = training.generator()
        self.name, self.left = "", torch.empty(0, dtype=torch.int64)

    def next_phase(self) -> tuple[str, torch.Tensor]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[None]:
        while True:
            if len(self.left) == 0:
                self.name, self.left = self.next_phase()
                continue  # it may be empty
            batches, work = self.left.split(self.batch_size), getattr(self, self.name)
            for index, (inputs, targets) in zip(batches, self.training.fetch(batches)):
                self.left = self.left[len(index) :]
                work(index, inputs, targets)
                yield

    def state_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "left": self.left.clone(),  # not the whole phase behind it
            "generator": self.generator.get_state(),
            "random": random_state(self.training.device),
            **{name: getattr(self, name) for name in self.saved},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` gave, torch's global random state included."""
        self.name, self.left = state["name"], state["left"]
        self.generator.set_state(state["generator"])
        for name in self.saved:
            setattr(self, name, state[name])
        restore_random_state(state["random"], self.training.device)

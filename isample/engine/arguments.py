"""What an engine was asked for: compared with a saved run's, and taken over from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from isample.control import Controller
from isample.control.rates import Rates
from isample.engine.parts import Sampling
from isample.scoring.losses import Loss, make_loss
from isample.support.describe import described
from isample.support.processes import Processes
from isample.support.states import differing, refuse

SAMPLING = ("score", "draws", "presample", "threshold", "tau_momentum")
NAMED = ("batch_size", "control", "adapt", *SAMPLING)
"""The arguments that a state can bring along; others are objects."""


@dataclass(frozen=True)
class Arguments:
    """Those of :class:`isample.Engine`."""

    optimizer: torch.optim.Optimizer
    model: nn.Module | None
    loss: Loss | None
    objective: Callable[[nn.Module, Any], Tensor] | None
    control: str | Controller[Any]
    adapt: str | Rates | None
    seed: int | None
    batch_size: int | None
    sampling: Sampling
    processes: Processes

    def config(self) -> dict[str, Any]:
        """Those that make a run what it is, in plain types."""
        asked = {name: getattr(self.sampling, name) for name in (*SAMPLING, "scoring")}
        asked |= {"batch_size": self.batch_size, "control": self.control, "adapt": self.adapt}
        loss = None if self.loss is None else make_loss(self.loss)  # the one of a name
        asked |= {"loss": loss, "objective": self.objective, "processes": self.processes.count}
        return {name: described(value) for name, value in asked.items()}

    def taking(self, saved: Mapping[str, Any], own: Mapping[str, Any], strict: bool) -> Arguments:
        """These, or with what differs in a ``saved`` configuration where that is not ``strict``.

        Raises StateError for what differs and is not to be taken over, or cannot be: an object.
        """
        differs = differing(saved, own)
        if strict:
            refuse(differs, own, "give the saved run's arguments, or take them over: strict=False")
        taken = {name: value for name, value in differs.items() if name in NAMED}
        objects = {
            name: value
            for name, value in differs.items()
            if name not in NAMED or isinstance(value, dict | list)
        }
        refuse(objects, own, "an object cannot be taken over: give the saved run's")
        sampling = {name: value for name, value in taken.items() if name in SAMPLING}
        others = {name: value for name, value in taken.items() if name not in SAMPLING}
        return replace(self, sampling=replace(self.sampling, **sampling), **others)

"""States of a trainer that version 0.1 saved, in the present form."""

from __future__ import annotations

import warnings
from typing import Any

from isample.control.base import to_dict
from isample.control.noise import NoiseState, Ratio
from isample.control.threshold import RuleState
from isample.sources.upgrade import upgraded as upgraded_memory
from isample.support.states import form_of

FORMS = {
    "present": ("mode", "engine", "loop", "random"),
    "0.1": ("mode", "update", "step_count", "sampler", "memory", "loop", "random"),
}
RULES = ("threshold", "open")  # keys of gates that went by a rule: the paper's, always and never


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A state of :class:`isample.Trainer` in the present form: itself, or one of version 0.1
    translated, which shares tensors with ``state``.

    A gate's measurements of noise and time begin anew, and a warning says so. All else goes on, and
    so does a gate that went by a rule.

    Raises TypeError for what is no dict, ValueError for a dict that is no such state.
    """
    if form_of(state, "Trainer", FORMS) == "present":
        return state
    sampler, memory, loop = state["sampler"], state["memory"], state["loop"]
    controller = _controller(sampler, memory)
    draws_anew = memory is None and sampler["gate"]["gain"]["weight"] > 0
    if state["step_count"] and (controller is None or draws_anew):
        warnings.warn(
            "state is of isample 0.1: what its gate had measured of noise and time begins anew, "
            "all else goes on",
            stacklevel=3,
        )
    steps = {
        "count": state["step_count"],
        "elapsed": loop["elapsed"],
        "rates": {"highest_lr": state["update"]["highest_lr"]},
        "controller": controller,
    }
    dealer = {
        "steps": steps,
        "selector": {"tau_ema": sampler["tau_ema"], "generator": sampler["generator"]},
        "source": None if memory is None else upgraded_memory(memory),
    }
    place = {name: loop[name] for name in ("epoch", "batches", "epoch_random")}
    place["began"] = loop["batches"] > 0
    return {
        "mode": state["mode"],
        "engine": {"version": 1, "rows": [], "loader": None, "dealer": dealer},
        "loop": {"loader": place, "elapsed": loop["elapsed"], "ends": False},
        "random": state["random"],
    }


def _controller(sampler: dict[str, Any], memory: dict[str, Any] | None) -> Any:
    """The state of a controller that goes by the gate's rule; None where that went by the clock."""
    gate = sampler["gate"]
    if not any(name in gate for name in RULES):
        return None
    gain, noise = gate["gain"], NoiseState(gain_cap=gate["usable"])
    if memory is not None:  # else the moments are of scored candidates, which are kept otherwise
        moments = Ratio(gain["importance_moment"], gain["uniform_moment"], gain["weight"])
        noise = noise._replace(memory=moments)
    return to_dict(RuleState(noise, float(sampler["tau_ema"])))

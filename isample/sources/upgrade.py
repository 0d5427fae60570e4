"""States of a memory that version 0.1 saved, in the present form."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from isample.sources.memory import rebuild_interval
from isample.sources.order import epoch_length
from isample.support.errors import StateError
from isample.support.states import form_of
from isample.values import Plan

FORMS = {
    "present": (
        *("size", "batch_size", "drop_last", "rebuild_every", "epoch", "num_batches", "plan"),
        *("uniform_batches", "left", "passes", "memory", "pending", "generator"),
    ),
    "0.1": (
        *("batch_size", "drop_last", "floor", "half_life", "contradicted", "score", "active"),
        *("epoch", "drawn", "draw_size", "usable", "draw_seconds", "rebuild_seconds"),
        *("_rebuild_every", "bounded", "_uniform_batches", "_left", "_order", "_dealt", "_drawn"),
        *("_table", "_table_age", "_pending", "generator", "calibration"),
    ),
}


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A state of :class:`isample.MemorySampler` in the present form: itself, or one of version 0.1
    translated, which shares tensors with ``state``.

    Raises TypeError for what is no dict, ValueError for a dict that is no such state.
    """
    if form_of(state, "MemorySampler", FORMS) == "present":
        if len(state["memory"]["score"]) != state["size"]:
            raise StateError(
                f"state must hold a score for each of its {state['size']} samples; got "
                f"{len(state['memory']['score'])}"
            )
        return state
    size, batch_size, every = len(state["score"]), state["batch_size"], state["_rebuild_every"]
    length = epoch_length(size, batch_size, state["drop_last"])
    plan = Plan(importance=state["active"], keep=state["draw_size"], gain_cap=state["usable"])
    return {
        "size": size,
        "batch_size": batch_size,
        "drop_last": state["drop_last"],
        "rebuild_every": every,
        "epoch": state["epoch"],
        "num_batches": state["drawn"],
        "plan": asdict(plan),
        "uniform_batches": state["_uniform_batches"],
        "left": state["_left"],
        "passes": {"order": state["_order"], "cut": state["_dealt"]},
        "memory": {
            **{name: state[name] for name in ("score", "floor", "contradicted", "bounded")},
            "calibration": state["calibration"],
            "half_life": state["half_life"] * length,  # in batches now
            "rebuild_every": rebuild_interval(size, batch_size, every),
            "draw_seconds": state["draw_seconds"],
            "rebuild_seconds": state["rebuild_seconds"],
            "table": state["_table"],
            "age": state["_table_age"],
            "drawn": state["_drawn"],
        },
        "pending": [
            (indices, (places, weights))  # weights are None where they were dealt, then as now
            for indices, (places, weights, _) in state["_pending"]
        ],
        "generator": state["generator"],
    }

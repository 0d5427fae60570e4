"""Whether the next batch is to be drawn, from what, and how many of it are trained on."""

from __future__ import annotations

from isample.control.base import Choices, Controller, Settings
from isample.control.speedup import Speedup
from isample.control.threshold import Always, Never, Threshold
from isample.support.registry import look_up

CONTROLLERS = {"speedup": Speedup, "threshold": Threshold, "always": Always, "never": Never}


def make_controller(
    name: str,
    choices: Choices,
    threshold: float | None = None,
    settings: Settings | None = None,
) -> Controller:
    """The controller of a name.

    Raises:
        ValueError: an unknown name; a ``threshold`` below 0, or for another controller than
            ``threshold``.
    """
    make = look_up(CONTROLLERS, name, "control")
    if name != "threshold":
        if threshold is not None:
            raise ValueError(
                f"threshold must be given with control='threshold' only; got control={name!r}"
            )
        return make(choices, settings=settings)
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"threshold must be >= 0; got {threshold}")
    return Threshold(choices, threshold, settings)

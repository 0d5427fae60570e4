"""Whether the next batch is to be drawn, from what, and how many of it are trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from isample.control.base import Choices, Controller, Settings
from isample.control.speedup import Speedup
from isample.control.threshold import Always, Never, Threshold
from isample.support.registry import look_up

CONTROLLERS: dict[str, Callable[..., Controller[Any]]] = {
    "speedup": Speedup,
    "threshold": Threshold,
    "always": Always,
    "never": Never,
}
METHODS = ("init", "observe", "clock", "plan", "gain")


def check_control(control: str | Controller[Any], threshold: float | None = None) -> None:
    """Raises TypeError for what is neither a name nor a controller, ValueError for an unknown name
    or a ``threshold`` that is below 0, or for another controller than ``"threshold"``."""
    if isinstance(control, str):
        look_up(CONTROLLERS, control, "control")
    elif not all(callable(getattr(control, method, None)) for method in METHODS):
        raise TypeError(
            f"control must be a name or an isample.control.Controller, with {', '.join(METHODS)}; "
            f"got {type(control).__name__}"
        )
    if threshold is not None and control != "threshold":
        raise ValueError(
            f"threshold must be given with control='threshold' only; got control={control!r}"
        )
    if threshold is not None and not threshold >= 0:
        raise ValueError(f"threshold must be >= 0; got {threshold}")


def make_controller(
    name: str,
    choices: Choices,
    threshold: float | None = None,
    settings: Settings | None = None,
) -> Controller[Any]:
    """The controller of a name.

    Raises:
        ValueError: an unknown name; a ``threshold`` below 0, or for another controller than
            ``threshold``.
    """
    check_control(name, threshold)
    if name == "threshold":
        return Threshold(choices, threshold, settings)
    return CONTROLLERS[name](choices, settings=settings)

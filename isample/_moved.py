"""The module paths of version 0.1 go on working for one version, with a DeprecationWarning.

``from isample.memory import MemorySampler`` finds the class where it is now, and the warning names
that path. A name that is gone gives an AttributeError, or an ImportError, that says where to look.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# A module of isample 0.1, and the modules that have now what was in it.
MOVED: dict[str, tuple[str, ...]] = {
    "adapt": ("control.rates", "sources.memory"),
    "ahead": ("scoring.overlap",),
    "calibration": ("sources.calibration",),
    "contradicted": ("scoring.contradicted", "sources.calibration"),
    "distributed": ("support.processes", "sources.indexed"),
    "draws": ("scoring.select",),
    "errors": ("support.errors",),
    "feed": ("sources.dataset", "sources.stream"),
    "gain": ("control.threshold", "control.noise"),
    "gate": ("control",),
    "history": ("values",),
    "indexed": ("sources.indexed",),
    "loader": ("engine", "sources.loader"),
    "loop": ("training.loop", "training.evaluate"),
    "losses": ("scoring.losses",),
    "memory": ("sources.sampler", "sources.order", "sources.memory", "sources.arguments"),
    "memory_ops": ("ops.memory",),
    "nested": ("support.pytree",),
    "presample": ("sources.stream",),
    "random_state": ("support.random_state",),
    "readback": ("support.readback",),
    "recent": ("control",),
    "reference": ("ops.reference",),
    "registry": ("support.registry",),
    "sampler": ("scoring.select", "scoring.scorers", "support.clocks"),
    "scores": ("scoring.scores",),
    "step": ("engine.steps", "training.update"),
    "stopwatch": ("support.clocks",),
    "trainer": ("training.trainer", "training.arguments"),
    "update": ("training.update",),
}
GONE = {
    "ImportanceLoader": "isample.Engine(...).loader(loader)",
    "ImportanceSampler": "isample.Engine(...).choose(batch)",
}
"""What isample itself had, and what takes its place."""
CONTROLLERS = ("gain", "gate", "recent")
"""Those whose classes have no successor of their own."""


class _Moved(ModuleType):
    """An old module: it holds nothing, and looks a name up when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        old = self.__name__.removeprefix("isample.")
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        for module in _modules(old):
            if name in vars(module):
                warnings.warn(
                    f"{self.__name__}.{name} is {_path(module, name)} now; its old path goes with "
                    "isample 0.3",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return vars(module)[name]
        places = ", ".join(f"isample.{place}" for place in MOVED[old])
        is_control = old in CONTROLLERS
        where = "controllers stand in isample.control" if is_control else f"look in {places}"
        raise AttributeError(f"{self.__name__}.{name} is gone; {where}")


def _modules(old: str) -> Iterator[ModuleType]:
    """The modules that have what ``old`` had."""
    for place in MOVED[old]:
        yield import_module(f"isample.{place}")


def _path(module: ModuleType, name: str) -> str:
    """The shortest path that is meant to stay: isample's own name, else the defining module's."""
    thing = vars(module)[name]
    if name in sys.modules["isample"].__all__ and getattr(sys.modules["isample"], name) is thing:
        return f"isample.{name}"
    home = getattr(thing, "__module__", None)
    defines = isinstance(home, str) and vars(sys.modules.get(home, module)).get(name) is thing
    return f"{home if defines else module.__name__}.{name}"


class _Finder(MetaPathFinder, Loader):
    """Finds the old modules once no other finder does, and loads them."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != "isample" or old not in MOVED:
            return None
        spec = ModuleSpec(name, self, origin=__file__)  # an ImportError names this file
        spec.has_location = True
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Moved(spec.name, f"Moved to {', '.join(MOVED[spec.name.partition('.')[2]])}.")

    def exec_module(self, module: ModuleType) -> None:
        pass


def keep_old_paths() -> None:
    """Makes the old modules importable, and attributes of isample. To be called once, by it."""

    def find(name: str) -> ModuleType:
        if name in MOVED:
            return import_module(f"isample.{name}")
        if name in GONE:
            raise AttributeError(
                f"isample.{name} is gone; {GONE[name]} takes its place (see docs/engine.md)"
            )
        raise AttributeError(f"module 'isample' has no attribute {name!r}")

    sys.meta_path.append(_Finder())
    vars(sys.modules["isample"])["__getattr__"] = find

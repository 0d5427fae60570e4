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
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

# A module of isample 0.1, and where what was in it is now: modules, or packages with all of theirs.
MOVED: dict[str, tuple[str, ...]] = {
    "adapt": ("control.rates", "sources"),
    "ahead": ("scoring.overlap",),
    "calibration": ("sources.calibration",),
    "contradicted": ("scoring.contradicted", "sources"),
    "distributed": ("support.processes", "sources"),
    "draws": ("scoring",),
    "errors": ("support.errors",),
    "feed": ("sources", "training"),
    "gain": ("control",),
    "gate": ("control",),
    "history": ("values",),
    "indexed": ("sources",),
    "loader": ("training", "engine", "values"),
    "loop": ("training", "engine"),
    "losses": ("scoring.losses",),
    "memory": ("sources", "support.errors", "values"),
    "memory_ops": ("ops.memory",),
    "nested": ("support.pytree",),
    "presample": ("sources", "values"),
    "random_state": ("support.random_state",),
    "readback": ("support.readback",),
    "recent": ("control",),
    "reference": ("ops.reference",),
    "registry": ("support.registry",),
    "sampler": ("scoring", "support.clocks", "values"),
    "scores": ("scoring.scores",),
    "step": ("training", "engine"),
    "stopwatch": ("support.clocks",),
    "trainer": ("training",),
    "update": ("training",),
}


class _Moved(ModuleType):
    """An old module: it holds nothing, and looks a name up when it is asked for."""

    def __getattr__(self, name: str) -> Any:
        places = MOVED[self.__name__.removeprefix("isample.")]
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        for module in _modules(places):
            if name in vars(module):
                warnings.warn(
                    f"{self.__name__}.{name} is {_path(module, name)} now; its old path goes with "
                    "isample 0.3",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return vars(module)[name]
        raise AttributeError(
            f"{self.__name__}.{name} is gone; what {self.__name__} held is in "
            + ", ".join(f"isample.{place}" for place in places)
        )


def _modules(places: tuple[str, ...]) -> Iterator[ModuleType]:
    """The modules at ``places`` that exist, a package before its own modules."""
    for place in places:
        try:
            module = import_module(f"isample.{place}")
        except ModuleNotFoundError:
            continue
        yield module
        for each in iter_modules(getattr(module, "__path__", ())):
            yield import_module(f"{module.__name__}.{each.name}")


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
        raise AttributeError(f"module 'isample' has no attribute {name!r}")

    sys.meta_path.append(_Finder())
    vars(sys.modules["isample"])["__getattr__"] = find

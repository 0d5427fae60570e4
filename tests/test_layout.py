"""Who may include or import whom. The order of the house is the order of the data, and nothing
reaches back.

Each law finds its violations, as text, and there are none.
"""

import re

import pytest

from tests import layout

LINES, COLUMNS = 300, 100

STANDARD = re.compile(r"^[a-z_]+$")  # <cmath>, <cstdint>, ...
TORCH = ("torch/", "ATen/", "c10/", "pybind11/", "Python.h")
CSRC = {"core": {"core"}, "cpu": {"core", "cpu"}, "cuda": {"core", "cuda"}}

# A room, and the rooms that it may import; every room may import itself but values.
BELOW = {
    "values": set(),
    "support": {"support", "_C"},
    "ops": {"ops", "support", "values", "_C"},
    "control": {"control", "support", "values"},
    "scoring": {"scoring", "ops", "support", "values"},
    "sources": {"sources", "ops", "support", "values"},
    "engine": {"engine", "sources", "scoring", "control", "ops", "support", "values"},
}
BELOW["training"] = {"training", "engine", *BELOW["engine"]}
BELOW["integrations"] = {"integrations", "", *BELOW["training"]}
BELOW |= {"": {*BELOW, "_moved"}, "__main__": {"_C", ""}, "_moved": set()}
# What bench and examples see of isample: its names, and the rooms that are good on their own.
PUBLIC = {"", "values", "support", "ops", "scoring", "_C"}
SEE_CONTROL = ("bench.sweeps", "bench.scoring")


def room(module):
    """The room of ``isample.ops.draws`` is ``ops``, and that of ``isample`` itself ``""``."""
    return module.partition(".")[2].partition(".")[0]


def may_import(module, imported):
    own, other = (name.split(".")[0] for name in (module, imported))
    if own == "isample":
        if imported == "isample.ops.reference" or other != "isample":
            return False
        return room(imported) in BELOW.get(room(module), set())
    if other == "isample":
        sees_control = room(imported) == "control" and module.startswith(SEE_CONTROL)
        return room(imported) in PUBLIC or sees_control
    return other == own


def import_faults(graph):
    return {
        f"{module} imports {imported}"
        for module, targets in graph.items()
        for imported in targets
        if not may_import(module, imported)
    }


def may_include(folder, header):
    if header.startswith("csrc/"):
        return header.split("/")[1] in CSRC[folder]
    return not header.startswith(TORCH) and (folder != "core" or bool(STANDARD.match(header)))


def include_faults(files):
    return {
        f"{path} includes {header}"
        for path, text in files.items()
        for header in layout.cpp_includes(path, text)
        if path.split("/")[1] in CSRC and not may_include(path.split("/")[1], header)
    }


def torch_faults(imports):
    """Files of isample/control, {path: text}, that import torch; rates.py sets learning rates."""
    named = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)
    return {
        f"{path} imports torch"
        for path, text in imports.items()
        if named.search(text) and not path.endswith("/rates.py")
    }


def size_faults(files):
    return {
        f"{path} has {what}"
        for path, text in files.items()
        for what, many in (
            (f"over {LINES} lines", len(text.splitlines()) > LINES),
            (f"lines over {COLUMNS} characters", any(len(x) > COLUMNS for x in text.splitlines())),
        )
        if many
    }


def mode_faults(files):
    controllers = {
        name
        for path, text in files.items()
        if path.startswith("isample/control/")
        for name in layout.classes(text)
    }
    return {
        f"{path}: {fault}"
        for path, text in files.items()
        for fault in layout.mode_flags(text, controllers)
    }


def python(*folders):
    return layout.code({".py"}, folders)


def control():
    return {path: text for path, text in python("isample").items() if "/control/" in path}


def imports():
    return layout.python_imports(python(*layout.PACKAGES))


LAWS = {
    "include": lambda: include_faults(layout.code(layout.CPP, ["csrc"])),
    "import": lambda: import_faults(imports()),
    "circle": lambda: layout.circles(imports()),
    "torch in control": lambda: torch_faults(control()),
    "size": lambda: size_faults(layout.code({".py", *layout.CPP})),
    "mode": lambda: mode_faults(
        {
            **control(),
            **{p: t for p, t in python("isample").items() if p.startswith("isample/engine/")},
        }
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds(law):
    found = "".join(f"\n  {fault}" for fault in sorted(LAWS[law]()))
    assert not found, f"broken:{found}"


# --- that each law can be broken ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("csrc/core/a.h", '#include "../cpu/score.h"'),
        ("csrc/core/a.h", "#include <cuda_runtime.h>"),
        ("csrc/core/a.h", '#include "cpu/score.h"'),
        ("csrc/cpu/a.cpp", "  #  include <torch/library.h>"),
        ("csrc/cpu/a.cpp", '#include "../torch/checks.h"'),
        ("csrc/cuda/a.cu", '#include "../cpu/score.h"'),
        ("csrc/cuda/a.cuh", "#include <c10/cuda/CUDAGuard.h>"),
    ],
)
def test_an_include_upwards_is_found(path, text):
    assert include_faults({path: text})


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("isample/values.py", "from isample.support import errors"),
        ("isample/support/a.py", "from isample.values import Plan"),
        ("isample/ops/a.py", "import isample.scoring.losses"),
        ("isample/control/a.py", "from isample.ops import draw"),
        ("isample/scoring/a.py", "from ..control.gate import Gate"),
        ("isample/scoring/a.py", "from isample import Trainer"),
        ("isample/sources/a.py", "def f():\n    from isample.scoring import losses"),
        ("isample/sources/a.py", "if TYPE_CHECKING:\n    from isample.training.loop import Loop"),
        ("isample/engine.py", "import importlib\nimportlib.import_module('isample.training.loop')"),
        ("isample/scoring/a.py", "from isample.ops import reference"),
        ("isample/training/a.py", "from bench.common import data"),
        ("isample/loose.py", "import isample.support.errors"),
        ("bench/demo/race.py", "from isample.training.trainer import Trainer"),
        ("bench/demo/race.py", "from isample.control.gain import Gain"),
        ("bench/demo/race.py", "from tests.linear import data"),
        ("examples/a.py", "from isample.sources import memory"),
    ],
)
def test_an_import_upwards_is_found(path, text):
    beside = {"isample/ops/reference.py": "", "isample/scoring/losses.py": ""}
    assert import_faults(layout.python_imports({path: text, **beside}))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("isample/engine.py", "from isample.sources.memory import Memory"),
        ("isample/integrations/lightning.py", "import isample\nfrom isample.training import Loop"),
        ("isample/sources/a.py", "from .memory import Memory\nfrom ..ops import draw"),
        ("bench/demo/race.py", "import isample\nfrom isample.ops import reference\nimport bench.a"),
        ("bench/sweeps/a.py", "from isample.control.gain import Gain"),
    ],
)
def test_an_import_downwards_is_none(path, text):
    assert not import_faults(layout.python_imports({path: text, "isample/ops/reference.py": ""}))


def test_a_circle_is_told_as_one():
    files = {
        "bench/a.py": "import bench.b",
        "bench/b.py": "def late():\n    from bench import c",
        "bench/c.py": "if TYPE_CHECKING:\n    from .a import A",
        "bench/d/__init__.py": "from bench.d.e import E\nimport bench.a",
        "bench/d/e.py": "from bench.d import other",
        "bench/loose.py": "import bench.a",
    }
    assert layout.circles(layout.python_imports(files)) == {
        "bench.a -> bench.b -> bench.c -> bench.a",
        "bench.d -> bench.d.e -> bench.d",
    }


@pytest.mark.parametrize("text", ["x\n" * 301, "x" * 101])
def test_a_file_too_long_is_found(text):
    assert size_faults({"csrc/core/a.h": text})
    assert not size_faults({"csrc/core/a.h": text[: len(text) * 300 // 301][:-1]})


@pytest.mark.parametrize(
    "line", ["if self.mode: pass", "x = mode == 'memory'", "isinstance(x, (str, Speedup))"]
)
def test_a_mode_flag_is_found(line):
    files = {"isample/engine.py": line, "isample/control/a.py": "class Speedup: pass"}
    assert len(mode_faults(files)) == 1
    assert not mode_faults({"isample/engine.py": "isinstance(control, str); model.train(mode)"})


def test_torch_in_control_is_found():
    assert torch_faults({"isample/control/a.py": "def f():\n    from torch import nn"})
    assert not torch_faults({"isample/control/rates.py": "import torch"})

"""Who may include or import whom. The order of the house is the order of the data, and nothing reaches back."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STANDARD = re.compile(r"^[a-z_]+$")  # <cmath>, <cstdint>, ...


def includes(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^">]+)[">]', path.read_text(), re.MULTILINE)


def sources(folder, *patterns):
    return sorted(path for pattern in patterns for path in (ROOT / folder).glob(pattern))


def is_torch(header):
    return header.startswith(("torch/", "ATen/", "c10/", "pybind11/", "Python.h"))


@pytest.mark.parametrize("path", sources("csrc/core", "*.h"), ids=lambda path: path.name)
def test_core_includes_the_standard_library_and_core_alone(path):
    core = {each.name for each in sources("csrc/core", "*.h")}
    for header in includes(path):
        assert STANDARD.match(header) or header in core, header


CPU_ADAPTORS = {"adaptor.h", "score_op.cpp", "cross_entropy_op.cpp", "sampling_ops.cpp"}


@pytest.mark.parametrize("path", sources("csrc/cpu", "*.h", "*.cpp", "*.inc"), ids=lambda path: path.name)
def test_cpu_loops_know_no_torch(path):
    if path.name not in CPU_ADAPTORS:
        assert not [header for header in includes(path) if is_torch(header) or "checks.h" in header]


@pytest.mark.parametrize("path", sources("csrc/cuda", "*.cu", "*.cuh", "*.h"), ids=lambda path: path.name)
def test_cuda_kernels_know_no_torch(path):
    for header in includes(path):
        assert not is_torch(header) and "checks.h" not in header and "cpu/" not in header, header


def imports(path):
    """The isample modules that a file imports, by their last name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = "isample." * bool(node.level) + (node.module or "")
            found.add(package)
            found |= {f"{package}.{name.name}" for name in node.names}
    return {name.removeprefix("isample.").split(".")[0] for name in found if name.startswith("isample.")}


# a layer imports those below it alone
LAYERS = [{"errors"}, {"_C"}, {"ops"}, {"scores", "draws", "gate", "memory", "distributed"}, {"trainer", "loader"}]


def test_python_layers_import_downwards():
    level = {name: depth for depth, names in enumerate(LAYERS) for name in names}
    for path in sources("isample", "*.py"):
        if path.stem in level:
            for name in imports(path):
                assert level.get(name, 0) <= level[path.stem] and name != "reference", (path.name, name)


def test_the_reference_imports_torch_alone_and_the_package_does_not_import_it():
    assert not imports(ROOT / "isample/reference.py")
    for path in (ROOT / "isample").rglob("*.py"):
        assert "reference" not in imports(path), path


def test_files_stay_below_400_lines():
    for folder in ("csrc", "isample", "tests", "bench"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".h", ".cpp", ".inc", ".cu", ".cuh"}:
                assert len(path.read_text().splitlines()) <= 400, path

"""Who may include or import whom. The order of the house is the order of the data, and nothing
reaches back."""

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


@pytest.mark.parametrize(
    "path", sources("csrc/cpu", "*.h", "*.cpp", "*.inc"), ids=lambda path: path.name
)
def test_cpu_loops_know_no_torch(path):
    assert not [header for header in includes(path) if is_torch(header) or "checks.h" in header]


@pytest.mark.parametrize(
    "path", sources("csrc/cuda", "*.cu", "*.cuh", "*.h"), ids=lambda path: path.name
)
def test_cuda_kernels_know_no_torch(path):
    for header in includes(path):
        assert not is_torch(header) and "checks.h" not in header and "cpu/" not in header, header


def test_files_stay_below_400_lines():
    for folder in ("csrc", "isample", "tests", "bench"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in {".py", ".h", ".cpp", ".inc", ".cu", ".cuh"}:
                assert len(path.read_text().splitlines()) <= 500, path

"""The C++ and CUDA sources: who may include whom, and how long lines and files may be."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
KINDS = {".h", ".cpp", ".inc", ".cu", ".cuh"}
SOURCES = sorted(
    path
    for folder in ("csrc", "tests/cpp")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in KINDS
)
STANDARD = re.compile(r"^<[a-z_]+>$")  # <cmath>, <cstdint>, ...
CUDA = {"<cuda_runtime.h>", "<cuda_runtime_api.h>", "<cuda_fp16.h>"}
REACHES = {"core": {"core"}, "cpu": {"core", "cpu"}, "cuda": {"core", "cuda"}}


def includes(path):
    return re.findall(r'^\s*#\s*include\s*([<"][^">]+[">])', path.read_text(), re.MULTILINE)


def folder_of(path, header):
    """The folder of csrc that a header in quotes lies in."""
    return (path.parent / header.strip('"')).resolve().relative_to(ROOT / "csrc").parts[0]


@pytest.mark.parametrize("folder", REACHES)
def test_only_the_torch_folder_includes_torch(folder):
    """Core includes the standard library and core; cpu and cuda include core besides themselves."""
    for path in (ROOT / "csrc" / folder).iterdir():
        for header in includes(path):
            if header.startswith("<"):
                assert STANDARD.match(header) or (folder == "cuda" and header in CUDA), (
                    path,
                    header,
                )
            else:
                assert folder_of(path, header) in REACHES[folder], (path, header)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sources_are_short_and_narrow(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 300 and max(map(len, lines)) <= 100


@pytest.mark.skipif(not shutil.which("clang-format"), reason="needs clang-format on the PATH")
def test_sources_are_formatted():
    command = ["clang-format", "--dry-run", "-Werror", f"--style=file:{ROOT}/.clang-format"]
    done = subprocess.run([*command, *SOURCES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

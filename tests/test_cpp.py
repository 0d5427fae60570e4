"""The C++ tests of the core and the CPU loops, which know neither torch nor Python, run through
CMake and CTest."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake on the PATH")
def test_core_without_torch(tmp_path):
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(tmp_path)],
        ["cmake", "--build", str(tmp_path), "--parallel", "2", "--target", "cpp_tests"],
        ["ctest", "--test-dir", str(tmp_path), "--output-on-failure"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr

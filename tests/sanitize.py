"""Runs the C++ under sanitizers, each build in a folder of its own below build/sanitize.

    python -m tests.sanitize [STAGE ...]

    cpp        tests/cpp of the core and the CPU loops       AddressSanitizer, UBSan
    threads    the CPU loops on several threads              ThreadSanitizer
    standin    the CUDA kernels on the stand-in              AddressSanitizer, UBSan
    ops        the extension, by its tests and by tests.fuzz AddressSanitizer, UBSan

Torch itself is not instrumented. So AddressSanitizer sees what the extension's own code reads and
writes. ThreadSanitizer would not see torch's thread pool, and gets threads of its own.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build/sanitize"
SEEN = ["-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"]
MEMORY = ["-fsanitize=address,undefined", *SEEN]
RACES = ["-fsanitize=thread", *SEEN]
# those that call the ops over many shapes, and none that starts a process or reads the sources
TESTS = [
    "alias",
    "cross_entropy",
    "distribution",
    "draws",
    "fuzz",
    "memory_ops",
    "ops",
    "rows",
    "score",
]


def run(*command, folder=ROOT, **environment):
    subprocess.run(
        [str(word) for word in command], cwd=folder, env={**os.environ, **environment}, check=True
    )


def cmake(folder, flags, target):
    run("cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_CXX_FLAGS={' '.join(flags)}")
    run("cmake", "--build", folder, "--target", target)


def cpp():
    cmake(BUILD / "cpp", MEMORY, "cpp_tests")
    run("ctest", "--test-dir", BUILD / "cpp", "--output-on-failure")


def threads():
    cmake(BUILD / "threads", RACES, "test_threads")
    run(BUILD / "threads/test_threads")


def standin():
    sys.path.insert(0, str(ROOT / "tests/cpp/standin"))
    import build

    build.FLAGS[build.FLAGS.index("-O2")] = "-O1"
    build.FLAGS += MEMORY
    build.LINK_FLAGS += MEMORY
    run(build.build(BUILD / "standin"), 1, 1)


def ops():
    """A copy of the package with the sanitized extension in it, and of its tests: python -m pytest
    takes both from the folder it stands in."""
    flags = " ".join(MEMORY)
    copy = BUILD / "copy"
    command = [sys.executable, "setup.py", "-q", "build_ext"]
    folders = ["--build-lib", BUILD / "lib", "--build-temp", BUILD / "temp"]
    run(*command, *folders, CFLAGS=flags, LDFLAGS=flags, ISAMPLE_CUDA="0")
    shutil.rmtree(copy, ignore_errors=True)
    built = shutil.ignore_patterns("*.so", "__pycache__")
    for part in ("isample", "tests"):
        shutil.copytree(ROOT / part, copy / part, ignore=built)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for extension in (BUILD / "lib/isample").glob("_C.*.so"):
        shutil.copy(extension, copy / "isample")
    watched = {
        # libstdc++ too, or AddressSanitizer does not find what throws exceptions
        "LD_PRELOAD": " ".join(map(_library, ("libasan.so", "libstdc++.so"))),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and torch keep what they have at the end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": "2",
    }
    names = [f"tests/test_{name}.py" for name in TESTS]
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *names,
        folder=copy,
        **watched,
    )


def _library(name):
    compiler = os.environ.get("CXX", "g++")
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, check=True)
    return found.stdout.decode().strip()


STAGES = {"cpp": cpp, "threads": threads, "standin": standin, "ops": ops}


def main():
    for name in sys.argv[1:] or STAGES:
        begin = time.monotonic()
        print(f"--- {name}", flush=True)
        try:
            STAGES[name]()
        except subprocess.CalledProcessError as error:
            print(f"--- {name} failed: {error}")
            return 1
        print(f"--- {name}: nothing found, {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Builds cuda_tests: the kernels' own sources, compiled by g++ against the stand-in. Needs g++ alone.

    python tests/cpp/standin/build.py [folder]        then run  folder/cuda_tests [first seed] [seeds]
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KERNELS = ["score", "distribution", "alias", "draws", "prefix_sum", "importance_sample"]
FLAGS = ["-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


def compile_object(source, target, root):
    language = ["-x", "c++"] if source.suffix == ".cu" else []
    include = f"-I{root}/tests/cpp/standin"
    command = [os.environ.get("CXX", "g++"), *FLAGS, include, *language, "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return target


def compile_kernels(folder, root=ROOT):
    jobs = [(root / f"csrc/cuda/{name}.cu", folder / f"{name}.o", root) for name in KERNELS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: compile_object(*job), jobs))


def compile_tests(folder, root=ROOT):
    sources = sorted((root / "tests/cpp").glob("cuda_*.cpp"))
    sources += [root / "tests/cpp/standin/standin.cpp", root / "csrc/cpu/sampling.cpp"]
    jobs = [(source, folder / f"{source.stem}.o", root) for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: compile_object(*job), jobs))


def link(objects, target):
    subprocess.run([os.environ.get("CXX", "g++"), *map(str, objects), "-o", str(target)], check=True)
    return target


def build(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return link(compile_kernels(folder) + compile_tests(folder), folder / "cuda_tests")


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/standin"))

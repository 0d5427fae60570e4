"""Builds cuda_tests: the kernels' own sources, compiled by g++ against the stand-in. Needs g++
alone.

python tests/cpp/standin/build.py
    then run  build/standin/cuda_tests [first seed] [seeds] [suite]
python tests/cpp/standin/build.py --device [sm_90]
    the same tests by nvcc, for a GPU: build/device/cuda_tests
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CPU_LOOPS = ["sampling", "memory", "score_avx2", "score_avx512", "score_baseline", "score_dispatch"]
KERNELS = [
    "score",
    "distribution",
    "alias",
    "draws",
    "prefix_sum",
    "importance_sample",
    "rows",
    "memory",
    "cross_entropy",
    "pack",
]
LINK_FLAGS = []
FLAGS = ["-std=c++20", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


def compile_object(source, target, root):
    language = ["-x", "c++"] if source.suffix == ".cu" else []
    include = f"-I{root}/tests/cpp/standin"
    command = [
        os.environ.get("CXX", "g++"),
        *FLAGS,
        include,
        *language,
        "-c",
        str(source),
        "-o",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
    return target


def compile_kernels(folder, root=ROOT):
    jobs = [(root / f"csrc/cuda/{name}.cu", folder / f"{name}.cu.o", root) for name in KERNELS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: compile_object(*job), jobs))


def compile_tests(folder, root=ROOT):
    sources = sorted((root / "tests/cpp").glob("cuda_*.cpp"))
    sources += [
        *(root / f"tests/cpp/standin/{name}.cpp" for name in ("standin", "reads")),
        *(root / f"csrc/cpu/{name}.cpp" for name in CPU_LOOPS),
    ]
    jobs = [(source, folder / f"{source.stem}.o", root) for source in sources]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda job: compile_object(*job), jobs))


def link(objects, target):
    subprocess.run(
        [os.environ.get("CXX", "g++"), *LINK_FLAGS, *map(str, objects), "-o", str(target)],
        check=True,
    )
    return target


def build(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return link(compile_kernels(folder) + compile_tests(folder), folder / "cuda_tests")


def build_for_device(folder, architecture):
    folder.mkdir(parents=True, exist_ok=True)
    sources = [ROOT / f"csrc/cuda/{name}.cu" for name in KERNELS]
    sources += sorted((ROOT / "tests/cpp").glob("cuda_*.cpp"))
    cpu_loops = [
        compile_object(ROOT / f"csrc/cpu/{name}.cpp", folder / f"{name}.o", ROOT)
        for name in CPU_LOOPS
    ]
    command = ["nvcc", "-std=c++20", "-O2", "-lineinfo", f"-arch={architecture}", "--threads=0"]
    tests = folder / "tests.a"
    subprocess.run([*command, "-lib", "-x=cu", *map(str, sources), "-o", str(tests)], check=True)
    subprocess.run(
        [*command, str(tests), *map(str, cpu_loops), "-o", str(folder / "cuda_tests")], check=True
    )
    return folder / "cuda_tests"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--device"]:
        print(
            build_for_device(ROOT / "build/device", sys.argv[2] if len(sys.argv) > 2 else "native")
        )
    else:
        print(build(ROOT / "build/standin"))

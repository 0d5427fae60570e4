"""`python -m bench.gpu [stage ...]`: build, test, sanitize and measure on this machine's GPU,
inside nine minutes.

    build       the extension, in place, for this GPU                        setup.py build_ext
    tests       every test that reaches the ops, those for a GPU included    pytest
    sanitizer   the kernels' own tests, plain and under the four tools       tests/cpp
    ops         the ops against torch, cold and warm                         bench/gpu/ops.py
    kernels     the kernels without Python                                   bench/kernels/cuda

Without a stage, all of them in this order. Each stage ends within its own time and says what came
of it; what it found goes to bench/results/<gpu>.json, where a later run of one stage replaces that
stage alone, and from there to <gpu>.md. Ends with 1 if a stage failed. Needs a CUDA build of torch,
nvcc, ninja, pytest, numpy and mpmath, all there already: it installs nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from bench.gpu.report import write_markdown

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench/results"
DEVICE = ROOT / "build/device"


def run(command: list[str], limit: float, **environment: str) -> dict:
    """Runs `command` for at most `limit` seconds; its exit code, time and the end of what it
    printed."""
    begin = time.perf_counter()
    print("+", " ".join(command), flush=True)
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            timeout=limit,
            text=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            errors="replace",
        )
        code, output = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        code, output = 124, output.decode(errors="replace") if isinstance(output, bytes) else output
    tail = output[-6000:]
    print(tail, flush=True)
    return {
        "command": " ".join(command),
        "code": code,
        "seconds": round(time.perf_counter() - begin, 1),
        "tail": tail,
    }


def architecture() -> str:
    return "{}.{}".format(*torch.cuda.get_device_capability())


def build() -> dict:
    environment = {
        "ISAMPLE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": architecture(),
        "MAX_JOBS": str(os.cpu_count()),
    }
    result = run([sys.executable, "setup.py", "build_ext", "--inplace"], 150, **environment)
    result["warnings"] = len(re.findall(r"\bwarning\b", result["tail"], flags=re.IGNORECASE))
    return result


def tests() -> dict:
    skipped = [
        f"--ignore=tests/{name}.py"
        for name in ("test_cuda_standin", "test_cpp", "test_demo", "test_data")
    ]
    result = run([sys.executable, "-m", "pytest", "-q", "tests", "--maxfail=20", *skipped], 120)
    result["summary"] = result["tail"].strip().splitlines()[-1] if result["tail"].strip() else ""
    return result


def compiled(command: list[str], limit: float) -> None:
    done = run(command, limit)
    if done["code"]:
        raise RuntimeError(done["tail"])


def sanitizer() -> dict:
    """The stand-in's tests, compiled for the device: once plain, then under each tool."""
    architecture_flag = f"sm_{architecture().replace('.', '')}"
    compiled([sys.executable, "tests/cpp/standin/build.py", "--device", architecture_flag], 90)
    program = str(DEVICE / "cuda_tests")
    plain = run([program], 40)
    if shutil.which("compute-sanitizer") is None:
        return {
            "code": plain["code"],
            "plain": plain,
            "skipped": "compute-sanitizer is not on the PATH",
        }
    tools = {}
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        tools[tool] = run(
            [
                "compute-sanitizer",
                "--tool",
                tool,
                "--error-exitcode",
                "9",
                program,
                "1",
                "1",
                "importance",
            ],
            25,
        )
    return {
        "code": max(done["code"] for done in (plain, *tools.values())),
        "plain": plain,
        "tools": tools,
    }


def ops() -> dict:
    from bench.gpu.ops import measure_all

    ceiling, rows = measure_all(seconds=0.25)
    return {"code": 0, "ceiling": ceiling, "rows": [asdict(row) for row in rows]}


def kernels() -> dict:
    DEVICE.mkdir(parents=True, exist_ok=True)
    sources = [
        "bench/kernels/cuda/bench.cu",
        *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc/cuda").glob("*.cu")),
    ]
    target = str(DEVICE / "bench")
    compiled(
        ["nvcc", "-std=c++20", "-O3", "-arch=native", "--threads=0", *sources, "-o", target], 60
    )
    return run([target], 50)


STAGES = {stage.__name__: stage for stage in (build, tests, sanitizer, ops, kernels)}


def machine() -> dict:
    device = torch.cuda.get_device_properties(0)
    compiler = subprocess.run(
        ["nvcc", "--version"], capture_output=True, text=True, check=False
    ).stdout
    release = re.search(r"release ([\d.]+)", compiler)
    return {
        "gpu": device.name,
        "multiprocessors": device.multi_processor_count,
        "l2_megabytes": device.L2_cache_size / 2**20,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nvcc": release[1] if release else "unknown",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "stages", nargs="*", metavar="stage", help=f"any of {', '.join(STAGES)}; all by default"
    )
    chosen = parser.parse_args().stages or list(STAGES)
    if unknown := [name for name in chosen if name not in STAGES]:
        parser.error(f"stage must be one of {', '.join(STAGES)}; got {unknown[0]}")
    if torch.version.cuda is None or not torch.cuda.is_available():
        needs = "this command needs a GPU and a CUDA build of torch"
        print(f"no CUDA device: torch {torch.__version__} sees none; {needs}", file=sys.stderr)
        return 1
    if shutil.which("nvcc") is None:
        print(
            "nvcc is not on the PATH: install the CUDA toolkit, or add its bin folder to PATH",
            file=sys.stderr,
        )
        return 1
    path = RESULTS / (
        re.sub(r"\W+", "-", torch.cuda.get_device_name()).strip("-").lower() + ".json"
    )
    report = json.loads(path.read_text()) if path.exists() else {"stages": {}}
    report["machine"] = machine()
    for name in chosen:
        begin = time.perf_counter()
        try:
            result = STAGES[name]()
        # one stage's failure must not keep the others from running; it is reported and counted
        except Exception as error:
            result = {"code": 1, "error": f"{type(error).__name__}: {error}"[-3000:]}
        result["seconds"] = round(time.perf_counter() - begin, 1)
        report["stages"][name] = result
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")
        write_markdown(report, path.with_suffix(".md"))
        print(
            f"== {name}: {'ok' if result['code'] == 0 else 'FAILED'} in {result['seconds']} s",
            flush=True,
        )
    return int(any(report["stages"][name]["code"] for name in chosen))


if __name__ == "__main__":
    sys.exit(main())

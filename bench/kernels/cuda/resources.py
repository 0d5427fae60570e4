"""What the compiler made of the kernels: registers, shared memory and spills of each, and the width
of its global loads.

    python bench/kernels/cuda/resources.py [sm_80 sm_90 sm_100]

Needs nvcc, no GPU. Where a cuobjdump is at hand (the toolkit's, or the one that the package triton
carries), the 16-byte loads of each kernel are counted in the machine code. Ends with 1 if the
compiler warns, a kernel spills, or the score kernels read memory in pieces of less than 16 bytes.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FLAGS = ["-std=c++20", "-O3", "-lineinfo", "-Xptxas=-v", "-Xcompiler=-Wall,-Wextra"]


def find_cuobjdump():
    found = shutil.which("cuobjdump")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None:
        bundled = Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"
        found = str(bundled) if bundled.exists() else None
    return found


def demangle(names):
    done = subprocess.run(
        ["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return dict(
        zip(
            names,
            (line.replace("isample::cuda::", "") for line in done.stdout.splitlines()),
            strict=True,
        )
    )


def compile_one(source, architecture, folder):
    target = folder / f"{source.stem}.{architecture}.o"
    command = ["nvcc", *FLAGS, f"-arch={architecture}", "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = done.stdout + done.stderr
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{report}")
    return target, report


def kernels_of(report):
    """{mangled name: (registers, bytes of spill stores and loads)} from what ptxas says."""
    pattern = (
        r"Function properties for (\w+)\n\s*\d+ bytes stack frame, "
        r"(\d+) bytes spill stores, (\d+) bytes spill loads\n.*?Used (\d+) registers"
    )
    return {m[0]: (int(m[3]), int(m[1]) + int(m[2])) for m in re.findall(pattern, report)}


def global_loads(cuobjdump, target):
    """{mangled name: {bytes of a load: how many}} from the machine code."""
    code = subprocess.run(
        [cuobjdump, "-sass", str(target)], capture_output=True, text=True, check=True
    ).stdout
    loads = {}
    for part in code.split("Function : ")[1:]:
        widths = loads.setdefault(part.split(None, 1)[0], {})
        for options in re.findall(r"\bLDG((?:\.\w+)*)", part):
            width = (
                16
                if ".128" in options
                else 8
                if ".64" in options
                else 2
                if ".U16" in options
                else 1
                if ".U8" in options
                else 4
            )
            widths[width] = widths.get(width, 0) + 1
    return loads


def main():
    architectures = sys.argv[1:] or ["sm_80", "sm_90", "sm_100"]
    cuobjdump = find_cuobjdump()
    sources = sorted((ROOT / "csrc/cuda").glob("*.cu"))
    faults = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        jobs = [
            (source, architecture, Path(folder))
            for architecture in architectures
            for source in sources
        ]
        for (source, architecture, _), (target, report) in zip(
            jobs, pool.map(lambda job: compile_one(*job), jobs), strict=True
        ):
            faults += [
                f"{source.name}: {line}"
                for line in report.splitlines()
                if "warning" in line.lower()
            ]
            kernels = kernels_of(report)
            loads = global_loads(cuobjdump, target) if cuobjdump else {}
            names = demangle(list(kernels))
            for mangled, (registers, spills) in kernels.items():
                name = re.sub(r"^void ", "", names[mangled]).split("(")[0]
                widths = loads.get(mangled, {})
                shown = " ".join(
                    f"{count}x{width}B" for width, count in sorted(widths.items(), reverse=True)
                )
                print(
                    f"{architecture:<7} {name:<45} {registers:>3} registers  "
                    f"{spills:>3} B spilled  loads {shown}"
                )
                if spills:
                    faults.append(f"{name} spills {spills} bytes on {architecture}")
                if (
                    widths
                    and re.match(r"(softmax_score|importance_sample)_kernel", name)
                    and widths.get(16, 0) < 6
                ):
                    faults.append(f"{name} lacks its 16-byte loads on {architecture}")
    print("\n".join(faults) if faults else "no warnings, no spills")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

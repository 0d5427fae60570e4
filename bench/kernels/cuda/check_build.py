"""Builds the extension for CUDA without a GPU and checks the result: `make cuda-build`.

For sm_80, sm_90, sm_100 and PTX, against a CUDA build of torch: compiles, links, imports, finds
every op's CUDA registration. Prints registers, shared memory and spills of every kernel as the
assembler reports them. Ends with 1 if the build warns, a kernel spills or has no __launch_bounds__,
without which its registers may not suffice for its largest block, or an op has no CUDA
implementation.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILD = ROOT / "build/cuda"

CHECK = """
import torch, isample
from isample import _C
print(_C.build_info())
names = [name.split("::") for name in torch._C._dispatch_get_all_op_names()]
# rows is made of _add_row_squares and _scale_rows
ops = sorted(name for space, name in names if space == "isample" and name != "rows")
has = lambda op: torch._C._dispatch_has_kernel_for_dispatch_key("isample::" + op, "CUDA")
missing = [op for op in ops if not has(op)]
print("registered for CUDA:", [op for op in ops if has(op)])
raise SystemExit(f"without a CUDA registration: {missing}" if missing else 0)
"""


def build() -> str:
    """Builds into build/cuda, printing as it goes; returns what the build said."""
    environment = {**os.environ, "ISAMPLE_CUDA": "1", "MAX_JOBS": str(os.cpu_count())}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # setuptools would warn of it
    command = [sys.executable, "setup.py", "build", "--build-base", str(BUILD)]
    lines = []
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for line in process.stdout:
            lines.append(line)
            if not line.startswith(("ptxas", "    ")):
                print(line[:200], end="" if len(line) <= 200 else "\n", flush=True)
    if process.returncode:
        raise SystemExit("".join(lines[-40:]))
    return "".join(lines)


def demangle(names: list[str]) -> list[str]:
    done = subprocess.run(
        ["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return [
        re.sub(r"^void |isample::cuda::|\(anonymous namespace\)::", "", name)
        for name in done.stdout.splitlines()
    ]


def resources(log: str) -> list[tuple[str, str, int, int, int]]:
    """(kernel, architecture, registers, bytes of static shared memory, bytes spilled) out of what
    ptxas -v says."""
    found = re.findall(
        r"Compiling entry function '(\w+)' for '(sm_\w+)'.*?(\d+) bytes spill stores, "
        r"(\d+) bytes spill loads\n"
        r".*?Used (\d+) registers([^\n]*)",
        log,
        flags=re.DOTALL,
    )
    names = demangle([entry[0] for entry in found])
    shared = [re.search(r"(\d+) bytes smem", entry[5]) for entry in found]
    return sorted(
        (name, entry[1], int(entry[4]), int(size[1]) if size else 0, int(entry[2]) + int(entry[3]))
        for name, entry, size in zip(names, found, shared)
    )


def unbounded_kernels() -> list[str]:
    """The kernels that leave the compiler free to use more registers than a block may have."""
    sources = [path.read_text() for path in sorted((ROOT / "csrc/cuda").glob("*.cu*"))]
    return [
        name for text in sources for name in re.findall(r"__global__\s+void\s+(\w+_kernel)", text)
    ]


def main() -> int:
    for stale in BUILD.glob("temp*/**/*.o"):
        if "cuda" in stale.parts[-2:]:
            stale.unlink()  # so that the compiler reports on every kernel
    log = build()
    faults = [
        line for line in log.splitlines() if re.search(r"\bwarning\b", line, flags=re.IGNORECASE)
    ]
    faults += [f"{kernel} has no __launch_bounds__" for kernel in unbounded_kernels()]
    rows = resources(log)
    print(f"\n{'kernel':<60} {'for':<8} registers  shared  spilled")
    for name, architecture, registers, shared, spilled in rows:
        print(f"{name:<60} {architecture:<8} {registers:>9}  {shared:>6}  {spilled:>7}")
        if spilled:
            faults.append(f"{name} spills {spilled} bytes on {architecture}")
    if not rows:
        faults.append("the assembler reported no kernel")
    (library,) = BUILD.glob("lib.*")
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        cwd=BUILD,
        env={**os.environ, "PYTHONPATH": str(library)},
        check=False,
    )
    if done.returncode:
        faults.append("the built package fails its check, see above")
    print(
        "\n".join(["FAILED:", *faults])
        if faults
        else f"\nbuilt, linked and registered; {len(rows)} kernels, no spills, no warnings"
    )
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

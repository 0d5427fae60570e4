"""Builds the extension for CUDA without a GPU and checks the result: `make cuda-build`.

For sm_80, sm_90, sm_100 and PTX, against a CUDA build of torch: compiles, links, imports, finds
every op's CUDA registration. The kernels alone are compiled for every architecture that they are to
run on, see :mod:`bench.kernels.cuda.resources`. Ends with 1 if a build warns, a kernel fails that
check, or an op has no CUDA implementation.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.kernels.cuda.resources import examine, table, warnings_of

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
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            print(line[:200], end="" if len(line) <= 200 else "\n", flush=True)
    if process.returncode:
        raise SystemExit("".join(lines[-40:]))
    return "".join(lines)


def main() -> int:
    faults = warnings_of(build())
    kernels, found = examine()
    faults += found
    print(f"\n{table(kernels)}")
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
        else f"\nbuilt, linked and registered; {len(kernels)} kernels can run, no warnings"
    )
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

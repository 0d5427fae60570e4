"""What the compiler made of the kernels: threads, registers, shared memory and spills of each, and
the width of its global loads.

    python -m bench.kernels.cuda.resources [sm_90 ...]

Needs nvcc, no GPU. By default it compiles for every architecture that isample means to run on.
Where a cuobjdump is at hand (the toolkit's, or the one that the package triton carries), the
16-byte loads of the score kernels are counted in the machine code.

Ends with 1 if the compiler warns, or a kernel spills registers, has no __launch_bounds__, could not
launch a block of its bounds, or reads logits in pieces of less than 16 bytes.
"""

import importlib.util
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")
FLAGS = ["-std=c++20", "-O3", "-lineinfo", "-Xptxas=-v", "-Xcompiler=-Wall,-Wextra"]
WARP = 32  # threads
UNIT = 256  # registers: a warp gets a multiple of it
REGISTERS = 65536  # that a block may have, on each of these architectures
# bytes: code for sm_120 takes more registers than the bounds of the double and the 1,024-thread
# kernels leave, by a few; fewer threads would cost all the others more than that
TOLERATED = {"sm_120": 64}
WIDE_LOADS = 6  # of 16 bytes, at least, in a kernel that reads rows of logits
READS_ROWS = re.compile(r"(softmax_score|importance_sample)_kernel")


@dataclass(frozen=True, order=True)
class Kernel:
    """One kernel's machine code for one architecture.

    ``threads`` are those of its largest block; None where nothing bounds them. ``shared`` and
    ``spilled`` are bytes.
    """

    name: str
    architecture: str
    threads: int | None
    registers: int
    shared: int
    spilled: int

    @property
    def of_a_block(self) -> int:
        """Registers that its largest block takes, as the hardware hands them out."""
        warps = math.ceil((self.threads or 0) / WARP)
        return warps * math.ceil(self.registers * WARP / UNIT) * UNIT

    @property
    def faults(self) -> list[str]:
        """What keeps it from running, or from running fast."""
        where, found = f"{self.name} on {self.architecture}", []
        if self.spilled > TOLERATED.get(self.architecture, 0):
            found.append(f"{where} spills {self.spilled} bytes")
        if self.threads is None:
            found.append(f"{where} has no __launch_bounds__")
        if self.of_a_block > REGISTERS:
            found.append(
                f"{where} needs {self.of_a_block} registers for a block of {self.threads} threads "
                f"({self.registers} a thread); a block has at most {REGISTERS}"
            )
        return found


# ---- What the compiler says ----------------------------------------------------------------------


def kernels_of(log: str, assembly: list[str]) -> list[Kernel]:
    """Those that ``ptxas -v`` reports in ``log``; ``assembly`` is their PTX, a text for each
    architecture."""
    bounds = {key: threads for text in assembly for key, threads in bounds_of(text).items()}
    found = []
    for part in log.split("Compiling entry function ")[1:]:
        entry = re.match(r"'(\w+)' for '(sm_\w+)'", part)
        used = re.search(r"Used (\d+) registers([^\n]*)", part)
        if entry is None or used is None:
            raise ValueError(f"ptxas reported a kernel in a form of its own: {part[:300]}")
        spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", part)
        shared = re.search(r"(\d+) bytes smem", used[2])
        found.append(
            Kernel(
                entry[1],
                entry[2],
                bounds.get((entry[1], entry[2])),
                int(used[1]),
                int(shared[1]) if shared else 0,
                sum(map(int, spilled)),
            )
        )
    return found


def bounds_of(assembly: str) -> dict[tuple[str, str], int | None]:
    """{(kernel, architecture): threads of its largest block} of one PTX text."""
    target = re.search(r"^\.target (sm_\w+)", assembly, flags=re.MULTILINE)
    if target is None:
        raise ValueError(f"PTX must name its target; got {assembly[:300]}")
    bounds = {}
    for name, header in re.findall(r"\.entry\s+(\w+)([^{]*)", assembly):
        sizes = re.search(r"\.maxntid\s+([\d, ]+)", header)
        bounds[name, target[1]] = sizes and math.prod(map(int, sizes[1].split(",")))
    return bounds


def warnings_of(log: str) -> list[str]:
    """The lines of a compiler's output that warn, each once."""
    warns = re.compile(r"\bwarning\b", flags=re.IGNORECASE)
    return list(dict.fromkeys(line for line in log.splitlines() if warns.search(line)))


def wide_loads(code: str) -> dict[tuple[str, str], int]:
    """{(kernel, architecture): its global loads of 16 bytes} in what ``cuobjdump -sass`` prints."""
    return {
        (part.split(None, 1)[0], of_one.split(None, 1)[0]): len(
            re.findall(r"\bLDG(?:\.\w+)*\.128\b", part)
        )
        for of_one in code.split("code for ")[1:]
        for part in of_one.split("Function : ")[1:]
    }


def demangled(names: list[str]) -> list[str]:
    done = subprocess.run(
        ["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    return [
        re.sub(r"^void |isample::cuda::|\(anonymous namespace\)::", "", name)
        for name in done.stdout.splitlines()
    ]


# ---- Compiling -----------------------------------------------------------------------------------


def compile_one(
    source: Path, architectures: tuple[str, ...], folder: Path
) -> tuple[list[Kernel], list[str]]:
    """The kernels of ``source``, their names mangled, and what is wrong with them."""
    target = folder / f"{source.stem}.o"
    command = ["nvcc", *FLAGS, "-keep", "-keep-dir", str(folder), "-c", str(source)]
    for name in architectures:
        number = name.removeprefix("sm_")
        command.append(f"-gencode=arch=compute_{number},code=sm_{number}")
    done = subprocess.run(
        [*command, "-o", str(target)], capture_output=True, text=True, check=False
    )
    log = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{log}")
    kernels = kernels_of(log, [path.read_text() for path in folder.glob(f"{source.stem}.*ptx")])
    faults = [f"{source.name}: {line}" for line in warnings_of(log)]
    silent = set(architectures) - {kernel.architecture for kernel in kernels}
    faults += [f"{source.name}: no kernel was reported for {name}" for name in sorted(silent)]
    return kernels, faults + narrow_loads(kernels, target)


def narrow_loads(kernels: list[Kernel], target: Path) -> list[str]:
    """The kernels of the object file ``target`` that read rows in small pieces."""
    cuobjdump = find_cuobjdump()
    readers = [kernel for kernel in kernels if READS_ROWS.search(kernel.name)]
    if cuobjdump is None or not readers:
        return []
    code = subprocess.run(
        [cuobjdump, "-sass", str(target)], capture_output=True, text=True, check=True
    ).stdout
    loads = wide_loads(code)
    return [
        f"{demangled([kernel.name])[0]} on {kernel.architecture} lacks its 16-byte loads"
        for kernel in readers
        if loads[kernel.name, kernel.architecture] < WIDE_LOADS
    ]


def find_cuobjdump() -> str | None:
    found = shutil.which("cuobjdump")
    triton = importlib.util.find_spec("triton")
    if found is None and triton is not None and triton.origin is not None:
        bundled = Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"
        found = str(bundled) if bundled.exists() else None
    return found


def examine(architectures: tuple[str, ...] = ARCHITECTURES) -> tuple[list[Kernel], list[str]]:
    """All kernels, compiled for all ``architectures``, and what is wrong with them."""
    sources = sorted((ROOT / "csrc/cuda").glob("*.cu"), key=lambda path: -path.stat().st_size)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda source: compile_one(source, architectures, Path(folder)), sources)
        parts = list(done)
    mangled = [kernel for kernels, _ in parts for kernel in kernels]
    names = demangled([kernel.name for kernel in mangled])
    kernels = sorted(
        Kernel(name, k.architecture, k.threads, k.registers, k.shared, k.spilled)
        for name, k in zip(names, mangled, strict=True)
    )
    faults = [fault for _, found in parts for fault in found]
    return kernels, faults + [fault for kernel in kernels for fault in kernel.faults]


def table(kernels: list[Kernel]) -> str:
    """A line a kernel: its largest block, its static shared memory in bytes, and its registers on
    each architecture."""
    architectures = sorted({k.architecture for k in kernels}, key=lambda name: int(name[3:]))
    lines = [f"{'kernel':<64} {'threads':>7} {'shared':>6}  registers on {' '.join(architectures)}"]
    for name in dict.fromkeys(kernel.name for kernel in kernels):
        own = {kernel.architecture: kernel for kernel in kernels if kernel.name == name}
        threads = "/".join(sorted({str(kernel.threads or "?") for kernel in own.values()}))
        registers = " ".join(f"{own[at].registers:>{len(at)}}" for at in architectures)
        shared = max(kernel.shared for kernel in own.values())
        lines.append(f"{name[:64]:<64} {threads:>7} {shared:>6}               {registers}")
    return "\n".join(lines)


def main() -> int:
    kernels, faults = examine(tuple(sys.argv[1:]) or ARCHITECTURES)
    print(table(kernels))
    print("\n".join(["FAILED:", *faults] if faults else ["no warnings; all kernels can run"]))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

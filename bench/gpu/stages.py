"""The stages of a call: what each runs, for how long at most, and where its output goes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import packed
from .processes import ROOT, WORK, Deadline, Ended, last_line, run
from .programs import Programs

PYTHON = sys.executable
EXTENSION = ROOT / "isample"
LOAD, BUILD = 30, 170  # seconds to try the extension, and to build it where it does not load

# module -> the package that has it
NEEDED = {"pytest": "pytest", "xdist": "pytest-xdist"}

TRY = """
import torch, isample
from isample import _C
labels = torch.zeros(8, dtype=torch.int64).cuda()
score, loss = isample.softmax_score(torch.ones(8, 5).cuda(), labels)
if not (abs(loss.cpu() - torch.tensor(5.0).log()) < 1e-6).all():
    raise SystemExit(f"the loss of five equal logits is {loss.tolist()}, not log 5")
print(_C.build_info())
"""


@dataclass
class Outcome:
    """``said`` is one sentence about what came of a stage; its output is in ``file``."""

    ok: bool
    said: str
    file: str
    seconds: float = 0.0


@dataclass
class Call:
    """What the stages of one call share. ``folder`` is where their files go."""

    folder: Path
    facts: dict
    programs: Programs


Told = tuple[bool, str]


@dataclass(frozen=True)
class Stage:
    """``limit`` is in seconds. ``run(call, file, until)`` gives whether it passed, and a sentence.
    ``group``: stages of one group that follow each other run at once."""

    file: str
    limit: float
    run: Callable[[Call, Path, Deadline], Told]
    group: str | None = None
    needs_extension: bool = False


def told(ended: Ended, output: Path) -> Told:
    end = last_line(output)
    return ended.ok, end if ended.ok and end else f"{ended}: {end}" if end else str(ended)


# ---- The machine and the extension --------------------------------------------------------------


def machine(call: Call, file: Path, until: Deadline) -> Told:
    """Everything else needs a device, and fails by this stage's sentence where there is none."""
    errors = WORK / "machine.txt"
    ended = run([PYTHON, "-m", "bench.gpu.machine"], file, until.left, errors=errors)
    if not ended.ok:
        call.facts["problem"] = f"no CUDA device: asking for one: {ended}: {last_line(errors)}"
        return False, call.facts["problem"]
    call.facts.update(json.loads(file.read_text()))
    return call.facts["problem"] is None, call.facts["problem"] or call.facts["gpu"]


def extension(call: Call, file: Path, until: Deadline) -> Told:
    """The packed one if it loads, else one that is built here."""
    reason = packed.refusal(packed.EXTENSION, call.facts)
    if reason is None:
        copied = EXTENSION / packed.EXTENSION.file
        shutil.copyfile(packed.PACK / packed.EXTENSION.file, copied)
        ended = run([PYTHON, "-c", TRY], file, until.within(LOAD).left)
        if ended.ok:
            return True, f"the packed one of commit {packed.commit()}: {last_line(file)}"
        copied.unlink()
        reason = f"the packed extension does not load ({ended}: {last_line(file)})"
    if call.facts["nvcc"] is None:
        return False, f"{reason}, and nvcc is not on the PATH: install the CUDA toolkit"
    environment = {
        "ISAMPLE_CUDA": "1",
        "TORCH_CUDA_ARCH_LIST": call.facts["capability"],
        "MAX_JOBS": str(os.cpu_count()),
    }
    command = [PYTHON, "setup.py", "build_ext", "--inplace"]
    built = run(command, file, until.left, environment=environment)
    if not built.ok:
        return False, f"{reason}; the build here failed ({built}: {last_line(file)})"
    tried = run([PYTHON, "-c", TRY], WORK / "try.txt", until.within(LOAD).left)
    said = f"built here in {built.seconds:.0f} s, since {reason}: {last_line(WORK / 'try.txt')}"
    return tried.ok, said if tried.ok else f"{said} ({tried})"


# ---- Correctness --------------------------------------------------------------------------------


def device_test_files() -> list[str]:
    """test_cuda_standin.py is for machines without a GPU."""
    found = sorted((ROOT / "tests").glob("test_cuda*.py"))
    return [f"tests/{path.name}" for path in found if path.name != "test_cuda_standin.py"]


def pytest_command(files: Sequence[str | os.PathLike]) -> list[str | os.PathLike]:
    """No signal gets a test out of a call into C, such as a wait for the device. So each failure is
    told at once, a test that hangs shows its stack, and pytest-timeout ends its worker."""
    command = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "-p", "bench.gpu.told"]
    command += ["-q", "-rfE", "--tb=short", "-n", "8", "-o", "faulthandler_timeout=50"]
    if importlib.util.find_spec("pytest_timeout"):
        command += ["--timeout", "60", "--timeout-method", "thread"]
    return [*command, *files]


def tests(call: Call, file: Path, until: Deadline) -> Told:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return (
            False,
            f"the tests need {', '.join(missing)}: pip install {' '.join(NEEDED.values())}",
        )
    command = pytest_command(device_test_files())
    # eight workers share the cores, and sanitizers run beside them
    ended = run(command, file, until.left, environment={"OMP_NUM_THREADS": "2"})
    ok, said = told(ended, file)
    if ok and " passed" not in said:
        return False, f"no test ran: {said}"
    return ok, said


def device_tests(call: Call, file: Path, until: Deadline) -> Told:
    program = call.programs.get(packed.DEVICE_TESTS, until)
    return told(run([program], file, until.left), file)


def sanitizer(call: Call, file: Path, until: Deadline) -> Told:
    """The kernels' own tests and every op, each under its tools, all at once."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        return False, "compute-sanitizer is not on the PATH: install the CUDA toolkit"
    program = call.programs.get(packed.DEVICE_TESTS, until)
    every_op = [PYTHON, "-m", "bench.gpu.every_op"]
    watched: dict[str, list] = {"every op": every_op}
    for name in ("memcheck", "racecheck", "synccheck"):
        watched[f"{name} of the kernels"] = [program, "1", "1", "importance"]
    for name in ("memcheck", "initcheck"):
        watched[f"{name} of every op"] = every_op
    outputs = {name: WORK / f"sanitizer-{name.replace(' ', '-')}.txt" for name in watched}

    def watch(name: str) -> Ended:
        check = name.split(" of ")[0]
        under = [] if check == name else [tool, "--tool", check, "--error-exitcode", "9"]
        # cached blocks would hide an access beside one
        environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "OMP_NUM_THREADS": "2"}
        command = [*under, *watched[name]]
        ended = run(command, outputs[name], until.left, environment=environment)
        with open(file, "a") as out:
            out.write(f"== {name}: {ended}, {ended.seconds:.0f} s\n")
            out.write(outputs[name].read_text(errors="replace")[-(2**20) :] + "\n")
        return ended

    with ThreadPoolExecutor(len(watched)) as pool:
        ended = dict(zip(watched, pool.map(watch, watched)))
    bad = {name: each for name, each in ended.items() if not each.ok}
    said = [f"{name}: {each}: {last_line(outputs[name])}" for name, each in bad.items()]
    return not bad, "; ".join(said) or f"{', '.join(watched)}: clean"


# ---- Speeds -------------------------------------------------------------------------------------


def kernels(call: Call, file: Path, until: Deadline) -> Told:
    program = call.programs.get(packed.KERNELS, until)
    errors = WORK / "kernels.txt"
    ended = run([program, "--json"], file, until.left, errors=errors)
    lines = len(file.read_text().splitlines())
    return ended.ok, f"{lines} lines" if ended.ok else f"{ended} after {lines} lines: " + (
        last_line(errors) or "no message"
    )


def liger() -> dict[str, str]:
    """The packed wheel of Liger, unpacked where Python finds it."""
    wheels = sorted(packed.PACK.glob("liger_kernel-*.whl"))
    if not wheels:
        return {}
    site = WORK / wheels[-1].stem
    with zipfile.ZipFile(wheels[-1]) as wheel:
        wheel.extractall(site)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))}


def written(module: str) -> Callable[[Call, Path, Deadline], Told]:
    """A stage of a module that writes a line of JSON for each result into the stage's file, and
    ends by itself before its limit."""

    def stage(call: Call, file: Path, until: Deadline) -> Told:
        output = WORK / f"{file.stem}.txt"
        command = [PYTHON, "-m", module, "--out", file, "--limit", f"{until.left - 5:.0f}"]
        ended = run(command, output, until.left, environment=liger())
        return told(ended, output)

    return stage


TOGETHER = "correctness"
FIRST = {
    "machine": Stage("machine.json", 20, machine),
    "extension": Stage("extension.txt", BUILD, extension),
    "tests": Stage("tests.txt", 110, tests, TOGETHER, True),
    "device_tests": Stage("device_tests.txt", 110, device_tests, TOGETHER),
    "sanitizer": Stage("sanitizer.txt", 110, sanitizer, TOGETHER, True),
    "kernels": Stage("kernels.jsonl", 60, kernels),
    "ops": Stage("ops.jsonl", 130, written("bench.gpu.ops"), needs_extension=True),
}
SECOND = {
    "machine": FIRST["machine"],
    "extension": FIRST["extension"],
    "overhead": Stage("overhead.jsonl", 95, written("bench.gpu.overhead"), needs_extension=True),
    "training": Stage("training.jsonl", 215, written("bench.gpu.training"), needs_extension=True),
}
STAGES = {**FIRST, **SECOND}
CALLS = {"first": tuple(FIRST), "second": tuple(SECOND)}


def failure(file: Path, said: str) -> str:
    """What the file of a stage holds that wrote nothing: why."""
    return (json.dumps({"error": said}) if file.suffix == ".jsonl" else said) + "\n"


def tell_failure(file: Path, said: str) -> None:
    if not file.exists() or file.stat().st_size == 0:
        file.write_text(failure(file, said))

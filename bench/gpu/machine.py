"""What machine this is, as JSON, and in one sentence why its GPU cannot be used:
`python -m bench.gpu.machine`. The runner asks in a process of its own, which may hang or crash."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence

import torch


def problem() -> str | None:
    """Why torch has no CUDA device here, and what to do about it; None if it has one."""
    named = f"torch {torch.__version__}"
    if torch.version.cuda is None:
        return f"{named} is built without CUDA: install a CUDA build of torch"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return refused(str(error), f"{named} with CUDA {torch.version.cuda}")
    if torch.cuda.device_count() == 0:
        return f"no CUDA device: {named} sees none; run this where an NVIDIA GPU is"
    capability = torch.cuda.get_device_capability()
    if not has_code(capability, torch.cuda.get_arch_list()):
        number = "{}.{}".format(*capability)
        return (
            f"{named} has no code for compute capability {number} of "
            f"{torch.cuda.get_device_name()}: install a build of torch for it"
        )
    return None


def refused(said: str, named: str) -> str:
    """A sentence from what CUDA's start-up said."""
    if "too old" in said:
        return f"the NVIDIA driver is too old for {named}: update the driver"
    first = said.strip().split("\n")[0].split(". ")[0].rstrip(".")
    return f"no CUDA device: {named} says {first!r}; run this where an NVIDIA GPU is"


def has_code(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """Whether one of ``architectures`` (sm_80, compute_90, sm_100a, ...) runs on a device: native
    code within its major version, PTX on all later ones, and what ends in a letter on its own."""
    for kind, major, minor, own in re.findall(
        r"\b(sm|compute)_(\d+)(\d)([a-z]?)\b", " ".join(architectures)
    ):
        code = int(major), int(minor)
        if code == capability:
            return True
        if not own and code < capability and (kind == "compute" or code[0] == capability[0]):
            return True
    return False


def nvcc_release() -> str | None:
    if shutil.which("nvcc") is None:
        return None
    said = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=False)
    release = re.search(r"release ([\d.]+)", said.stdout)
    return release[1] if release else "unknown"


def driver() -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    fields = "driver_version,clocks.sm,clocks.mem,memory.total"
    said = subprocess.run(
        ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or None


def facts() -> dict:
    """``problem`` is None, or the sentence; the facts about a device are there where one is."""
    known = {
        "problem": problem(),
        "python": platform.python_version(),
        "tag": sys.implementation.cache_tag,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "nvcc": nvcc_release(),
        "cores": os.cpu_count(),
    }
    if known["problem"] is None:
        device = torch.cuda.get_device_properties(0)
        known |= {
            "gpu": device.name,
            "capability": f"{device.major}.{device.minor}",
            "multiprocessors": device.multi_processor_count,
            "memory_gib": round(device.total_memory / 2**30, 1),
            "l2_mib": device.L2_cache_size / 2**20,
            "driver, clocks, memory": driver(),
        }
    return known


if __name__ == "__main__":
    print(json.dumps(facts(), indent=1))

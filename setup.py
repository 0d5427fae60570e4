"""Builds isample._C: the C++ ops, and the CUDA ops where a CUDA build of torch and nvcc are found.

ISAMPLE_CUDA=auto (default) takes CUDA if it can, =1 insists on it, =0 leaves it out. No GPU need be
present. TORCH_CUDA_ARCH_LIST chooses the GPU architectures.
"""

import os
import re
import shutil
import subprocess
import sysconfig
from glob import glob
from pathlib import Path

import torch
from setuptools import setup

ARCHITECTURES = "8.0;9.0;10.0+PTX"


def cuda_home():
    """The folder of the CUDA toolkit, or None. `nvcc` on the PATH may be a wrapper, so nvcc itself
    is asked for it."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    if shutil.which("nvcc"):
        plan = subprocess.run(
            ["nvcc", "--dryrun", "-c", "none.cu"], capture_output=True, text=True, check=False
        )
        homes += re.findall(r"TOP=(.*)", plan.stderr)
    for home in filter(None, homes):
        home = os.path.realpath(home.strip())
        has_headers = glob(f"{home}/include/cuda_runtime.h") or glob(
            f"{home}/targets/*/include/cuda_runtime.h"
        )
        if has_headers and os.path.exists(f"{home}/bin/nvcc"):
            return home
    return None


def why_no_cuda(home):
    """What is missing for a CUDA build, as a sentence, or None if nothing is."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA: install a CUDA build of torch"
    if home is None:
        return "no CUDA toolkit was found: put nvcc on the PATH or set CUDA_HOME to its folder"
    if not glob("csrc/cuda/*.cu"):
        return "there are no CUDA sources in csrc/cuda"
    return None


def choose_cuda():
    """(home, None) for a build with CUDA, (None, reason) for one without."""
    wanted = os.environ.get("ISAMPLE_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise SystemExit(f"ISAMPLE_CUDA must be auto, 0 or 1, got {wanted!r}")
    if wanted == "0":
        return None, "left out by ISAMPLE_CUDA=0"
    home = cuda_home()
    reason = why_no_cuda(home)
    if reason and wanted == "1":
        raise SystemExit(f"ISAMPLE_CUDA=1 asks for CUDA, but {reason}")
    return (None, reason) if reason else (home, None)


def extension():
    home, reason = choose_cuda()
    if home:
        os.environ["CUDA_HOME"] = home  # before cpp_extension is imported, which guesses otherwise
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    from torch.utils import cpp_extension

    sources = sorted([*glob("csrc/torch/*.cpp"), *glob("csrc/cpu/*.cpp")])
    if not home:
        sources = [source for source in sources if "/cuda_" not in source]
    # without -fopenmp at::parallel_for silently runs on one thread; the runtime is the one that
    # torch has loaded
    flags = ["-std=c++20", "-O3", "-Wall", "-Wextra", "-fopenmp"]
    # torch's own headers are not ours to warn about
    system = [
        *cpp_extension.include_paths("cuda" if home else "cpu"),
        sysconfig.get_paths()["include"],
    ]
    architectures = os.environ["TORCH_CUDA_ARCH_LIST"] if home else ""
    macros = [
        ("ISAMPLE_CUDA_ARCHITECTURES", f'"{architectures}"'),
        ("ISAMPLE_WHY_NO_CUDA", f'"{reason or ""}"'),
    ]
    kind = cpp_extension.CUDAExtension if home else cpp_extension.CppExtension
    if home:
        sources += sorted(glob("csrc/cuda/*.cpp") + glob("csrc/cuda/*.cu"))
        # torch's headers for CUDA 13 want cublas, cusparse, ... which pip installs apart from the
        # toolkit
        pip_headers = Path(torch.__file__).parents[1] / "nvidia" / "cu13" / "include"
        if pip_headers.is_dir():
            system.append(str(pip_headers))
    system_flags = [word for path in system for word in ("-isystem", path)]
    arguments = {
        "cxx": flags + system_flags,
        "nvcc": ["-std=c++20", "-O3", "-lineinfo", *system_flags],
    }
    headers = (
        glob("csrc/**/*.h", recursive=True)
        + glob("csrc/**/*.inc", recursive=True)
        + glob("csrc/**/*.cuh", recursive=True)
    )
    module = kind(
        "isample._C",
        sources,
        depends=headers,
        define_macros=macros,
        extra_compile_args=arguments,
        extra_link_args=["-fopenmp"],
    )
    return module, cpp_extension.BuildExtension


module, build_ext = extension()
setup(ext_modules=[module], cmdclass={"build_ext": build_ext})

def build_info() -> dict[str, str]:
    """What was built: compiler, torch version, the CPU instruction set in use, threads, CUDA
    architectures or why there are none."""

def build_info() -> dict[str, str]:
    """What was built: compiler, torch version, the CPU instruction set in use, threads, CUDA
    architectures or why there are none."""

def has_code(architectures: str, major: int, minor: int, least: int = 0) -> bool:
    """Whether code for ``architectures``, such as ``"8.0;9.0;10.0+PTX"``, runs on a GPU of compute
    capability ``major.minor``; with ``least``, code for that major version or a later one."""

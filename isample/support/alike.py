"""What several processes were given, as text, and where it is not alike."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata


def version() -> str:
    """That of isample, which must be one and the same."""
    try:
        return metadata.version("isample")
    except metadata.PackageNotFoundError:
        return "not installed"


def unlike(given: Sequence[dict[str, str]], refused: Sequence[str | None]) -> str | None:
    """What must be alike in all processes and is not, each by its rank; None where all is.

    ``refused`` are the errors of processes that did not come as far.
    """
    faults = [f"process {rank} refused its: {what}" for rank, what in enumerate(refused) if what]
    if faults:
        return f"arguments must be valid in all processes; {'; '.join(faults)}"
    for name in dict.fromkeys(name for one in given for name in one):
        values = [one.get(name, "nothing") for one in given]
        if len(set(values)) > 1:
            listed = ", ".join(f"process {rank} got {one}" for rank, one in enumerate(values))
            faults.append(f"{name} must be the same in all processes; {listed}")
    return "; ".join(faults) or None

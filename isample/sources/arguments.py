"""Checks of a memory's arguments."""

from __future__ import annotations

LARGEST = 2**32  # samples, the ops' limit


def check_memory(
    size: int,
    batch_size: int,
    floor: float,
    uniform_epochs: float,
    half_life: float,
    contradicted: float | None,
    rebuild_every: int | None,
) -> None:
    """Raises ValueError for an argument of :class:`isample.MemorySampler` that breaks its rule."""
    for name, value in (("size", size), ("batch_size", batch_size)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
    check_size(size)
    if not uniform_epochs > 0:
        raise ValueError(f"uniform_epochs must be > 0; got {uniform_epochs}")
    if batch_size > size:
        raise ValueError(
            f"batch_size must be <= size, the data set's length {size}; got {batch_size}"
        )
    if not 0 < floor <= 1:
        raise ValueError(f"floor must be in (0, 1]; got {floor}")
    if not half_life > 0:
        raise ValueError(f"half_life must be > 0 epochs; got {half_life}")
    if contradicted is not None and not contradicted > 0:
        raise ValueError(f"contradicted must be > 0; got {contradicted}")
    if rebuild_every is not None and (not isinstance(rebuild_every, int) or rebuild_every < 1):
        raise ValueError(f"rebuild_every must be an integer >= 1; got {rebuild_every!r}")


def check_size(size: int, least: int = 1) -> None:
    """Raises ValueError below ``least``, the present size, and above the ops' limit."""
    if size < least:
        raise ValueError(f"size must be at least the present {least}; got {size}")
    if size > LARGEST:
        raise ValueError(f"size must be at most 2^32 = {LARGEST:,}; got {size:,}")


def check_joins(presample: int | None, batch_size: int) -> None:
    """Raises ValueError where whole batches do not make up the candidates that were asked for."""
    if presample is not None and presample % batch_size:
        more = -(-presample // batch_size) * batch_size
        raise ValueError(
            f"presample must be a multiple of batch_size={batch_size} where candidates are whole "
            f"batches of a loader; got {presample} (give presample={more})"
        )

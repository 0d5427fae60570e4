"""torch's global random state, on the CPU and on one device, as a value."""

from __future__ import annotations

import torch


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """A copy of the state of torch's CPU generator and, for a CUDA ``device``, of that device's."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Puts back what :func:`random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def check_random_state(state: dict[str, torch.Tensor]) -> None:
    """Raises an error for what :func:`restore_random_state` cannot take."""
    torch.Generator().set_state(state["cpu"])

"""torch's global random state, on the CPU and on one device, as a value."""

from __future__ import annotations

import torch

from isample.support.checks import check_seed


def seed_or_drawn(seed: int | None) -> int:
    """``seed``; of None one that torch's generator draws, so that torch.manual_seed reproduces."""
    check_seed(seed)
    return int(torch.randint(2**62, (), device="cpu")) if seed is None else seed


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

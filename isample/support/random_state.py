"""Random states as plain types: of torch, on the CPU and on one device, of numpy and of Python."""

from __future__ import annotations

import random
from typing import Any, TypeGuard

import numpy
import torch

from isample.support.checks import check_seed
from isample.support.states import check_like


def seed_or_drawn(seed: int | None) -> int:
    """``seed``; of None one that torch's generator draws, so that torch.manual_seed reproduces."""
    check_seed(seed)
    return int(torch.randint(2**62, (), device="cpu")) if seed is None else seed


Generator = torch.Generator | numpy.random.Generator | numpy.random.RandomState | random.Random
KINDS = (torch.Generator, numpy.random.Generator, numpy.random.RandomState, random.Random)


def random_state(device: torch.device) -> dict[str, Any]:
    """A copy of the global states: of torch's CPU generator and, for a CUDA ``device``, of that
    device's; of ``numpy.random`` and ``random``."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    state["numpy"] = _listed(numpy.random.get_state(legacy=False))
    state["python"] = random.getstate()
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts back what :func:`random_state` gave."""
    torch.set_rng_state(state["cpu"].cpu())  # torch.load's map_location may have moved it
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    if "numpy" in state:  # states of before have torch's alone
        numpy.random.set_state(state["numpy"])
        random.setstate(state["python"])


def check_random_state(state: dict[str, Any]) -> None:
    """Raises an error for what :func:`restore_random_state` cannot take."""
    torch.Generator("cpu").set_state(state["cpu"].cpu())
    if "numpy" in state or "python" in state:
        check_like(state["numpy"], _listed(numpy.random.get_state(legacy=False)), "random state")
        numpy.random.RandomState().set_state(state["numpy"])
        random.Random().setstate(state["python"])


def is_generator(value: Any) -> TypeGuard[Generator]:
    """Whether it is a random generator that has a state."""
    return isinstance(value, KINDS) and not isinstance(value, random.SystemRandom)


def generator_state(generator: Generator) -> Any:
    """Its state, as plain types."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, numpy.random.RandomState):
        return _listed(generator.get_state(legacy=False))
    return _listed(generator.bit_generator.state)


def restore_generator(generator: Generator, state: Any) -> None:
    """Puts back what :func:`generator_state` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    elif isinstance(generator, numpy.random.RandomState):
        generator.set_state(state)
    else:
        generator.bit_generator.state = state


def _listed(state: Any) -> Any:
    """``state`` with lists for numpy's arrays."""
    if isinstance(state, dict):
        return {name: _listed(value) for name, value in state.items()}
    return state.tolist() if isinstance(state, numpy.ndarray) else state

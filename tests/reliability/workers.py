"""Tries seeds in several processes."""

import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from multiprocessing import get_context

import torch

CHUNK = 10  # seeds that a worker takes at once


def tried(module, function, seeds, jobs):
    """The faults, each with its seed, in the order of seeds."""
    chunks = [seeds[k : k + CHUNK] for k in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(min(jobs, len(chunks)), get_context("spawn")) as pool:
        futures = [pool.submit(chunk_of, module, function, chunk) for chunk in chunks]
        return sorted(fault for future in as_completed(futures) for fault in future.result())


def chunk_of(module, function, seeds):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try_one = getattr(import_module(module), function)
    return [(seed, fault) for seed in seeds if (fault := fault_of(try_one, seed)) is not None]


def fault_of(try_one, seed):
    """What ``try_one(seed)`` found; an exception that it did not expect is a fault, too."""
    try:
        return try_one(seed)
    except Exception as error:
        return f"{type(error).__name__}: {error}"

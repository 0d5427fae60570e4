"""Microseconds a call on a GPU: replayed graphs of many calls, alternatives in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Alternative:
    """``call(*inputs)``. ``captured``: its calls go into a CUDA graph; one that reads a number back
    cannot, and its time holds the launches. ``own_inputs``: it writes to its inputs."""

    how: str
    call: Callable
    captured: bool = True
    own_inputs: bool = False


@dataclass(frozen=True)
class Timing:
    """Microseconds a call."""

    median: float
    p20: float
    p80: float


def repeated(alternative: Alternative, inputs: Sequence[tuple]) -> Callable[[], None]:
    """What calls ``alternative`` once with each of ``inputs``, after it was warmed up."""

    def all_calls() -> None:
        for each in inputs:
            alternative.call(*each)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for each in inputs[:2]:
            alternative.call(*each)
    torch.cuda.current_stream().wait_stream(stream)
    if not alternative.captured:
        return all_calls
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_calls()
    return graph.replay


def in_turns(repeats: dict[str, tuple[Callable[[], None], int]], seconds: float, least: int = 10):
    """name -> Timing. Each of ``repeats`` is what makes so many calls; they take turns for
    ``seconds``, and for ``least`` rounds."""
    times: dict[str, list[float]] = {name: [] for name in repeats}
    end = time.monotonic() + seconds
    rounds = 0
    while rounds < least or time.monotonic() < end:
        rounds += 1
        for name, (repeat, calls) in repeats.items():
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            repeat()
            last.record()
            last.synchronize()
            times[name].append(first.elapsed_time(last) * 1e3 / calls)
    cuts = {name: statistics.quantiles(values, n=10) for name, values in times.items()}
    return {name: Timing(cut[4], cut[1], cut[7]) for name, cut in cuts.items()}


def eager(call: Callable, inputs: tuple, seconds: float) -> float:
    """Microseconds of a call from Python, one after the other, the device kept busy."""
    for _ in range(5):
        call(*inputs)
    torch.cuda.synchronize()
    times: list[float] = []
    end = time.monotonic() + seconds
    while len(times) < 3 or time.monotonic() < end:
        begin = time.perf_counter()
        for _ in range(20):
            call(*inputs)
        torch.cuda.synchronize()
        times.append((time.perf_counter() - begin) / 20 * 1e6)
    return statistics.median(times)

"""The forward pass that scores a presample, made cheap (beyond the paper).

The weights keep the gradient unbiased whatever foresaw the scores, so this pass may be coarse: what counts is the time
it saves against the correlation with the true gradient norm that it loses. ``python -m bench.scoring`` measures both.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch import nn

from isample.nested import logits_of, map_tensors

CPU_CHUNK = 64  # what a CPU's caches hold of most networks; a GPU wants all at once


@dataclass(frozen=True)
class Scoring:
    """How presamples are scored. The default is in inference mode and, on a CPU, in chunks that stay in its caches.

    chunk: samples a forward pass; None is 64 on a CPU and all at once on a GPU.
    dtype: for ``torch.autocast`` around the pass, such as ``torch.bfloat16``, or None for that of training.
    compile: whether ``torch.compile`` makes the pass; the first one then takes seconds to minutes. With
        ``mode="reduce-overhead"`` among ``compile_options`` a GPU replays it as a CUDA graph.
    proxy: a cheaper module to score with, which the caller trains and keeps on the model's device, or None for the model.
    prepare: a function of the inputs that makes them cheaper, such as half their resolution, or None.
    ahead: whether :meth:`Trainer.fit` scores the next presample, in presample mode, while the backward pass of the present
        step runs, on a GPU on a stream of its own; see :mod:`isample.ahead`. A resumed run is then not the same bit for bit.
    """

    chunk: int | None = None
    dtype: torch.dtype | None = None
    compile: bool = False
    compile_options: tuple[tuple[str, Any], ...] = ()
    proxy: nn.Module | None = None
    prepare: Callable[[Any], Any] | None = None
    ahead: bool = False

    def __post_init__(self):
        if self.chunk is not None and (not isinstance(self.chunk, int) or self.chunk < 1):
            raise ValueError(f"chunk must be an integer >= 1 or None; got {self.chunk!r}")
        if self.dtype is not None and not (isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point):
            raise TypeError(f"dtype must be a floating torch.dtype or None; got {self.dtype!r}")
        if not isinstance(self.ahead, bool):
            raise TypeError(f"ahead must be True or False; got {self.ahead!r}")
        if self.proxy is not None and not isinstance(self.proxy, nn.Module):
            raise TypeError(f"proxy must be a torch.nn.Module or None; got {type(self.proxy).__name__}")


class ScoringPass:
    """Calls ``model``, or the proxy, as :class:`Scoring` says. The modules must be in evaluation mode already."""

    def __init__(self, scoring: Scoring, device: torch.device):
        self.scoring, self.device = scoring, device
        self.chunk = scoring.chunk or (CPU_CHUNK if device.type == "cpu" else None)
        self._compiled: dict[int, Callable] = {}

    def logits(self, model: nn.Module, inputs: Any, size: int) -> torch.Tensor:
        """The logits of ``size`` samples, [size, ...], without a graph."""
        scoring, module = self.scoring, self.module(model)
        forward = self._compile(module) if scoring.compile else module
        precision = nullcontext() if scoring.dtype is None else torch.autocast(self.device.type, scoring.dtype)
        with torch.inference_mode(not scoring.compile), torch.no_grad(), precision:
            inputs = inputs if scoring.prepare is None else scoring.prepare(inputs)
            step = min(self.chunk or size, size)
            parts = [
                logits_of(forward, map_tensors(lambda t: t[start : start + step], inputs), min(step, size - start))
                for start in range(0, size, step)
            ]
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        return logits.clone()  # an ordinary tensor again, which scores may do anything with

    def module(self, model: nn.Module) -> nn.Module:
        """The one that is called."""
        return model if self.scoring.proxy is None else self.scoring.proxy

    def _compile(self, module: nn.Module) -> Callable:
        if id(module) not in self._compiled:
            self._compiled[id(module)] = torch.compile(module, **dict(self.scoring.compile_options))
        return self._compiled[id(module)]

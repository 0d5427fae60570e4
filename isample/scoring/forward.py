"""The forward pass that scores a presample, made cheap (beyond the paper).

The weights keep the gradient unbiased whatever foresaw the scores, so this pass may be coarse: what
counts is the time it saves against the correlation with the true gradient norm that it loses.
``python -m bench.scoring`` measures both.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isample.support.pytree import logits_of, map_tensors

CPU_CHUNK = 64  # what a CPU's caches hold of most networks; a GPU wants all at once
TRIALS = 3  # passes in either precision
BETTER = 0.9  # the share of the time that the coarse one may take at most


@dataclass(frozen=True)
class Scoring:
    """How presamples are scored. The default is in inference mode and, on a CPU, in chunks that
    stay in its caches.

    chunk: samples a forward pass; None is 64 on a CPU and all at once on a GPU.
    dtype: for ``torch.autocast`` around the pass, such as ``torch.bfloat16``, or None for that of
        training. ``"auto"`` is bfloat16 on a CPU that is faster with it, as the first pass
        measures, else None; the Trainer takes it by default where its gate goes by the clock as
        well.
    compile: whether ``torch.compile`` makes the pass; the first one then takes seconds to minutes.
        With ``mode="reduce-overhead"`` among ``compile_options`` a GPU replays it as a CUDA graph.
    proxy: a cheaper module to score with, which the caller trains and keeps on the model's device,
    or None for the model.
    prepare: a function of the inputs that makes them cheaper, such as half their resolution, or
    None.
    ahead: whether :meth:`Trainer.fit` scores the next presample, in presample mode, while the
        backward pass of the present step runs, on a GPU on a stream of its own; see
        :mod:`isample.scoring.overlap`. A resumed run is then not the same bit for bit.
    """

    chunk: int | None = None
    dtype: torch.dtype | str | None = None
    compile: bool = False
    compile_options: tuple[tuple[str, Any], ...] = ()
    proxy: nn.Module | None = None
    prepare: Callable[[Any], Any] | None = None
    ahead: bool = False

    def __post_init__(self) -> None:
        if self.chunk is not None and (not isinstance(self.chunk, int) or self.chunk < 1):
            raise ValueError(f"chunk must be an integer >= 1 or None; got {self.chunk!r}")
        floating = isinstance(self.dtype, torch.dtype) and self.dtype.is_floating_point
        if not floating and self.dtype not in (None, "auto"):
            raise TypeError(
                f"dtype must be a floating torch.dtype, 'auto' or None; got {self.dtype!r}"
            )
        if not isinstance(self.ahead, bool):
            raise TypeError(f"ahead must be True or False; got {self.ahead!r}")
        if self.proxy is not None and not isinstance(self.proxy, nn.Module):
            raise TypeError(
                f"proxy must be a torch.nn.Module or None; got {type(self.proxy).__name__}"
            )


class ScoringPass:
    """Calls ``model``, or the proxy, as :class:`Scoring` says. The modules must be in evaluation
    mode already."""

    def __init__(self, scoring: Scoring, device: torch.device):
        self.scoring: Scoring = scoring
        self.device: torch.device = device
        self.chunk: int | None = scoring.chunk or (CPU_CHUNK if device.type == "cpu" else None)
        self._compiled: dict[int, Callable] = {}
        self.dtype: torch.dtype | str | None = scoring.dtype  # "auto" until the first pass

    def logits(self, model: nn.Module, inputs: Any, size: int) -> torch.Tensor:
        """The logits of ``size`` samples, [size, ...], without a graph."""
        scoring, module = self.scoring, self.module(model)
        forward = self._compile(module) if scoring.compile else module
        with torch.inference_mode(not scoring.compile), torch.no_grad():
            inputs = inputs if scoring.prepare is None else scoring.prepare(inputs)
            step = min(self.chunk or size, size)

            def part(start: int) -> torch.Tensor:
                chunk = map_tensors(lambda t: t[start : start + step], inputs)
                with self._precision():
                    return logits_of(forward, chunk, min(step, size - start))

            if self.dtype == "auto":
                self.dtype = self._faster(lambda: part(0))
            parts = [part(start) for start in range(0, size, step)]
            logits = parts[0] if len(parts) == 1 else torch.cat(parts)
        return logits.clone()  # an ordinary tensor again, which scores may do anything with

    def module(self, model: nn.Module) -> nn.Module:
        """The one that is called."""
        return model if self.scoring.proxy is None else self.scoring.proxy

    def _precision(self) -> AbstractContextManager:
        if not isinstance(self.dtype, torch.dtype):
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def _faster(self, forward: Callable[[], Any]) -> torch.dtype | None:
        """bfloat16 if ``forward`` takes clearly less time in it, else None."""
        if self.device.type != "cpu" or self.scoring.compile or torch.is_autocast_enabled("cpu"):
            return None
        least = {None: float("inf"), torch.bfloat16: float("inf")}
        try:
            for self.dtype in [None, torch.bfloat16] * TRIALS:
                begin = time.perf_counter()
                forward()
                least[self.dtype] = min(least[self.dtype], time.perf_counter() - begin)
        except RuntimeError as error:
            if self.dtype is None:
                raise
            warnings.warn(
                f"presamples are scored in the model's own precision, since in bfloat16 it raised: "
                f"{error}",
                stacklevel=2,
            )
            return None
        return torch.bfloat16 if least[torch.bfloat16] < BETTER * least[None] else None

    def _compile(self, module: nn.Module) -> Callable:
        if id(module) not in self._compiled:
            self._compiled[id(module)] = torch.compile(module, **dict(self.scoring.compile_options))
        return self._compiled[id(module)]

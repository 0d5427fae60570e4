"""The forward pass that scores candidates, made cheap (beyond the paper).

This pass may be inexact: weights keep the gradient unbiased whatever the scores. It trades
correlation with the true gradient norm for time. ``python -m bench.scoring`` measures both.
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

from isample.scoring.lending import Lending
from isample.support.batch_cuts import take
from isample.support.pytree import logits_of

CPU_CHUNK = 64  # samples: a CPU's caches hold their activations for most networks
TRIALS = 3  # passes in either precision
BETTER = 0.9  # bfloat16 is taken if its time is below this share of the other's


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored: by default, on a CPU, in chunks.

    chunk: samples a forward pass; None is 64 on a CPU and all at once on a GPU.
    dtype: for ``torch.autocast`` around the pass, such as ``torch.bfloat16``; None is that of
        training. ``"auto"`` takes bfloat16 on a CPU where the first passes show it to be faster,
        else None. It is the Trainer's default under the speedup controller.
    compile: whether to pass the module through ``torch.compile``; the first pass then takes seconds
        to minutes. With ``mode="reduce-overhead"`` among ``compile_options`` a GPU replays it as a
        CUDA graph.
    proxy: a cheaper module to score with; None is the model. The caller trains it and keeps it on
        the model's device.
    prepare: a function that makes inputs cheaper, such as half their resolution; or None. The
        training pass sees inputs as they were, also where it or the model writes to them.
    ahead: whether :meth:`Trainer.fit` scores the next candidates during the present backward pass,
        in presample mode; on a GPU on a stream of its own. See :mod:`isample.scoring.overlap`. A
        resumed run is then not the same bit for bit.
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
    """Calls ``model``, or the proxy, as :class:`Scoring` says. Both must be in evaluation mode."""

    def __init__(self, scoring: Scoring, device: torch.device):
        self.scoring: Scoring = scoring
        self.device: torch.device = device
        self.chunk: int | None = scoring.chunk or (CPU_CHUNK if device.type == "cpu" else None)
        self._compiled: dict[int, Callable[..., Any]] = {}
        self._to_model, self._to_prepare = Lending(), Lending()
        self.dtype: torch.dtype | str | None = scoring.dtype  # "auto" until the first pass

    def logits(self, model: nn.Module, inputs: Any, size: int) -> torch.Tensor:
        """The logits of ``size`` samples, [size, ...], without a graph.

        Not in inference mode: what a model caches on its first pass could not be trained with.
        Raises WrittenInputsError, see :class:`Lending`.
        """
        module = self.module(model)
        forward = self._compile(module) if self.scoring.compile else module
        step = min(self.chunk or size, size)
        with torch.no_grad():
            inputs = self._prepared(inputs)

            def part(start: int) -> torch.Tensor:
                chunk = inputs if step == size else take(inputs, slice(start, start + step), size)
                with self._precision(), self._to_model.lent(chunk) as lent:
                    return logits_of(forward, lent, min(step, size - start))

            if self.dtype == "auto":
                self.dtype = self._faster(lambda: part(0))
            parts = [part(start) for start in range(0, size, step)]
            # a model may give out what it keeps, or its inputs
            return parts[0].clone() if len(parts) == 1 else torch.cat(parts)

    def _prepared(self, inputs: Any) -> Any:
        if self.scoring.prepare is None:
            return inputs
        with self._to_prepare.lent(inputs) as lent:
            return self.scoring.prepare(lent)

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

    def _compile(self, module: nn.Module) -> Callable[..., Any]:
        if id(module) not in self._compiled:
            self._compiled[id(module)] = torch.compile(module, **dict(self.scoring.compile_options))
        return self._compiled[id(module)]

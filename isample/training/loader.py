"""Importance sampling for a training loop of one's own: weighted batches out of an ordinary
loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from isample.control.gate import SpeedupGate
from isample.scoring.select import ImportanceSampler, raise_if_not_finite, uniform_draw
from isample.sources.presample import Presample, next_presample
from isample.support.processes import Processes
from isample.support.pytree import map_tensors


@dataclass(frozen=True)
class WeightedBatch:
    """``inputs`` and ``targets`` of b samples with their ``weights`` float32 [b] (all 1 in a
    uniform step) and their ``indices`` int64 [b] in the presample. The loss to differentiate is
    ``(weights * per_sample_loss).mean()``."""

    inputs: Any
    targets: Any
    weights: torch.Tensor
    indices: torch.Tensor
    active: bool


class ImportanceLoader:
    """Iterates over ``loader`` and yields a :class:`WeightedBatch` for every step of Algorithm 1.

    ``loader`` yields (inputs, targets) batches of ``batch_size`` samples. When importance sampling
    is on, B/b of them are joined, scored by ``model`` and drawn from; when it is off, each is
    passed on with weights of 1, and its scores are read off the training forward pass (by a hook on
    ``model``, so call the very module that was given here). ``options`` are those of
    :class:`isample.Trainer` that concern the sampling: loss, score, draws, scoring, gate
    (``"threshold"`` by default), tau_threshold, tau_momentum, seed. ``sampler`` holds tau's average
    and the gate.

    Raises NonFiniteScoreError before a batch with a score that is no finite number is passed on
    (active), or before the batch after it (not active); RuntimeError if the model was not called on
    a uniform batch.
    """

    def __init__(
        self,
        loader: Iterable,
        model: nn.Module,
        batch_size: int = 128,
        presample: int | None = None,
        *,
        seed: int | None = None,
        **options,
    ):
        self.loader, self.model, self.processes = loader, model, Processes(model)
        if options.get("scoring") is not None and options["scoring"].ahead:
            raise ValueError(
                "scoring must not be ahead for an ImportanceLoader, which sees no backward pass; got ahead=True"
            )
        seed = self.processes.seed(seed)
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.sampler = ImportanceSampler(
            batch_size=batch_size, presample=presample, seed=seed, device=self.device, **options
        )
        if isinstance(self.sampler.gate, SpeedupGate):
            raise ValueError(
                "gate must be one of threshold, always, never for an ImportanceLoader, which does not see how long the "
                "training takes; got 'speedup' (isample.Trainer does)"
            )

    def __iter__(self) -> Iterator[WeightedBatch]:
        batches, sampler = iter(self.loader), self.sampler
        while (
            drawn := next_presample(batches, sampler.next_size, sampler.batch_size, self.device)
        ) is not None:
            if sampler.active and drawn.size > sampler.batch_size:
                yield self._importance_batch(drawn)
            else:
                yield from self._uniform_batch(drawn)
            (tau_ema,) = self.processes.read_late([sampler.tau_ema], self.device)()
            sampler.decide(tau_ema)

    def _importance_batch(self, drawn: Presample) -> WeightedBatch:
        selection = self.sampler.select(self.processes.model, drawn.inputs, drawn.targets)
        raise_if_not_finite(selection, selection.tau.item())
        inputs, targets = map_tensors(
            lambda tensor: tensor[selection.indices], (drawn.inputs, drawn.targets)
        )
        return WeightedBatch(inputs, targets, selection.weights, selection.indices, True)

    def _uniform_batch(self, drawn: Presample) -> Iterator[WeightedBatch]:
        indices, weights = uniform_draw(drawn.size, self.device)
        batch = WeightedBatch(drawn.inputs, drawn.targets, weights, indices, False)
        if not self.sampler.gate.scores_uniform_steps:
            yield batch
            return
        seen: list[torch.Tensor] = []

        def keep_logits(module: nn.Module, args: Any, output: Any) -> None:
            if (
                torch.is_grad_enabled()
                and isinstance(output, torch.Tensor)
                and output.shape[:1] == weights.shape
            ):
                seen[:] = [output.detach()]

        hook = self.model.register_forward_hook(keep_logits)
        try:
            yield batch
        finally:
            hook.remove()
        if not seen:
            raise RuntimeError(
                "model must be called on batch.inputs, with gradients on, before the next batch is taken: its logits "
                "decide whether importance sampling pays (gate='always' or gate='never' need none)"
            )
        selection = self.sampler.observe(self.processes.model, drawn.inputs, drawn.targets, seen[0])
        raise_if_not_finite(selection, selection.tau.item())

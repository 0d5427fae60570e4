"""Algorithm 1 of Katharopoulos and Fleuret (2018): train uniformly while that is best, and by importance when it pays."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any, Callable, Iterable, Iterator, Union

import torch
from torch import nn

from isample.gate import Gate, effective_batch
from isample.history import Evaluation, History, StepReport
from isample.losses import Loss, per_sample_loss
from isample.loop import Loop, evaluate
from isample.memory import MemorySampler
from isample.nested import batch_length, logits_of, map_tensors
from isample.random_state import random_state, restore_random_state
from isample.registry import look_up
from isample.sampler import ImportanceSampler, Selection, raise_if_not_finite, second_moments

Callback = Callable[["Trainer", StepReport], None]

MODES = ("memory", "presample")


class Trainer:
    """Trains ``model`` with importance sampling that switches itself on.

    Parameters
    ----------
    model: any module that maps inputs to logits, one row a sample. Inputs may be a tensor, or a tuple or dict of
        tensors, which are spread over the model's arguments.
    optimizer: any ``torch.optim.Optimizer`` over its parameters.
    loss: ``"cross_entropy"``, ``"bce_with_logits"``, ``"mse"``, a torch loss module built with ``reduction="none"``,
        or a callable ``(logits, targets) -> [B]``.
    batch_size: b, the samples that a step learns from.
    presample: B >= b, the samples that an active step scores; 5b by default.
    score: ``"upper_bound"``, ``"loss"``, ``"gradient_norm"`` or a callable ``(logits, targets) -> [B]``.
    mode: ``"presample"`` (Algorithm 1) or ``"memory"``: no scoring pass, but a remembered score a sample of the data
        set, see :class:`isample.MemorySampler`; ``presample``, ``draws`` and ``tau_threshold`` then have no meaning.
    draws: ``"alias"`` (with replacement, the paper's), ``"systematic"`` or ``"pps"`` (without replacement).
    gate: ``"threshold"`` (the paper's rule, the default), ``"speedup"`` (measured; the default of memory mode),
        ``"always"``, ``"never"``, or an ``isample.gate.Gate``.
    tau_threshold: of the threshold gate; (B + 3b) / 3b by default.
    tau_momentum: a_tau of the moving average of tau.
    clip_grad_norm: the largest norm of all gradients together, or None.
    autocast: a dtype for ``torch.autocast`` around the forward passes, or None.
    scaler: a ``torch.amp.GradScaler``, or None.
    accumulate: steps whose gradients are averaged before the optimizer moves.
    seed: of the draws; by default taken from torch's generator.

    Errors in the arguments are ValueError or TypeError and name argument, rule and value. A step whose scores are not
    finite raises ``NonFiniteScoreError`` and leaves parameters and tau's average as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss = "cross_entropy",
        batch_size: int = 128,
        presample: int | None = None,
        *,
        mode: str = "presample",
        score: Union[str, Callable] = "upper_bound",
        draws: str = "alias",
        gate: Union[str, Gate, None] = None,
        tau_threshold: float | None = None,
        tau_momentum: float = 0.9,
        clip_grad_norm: float | None = None,
        autocast: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        accumulate: int = 1,
        seed: int | None = None,
    ):
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}")
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise ValueError(f"clip_grad_norm must be > 0; got {clip_grad_norm}")
        if not isinstance(accumulate, int) or accumulate < 1:
            raise ValueError(f"accumulate must be an integer >= 1; got {accumulate!r}")
        self.mode = look_up({name: name for name in MODES}, mode, "mode")
        self.model, self.optimizer = model, optimizer
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.sampler = ImportanceSampler(
            loss, batch_size, presample, score, draws, gate, tau_threshold, tau_momentum, seed, self.device, mode
        )
        self.clip_grad_norm, self.autocast, self.scaler, self.accumulate = clip_grad_norm, autocast, scaler, accumulate
        self.step_count = 0
        self.selection: Selection | None = None
        self.memory: MemorySampler | None = None  # made by fit, once the data set is known
        self.history = History()
        self._loop = Loop(self)

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    @property
    def presample(self) -> int:
        return self.sampler.presample

    @property
    def next_size(self) -> int:
        """How many samples the next ``step`` has use for: B when importance sampling is on, b when it is not."""
        return self.sampler.next_size

    @property
    def progress(self) -> float:
        """The share of the budget of the present ``fit`` that is spent, in [0, 1]; for schedules by time or epoch."""
        return self._loop.progress

    def step(self, inputs: Any, targets: Any) -> StepReport:
        """One step of Algorithm 1 on ``inputs`` and ``targets``, which hold n samples in random order.

        Importance sampling on and n > b: all n are scored and b of them drawn. Otherwise a uniform step on the first b
        (on all, where there are fewer). :attr:`next_size` says how many are of use.
        """
        begin = time.perf_counter()
        size = self._check(inputs, targets)
        active = self.sampler.active and size > self.batch_size
        moments = None
        with self._autocast():
            if active:
                selection = self.sampler.select(self.model, inputs, targets)  # lines 6-8
                inputs, targets = _take(inputs, targets, selection.indices)
                logits = self._logits(inputs)
                if self.sampler.gate.needs_moments:
                    fresh = self.sampler.fresh_scores(self.model, inputs, targets, logits)
                    moments = second_moments(fresh, selection.weights, active)
                loss = (selection.weights * self._losses(logits, targets)).mean()  # line 9
            else:
                if size > self.batch_size:
                    inputs, targets = _take(inputs, targets, slice(self.batch_size))  # line 12
                logits = self._logits(inputs)
                scored = self.sampler.gate.needs_tau
                selection = self.sampler.observe(self.model, inputs, targets, logits) if scored else None  # line 15
                loss = self._losses(logits, targets).mean()  # line 13
        size = size if active else min(size, self.batch_size)
        return self._finish(loss, active, size, selection, moments, begin)  # lines 10, 14, 17

    def memory_step(self, inputs: Any, targets: Any, indices: torch.Tensor) -> StepReport:
        """One step of memory mode, on the batch that ``memory`` drew longest ago; ``indices`` int64 [b] are its place in
        the data set. ``fit`` calls this with ``mode="memory"``."""
        begin = time.perf_counter()
        self._check(inputs, targets)
        memory = self.memory
        _, weights, active = memory.take(indices)
        with self._autocast():
            logits = self._logits(inputs)
            selection = self.sampler.remember(self.model, inputs, targets, logits, indices, weights, memory.tau)
            loss = (weights * self._losses(logits, targets)).mean()
        implied = weights if active else memory.implied_weights(indices)
        wanted = self.sampler.gate.needs_moments and implied is not None
        moments = second_moments(selection.score, implied, active) if wanted else None
        report = self._finish(loss, active, memory.size if active else len(indices), selection, moments, begin)
        memory.update(indices, selection.score)
        memory.active = self.sampler.active
        return report

    def fit(
        self,
        loader: Iterable,
        epochs: int | None = None,
        seconds: float | None = None,
        *,
        evaluate: Iterable | None = None,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
        callbacks: Iterable[Callback] = (),
        progress: bool = False,
    ) -> History:
        """Trains for a number of ``epochs``, or for ``seconds`` of training time, whichever is given.

        ``loader`` is any iterable of (inputs, targets) batches of ``batch_size`` samples, such as a DataLoader, and
        stays as it is: an active step joins k = B/b of its batches, any other step takes one, so an epoch is always one
        pass over it. ``evaluate`` is a loader that is evaluated after every epoch and at the end, ``scheduler`` is
        stepped once an epoch, each of ``callbacks`` is called as ``callback(trainer, report)`` after every step.
        ``progress`` shows a bar (needs tqdm: ``pip install isample[progress]``).

        A trainer that was restored by :meth:`load_state_dict` goes on where the saved run was, in the middle of an
        epoch if need be, and ``epochs`` and ``seconds`` count from that run's beginning.
        """
        return self._loop.fit(loader, epochs, seconds, evaluate, scheduler, tuple(callbacks), progress)

    def iterate(
        self, loader: Iterable, epochs: int | None = None, seconds: float | None = None
    ) -> Iterator[StepReport]:
        """``fit`` as a generator: yields each step's report, and the clock stands while the caller holds it. So two
        trainers can take turns, and whatever is done between steps costs no training time."""
        return self._loop.iterate(loader, epochs, seconds)

    def evaluate(self, loader: Iterable) -> Evaluation:
        """Mean loss and share of wrong classes over ``loader``, in evaluation mode, leaving no trace in the model."""
        with self._autocast():
            loss, error = evaluate(self.model, self.sampler.loss, loader, self.device)
        return Evaluation(self.step_count, self._loop.elapsed, loss, error)

    def state_dict(self) -> dict[str, Any]:
        """Everything of the trainer's own: tau's average, the gate, counters, the place in the epoch, the random states
        of the draws and of torch. With the model's and the optimizer's own ``state_dict`` a run resumes bit for bit.

        Raises RuntimeError between two accumulated steps, whose gradients no state holds.
        """
        if self.step_count % self.accumulate:
            raise RuntimeError(
                f"state_dict must be taken after an optimizer step; {self.step_count % self.accumulate} of "
                f"accumulate={self.accumulate} gradients are pending"
            )
        return {
            "step_count": self.step_count,
            "sampler": self.sampler.state_dict(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "loop": self._loop.state_dict(),
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave, torch's global random state included."""
        self.step_count = state["step_count"]
        self.sampler.load_state_dict(state["sampler"])
        self._loop.load_state_dict(state["loop"])
        if state["memory"] is not None:
            self.memory = MemorySampler.from_state(state["memory"], self.device)
        restore_random_state(state["random"], self.device)

    def _finish(
        self, loss: torch.Tensor, active: bool, size: int, selection: Selection | None,
        moments: list[torch.Tensor] | None, begin: float,
    ) -> StepReport:  # fmt: skip
        read = self._read_late(loss, selection, moments)
        self._backward(loss)
        values = read()  # by now the backward pass is queued, so a GPU does not run dry; and no parameter has moved
        if selection is not None:
            self._learn_of(active, size, selection, values)
        self._move()
        self.selection = selection
        self.step_count += 1
        return self._report(active, size, selection, values, time.perf_counter() - begin)

    def _learn_of(self, active: bool, size: int, selection: Selection, values: list[float]) -> None:
        """Stops the step if a score was not finite; else lets the gate decide about the next."""
        _, tau, tau_ema, _, _, *moments = values
        if tau != tau:
            self.optimizer.zero_grad(set_to_none=True)
            raise_if_not_finite(selection, tau)
        if moments:
            share = self.batch_size / size if self.mode == "presample" else 0.0
            self.sampler.gate.observe(active, *moments, share)
        self.sampler.decide(tau_ema)

    def _check(self, inputs: Any, targets: Any) -> int:
        """The number of samples, once all is found in order."""
        size = batch_length(inputs, "inputs")
        if size == 0:
            raise ValueError("inputs must hold at least one sample; got 0")
        if batch_length(targets, "targets") != size:
            raise ValueError(f"targets must hold as many samples as inputs ({size}); got {batch_length(targets, 'targets')}")

        def same_device(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.device != self.device:
                raise ValueError(f"inputs and targets must be on the model's device ({self.device}); got {tensor.device}")
            return tensor

        map_tensors(same_device, inputs)
        map_tensors(same_device, targets)
        return size

    def _autocast(self):
        return nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)

    def _logits(self, inputs: Any) -> torch.Tensor:
        return logits_of(self.model, inputs, batch_length(inputs, "inputs"))

    def _losses(self, logits: torch.Tensor, targets: Any) -> torch.Tensor:
        return per_sample_loss(self.sampler.loss, logits, targets)

    def _backward(self, loss: torch.Tensor) -> None:
        if self.step_count % self.accumulate == 0:
            self.optimizer.zero_grad(set_to_none=True)
        if self.accumulate > 1:
            loss = loss / self.accumulate
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _move(self) -> None:
        """The optimizer's step, every ``accumulate`` calls."""
        if (self.step_count + 1) % self.accumulate:
            return
        if self.clip_grad_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def _read_late(
        self, loss: torch.Tensor, selection: Selection | None, moments: list[torch.Tensor] | None
    ) -> Callable[[], list[float]]:
        """A reader of the loss and, where there is a selection, tau, tau_ema, the least and the largest weight, and the
        moments if any. On a GPU the copy is queued now and waited for when read."""
        values = [loss.detach()]
        if selection is not None:
            values += [selection.tau, self.sampler.tau_ema, *selection.weights.aminmax(), *(moments or ())]
        if self.device.type != "cuda":
            return lambda: [value.item() for value in values]
        stacked = torch.stack([value.float() for value in values])
        pinned = torch.empty(stacked.shape, pin_memory=True)
        pinned.copy_(stacked, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def read() -> list[float]:
            done.synchronize()
            return pinned.tolist()

        return read

    def _report(
        self, active: bool, size: int, selection: Selection | None, values: list[float], seconds: float
    ) -> StepReport:
        unscored = (*values, math.nan, math.nan, 1.0, 1.0)
        loss, tau, tau_ema, weight_min, weight_max = unscored if selection is None else values[:5]
        return StepReport(
            step=self.step_count,
            loss=loss,
            tau=tau,
            tau_ema=tau_ema,
            active=active,
            presample=size,
            effective_batch=effective_batch(self.batch_size, size, tau) if active else float(size),
            weight_min=weight_min,
            weight_max=weight_max,
            scoring_seconds=0.0 if selection is None else selection.timer(),
            seconds=seconds,
        )


def _take(inputs: Any, targets: Any, which: torch.Tensor | slice) -> tuple[Any, Any]:
    return tuple(map_tensors(lambda tensor: tensor[which], batch) for batch in (inputs, targets))

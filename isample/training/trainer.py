"""Training by importance where that pays, uniform training elsewhere: Algorithm 1 of Katharopoulos
and Fleuret (2018), and what goes beyond it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from isample.control.gate import Gate, is_of_presamples
from isample.control.rates import ADAPT, batch_draws
from isample.ops.memory import draw_moments
from isample.scoring.forward import Scoring
from isample.scoring.losses import BatchLoss, Loss
from isample.scoring.overlap import Ahead
from isample.scoring.select import ImportanceSampler, ScoredAhead, Selection
from isample.sources.memory import Drawn, MemorySampler
from isample.support.clocks import Stopwatch
from isample.support.errors import NonFiniteScoreError
from isample.support.processes import Clocked, Processes
from isample.support.pytree import batch_length, check_batch, logits_of, take
from isample.support.random_state import random_state, restore_random_state
from isample.support.registry import look_up
from isample.training.loop import Loop, evaluate
from isample.training.step import Step
from isample.training.update import Update
from isample.values import Evaluation, History, StepReport

Callback = Callable[["Trainer", StepReport], None]

MODES = ("auto", "memory", "presample")


class Trainer:
    """Trains ``model`` with importance sampling that switches itself on.

    Parameters
    ----------
    model: any module that maps inputs to logits, one row a sample. Inputs may be a tensor, or a
        tuple or dict of tensors, which are spread over the model's arguments. For
        DistributedDataParallel see :mod:`isample.support.processes`.
    optimizer: any ``torch.optim.Optimizer`` over its parameters.
    loss: ``"cross_entropy"``, ``"bce_with_logits"``, ``"mse"``, a torch loss module built with
        ``reduction="none"``, or a callable ``(logits, targets) -> [B]``.
    batch_size: b, the samples that a step learns from.
    presample: B >= b, the samples that a scoring pass looks at. By default the speedup gate chooses
        among 2, 3, 5, 8 and 12 times b, in memory mode also 1.5, by what pays best; with other
        gates it is 5b, and none there.
    mode: ``"memory"``: a remembered score a sample of the data set, see
        :class:`isample.MemorySampler`, and a scoring pass where that pays on top of it.
        ``"presample"``: a fresh presample is scored, as in Algorithm 1. ``"auto"``: memory mode in
        a ``fit`` over an ordinary DataLoader of a map-style data set; presample mode for
        :meth:`step`, for any other loader, for a score that needs a pass of its own, and if a
        presample is asked for by ``presample``, ``draws``, ``scoring``, ``tau_threshold`` or
        ``gate="threshold"``.
    score: ``"upper_bound"``, ``"loss"``, ``"gradient_norm"`` or a callable ``(logits, targets) ->
    [B]``.
    draws: from a presample: ``"pps"`` (the default) or ``"systematic"``, ``"alias"`` (the paper's,
    with replacement).
    scoring: how the scoring pass is made cheap, an :class:`isample.Scoring`.
    gate: ``"speedup"`` (measured, the default), ``"threshold"`` (the paper's rule), ``"always"``,
        ``"never"``, or an ``isample.gate.Gate``.
    adapt: what the noise that is saved is used for: ``"lr"`` (the default) raises the learning rate
        of active steps, to twice the highest that the schedule has had at most, and has a memory
        save hardly more noise than that takes; ``"batch"`` draws fewer samples; None does neither.
        See :mod:`isample.control.rates`.
    tau_threshold: of the threshold gate, which it implies; (B + 3b) / 3b by default.
    tau_momentum: a_tau of the moving average of tau.
    clip_grad_norm: the largest norm of all gradients together, or None.
    autocast: a dtype for ``torch.autocast`` around the forward passes, or None.
    scaler: a ``torch.amp.GradScaler``, or None.
    accumulate: steps whose gradients are averaged before the optimizer moves.
    seed: of the draws; by default taken from torch's generator.

    Errors in the arguments are ValueError or TypeError and name argument, rule and value. A step
    whose scores are not finite raises ``NonFiniteScoreError`` and leaves parameters and tau's
    average as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss = "cross_entropy",
        batch_size: int = 128,
        presample: int | None = None,
        *,
        mode: str = "auto",
        score: str | Callable = "upper_bound",
        draws: str | None = None,
        gate: str | Gate | None = None,
        adapt: str | None = "lr",
        scoring: Scoring | None = None,
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
        self.mode = look_up({name: name for name in MODES}, mode, "mode")
        self.adapt = (
            None if adapt is None else look_up({name: name for name in ADAPT}, adapt, "adapt")
        )
        self.model, self.optimizer = model, optimizer
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.processes = Processes(model)
        first = "memory" if mode == "memory" else "presample"
        self.sampler = ImportanceSampler(
            loss,
            batch_size,
            presample,
            score,
            draws or "pps",
            gate,
            tau_threshold,
            tau_momentum,
            self.processes.seed(seed),
            self.device,
            first,
            scoring,
        )
        asks_for_presample = (presample, draws, tau_threshold, scoring) != (
            None,
        ) * 4 or is_of_presamples(gate)
        if mode == "auto" and (asks_for_presample or self.sampler.score.from_logits is None):
            self.mode = "presample"
        self.sampler.shared = self.processes.count > 1
        self.ahead = (
            Ahead(self.sampler, self.device) if scoring is not None and scoring.ahead else None
        )
        self.autocast = autocast
        self.update = Update(model, optimizer, clip_grad_norm, scaler, accumulate)
        self.step_count = 0
        self.selection: Selection | None = None
        self.memory: MemorySampler | None = None  # made by fit, once the data set is known
        self.history = History()
        self._draw_seconds = 0.0  # of the memory's draws, up to the last step
        self._loop = Loop(self)

    @classmethod
    def paper(
        cls,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss = "cross_entropy",
        batch_size: int = 128,
        presample: int | None = None,
        **options: Any,
    ) -> Trainer:
        """The paper's algorithm as it stands: Algorithm 1, draws with replacement, its switch, and
        nothing beyond."""
        beyond = {"mode": "presample", "draws": "alias", "gate": "threshold", "adapt": None}
        return cls(model, optimizer, loss, batch_size, presample, **{**beyond, **options})

    @property
    def batch_size(self) -> int:
        return self.sampler.batch_size

    @property
    def presample(self) -> int:
        return self.sampler.presample

    @property
    def next_size(self) -> int:
        """How many samples the next ``step`` has use for: B when importance sampling is on, b when
        it is not."""
        return self.sampler.next_size

    @property
    def progress(self) -> float:
        """The share of the budget of the present ``fit`` that is spent, in [0, 1]; for schedules by
        time or epoch."""
        return self._loop.progress

    def step(self, inputs: Any, targets: Any) -> StepReport:
        """One step of Algorithm 1 on ``inputs`` and ``targets``, which hold n samples in random
        order.

        Importance sampling on and n > b: all n are scored and b of them drawn. Otherwise a uniform
        step on the first b (on all, where there are fewer). :attr:`next_size` says how many are of
        use.
        """
        if self.ahead is not None:
            raise ValueError(
                "scoring must not be ahead for step(), which does not know the next presample; got ahead=True"
            )
        report = self.train_on(inputs, targets)
        self.clock(report, report.seconds)
        return report

    def clock(self, report: StepReport, seconds: float) -> float:
        """Tells the gate how long a step took, loading included, and gives that time as all
        processes see it."""
        active, scored = report.active, report.scored
        if self.ahead is not None:  # the step that scores is the one that takes longer
            active, scored = self.ahead.scored > 0, self.ahead.scored
        step = self.processes.clock(Clocked(active, seconds, report.scoring_seconds, scored))
        if step is None:
            return 0.0
        self.sampler.gate.clock(*step)
        return step.seconds

    def train_on(self, inputs: Any, targets: Any, ahead: ScoredAhead | None = None) -> StepReport:
        """:meth:`step` for a caller that tells the gate the time itself, loading included, as
        :meth:`fit` does, and may have had the presample scored ``ahead``."""
        begin = time.perf_counter()
        self.enter("presample")
        if self.mode == "memory":
            raise ValueError(
                "mode must be 'presample' for step(), which is not told the samples' indices; got 'memory'"
            )
        size = check_batch(inputs, targets, self.device)
        with self._autocast():
            if (self.sampler.active or ahead is not None) and size > self.batch_size:
                draws = (
                    batch_draws(self.batch_size, self.sampler.gate.gain)
                    if self.adapt == "batch"
                    else None
                )
                step = Step(
                    *self._draw_again(inputs, targets, draws, ahead=ahead),
                    begin,
                    size,
                    active=True,
                    scored=size,
                )
            else:
                if size > self.batch_size:
                    inputs, targets = take(inputs, targets, slice(self.batch_size))  # line 12
                logits, selection = self._logits(inputs), None
                loss = self.sampler.batch_loss(logits, targets)  # line 13
                if self.sampler.gate.scores_uniform_steps:
                    selection = self.sampler.observe(
                        self.processes.model, inputs, targets, logits, loss.score
                    )  # line 15
                step = Step(loss, selection, [], begin, min(size, self.batch_size))
        return self._finish(step)  # lines 10, 14, 17

    def _draw_again(
        self,
        inputs: Any,
        targets: Any,
        draws: int | None,
        weights: torch.Tensor | None = None,
        ahead: ScoredAhead | None = None,
    ) -> tuple[BatchLoss, Selection, list[torch.Tensor]]:
        """Loss, selection and moments of what is drawn of a presample."""
        selection = self.sampler.select(
            self.processes.model, inputs, targets, draws, weights, ahead
        )  # lines 6-8
        inputs, targets = take(inputs, targets, selection.indices)
        logits = self._logits(inputs)
        loss = self.sampler.batch_loss(logits, targets, selection.weights)  # line 9
        fresh = loss.score
        if self.sampler.score.from_logits is None:
            fresh = selection.score[selection.indices]
        elif fresh is None:  # what was foreseen may be coarser than what is seen now
            fresh = self.sampler.fresh_scores(self.processes.model, inputs, targets, logits)
        return loss, selection, [draw_moments(fresh, selection.weights, drawn=True)[:5]]

    def memory_step(
        self, inputs: Any, targets: Any, indices: torch.Tensor | list[int]
    ) -> StepReport:
        """One step of memory mode, on the batch that ``memory`` drew longest ago; ``indices``,
        int64 [b] or a list, are its places in the data set. ``fit`` calls this in memory mode."""
        begin, memory, overhead = time.perf_counter(), self.memory, Stopwatch()
        size = check_batch(inputs, targets, self.device)
        if size != len(indices):  # a collate function left samples out
            raise ValueError(
                f"inputs must hold all samples drawn ({len(indices)}) for mode='memory'; got {size}"
            )
        with overhead:
            drawn = memory.match(indices)
        gate, presampled = self.sampler.gate, size > memory.batch_size
        if not (presampled or drawn.active or self.sampler.active or gate.scores_uniform_steps):
            return self._plain_step(inputs, targets, begin)
        with self._autocast():
            if presampled:
                step = self._draw_of_drawn(drawn.with_weights(), inputs, targets, begin)
            else:
                logits = self._logits(inputs)
                loss = self.sampler.batch_loss(logits, targets, drawn.weights)
                with overhead:
                    score = loss.score
                    if score is None:
                        score = self.sampler.fresh_scores(
                            self.processes.model, inputs, targets, logits
                        )
                    moments = memory.recall(score, drawn)[:5]
                    selection = Selection(drawn.indices, drawn.weights, score, memory.tau, float)
                looked_at = memory.size if drawn.active else size
                step = Step(
                    loss, selection, [moments], begin, looked_at, drawn.active, drawn.active
                )
        report = self._finish(step)
        if self.adapt == "batch":
            memory.draw_size = batch_draws(memory.batch_size, gate.gain)
        drawing, self._draw_seconds = memory.draw_seconds - self._draw_seconds, memory.draw_seconds
        report.scoring_seconds += overhead.seconds + drawing
        return report

    def _draw_of_drawn(self, drawn: Drawn, inputs: Any, targets: Any, begin: float) -> Step:
        """All that the memory drew is scored, and a batch drawn of it again."""
        memory = self.memory
        weights = drawn.weights if drawn.active else memory.implied_weights(drawn.indices)
        loss, selection, moments = self._draw_again(
            inputs, targets, memory.batch_size, drawn.weights
        )
        moments.append(draw_moments(selection.score, weights, drawn=drawn.active)[:5])
        memory.update(drawn.indices, selection.score)
        return Step(
            loss, selection, moments, begin, len(weights), True, drawn.active, scored=len(weights)
        )

    def enter(self, mode: str) -> None:
        """Settles which mode this is, if it is ``auto`` still."""
        if self.mode == "auto":
            self.sampler.set_mode(mode)
            self.mode = mode

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
        """Trains for a number of ``epochs``, or for ``seconds`` of training time, whichever is
        given.

        ``loader`` is any iterable of (inputs, targets) batches of ``batch_size`` samples, such as a
        DataLoader. In memory mode it is a DataLoader, which is built again around its data set with
        a sampler of the memory's; an epoch is as many batches as before. In presample mode it stays
        as it is: an active step joins k = B/b of its batches, any other step takes one, so an epoch
        is always one pass over it. ``evaluate`` is a loader that is evaluated after every epoch and
        at the end, ``scheduler`` is stepped once an epoch, each of ``callbacks`` is called as
        ``callback(trainer, report)`` after every step. ``progress`` shows a bar (needs
        ``isample[progress]``).

        A trainer that was restored by :meth:`load_state_dict` goes on where the saved run was, in
        the middle of an epoch if need be, and ``epochs`` and ``seconds`` count from that run's
        beginning.
        """
        return self._loop.fit(
            loader, epochs, seconds, evaluate, scheduler, tuple(callbacks), progress
        )

    def iterate(
        self, loader: Iterable, epochs: int | None = None, seconds: float | None = None
    ) -> Iterator[StepReport]:
        """``fit`` as a generator: yields each step's report, and the clock stands while the caller
        holds it. So two trainers can take turns, and whatever is done between steps costs no
        training time."""
        return self._loop.iterate(loader, epochs, seconds)

    def evaluate(self, loader: Iterable) -> Evaluation:
        """Mean loss and share of wrong classes over ``loader``, in evaluation mode, leaving no
        trace; of this process alone."""
        with self._autocast():
            loss, error = evaluate(self.processes.model, self.sampler.loss, loader, self.device)
        return Evaluation(self.step_count, self._loop.elapsed, loss, error)

    def state_dict(self) -> dict[str, Any]:
        """Everything of the trainer's own: tau's average, the gate, counters, the place in the
        epoch, the random states of the draws and of torch. With the model's and the optimizer's own
        ``state_dict`` a run resumes bit for bit, but for decisions of the speedup gates, which go
        by the clock.

        Raises RuntimeError between two accumulated steps, whose gradients no state holds.
        """
        return {
            "mode": self.mode,
            "update": self.update.state_dict(),
            "step_count": self.step_count,
            "sampler": self.sampler.state_dict(),
            "memory": None if self.memory is None else self.memory.state_dict(),
            "loop": self._loop.state_dict(),
            "random": random_state(self.device),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` gave, torch's global random state included.

        Raises ValueError if that trainer was in another mode.
        """
        self.enter(state["mode"])
        if self.mode != state["mode"]:
            raise ValueError(
                f"state must be of a trainer in mode {self.mode!r}; got {state['mode']!r}"
            )
        self.update.load_state_dict(state["update"])
        self.step_count = state["step_count"]
        self.sampler.load_state_dict(state["sampler"])
        self._loop.load_state_dict(state["loop"])
        self.memory = (
            None
            if state["memory"] is None
            else MemorySampler.from_state(state["memory"], self.device)
        )
        self._draw_seconds = 0.0 if self.memory is None else self.memory.draw_seconds
        restore_random_state(state["random"], self.device)

    def _plain_step(self, inputs: Any, targets: Any, begin: float) -> StepReport:
        """A uniform step that nobody wants scored: nothing is done that a loop without isample
        would not do."""
        with self._autocast():
            loss = self.sampler.batch_loss(self._logits(inputs), targets)
        read = self.processes.read_late([loss.mean.detach()], self.device)
        self.update.backward(loss)
        (loss_value,) = read()
        self.update.move(1.0)
        self._decide(math.nan)
        self.selection = None
        self.step_count += 1
        step = Step(loss, None, [], begin, batch_length(inputs, "inputs"))
        return step.report(
            self.step_count, self.batch_size, True, 1.0, loss_value, math.nan, math.nan, 1.0, 1.0
        )

    def _finish(self, step: Step) -> StepReport:
        selection, gate = step.selection, self.sampler.gate
        told = [step.loss.mean.detach()]
        if selection is not None:
            last = [self.memory.bounded] if self.mode == "memory" else []
            told += [
                selection.tau,
                selection.tau if last else self.sampler.tau_ema,
                *step.moments,
                *last,
            ]
        read = self.processes.read_late(told, self.device)
        if self.ahead is not None:
            self.ahead.forward_queued()
        self.update.backward(step.loss)
        if self.ahead is not None:
            with self._autocast():
                self.ahead.begin(self.processes.model)
        loss_value, *told = (
            read()
        )  # the backward pass is queued, so a GPU does not run dry; no parameter has moved
        tau, tau_ema = told[:2] if selection is not None else (math.nan, math.nan)
        if selection is not None:
            if tau != tau or (step.moments and not math.isfinite(told[2])):
                self.update.discard()
                raise NonFiniteScoreError.from_scores(selection.score)
            step.tell(self.sampler, self.memory if self.mode == "memory" else None, tau, told[2:])
        if self.ahead is not None:
            self.ahead.wait()
        worth = gate.worth(step.remembered, step.scored) if step.active else 1.0
        self.update.move(worth if self.adapt == "lr" else 1.0)
        self._decide(tau_ema)
        self.selection, self.step_count = selection, self.step_count + 1
        weights = told[5:7] if step.active else (1.0, 1.0)
        replaces = self.sampler.draw.with_replacement or not step.scored
        return step.report(
            self.step_count, self.batch_size, replaces, worth, loss_value, tau, tau_ema, *weights
        )

    def _decide(self, tau_ema: float) -> None:
        if self.step_count % 8 == 0:  # it changes slowly, and steps may be short
            self.sampler.gate.usable = self.update.rates.usable if self.adapt == "lr" else math.inf
        self.sampler.decide(tau_ema)
        if self.memory is not None:
            self.tell_memory()

    def tell_memory(self) -> None:
        """What it is to draw, as the gate has decided."""
        memory, gate = self.memory, self.sampler.gate
        memory.active, memory.presample, memory.usable = (
            self.sampler.active,
            gate.presample,
            gate.usable,
        )

    def _autocast(self):
        return (
            nullcontext()
            if self.autocast is None
            else torch.autocast(self.device.type, self.autocast)
        )

    def _logits(self, inputs: Any) -> torch.Tensor:
        return logits_of(self.model, inputs, batch_length(inputs, "inputs"))

"""An engine, a loop around it and the optimizer's side: training by importance where that pays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from isample.control import Controller
from isample.control.rates import Rates
from isample.engine import Engine
from isample.engine.parts import Sampling, dataset_of
from isample.scoring.forward import Scoring
from isample.scoring.losses import Loss
from isample.scoring.overlap import Overlap
from isample.sources.arguments import check_joins
from isample.sources.dataset import Dataset
from isample.sources.indexed import can_be_indexed, check_can_be_indexed
from isample.sources.loader import Loader
from isample.sources.sampler import MemorySampler
from isample.sources.stream import Stream
from isample.support.batch_cuts import take
from isample.support.interrupts import INTERRUPTS
from isample.support.processes import Processes, unwrapped
from isample.support.pytree import check_batch
from isample.training.arguments import (
    Mode,
    check_trainer,
    check_trains,
    control_of,
    mode_of,
    scoring_of,
)
from isample.training.checkpoint import Checkpoint, Saving
from isample.training.evaluate import evaluate
from isample.training.fitting import Scheduler, check_fit, end_epoch
from isample.training.loop import Loop, check_budget
from isample.training.progress import ProgressBar
from isample.training.step import Step
from isample.training.update import Update
from isample.values import Batch, Candidates, Evaluation, History, StepReport

Callback = Callable[["Trainer", StepReport], None]


class Trainer(Saving):
    """Trains ``model`` with importance sampling that switches itself on.

    Parameters
    ----------
    model: any module that maps inputs to logits, one row a sample. Inputs may be a tensor, or a
        tuple or dict of tensors, which are spread over the model's arguments. For
        DistributedDataParallel see :mod:`isample.support.processes`.
    optimizer: any ``torch.optim.Optimizer`` over its parameters.
    loss: ``"cross_entropy"``, ``"bce_with_logits"``, ``"mse"``, a torch loss module built with
        ``reduction="none"``, or a callable ``(logits, targets) -> [B]``. A uniform batch's loss is
        torch's own mean: without ignored labels, by class weights (isample.scoring.losses).
    batch_size: b, the samples that a step learns from.
    presample: B >= b, the candidates that a scoring pass looks at. By default the speedup
        controller chooses; other controllers take 5b.
    mode: ``"memory"``: a remembered score a sample of the data set, and candidates on top of it.
        ``"presample"``: fresh candidates, as in Algorithm 1. ``"auto"``: a memory in a ``fit`` over
        a DataLoader that shuffles a map-style data set; candidates else, and where asked for by
        ``presample``, ``draws``, ``scoring``, ``tau_threshold`` or ``control="threshold"``.
    score: ``"upper_bound"``, ``"loss"``, ``"gradient_norm"`` or a callable
        ``(logits, targets) -> [B]``.
    draws: from candidates: ``"pps"`` (the default), ``"systematic"``, or ``"alias"`` (the paper's,
        with replacement).
    scoring: how the scoring pass is made cheap, an :class:`isample.Scoring`.
    control: ``"speedup"`` (measured, the default), ``"threshold"`` (the paper's rule),
        ``"always"``, ``"never"``, or a :class:`isample.control.Controller`.
    adapt: the use of a gain. ``"lr"`` (the default) raises the learning rate of active steps, at
        most to twice the schedule's highest so far. ``"batch"`` trains on fewer samples at a
        uniform batch's noise. None does neither. See :mod:`isample.control.rates`.
    tau_threshold: of the threshold controller, which it implies; (B + 3b) / 3b by default.
    tau_momentum: a_tau of the moving average of tau.
    clip_grad_norm: the largest norm of all gradients together, or None.
    autocast: a dtype for ``torch.autocast`` around the forward passes, or None.
    scaler: a ``torch.amp.GradScaler``, or None.
    accumulate: steps whose gradients are averaged before the optimizer moves.
    seed: of the draws; by default taken from torch's generator.
    gate: the former name of ``control``.

    Errors in the arguments are ValueError or TypeError and name argument, rule and value. A step
    whose scores or loss are not finite raises ``NonFiniteScoreError`` or ``NonFiniteLossError`` and
    leaves the parameters as they were.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss = "cross_entropy",
        batch_size: int = 128,
        presample: int | None = None,
        *,
        mode: Mode = "auto",
        score: str | Callable[..., Any] = "upper_bound",
        draws: str | None = None,
        control: str | Controller[Any] | None = None,
        adapt: str | Rates | None = "lr",
        scoring: Scoring | None = None,
        tau_threshold: float | None = None,
        tau_momentum: float = 0.9,
        clip_grad_norm: float | None = None,
        autocast: torch.dtype | None = None,
        scaler: torch.amp.GradScaler | None = None,
        accumulate: int = 1,
        seed: int | None = None,
        gate: str | Controller[Any] | None = None,
    ):
        check_trainer(model, optimizer, batch_size, presample, autocast, scaler)
        control = control_of(control, gate, tau_threshold)
        asks = (presample, draws, tau_threshold, scoring) != (None,) * 4
        self.mode: Mode = mode_of(mode, score, control, presample, scoring, asks)
        passes = scoring_of(scoring, control, autocast)
        drawn = "pps" if draws is None else draws
        sampling = Sampling(score, drawn, passes, presample, tau_threshold, tau_momentum)
        self.model: nn.Module = model
        self.optimizer: torch.optim.Optimizer = optimizer
        self.batch_size: int = batch_size
        self.engine: Engine = Engine(
            optimizer,
            model=model,
            loss=loss,
            control=control,
            adapt=adapt,
            attach=False,
            seed=seed,
            batch_size=batch_size,
            sampling=sampling,
            processes=Processes.of_model(model),
        )
        check_trains(optimizer, model, loss)
        self.device: torch.device = self.engine.parts.device
        scorer = self.engine.parts.scorer
        self.overlap: Overlap | None = Overlap.where_asked(scoring, scorer, batch_size)
        update = Update(optimizer, self.engine, clip_grad_norm, scaler, accumulate)
        self._step: Step = Step(model, self.engine, update, self.overlap, autocast)
        self._loop: Loop = Loop(self.engine, self._step)
        super().__init__(Checkpoint(model, self.engine, self._loop))

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
        """The paper's Algorithm 1: draws with replacement, its switch, and nothing beyond."""
        beyond = {"mode": "presample", "draws": "alias", "adapt": None}
        if "gate" not in options:
            beyond["control"] = "threshold"
        return cls(model, optimizer, loss, batch_size, presample, **{**beyond, **options})

    @property
    def history(self) -> History:
        """All reports and evaluations."""
        return self.engine.history

    @property
    def memory(self) -> MemorySampler | None:
        """What is remembered of the data set; None without a memory."""
        source = self.engine.dealer.source
        return source.memory if isinstance(source, Dataset) else None

    @property
    def batch(self) -> Batch | None:
        """What the last step was trained on, and how it came about."""
        return self._step.batch

    @property
    def step_count(self) -> int:
        return self.engine.steps.count

    @property
    def progress(self) -> float:
        """The spent share of the present ``fit``'s budget, in [0, 1], for schedules."""
        return self._loop.progress

    @property
    def next_size(self) -> int:
        """How many samples the next :meth:`step` has use for."""
        self._open_stream(())
        return self.engine.steps.steering.plan.candidates or self.batch_size

    def step(self, inputs: Any, targets: Any) -> StepReport:
        """One step on samples that the caller brings: :attr:`next_size` of them.

        From more than a batch it draws ``batch_size`` by their scores, or takes the first ones
        where the plan scores none. Raises ValueError for inputs and targets of other lengths or
        another device.
        """
        if self.mode == "memory":
            raise ValueError(
                "mode must be 'presample' for step(), which is not told the samples' indices; got "
                "'memory'"
            )
        if self.overlap is not None:
            raise ValueError("scoring must not be ahead for step(), which is given one batch")
        size = check_batch(inputs, targets, self.device)
        self._open_stream(())
        batch = inputs, targets
        if size > self.batch_size and self.engine.steps.steering.plan.candidates is None:
            batch, size = take(batch, slice(self.batch_size), size), self.batch_size  # line 12
        return self._step(self.engine.dealer.deal(Candidates(batch, size)))

    def _open_stream(self, loader: Iterable[Any]) -> None:
        if not isinstance(self.engine.dealer.source, Stream):
            self.mode = "presample"
            dealer = self.engine.dealer
            dealer.open(Stream(loader, self.batch_size, self.device, dealer.limits))

    def fit(
        self,
        loader: Iterable[Any],
        epochs: int | None = None,
        seconds: float | None = None,
        *,
        evaluate: Iterable[Any] | None = None,
        scheduler: Scheduler | None = None,
        callbacks: Iterable[Callback] = (),
        progress: bool = False,
    ) -> History:
        """Trains for a number of ``epochs``, or for ``seconds`` of training time, whichever is
        given.

        ``loader`` yields (inputs, targets) batches of ``batch_size`` samples. With a memory it is a
        DataLoader, which is built again around its data set. Without one an epoch is one pass over
        it, and a step over candidates joins B/b of its batches. ``evaluate`` is a loader that is
        evaluated after every epoch, and where the time is up. ``scheduler`` steps after every epoch
        that came to its end, a ReduceLROnPlateau by the evaluation's loss. Each of ``callbacks`` is
        called as ``callback(trainer, report)`` after every step. ``progress`` shows a bar (needs
        ``isample[progress]``).

        After :meth:`load_state_dict` it goes on where the saved run was. ``epochs`` and ``seconds``
        count from that run's beginning.
        """
        event: StepReport | None = None
        ending = self._loop.ending
        with ProgressBar(progress, epochs, seconds) as bar, INTERRUPTS.handled():
            called = check_fit(callbacks, evaluate, scheduler, self.optimizer, epochs)
            self.follow(scheduler)
            events = self._run(loader, epochs, seconds)
            with self._loop.guarded(), self.engine.together():
                for event in events:
                    if event is None:
                        end_epoch(evaluate, scheduler, self.evaluate, self.history, ending)
                        continue
                    for callback in called:
                        callback(self, event)
                    bar(self.progress, event)
                if event is not None:  # the time was up within an epoch
                    end_epoch(evaluate, None, self.evaluate, self.history, ending)
        return self.history

    def iterate(
        self, loader: Iterable[Any], epochs: int | None = None, seconds: float | None = None
    ) -> Iterator[StepReport]:
        """``fit`` as a generator: yields each step's report. The clock stands while the caller
        holds it, so that two trainers can take turns.
        """
        events = self._run(loader, epochs, seconds)
        return (report for report in events if report is not None)

    def _run(
        self, loader: Iterable[Any], epochs: int | None, seconds: float | None
    ) -> Iterator[StepReport | None]:
        processes = self.engine.steps.processes
        with processes.opening(mode=self.mode, epochs=epochs, seconds=seconds):
            check_budget(loader, epochs, seconds, self.batch_size)
            return processes.guarded(self._loop.run(self._loader(loader), epochs, seconds))

    def _loader(self, loader: Iterable[Any]) -> Loader:
        dealer = self.engine.dealer
        if self.mode == "auto":
            takes_memory = can_be_indexed(loader, self.batch_size)
            self.mode = "memory" if takes_memory else "presample"
        if self.mode == "memory":
            indexed = check_can_be_indexed(loader, self.batch_size)
            source = dataset_of(self.engine.parts, indexed, dealer.source, self.device)
        else:
            check_joins(dealer.wishes.sampling.presample, self.batch_size)
            source = Stream(loader, self.batch_size, self.device, dealer.limits)
        dealer.open(source)
        pair = None if self.overlap is None else self.overlap.pair
        return Loader(loader, source, dealer, self.device, pair)

    def evaluate(self, loader: Iterable[Any]) -> Evaluation:
        """Mean loss and share of wrong classes over ``loader``, in evaluation mode, leaving no
        trace; of this process alone."""
        with self.engine.paused(), self._step.precision():
            known = self.engine.parts.known.loss
            loss, error = evaluate(unwrapped(self.model), known, loader, self.device)
        return Evaluation(self.step_count, self._loop.elapsed, loss, error)

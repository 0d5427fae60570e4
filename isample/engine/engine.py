"""Importance sampling without a loop: at two points of a program that keeps its own.

    engine = isample.Engine(optimizer, head=model.classifier)
    loader = engine.loader(loader)
    for inputs, targets in loader:
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward(); optimizer.step(); optimizer.zero_grad()

A source deals candidates. The controller's plan says what is scored and kept. At the logits samples
are scored and weighted. Before the optimizer's step the numbers are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, is_grad_enabled, nn

from isample.control import Controller
from isample.control.rates import Rates
from isample.engine.arguments import Arguments
from isample.engine.checks import check_choices, check_engine
from isample.engine.hooks import HeadHook
from isample.engine.numbers import tell_loss
from isample.engine.parts import Sampling, make_source
from isample.engine.resumable import Resumable
from isample.scoring.losses import Loss
from isample.sources.loader import Loader
from isample.sources.stream import Stream
from isample.support.processes import Processes
from isample.support.pytree import batch_length
from isample.values import Candidates, History, StepReport

DEFAULT_SAMPLING = Sampling()


class Engine(Resumable):
    """Chooses what a loop trains on, weighs it at the logits, and learns from every step.

    Parameters
    ----------
    optimizer: of the parameters that are trained.
    head: the module whose output rows are the samples' logits; else call :meth:`rows` or
        :meth:`loss`.
    model: with ``loss`` or ``objective``, what scores candidates before the training pass. Without
        it only a memory chooses samples.
    loss: of ``model``'s outputs, where isample knows it, see :class:`isample.Trainer`. Batches are
        then (inputs, targets).
    control: ``"speedup"``, ``"always"``, ``"never"``, ``"threshold"``, or a
        :class:`isample.control.Controller`.
    objective: the user's own reduced loss, ``(model, batch) -> 0-dim``, through ``head`` or
        :meth:`rows`.
    adapt: ``"lr"``, ``"batch"`` or None, see :class:`isample.Trainer`.
    attach: whether the optimizer's hooks call :meth:`before_update` and :meth:`after_update`. A
        loop whose optimizer is given a closure calls them itself.
    seed: of the draws; by default taken from torch's generator.
    batch_size: b; by default that of the loader.
    sampling: how candidates are scored and drawn from.
    processes: those that train together; by default torch's process group.

    Attributes
    ----------
    report, history: the last step's :class:`isample.StepReport`, and all of them.
    together: ``with engine.together():`` around the loop, where several processes train: an error
        in one of them ends all, by a :class:`isample.LostProcessError`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        head: nn.Module | None = None,
        model: nn.Module | None = None,
        loss: Loss | None = None,
        control: str | Controller[Any] = "speedup",
        objective: Callable[[nn.Module, Any], Tensor] | None = None,
        adapt: str | Rates | None = "lr",
        attach: bool = True,
        seed: int | None = None,
        batch_size: int | None = None,
        sampling: Sampling = DEFAULT_SAMPLING,
        processes: Processes | None = None,
    ):
        check_engine(optimizer, head, model, objective, attach, seed)
        check_choices(control, batch_size, sampling, processes)
        processes = processes or Processes.running()
        self.together: Callable[[], AbstractContextManager[None]] = processes.together
        super().__init__(
            Arguments(
                optimizer,
                model,
                loss,
                objective,
                control,
                adapt,
                seed,
                batch_size,
                sampling,
                processes,
            )
        )
        self._open = self._paused = False
        self._head = head
        if head is not None:
            head.register_forward_hook(HeadHook(self._at_head))
        if attach:
            optimizer.register_step_pre_hook(self._before)
            optimizer.register_step_post_hook(self._after)
            optimizer.register_state_dict_pre_hook(self._before_state)

    @property
    def report(self) -> StepReport | None:
        return self.steps.report

    @property
    def history(self) -> History:
        return self.steps.history

    @property
    def elapsed(self) -> float:
        """Seconds of all steps so far, pauses left out."""
        return self.steps.running

    # ---- Point 1: batches -----------------------------------------------------------------------

    def loader(self, loader: Iterable[Any]) -> Loader:
        """``loader`` again, whose batches are chosen; they stay the user's own in kind.

        Where it shuffles a map-style data set, that is drawn from by a memory. Any other iterable
        is dealt as it is, and thinned where something can score.
        """
        dealer = self.dealer
        given, limits = (self.parts, dealer.wishes, loader, dealer.source), dealer.limits
        with self.steps.processes.opening():
            source = make_source(*given, limits)
            dealer.open(source)
        self._loader = Loader(loader, source, dealer, self.parts.device)
        self._load_place()
        return self._loader

    def choose(self, batch: Any) -> Any:
        """Of a batch that the caller fetched, what to train on, in the same form.

        Raises RuntimeError where nothing can score it.
        """
        self.parts.scorer_for("choose")
        size = batch_length(batch, "batch")
        dealer = self.dealer
        if dealer.source is None:
            dealer.open(Stream([batch], dealer.wishes.batch_size or size))
        dealer.tickets.forget()
        return dealer.deal(Candidates(batch, size)).batch

    def skip(self) -> None:
        """The batch that was fetched longest ago is not trained on."""
        self.dealer.tickets.skip()

    # ---- Point 2: logits ------------------------------------------------------------------------

    def rows(self, z: Any, counts: Tensor | None = None) -> Any:
        """The identity at the logits, a row a sample; scores and weighs them in the backward pass.

        Args:
            z: a tensor [b, ...], or a tuple, list or dict of them.
            counts: [b], what each row holds of what the loss's mean divides by: counted tokens or
                pixels, or the class weight of its label. None: the loss is a mean over rows.

        Raises:
            RuntimeError: no batch of the engine's loader is under way.
            ValueError: logits or counts that have not a row for each sample of it.
        """
        if self._rows.marked is not None:
            return self._rows.mark(z, counts)
        if self._paused or not is_grad_enabled():
            return z
        if counts is None and self.dealer.tickets.pass_plain("rows", z) is not None:
            return z
        return self._rows.through(z, self.dealer.claim("rows"), counts)

    def _at_head(self, module: nn.Module, args: Any, output: Any) -> Any:
        if module is not self._head:  # but a shallow copy of it
            return None
        if self._rows.marked is None:
            if not module.training or self._paused or not is_grad_enabled():
                return None
            if self.dealer.tickets.pass_plain("rows", output) is not None:
                return None
        return self.rows(output)

    def loss(self, outputs: Tensor, targets: Any) -> Tensor:
        """The weighted mean of the known loss over the batch under way, 0-dim, differentiable: one
        fused call in place of :meth:`rows` and a loss of one's own."""
        objective = self.parts.known
        if self._paused or not is_grad_enabled():
            return objective.mean(outputs, targets)[0]
        plain = self.dealer.tickets.pass_plain("loss", outputs)
        batch = plain or self.dealer.claim("loss")
        weights = batch.weights_on(outputs.device)
        mean, score = objective.mean(outputs, targets, weights, notes=batch.observe)
        if self.dealer.tickets.is_settled(batch) or (plain is not None and self._open):
            return mean
        tell_loss(batch, mean)
        if batch.observe:
            self.dealer.learn_outputs(batch, score, targets, outputs)
        self.steps.read_late(batch)
        if mean.requires_grad and not batch.left_alone:
            mean.register_hook(batch.saw_backward)
        return mean

    # ---- The update -----------------------------------------------------------------------------

    def before_update(self) -> None:
        """Reads the numbers of all batches since the last update; raises the learning rate.

        Raises NonFiniteScoreError or NonFiniteLossError where a score or the loss is no finite
        number, before a parameter changes.
        """
        self._before()

    def _before(self, *_: Any) -> None:
        plain = self.dealer.tickets.plain
        if plain is None or not plain.left_alone:
            self.dealer.begin_update()
            self.steps.raise_rates()
        elif plain.told:
            self.dealer.check_loss(plain)
        self._open = True

    def after_update(self) -> StepReport | None:
        """Puts the learning rate back; the report of the last batch.

        Raises RuntimeError where :meth:`before_update` was not called.
        """
        self._after()
        return self.report

    def _after(self, *_: Any) -> None:
        if not self._open:
            raise RuntimeError("after_update must follow before_update; it was not called")
        self._open = False
        plain = self.dealer.tickets.finish_plain()
        if plain is not None:
            self.steps.close_plain(plain)
            return
        self.dealer.tickets.end_update()
        self.steps.close(is_update=True)

    def settle(self) -> StepReport | None:
        """A batch was trained on whose gradients wait for the next update."""
        self.dealer.settle()
        self.steps.close(is_update=False)
        return self.report

    def put_back(self) -> None:
        """After an exception: the rates are the user's, and what was under way comes again."""
        self._open = self._paused = False
        self.steps.rates.put_back()
        self.steps.discard()
        self.dealer.tickets.put_back()

    def forget(self) -> None:
        """:meth:`put_back`, but what was under way does not come again."""
        self.put_back()
        self.dealer.tickets.forget()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands, and logits pass as they are: for evaluation and the like."""
        before, self._paused = self._paused, True
        try:
            with self.steps.clock.paused():
                yield
        finally:
            self._paused = before

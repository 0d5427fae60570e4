"""From a presample to a weighted batch: the part of Algorithm 1 that knows about importance,
without any training.

The Trainer and the ImportanceLoader both drive one :class:`ImportanceSampler`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from isample import ops
from isample.control.gate import DEFAULT_RATIO, Gate, MemoryGate, SpeedupGate, make_gate
from isample.scoring.draws import make_draw
from isample.scoring.forward import Scoring, ScoringPass
from isample.scoring.losses import BatchLoss, Loss, make_loss, mean_loss
from isample.scoring.scores import cross_entropy_options, leaving_no_trace, make_score
from isample.support.errors import NonFiniteScoreError
from isample.support.pytree import batch_length


@dataclass(frozen=True)
class Selection:
    """What was drawn from one presample.

    ``indices`` int64 [b] into the presample, ``weights`` float32 [b] (1/(B p_i), times what the
    samples' weights in the presample were), ``score`` float32 [B], ``tau`` float32 0-dim: NaN if a
    score was not finite. ``timer`` gives the seconds of the scoring pass.
    """

    indices: torch.Tensor
    weights: torch.Tensor
    score: torch.Tensor
    tau: torch.Tensor
    timer: Callable[[], float]


class ScoredAhead(NamedTuple):
    """The ``logits`` [B, ...] of a presample that was scored before its step began, and a reader of
    the seconds that took."""

    logits: torch.Tensor
    timer: Callable[[], float]


class ImportanceSampler:
    """Scores a presample, draws from it, and keeps the moving average of tau and the gate's
    decision.

    ``tau_ema`` is a 0-dim float32 tensor on the model's device; ``active`` says whether the next
    step should be an importance-sampled one. Arguments are those of :class:`isample.Trainer`.
    """

    def __init__(
        self,
        loss: Loss = "cross_entropy",
        batch_size: int = 128,
        presample: int | None = None,
        score: str | Callable = "upper_bound",
        draws: str = "pps",
        gate: str | Gate | None = "threshold",
        tau_threshold: float | None = None,
        tau_momentum: float = 0.9,
        seed: int | None = None,
        device: torch.device | str = "cpu",
        mode: str = "presample",
        scoring: Scoring | None = None,
    ):
        for name, value in (
            ("batch_size", batch_size),
            ("presample", 1 if presample is None else presample),
        ):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1; got {value!r}")
        if presample is not None and presample < batch_size:
            raise ValueError(
                f"presample must be >= batch_size; got presample={presample}, batch_size={batch_size}"
            )
        if mode == "memory" and scoring is not None and scoring.proxy is not None:
            raise ValueError(
                "scoring must have no proxy in mode='memory', which remembers the model's scores; got one"
            )
        if mode == "memory" and scoring is not None and scoring.ahead:
            raise ValueError(
                "scoring must not be ahead in mode='memory', whose draws wait for the scores; got ahead=True"
            )
        if not 0 <= tau_momentum < 1:
            raise ValueError(f"tau_momentum must be in [0, 1); got {tau_momentum}")
        self.batch_size = batch_size
        self.loss = make_loss(loss)
        self._mean_loss = mean_loss(self.loss)
        self.score, self.draw = make_score(score), make_draw(draws)
        if scoring is not None and scoring.ahead and self.score.from_logits is None:
            raise ValueError(
                f"scoring must not be ahead for score={score!r}, which needs more than logits; got ahead=True"
            )
        self._gate_arguments = (
            gate,
            batch_size,
            presample,
            tau_threshold,
            self.draw.with_replacement,
        )
        self.set_mode(mode)
        # Choosing the precision by the clock would spoil runs that go by nothing else that a clock
        # says.
        default = Scoring(
            dtype="auto" if isinstance(self.gate, (SpeedupGate, MemoryGate)) else None
        )
        self.scoring = ScoringPass(scoring or default, torch.device(device))
        self.shared = (
            False  # with other processes, which wait for this one's part even if it cannot draw
        )
        self.tau_momentum = tau_momentum
        self.tau_ema = torch.zeros((), dtype=torch.float32, device=device)
        self.generator = torch.Generator(device)
        # Seeded from torch's own generator, so that torch.manual_seed reproduces; drawing then
        # leaves that one alone.
        self.generator.manual_seed(int(torch.randint(2**62, ())) if seed is None else seed)

    def set_mode(self, mode: str) -> None:
        """The gate anew, for ``memory`` or ``presample``; to be called before the first step
        only."""
        gate, batch_size, presample, *_ = self._gate_arguments
        self.gate = make_gate(gate, mode, *self._gate_arguments[1:])
        self._presample = presample or DEFAULT_RATIO * batch_size
        self.active = self.gate.is_open(0.0)

    @property
    def presample(self) -> int:
        """B of the next active step."""
        return self.gate.presample or self._presample

    @property
    def next_size(self) -> int:
        """How many samples the next step has use for: B when importance sampling is on, b when it
        is not."""
        return self.presample if self.active else self.batch_size

    def select(
        self,
        model: nn.Module,
        inputs: Any,
        targets: Any,
        draws: int | None = None,
        weights: torch.Tensor | None = None,
        ahead: ScoredAhead | None = None,
    ) -> Selection:
        """Lines 6 to 9 of Algorithm 1: score the presample, draw ``draws`` of it (``batch_size``),
        weight; and line 17 for tau. Where the presample was itself drawn with ``weights`` w,
        float32 [B], draws are in proportion to w g. What was scored ``ahead`` is not scored again.

        Leaves no trace in the model, the autograd graph or the global random state.
        """
        size, draws = batch_length(inputs, "inputs"), draws or self.batch_size
        with leaving_no_trace(self.scoring.module(model), self.tau_ema.device):
            timer = start_timer(self.tau_ema.device)
            if ahead is not None:
                logits = ahead.logits
            else:
                logits = (
                    None
                    if self.score.from_logits is None
                    else self.scoring.logits(model, inputs, size)
                )
            try:
                drawn = self._draw(model, inputs, targets, logits, draws, weights)
            except NonFiniteScoreError:
                if not self.shared:
                    raise
                score = self.fresh_scores(model, inputs, targets, logits)
                drawn = (
                    *uniform_draw(draws, score.device),
                    score,
                    score.new_tensor(math.nan),
                )  # which stops all
            seconds = timer()
            return Selection(
                *drawn, seconds if ahead is None else lambda: seconds() + ahead.timer()
            )

    def _draw(
        self,
        model: nn.Module,
        inputs: Any,
        targets: Any,
        logits: torch.Tensor | None,
        draws: int,
        weights: torch.Tensor | None,
    ) -> tuple[torch.Tensor, ...]:
        """Indices, weights, score and tau."""
        if self.fuses(logits) and weights is None:
            indices, drawn_weights, score, _, tau = ops.importance_sample(
                logits,
                targets,
                draws,
                self.tau_ema,
                momentum=self.tau_momentum,
                draws=self.draw.name,
                generator=self.generator,
                **cross_entropy_options(self.loss),
            )
            return indices, drawn_weights, score, tau
        score = self.fresh_scores(model, inputs, targets, logits)
        weighted = score if weights is None else score * weights
        _, tau = ops.distribution(weighted, tau_ema=self.tau_ema, momentum=self.tau_momentum)
        indices, drawn_weights = ops.draw(
            weighted, draws, method=self.draw.name, generator=self.generator
        )
        return (
            indices,
            drawn_weights if weights is None else drawn_weights * weights[indices],
            score,
            tau,
        )

    def batch_loss(
        self, logits: torch.Tensor, targets: Any, weights: torch.Tensor | None = None
    ) -> BatchLoss:
        """The mean of the ``weights`` times the losses, with the scores where these come with it
        for nothing."""
        of_torch = (
            type(self.loss) is nn.CrossEntropyLoss
        )  # one that is derived from it may be another loss
        if of_torch and self.fuses(logits) and logits.device.type == "cpu":
            loss, score, gradient = torch.ops.isample._cross_entropy_with_gradient.default(
                logits, targets, weights, **cross_entropy_options(self.loss)
            )
            return BatchLoss(loss, logits, score, gradient)
        return BatchLoss(self._mean_loss(logits, targets, weights), logits)

    def observe(
        self,
        model: nn.Module,
        inputs: Any,
        targets: Any,
        logits: torch.Tensor,
        score: torch.Tensor | None = None,
    ) -> Selection:
        """Lines 15 and 17: the scores of a uniform batch, free where the training pass gave the
        ``score`` or ``logits`` suffice.

        Returns the whole batch with weights of 1.
        """
        size = logits.shape[0]
        timer = start_timer(self.tau_ema.device)
        score = self.fresh_scores(model, inputs, targets, logits) if score is None else score
        _, tau = ops.distribution(score, tau_ema=self.tau_ema, momentum=self.tau_momentum)
        return Selection(*uniform_draw(size, logits.device), score, tau, timer())

    def fresh_scores(
        self, model: nn.Module, inputs: Any, targets: Any, logits: torch.Tensor
    ) -> torch.Tensor:
        """The scores of a batch, float32 [b]: free where the ``logits`` of its training pass
        suffice."""
        if self.score.from_logits is not None:
            return self.score.from_logits(self.loss, logits.detach(), targets)
        with leaving_no_trace(model, self.tau_ema.device):
            return self.score.from_model(self.loss, model, inputs, targets)

    def draw_seed(self) -> int:
        """A seed for another generator, out of this one's."""
        return int(torch.randint(2**62, (), generator=self.generator, device=self.generator.device))

    def decide(self, tau_ema: float) -> None:
        """Opens or closes the gate for the next step."""
        self.active = self.gate.is_open(tau_ema)

    def state_dict(self) -> dict[str, Any]:
        return {
            "tau_ema": self.tau_ema.cpu().clone(),
            "generator": self.generator.get_state(),
            "active": self.active,
            "gate": self.gate.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tau_ema.copy_(state["tau_ema"])
        self.generator.set_state(state["generator"])
        self.active = state["active"]
        self.gate.load_state_dict(state["gate"])

    def fuses(self, logits: torch.Tensor | None) -> bool:
        """Whether the scores of ``logits`` are those of softmax_score, which the fused ops begin
        with."""
        is_upper_bound = self.score.name == "upper_bound" and isinstance(
            self.loss, nn.CrossEntropyLoss
        )
        return is_upper_bound and logits is not None and logits.dim() == 2


def uniform_draw(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Every sample once, with weight 1."""
    return torch.arange(size, device=device), torch.ones(size, device=device)


def raise_if_not_finite(selection: Selection, tau: float) -> None:
    """Raises NonFiniteScoreError, with the rows, where tau says that some score was not a finite
    number."""
    if tau != tau:
        raise NonFiniteScoreError.from_scores(selection.score)


def start_timer(device: torch.device) -> Callable[[], Callable[[], float]]:
    """Starts a clock; calling it stops it and gives a reader of the seconds.

    On a GPU the clock is a pair of events: nothing waits, and the reader may be asked once the work
    is done.
    """
    if device.type != "cuda":
        begin = time.perf_counter()

        def stop():
            seconds = time.perf_counter() - begin
            return lambda: seconds

        return stop
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()

    def stop_events():
        last.record()
        return lambda: first.elapsed_time(last) / 1e3

    return stop_events

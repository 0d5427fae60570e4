"""What passes between the rooms: candidates, batches, observations and plans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

KEEP_FRACTIONS = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
"""Kept fractions at which :class:`Thinning` is measured; at 1 the noise does not grow."""


class Moments(NamedTuple):
    """How noisy a batch's draws were, by its fresh scores g and importance weights w.

    Unbiased estimates, see :func:`isample.ops.memory.draw_moments`.
    """

    mean: float
    """E[g]."""
    uniform: float
    """E[g^2]: the second moment of a gradient under uniform draws."""
    importance: float
    """E[(w g)^2]: the same under importance draws; over ``uniform`` it is their noise V."""
    least_weight: float
    largest_weight: float


class Thinning(NamedTuple):
    """What keeping a part of a batch costs in noise, by its fresh scores times weights, x = w g.

    The inclusion probabilities pi = min(1, c x) sum to a fraction of the batch. The second moment
    then grows from mean(x^2) to mean(x^2 / pi), and their ratio is the noise V.
    """

    whole: float
    """mean(x^2)."""
    parts: tuple[float, ...]
    """mean(x^2 / pi), one for each of :data:`KEEP_FRACTIONS`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next batch is to be."""

    importance: bool = False
    """Draw by remembered scores, where the source has them; else deal."""
    candidates: int | None = None
    """Score so many samples before the training pass; None: no scoring pass."""
    keep: int | None = None
    """Train on so many; None: the batch size. Below it without a scoring pass: fewer draws."""
    observe: bool = True
    """Score a uniform batch, too, from its training pass."""
    gain_cap: float = math.inf
    """Flatten remembered scores until a drawn sample gains no more than this."""
    stands: int = 1
    """Plain steps, which tell nothing but their time, change it only after every so many."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One step, as numbers; means over processes where several train one model."""

    loss: float
    tau: float = math.nan
    """Of the table or of the candidates; NaN where nothing was scored."""
    tau_ema: float = math.nan
    """Its moving average (Algorithm 1, line 17)."""
    memory: Moments | None = None
    """Of the memory's draw; of a dealt batch by the weights that the memory would give it."""
    fresh: Moments | None = None
    """Of the batch that was drawn from scored candidates, by the scores of its training pass."""
    thinning: Thinning | None = None
    """Of the candidates, or, where none were scored, of the batch by its training pass."""
    by_memory: bool = False
    """Whether remembered scores drew the batch or its candidates."""
    scored: int = 0
    """Candidates that a scoring pass looked at."""
    kept: int = 0
    """Samples that were trained on."""
    observed: bool = False
    """Whether the training pass was scored."""
    bounded: bool = False
    """Whether the memory holds down draws of samples whose label the network contradicts."""
    informed: bool = True
    """Whether the memory has seen an epoch, so that its moments foretell something."""
    gain_cap: float = 1.0
    """u, the largest gain that the learning rate has a use for; 1 where it uses none."""


@dataclass(slots=True)
class Candidates:
    """What a source deals: a batch of the user's own, and what is known of it."""

    batch: Any
    size: int
    places: Tensor | None = None
    """int64 [size], in the data set; None for a stream."""
    weights: Tensor | None = None
    """float32 [size], of the draw that brought them; None: dealt, all 1."""
    batches: int = 1
    """How many batches of the user's loader they came from."""


@dataclass(slots=True)
class Batch:
    """What is trained on, and how it came about: the ticket of a step."""

    batch: Any
    size: int
    out_of: int
    """How many samples it was chosen from."""
    weights: Tensor | None = None
    """float32 [size]; None: all 1."""
    places: Tensor | None = None
    by_memory: bool = False
    scored: int = 0
    observe: bool = False
    """Whether its training pass is to be scored."""
    batches: int = 1
    """How many batches of the user's loader it came from."""
    chosen: Tensor | None = None
    """int64 [size], its places among the candidates; None: all of them."""
    score: Tensor | None = None
    """Of the candidates, float32 [scored], or of the batch, float32 [size], once it is known."""
    tau: Tensor | None = None
    told: dict[str, Tensor] = field(default_factory=dict)
    """The step's numbers on the device, by name; read as :class:`Observation`."""
    began: float = 0.0
    scoring_seconds: Callable[[], float] | None = None
    overheads: tuple[Callable[[], float], ...] = ()
    """Readers of the seconds of drawing and remembering; to be called once numbers were read."""
    claimed: str = ""
    """Which call took its logits: ``rows`` or ``loss``; empty while it waits."""
    heads: int = 0
    squares: list[tuple[Tensor, Tensor | float]] = field(default_factory=list)
    """Of each head, the squared norms of its gradient rows, float32 [size], and their scale."""
    left_alone: bool = False
    """Whether its logits pass without a mark, since nothing waits for its backward pass."""
    backward: bool = False
    """Whether its backward pass has reached the logits."""
    backward_pass: int | None = None
    """The number, see :func:`backward_pass`, of the pass that brought its gradient or logits."""

    def saw_backward(self, gradient: Tensor) -> None:
        """A hook at the logits."""
        self.backward = True
        if self.backward_pass is None:
            self.backward_pass = backward_pass()

    def weights_on(self, device: torch.device) -> Tensor | None:
        """Its weights, where the logits of a model in parts on several devices are."""
        weights = self.weights
        if weights is None or weights.device == device:
            return weights
        return weights.to(device, non_blocking=True)

    @property
    def overhead(self) -> float:
        """Seconds of drawing and remembering, which are read once."""
        seconds = math.fsum(read() for read in self.overheads)
        if self.overheads:
            self.overheads = (lambda: seconds,)
        return seconds

    def again(self) -> None:
        """Forgets the forward pass: a closure makes another one."""
        self.heads, self.backward, self.backward_pass = 0, self.left_alone, None
        self.squares.clear()


def backward_pass() -> int | None:
    """The number of the backward pass within which this is called; None outside of any."""
    task = torch._C._current_graph_task_id()
    return None if task == -1 else task


@dataclass(slots=True)  # not frozen: that takes three times as long to make, once a step
class StepReport:
    """One training step. Losses, taus and weights are means over the processes that train.

    loss: the weighted mean loss, which estimates the mean over what the batch was chosen from
        without bias; NaN where the loss is the user's own.
    tau: of the candidates or the batch; of the memory's table where it drew and no candidates were
        scored; NaN where nothing was scored.
    tau_ema: its moving average after the step.
    active: whether importance drew the batch.
    presample: how many samples the batch was chosen from.
    effective_batch: the size of the uniform batch that would be as noisy, as measured.
    weight_min, weight_max: of the importance weights.
    scoring_seconds: part of ``seconds``; with ``Scoring(ahead=True)`` mostly of the step before.
    seconds: from the choice of the batch to this report.
    elapsed: the run's training time so far, data loading included, pauses left out.
    scored: how many candidates a scoring pass looked at.
    kept: how many samples were trained on.
    """

    step: int
    loss: float
    tau: float
    tau_ema: float
    active: bool
    presample: int
    effective_batch: float
    weight_min: float
    weight_max: float
    scoring_seconds: float
    seconds: float
    elapsed: float = float("nan")
    scored: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``loss`` is torch's own mean over all data, whatever the batches: it leaves out what is
    ignored, and goes by class weights. ``error`` is the share of wrong classes among the labels
    that are not ignored; NaN where the loss has none. Both are NaN where all labels are ignored.
    ``step`` and ``elapsed`` say when."""

    step: int
    elapsed: float
    loss: float
    error: float


class History:
    """All reports of one trainer or engine, in order: ``steps``, and ``evaluations``.

    A plain step's report is made when ``steps`` is asked for: small networks take longer to train
    where one is made in each. So ask again for those of later steps.
    """

    def __init__(
        self, steps: Iterable[StepReport] = (), evaluations: Iterable[Evaluation] = ()
    ) -> None:
        self.evaluations: list[Evaluation] = [*evaluations]
        self._steps: list[StepReport] = [*steps]
        self._latest: list[StepReport | tuple[int, float, int, float, float]] = []

    def add(self, report: StepReport) -> None:
        """Of the step after the last."""
        self._latest.append(report)

    def add_plain(self, step: int, loss: float, size: int, seconds: float, elapsed: float) -> None:
        """Of the step after the last, which was neither scored nor weighted."""
        self._latest.append((step, loss, size, seconds, elapsed))

    @property
    def steps(self) -> list[StepReport]:
        if self._latest:
            self._steps += [
                _plain_report(*one) if isinstance(one, tuple) else one for one in self._latest
            ]
            self._latest.clear()
        return self._steps

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, History):
            return NotImplemented
        return (self.steps, self.evaluations) == (other.steps, other.evaluations)

    def __repr__(self) -> str:
        return f"History(steps={self.steps!r}, evaluations={self.evaluations!r})"

    @property
    def active_share(self) -> float:
        """The share of steps that were importance-sampled, in [0, 1]; NaN before the first."""
        if not self.steps:
            return float("nan")
        return sum(report.active for report in self.steps) / len(self.steps)


def _plain_report(step: int, loss: float, size: int, seconds: float, elapsed: float) -> StepReport:
    nan = float("nan")
    return StepReport(
        step=step,
        loss=loss,
        tau=nan,
        tau_ema=nan,
        active=False,
        presample=size,
        effective_batch=float(size),
        weight_min=1.0,
        weight_max=1.0,
        scoring_seconds=0.0,
        seconds=seconds,
        elapsed=elapsed,
        kept=size,
    )

"""What a training run tells: a report a step, an evaluation now and then."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)  # not frozen: that takes three times as long to make, once a step
class StepReport:
    """One step of Algorithm 1.

    ``loss`` is the weighted mean that was differentiated, an unbiased estimate of the presample's
    mean loss. ``tau`` is of this step's presample (active) or batch (not active), ``tau_ema`` its
    moving average after the step; in memory mode both are of the table, unless a fresh presample
    was scored. They are NaN where nothing was scored. ``scored`` is how many samples a scoring pass
    looked at, 0 where there was none. ``effective_batch`` is the size of the uniform batch that
    would be as noisy: by tau, or, where the memory drew, whose scores are not fresh, as measured.
    Where several processes train, losses, taus and weights are means over them. ``scoring_seconds``
    is part of ``seconds``, or with ``Scoring(ahead=True)`` mostly of those of the step before;
    ``elapsed`` is the run's training time so far, data loading included, evaluation and whatever
    else the caller does between two steps not.
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


@dataclass(frozen=True, slots=True)
class Evaluation:
    """``loss`` is the mean over the samples, ``error`` the share of wrong classes, or NaN where the
    loss has no classes. ``step`` and ``elapsed`` say when."""

    step: int
    elapsed: float
    loss: float
    error: float


@dataclass
class History:
    """All reports of the ``fit`` calls on one trainer, in order."""

    steps: list[StepReport] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def active_share(self) -> float:
        """The share of steps that were importance-sampled, in [0, 1]; NaN before the first."""
        return (
            sum(report.active for report in self.steps) / len(self.steps)
            if self.steps
            else float("nan")
        )

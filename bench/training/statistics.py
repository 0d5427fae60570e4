"""What the runs say: means with confidence intervals over seeds, and how far ahead of uniform
training a method is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from .runfile import Point, Record

CONFIDENCE = 0.95
BASELINE = "uniform"
UNDISTURBED = 0.9  # the least share of its core with which a run counts as undisturbed


@dataclass(frozen=True)
class Interval:
    """``mean`` ± ``half_width`` covers the expected value with 95 % confidence, if the ``count``
    values are normal (Student's t). One value alone has no interval: half_width is NaN."""

    mean: float
    half_width: float
    count: int

    def scaled(self, factor: float) -> Interval:
        return Interval(factor * self.mean, factor * self.half_width, self.count)


def interval(values: Sequence[float]) -> Interval:
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(mean, math.nan, count)
    quantile = float(stdtrit(count - 1, 0.5 + CONFIDENCE / 2))
    return Interval(mean, quantile * float(np.std(values, ddof=1)) / math.sqrt(count), count)


def time_to_reach(points: Sequence[Point], loss: float) -> float:
    """Seconds of training until the training loss is first at or below ``loss``, linear between two
    evaluations; infinity if it never is."""
    before: Point | None = None
    for point in points:
        if point.training_loss <= loss:
            if before is None:
                return point.elapsed
            share = (before.training_loss - loss) / (before.training_loss - point.training_loss)
            return before.elapsed + share * (point.elapsed - before.elapsed)
        before = point
    return math.inf


def lead(record: Record, baseline: Record) -> float:
    """How much earlier than ``baseline`` the run was at the lowest training loss that both reached
    in the end, as a share of the budget; negative where it was later."""
    common = max(record.final.training_loss, baseline.final.training_loss)
    earlier = time_to_reach(baseline.points, common) - time_to_reach(record.points, common)
    return earlier / record.run.budget


@dataclass(frozen=True)
class Row:
    """A line of the table, over the seeds that are finished.

    ``time_to_baseline`` is the share of the budget until uniform's final training loss of the same
    seed, over the ``reached`` seeds that came there; ``lead`` as above; ``error_difference`` is the
    test error less uniform's of the same seed. These are None without a uniform run of the same
    seed. ``active`` is the share of the training time spent in importance-sampled steps, None for
    methods without a switch; ``kinds`` the mean share of each kind of step, empty for methods that
    do not tell. ``disturbed`` runs had their core for less than 90 % of their time.
    """

    name: str
    method: str
    share: float
    seeds: int
    diverged: int
    time_to_baseline: Interval | None
    reached: int
    lead: Interval | None
    training_loss: Interval
    test_error: Interval
    error_difference: Interval | None
    updates: Interval
    active: Interval | None
    kinds: dict[str, float]
    disturbed: int


def rows(records: Iterable[Record]) -> list[Row]:
    """One row an entrant, uniform first, then in the order of their final training loss."""
    entrants: dict[str, list[Record]] = {}
    for record in records:
        entrants.setdefault(record.run.name, []).append(record)
    baselines = {record.run.seed: record for record in entrants.get(BASELINE, [])}
    result = [row(name, of_name, baselines) for name, of_name in entrants.items()]
    return sorted(result, key=lambda r: (r.name != BASELINE, r.diverged, r.training_loss.mean))


def row(name: str, records: list[Record], baselines: dict[int, Record]) -> Row:
    good = [record for record in records if not record.final.diverged]
    finals = [record.final for record in good]
    pairs = [
        (record, baselines[record.run.seed]) for record in good if record.run.seed in baselines
    ]
    pairs = [(record, baseline) for record, baseline in pairs if not baseline.final.diverged]
    times = [time_to_reach(r.points, b.final.training_loss) / r.run.budget for r, b in pairs]
    reached = [time for time in times if time < math.inf]
    active = [p.active_seconds / p.elapsed for p in finals if p.active_seconds is not None]

    def over(values: list[float]) -> Interval | None:
        return interval(values) if values else None

    return Row(
        name=name,
        method=records[0].run.method,
        share=records[0].run.share,
        seeds=len(records),
        diverged=len(records) - len(good),
        time_to_baseline=over(reached),
        reached=len(reached),
        lead=over([lead(r, b) for r, b in pairs]),
        training_loss=over([p.training_loss for p in finals]) or Interval(math.inf, math.nan, 0),
        test_error=over([p.test_error for p in finals]) or Interval(math.nan, math.nan, 0),
        error_difference=over([r.final.test_error - b.final.test_error for r, b in pairs]),
        updates=interval([record.final.updates for record in records]),
        active=over(active),
        kinds=mean_shares(finals),
        disturbed=sum(record.core_share < UNDISTURBED for record in records),
    )


def mean_shares(finals: Sequence[Point]) -> dict[str, float]:
    """The mean share of its time that a run spent on each kind of step."""
    told = {kind for point in finals for kind in point.kinds}
    return {
        kind: float(np.mean([point.kinds.get(kind, 0.0) / point.elapsed for point in finals]))
        for kind in sorted(told)
    }

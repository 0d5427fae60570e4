"""Whether the next step is to be an importance-sampled one.

=========  ================================================================================================
threshold  the paper's rule (Algorithm 1, line 5): while the moving average of tau is above a threshold
speedup    while the noise that importance sampling removes, as measured, outweighs the time that it takes; in memory
           mode, while it removes noise and takes little time for it, with fresh presamples on top
           where these pay too
always     every step
never      no step: plain uniform training, and no score is computed
=========  ================================================================================================
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

from isample.control.gain import Foresight, Gain, break_even_tau
from isample.control.median import Recent
from isample.support.registry import look_up


class Gate:
    """What every gate answers, and what it is told.

    ``scores_uniform_steps``: whether the next step is to be scored if it is a uniform one.
    ``presample``: in presample mode the size that the next active step should have, or None if the
    gate has no opinion; in memory mode that of a fresh presample for the next step, or None for
    none.
    """

    scores_uniform_steps = True
    presample: int | None = None

    def __init__(self):
        self.gain = Gain()
        self.usable = math.inf  # the worth of a step beyond which no use is made of it
        self.bounded = (
            False  # whether the draws of samples whose label the network contradicts are held down
        )

    def is_open(self, tau_ema: float) -> bool:
        """Whether the next step should be an importance-sampled one."""
        raise NotImplementedError

    def foresee(
        self,
        mean: float,
        moment: float,
        drawn: Sequence[float] = (),
        scored: int = 0,
        remembered: bool = False,
    ) -> None:
        """Estimates of E[g] and E[g^2] by a step's fresh scores; and where these were of a
        presample of ``scored`` samples, which ``remembered`` scores had chosen or not, the second
        moments of the batch ``drawn`` of it, as :meth:`Gain.observe` takes them."""

    def worth(self, remembered: bool, scored: int) -> float:
        """b_eff / b of a step, NaN before it is known. ``remembered`` says whether remembered
        scores chose what was drawn, and ``scored`` how large the presample was, 0 for none."""
        return self.gain.value

    def clock(self, active: bool, seconds: float, overhead: float, scored: int) -> None:
        """A step's wall-clock time, loading included; ``overhead`` is the part that plain training
        would not have, ``scored`` the number of samples in its presample, 0 where there was
        none."""

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy({**vars(self), "gain": vars(self.gain)})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self.gain).update(state["gain"])
        vars(self).update(
            copy.deepcopy({name: value for name, value in state.items() if name != "gain"})
        )


class ThresholdGate(Gate):
    def __init__(self, threshold: float):
        super().__init__()
        self.threshold = threshold

    def is_open(self, tau_ema: float) -> bool:
        return tau_ema > self.threshold


class ConstantGate(Gate):
    scores_uniform_steps = False

    def __init__(self, open: bool):
        super().__init__()
        self.open = open

    def is_open(self, tau_ema: float) -> bool:
        return self.open


class SpeedupGate(Gate):
    """Open while the gain exceeds t_active / t_uniform, both measured (section 3.3 of the paper
    assumes both).

    The times are medians of the clock. A closed gate probes: it takes an active step as long as all
    probes together cost at most ``PROBES`` of the time. It opens with a margin of 5 %, and closes
    when there is no gain left.

    It chooses the presample, too, among ``presamples`` >= ``batch_size``: what an active step takes
    beyond a uniform one is proportional to B, and what it would be worth is known for any, see
    :class:`isample.control.gain.Foresight`. A gain counts as far as use is made of it, up to
    ``usable``.
    """

    scores_uniform_steps = False
    MARGIN, KEEP, PROBES = 1.05, 1.0, 0.01  # speedups that open it, and that keep it open
    LEAST, LEAST_PROBES = 12, 12  # steps and active steps before the cost is known
    ROW = 1  # steps of a probe

    def __init__(
        self, batch_size: int = 1, presamples: Sequence[int] = (5,), replaces: bool = True
    ):
        super().__init__()
        self.batch_size, self.presamples = batch_size, tuple(presamples)
        self.foresight = Foresight(replaces)
        self.presample = self.presamples[len(self.presamples) // 2] if self.presamples else None
        self.opened = False
        self.uniform = Recent()  # seconds of steps
        self.sample = (
            Recent()
        )  # what active steps took longer than the median uniform one, in units of it, a sample
        self.elapsed = self.probing = 0.0

    def cost(self, presample: int) -> float:
        """t_active / t_uniform as measured; NaN before enough was seen."""
        if len(self.uniform) < self.LEAST or len(self.sample) < self.LEAST_PROBES:
            return math.nan
        return 1.0 + presample * self.sample.median

    def speedup(self, presample: int) -> float:
        """The gain over the cost of active steps; NaN before enough was seen."""
        worth = self.foresight.worth(self.batch_size / presample, self.gain.drawn)
        return min(worth, self.usable) / self.cost(presample)

    def foresee(
        self,
        mean: float,
        moment: float,
        drawn: Sequence[float] = (),
        scored: int = 0,
        remembered: bool = False,
    ) -> None:
        self.foresight.see(mean, moment)
        if drawn:
            self.foresight.compare(self.batch_size / scored, mean, moment, drawn)

    def is_open(self, tau_ema: float) -> bool:
        best = max(self.presamples, key=self.speedup)  # of NaNs, the first
        if self.speedup(best) == self.speedup(best):
            self.presample = best
        self.opened = self.speedup(self.presample) > (
            self.KEEP if self.opened else self.MARGIN
        )  # NaN is no
        return self.opened or self._may_probe()

    def clock(
        self, active: bool, seconds: float, overhead: float, scored: int, tells: bool = True
    ) -> None:
        """``tells`` is whether the step took as long as others of its kind would."""
        self.elapsed += seconds
        if not active:
            self.uniform.add(seconds)
        elif self.uniform:  # a run may begin with an active step, which tells nothing then
            extra = seconds - self.uniform.median
            if tells:
                self.sample.add(extra / self.uniform.median / scored)
            if not self.opened:
                self.probing += max(0.0, extra)

    def state_dict(self) -> dict[str, Any]:
        times = {"uniform": list(self.uniform.values), "sample": list(self.sample.values)}
        return {**super().state_dict(), **times, "foresight": copy.deepcopy(vars(self.foresight))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self.foresight).update(copy.deepcopy(state["foresight"]))
        times = {name: Recent(state[name], vars(self)[name].kept) for name in ("uniform", "sample")}
        own = {**times, "foresight": self.foresight}
        super().load_state_dict({**state, **own})

    def _may_probe(self) -> bool:
        if len(self.uniform) < self.LEAST:
            return False
        expected = self.presample * (self.sample.median if self.sample else 0.5 / self.batch_size)
        return (
            self.probing + self.ROW * expected * self.uniform.median
            < self.probe_share * self.elapsed
        )

    @property
    def probe_share(self) -> float:
        """The share of the time that probes may take."""
        return self.PROBES


class FreshGate(SpeedupGate):
    """Whether memory mode scores a fresh presample of what it draws, and how large a one.

    By remembered scores a batch is worth ``before``, or 1 where it is dealt; of B such samples b
    are drawn again in proportion to w g. The moments of the scores show in every scored step, so
    what a fresh presample would bring is known before one was tried. Trials are for its cost, and
    for how coarse its scores are. When the cost is known, there is a third of them.

    A trial is a ``ROW`` of steps, of which the first two tell nothing of the time: they find the
    caches, and the memory that they allocate, as another kind of step has left them. While the gate
    is open, a row of steps without a presample every ``REMINDER`` steps keeps their time known,
    which changes with whatever else the machine does. The first trials are of the smallest
    presample: a cost that is in part the same for every size is then over-estimated for the others.

    A gain in noise is not all gained in time, which is what it costs: it has to be a quarter more
    to open the gate, and a tenth more to keep it open. When it closes, trials begin anew: it may
    have set steps of a machine that has become slow against faster ones.
    """

    MARGIN, KEEP, LEAST_PROBES = 1.25, 1.1, 4
    ROW, COLD, REMINDER = 6, 2, 192  # steps
    PATIENCE = 64  # steps: workers may have that many batches ahead of a trial
    EVERY = 8  # steps: to look at more of them would take hundredths of a short one

    def __init__(self, batch_size: int, presamples: Sequence[int], replaces: bool = True):
        super().__init__(batch_size, presamples, replaces)
        self.presample = min(presamples, default=None)
        self._forget_times()
        self.row = 0  # steps of a trial that are left
        self.last, self.alike = (
            False,
            0,
        )  # whether the step before had a presample, and how many before it were alike
        self.before = 1.0
        self.waiting = 0  # steps more, at most, for a trial to come back
        self.steps = 0

    def speedup(self, presample: int) -> float:
        worth = self.foresight.worth(self.batch_size / presample / self.before)
        return min(worth, self.usable) / min(self.before, self.usable) / self.cost(presample)

    def is_open(self, tau_ema: float) -> bool:
        if self.row > 0 and (
            self.opened or self.probing < self.probe_share * self.elapsed
        ):  # or it turned out too dear
            self.row -= 1
            return not self.opened
        if self.steps % self.EVERY or not self.presamples:
            return self.opened
        was_open = self.opened
        tried = super().is_open(tau_ema) != self.opened or (
            self.opened and self.steps % self.REMINDER == 0
        )
        if was_open and not self.opened:
            self._forget_times()
        self.row = self.ROW - 1 if tried else 0
        return self.opened != tried

    def clock(self, active: bool, seconds: float, overhead: float, scored: int) -> None:
        self.steps += 1
        self.last, self.alike = active, self.alike + 1 if active == self.last else 0
        tells = self.alike >= self.COLD
        if active or (tells and (self.opened or self.steps % self.EVERY == 0)):
            super().clock(active, seconds, overhead, scored, tells)
            self.waiting = 0 if active else max(0, self.waiting - self.EVERY)
        else:
            self.elapsed += seconds

    def _forget_times(self) -> None:
        self.uniform, self.sample = Recent(kept=12), Recent(kept=12)

    def _may_probe(self) -> bool:
        if self.waiting > 0:
            return False
        probe = super()._may_probe()
        self.waiting = self.PATIENCE if probe else 0
        return probe

    @property
    def probe_share(self) -> float:
        return self.PROBES if math.isnan(self.cost(1)) else self.PROBES / 3


class MemoryGate(Gate):
    """The speedup gate of memory mode, where an active step costs what a uniform one does and the
    remembering besides.

    A gain in noise is not all gained in time, so only a part of it may be paid for: the gate is
    open while there is a gain and the overhead is below ``LIMIT`` of a step, and ``PAID`` more for
    each batch that a batch is worth beyond itself, up to ``SURPLUS`` of them. Where many labels may
    be wrong, see :mod:`isample.scoring.contradicted`, it opens from ``DOUBTFUL`` on only. It closes
    when clearly more noise comes than goes, and not before: draws renew the scores of what is
    drawn, so a memory that is used is a better one. While the gate is closed, uniform steps are
    scored as long as all scoring together costs at most ``WATCH`` of the time, and as much less of
    it as the overhead is above what the gain could pay. So where little is gained, a run loses no
    more than the larger of the two. Scored steps come in rows, which begin when a quarter of that
    is left: of scores that are as fresh as they would be if the gate were open, the gain is seen;
    of as many that are strewn over the run, each stale when it is asked for, it is not. ``fresh``
    adds presamples, open or closed, where those pay.
    """

    MARGIN, DOUBTFUL, LEAST, LIMIT, PAID, SURPLUS, WATCH = 1.05, 1.5, 0.8, 0.03, 0.1, 3.0, 0.02
    RESUME = 0.75  # of WATCH
    HORIZON = 50  # steps

    def __init__(self, batch_size: int = 1, presamples: Sequence[int] = (), replaces: bool = True):
        super().__init__()
        self.fresh = FreshGate(batch_size, presamples, replaces)
        self.opened = False
        self.scores_uniform_steps = True
        self.recent = self.recent_overhead = 0.0  # decaying sums over scored steps
        self.elapsed = self.overhead = 0.0  # of all steps, and of uniform ones

    @property
    def cost(self) -> float:
        """Time of an active step in units of a plain one; NaN before there was a scored step."""
        plain = self.recent - self.recent_overhead
        return self.recent / plain if plain > 0 else math.nan

    @property
    def most_paid(self) -> float:
        """The overhead that the gain may cost, in units of a plain step; NaN before the gain is
        known."""
        surplus = self.gain.of_whole_batches - 1.0
        return self.LIMIT + self.PAID * min(
            max(surplus, 0.0), self.SURPLUS
        )  # in this order a NaN stays one

    def is_open(self, tau_ema: float) -> bool:
        least = self.LEAST if self.opened else self.DOUBTFUL if self.bounded else self.MARGIN
        self.opened = (
            self.gain.of_whole_batches > least and self.cost <= 1.0 + self.most_paid
        )  # NaN is no
        self.fresh.usable = self.usable
        self.fresh.before = self.gain.of_whole_batches if self.opened else 1.0
        # Draws by fresh scores have no such bound.
        doubtful = self.bounded and not (self.opened or self.gain.of_whole_batches > self.DOUBTFUL)
        self.presample = (
            self.fresh.presample if not doubtful and self.fresh.is_open(tau_ema) else None
        )
        watched, self.scores_uniform_steps = self.scores_uniform_steps, self._may_watch()
        if self.scores_uniform_steps and not watched and not self.opened:
            self.gain.forget()
        return self.opened

    def _may_watch(self) -> bool:
        hopeless = (self.cost - 1.0) / self.most_paid
        spent = self.overhead * (hopeless if hopeless > 1.0 else 1.0)  # NaN is not known yet
        return (
            spent <= self.WATCH * (1.0 if self.scores_uniform_steps else self.RESUME) * self.elapsed
        )

    def foresee(
        self,
        mean: float,
        moment: float,
        drawn: Sequence[float] = (),
        scored: int = 0,
        remembered: bool = False,
    ) -> None:
        self.fresh.foresight.see(mean, moment)
        if drawn:
            self.fresh.foresight.compare(self._share(remembered, scored), mean, moment, drawn)

    def worth(self, remembered: bool, scored: int) -> float:
        if scored:
            return self.fresh.foresight.worth(self._share(remembered, scored))
        return self.gain.value if remembered else 1.0

    def _share(self, remembered: bool, scored: int) -> float:
        """The noise that ``scored`` samples bring, in units of a uniform batch's."""
        before = self.gain.value if remembered else 1.0
        return self.fresh.batch_size / scored / (before if before == before else 1.0)

    def clock(self, active: bool, seconds: float, overhead: float, scored: int) -> None:
        self.elapsed += seconds
        self.fresh.clock(scored > 0, seconds, overhead, scored)
        if scored:  # the cost of remembering shows in the other steps
            return
        if not active:
            self.overhead += overhead
        if overhead > 0:
            kept = 1.0 - 1.0 / self.HORIZON
            self.recent = kept * self.recent + seconds
            self.recent_overhead = kept * self.recent_overhead + overhead

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "fresh": self.fresh.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.fresh.load_state_dict(state["fresh"])
        super().load_state_dict({name: value for name, value in state.items() if name != "fresh"})


GATES = {
    "threshold": lambda batch_size, presamples, replaces, threshold: ThresholdGate(threshold),
    "speedup": lambda batch_size, presamples, replaces, threshold: SpeedupGate(
        batch_size, presamples, replaces
    ),
    "always": lambda batch_size, presamples, replaces, threshold: ConstantGate(True),
    "never": lambda batch_size, presamples, replaces, threshold: ConstantGate(False),
}
DEFAULT_RATIO, RATIOS = 5, (2, 3, 5, 8, 12)  # B / b where none is given
DRAWN_RATIOS = (1.5, *RATIOS)  # where presamples are drawn, and so need not be whole batches


def is_of_presamples(gate: str | Gate | None) -> bool:
    """Whether memory mode has no use for ``gate``."""
    return gate == "threshold" or isinstance(gate, (ThresholdGate, SpeedupGate))


def make_gate(
    gate: str | Gate | None,
    mode: str,
    batch_size: int,
    presample: int | None,
    tau_threshold: float | None,
    replaces: bool = True,
) -> Gate:
    """The gate of a name, or a :class:`Gate`; None is ``speedup``, or ``threshold`` if there is a
    ``tau_threshold``.

    ``tau_threshold`` defaults to :func:`break_even_tau`; only the ``threshold`` gate takes one.
    Memory mode need not have a presample, which that gate is about. Where ``presample`` is None,
    ``speedup`` chooses it; ``replaces`` says whether draws from it are with replacement.
    """
    if gate is None:
        gate = "speedup" if tau_threshold is None else "threshold"
    if mode == "memory" and is_of_presamples(gate):
        raise ValueError(
            f"gate must be one of always, never, speedup for mode='memory'; got {gate!r}"
        )
    if tau_threshold is not None and gate != "threshold":
        raise ValueError(
            f"tau_threshold must be given with gate='threshold' only; got gate={gate!r}"
        )
    if tau_threshold is not None and not tau_threshold >= 0:
        raise ValueError(f"tau_threshold must be >= 0; got {tau_threshold}")
    if isinstance(gate, str):
        make = look_up(GATES, gate, "gate")
        ratios = DRAWN_RATIOS if mode == "memory" else RATIOS
        presamples = (
            [int(ratio * batch_size) for ratio in ratios] if presample is None else [presample]
        )
        if mode == "memory" and gate == "speedup":
            return MemoryGate(batch_size, presamples, replaces)
        if mode == "memory" and presample is not None:
            raise ValueError(
                f"presample must be None for gate={gate!r} in mode='memory'; got {presample}"
            )
        threshold = break_even_tau(batch_size, presample or DEFAULT_RATIO * batch_size)
        return make(
            batch_size,
            presamples,
            replaces,
            threshold if tau_threshold is None else float(tau_threshold),
        )
    if not isinstance(gate, Gate):
        raise TypeError(f"gate must be a name or an isample.gate.Gate; got {type(gate).__name__}")
    for part in (gate, getattr(gate, "fresh", None)):
        if isinstance(part, SpeedupGate):
            part.foresight.replaces = replaces
    return gate

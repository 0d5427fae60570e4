"""A step's numbers: what it tells, read on the host; the controller, the learning rate and the
report that follow from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from isample.control.base import Controller
from isample.control.rates import Rates
from isample.engine.faults import loss_error
from isample.engine.laps import Laps
from isample.engine.numbers import check_finite, observation, report_of
from isample.engine.steering import Steering
from isample.support.clocks import StepClock, clock_of
from isample.support.processes import Processes
from isample.support.readback import as_numbers
from isample.values import Batch, History, Observation, Plan, StepReport


class Steps:
    """Settles batches that were trained on, in order: numbers in, a plan out.

    Args:
        optimizer: whose updates these are.
        rates: its learning rates, and what use they have for a gain.
        processes: those that train together; their numbers are averaged.
        device: of the numbers.

    ``elapsed`` is the time of all steps so far, in seconds.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rates: Rates,
        processes: Processes,
        device: torch.device,
    ):
        self.optimizer = optimizer
        self.rates: Rates = rates
        self.processes: Processes = processes
        self.device: torch.device = device
        self.clock: StepClock = clock_of(device) if processes.count == 1 else StepClock()
        self.history: History = History()
        self.count: int = 0
        self.elapsed: float = 0.0
        self.batch_size: int = 1
        self._steering: Steering[Any] | None = None
        self._reads: dict[int, Callable[[], list[float]]] = {}  # by the id of a batch
        self._informed: Callable[[], bool] = lambda: True
        self._settled: list[tuple[Batch, Observation, float]] = []  # without a report
        self._loss = math.nan  # of a plain batch without a report
        self._gains: list[float] = []  # of batches since the last update
        self._untimed = 0  # settled batches since the last tick, those below left out
        self._plain: list[int] = []  # the sizes of plain ones
        self._carried = 0.0  # seconds that no settled batch has taken yet
        self._overhead = 0.0
        self._timed: list[tuple[float, float]] = []  # of which other processes have not heard
        self._laps: Laps | None = Laps.where_needed(self.clock)

    def control(
        self, controller: Controller[Any], batch_size: int, informed: Callable[[], bool]
    ) -> None:
        """Begins with ``controller``; ``batch_size`` is that of a uniform batch, ``informed`` says
        whether moments foretell something yet."""
        self._steering = Steering(controller, self._shown)
        self.batch_size, self._informed = batch_size, informed

    def _shown(self, size: int) -> Observation:
        """By a batch that tells nothing."""
        self.rates.note()
        cap = self.rates.gain_cap
        return Observation(loss=math.nan, kept=size, gain_cap=cap, informed=self._informed())

    @property
    def steering(self) -> Steering[Any]:
        """Of the controller that it began with; raises RuntimeError before."""
        if self._steering is None:
            raise RuntimeError(
                "a plan must follow engine.loader or engine.choose; neither was called"
            )
        return self._steering

    # ---- Time ---------------------------------------------------------------------------------

    def tick(self) -> Plan:
        """A batch was fetched: the steps settled since the last one have taken the time between.
        The plan of the next one."""
        seconds, steering = self.clock.tick() + self._carried, self._steering or self.steering
        count = len(self._plain) + self._untimed
        if count == 0:
            self._carried = seconds
            return steering.plan
        each, self._carried = seconds / count, 0.0
        if self._laps is not None:
            self._end_lap(self._laps, seconds)
            return steering.plan
        for size in self._plain:
            steering.plain(size, each)
            self.elapsed += each
        self._plain.clear()
        if self._untimed:
            self._time_told(each)
        return steering.plan

    def _time_told(self, seconds: float) -> None:
        """The steps that told something took so many ``seconds`` each."""
        steps, overhead = self._untimed, self._overhead / self._untimed
        self._untimed, self._overhead = 0, 0.0
        if self.processes.count == 1:
            self._tell_time(seconds, overhead, steps)
        else:
            self._timed += [(seconds, overhead)] * steps

    def _tell_time(self, seconds: float, overhead: float, steps: int) -> None:
        for _ in range(steps):
            self.steering.clock(seconds, overhead)
            self.elapsed += seconds

    def _end_lap(self, laps: Laps, seconds: float) -> None:
        """The controller hears a GPU's time once it is known; ``elapsed`` is the host's."""
        laps.add(self._plain, self._untimed, self._overhead / max(self._untimed, 1))
        self._plain, self._untimed, self._overhead = [], 0, 0.0
        self.elapsed += seconds
        laps.tell(self.steering)

    def stop(self) -> None:
        """The last step of a run is over; what comes before the next one is not its time."""
        self.tick()
        self.rates.note()  # also where a run was resumed at its end, and has no step of its own
        self.clock.stop()

    @property
    def report(self) -> StepReport | None:
        """The last one; None before the first."""
        reports = self.history.steps
        return reports[-1] if reports else None

    @property
    def last_report(self) -> StepReport:
        """Raises RuntimeError before a batch was trained on."""
        report = self.report
        if report is None:
            raise RuntimeError("a batch must have passed engine.loss before its report; none has")
        return report

    @property
    def _reads_at_once(self) -> bool:
        """Whether numbers lie on the host already, and are those of one process."""
        return self.device.type == "cpu" and self.processes.count == 1

    @property
    def is_idle(self) -> bool:
        """Whether no batch was settled since the last update."""
        return not self._gains

    @property
    def running(self) -> float:
        """``elapsed`` with the step under way, where one process trains."""
        alone = self.processes.count == 1
        return self.elapsed + (self.clock.running + self._carried if alone else 0.0)

    # ---- Numbers ------------------------------------------------------------------------------

    def read_late(self, batch: Batch) -> None:
        """Queues the copy of what ``batch`` tells to the host; nothing waits."""
        if self._reads_at_once:
            return
        told = list(batch.told.values())
        times: tuple[float, ...] = ()
        if self.processes.count > 1:
            times = tuple(map(sum, zip(*self._timed))) or (0.0, 0.0)
        if told or times:
            signs = (self.processes.epoch, batch.out_of, batch.size, batch.scored)
            self._reads[id(batch)] = self.processes.read_late(told, self.device, signs, times)

    def settle(self, batch: Batch) -> None:
        """Reads what ``batch`` tells, and tells the controller.

        Raises NonFiniteScoreError where a score is not a finite number, NonFiniteLossError where
        the loss is none; nothing has changed then.
        """
        self.rates.note()
        informed = self._informed()
        told = self._numbers(batch)
        if self._laps is not None:
            self._laps.tell(self.steering, waits=True)
        seen = observation(batch, told, informed, self.rates.gain_cap)
        check_finite(batch, seen, self._parameters(), self.processes.count)
        self.steering.observe(seen)
        importance = batch.by_memory or batch.scored > 0
        gain = self.steering.gain(seen) if importance else 1.0
        self._settled.append((batch, seen, gain))
        # A network that has not seen all data yet bears no higher rate than the user's.
        self._gains.append(gain if informed else 1.0)
        self._untimed += 1
        self._overhead += batch.overhead

    def check_loss(self, batch: Batch) -> None:
        """Raises NonFiniteLossError where the loss that ``batch`` tells is no finite number."""
        loss = self._numbers(batch)["loss"][0]
        if not math.isfinite(loss):
            raise loss_error(batch, loss, self._parameters(), self.processes.count)
        self._loss = loss

    def _numbers(self, batch: Batch) -> dict[str, list[float]]:
        if self._reads_at_once:
            return {name: as_numbers(value) for name, value in batch.told.items()}
        if id(batch) not in self._reads:
            self.read_late(batch)
        read = self._reads.pop(id(batch), None)
        numbers = [] if read is None else read()
        told = {}
        for name, value in batch.told.items():
            told[name], numbers = numbers[: value.numel()], numbers[value.numel() :]
        if numbers and self._timed:  # the means of the times that were sent along
            steps = len(self._timed)
            self._tell_time(numbers[0] / steps, numbers[1] / steps, steps)
            self._timed.clear()
        return told

    # ---- The update ---------------------------------------------------------------------------

    def raise_rates(self) -> None:
        """The learning rates are those of the gain of all batches since the last update."""
        noise = sum(1.0 / gain for gain in self._gains)
        self.rates.raise_for(len(self._gains) / noise if noise else 1.0)

    def close(self, *, is_update: bool) -> None:
        """Reports the settled batches; after an update the learning rates are the user's again."""
        if is_update:
            self.rates.put_back()
            self._gains.clear()
        for batch, seen, gain in self._settled:
            self.count += 1
            worth = gain * self.batch_size
            self.history.add(report_of(self.count, batch, seen, worth, self.running))
        self._settled.clear()

    def close_plain(self, batch: Batch) -> None:
        """Settles and reports one that told its loss at most, after its update."""
        self.count += 1
        running = self.clock.running
        elapsed = self.elapsed + self._carried + running
        self.history.add_plain(self.count, self._loss, batch.size, running, elapsed)
        self._plain.append(batch.size)
        self._loss = math.nan

    def discard(self) -> None:
        """The batches that were settled are not trained on."""
        self._settled.clear()
        self._gains.clear()
        self._reads.clear()
        self._loss = math.nan

    def gradients_are_finite(self) -> bool:
        """Whether the optimizer could make an update of its gradients."""
        return all(bool(gradient.isfinite().all()) for gradient in self._gradients())

    def has_gradients(self) -> bool:
        return next(self._gradients(), None) is not None

    def _gradients(self) -> Iterator[Tensor]:
        return (p.grad for p in self._parameters() if p.grad is not None)

    def _parameters(self) -> Iterator[Tensor]:
        return (p for group in self.optimizer.param_groups for p in group["params"])

    # ---- State --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        if self._laps is not None and self._steering is not None:
            self._laps.tell(self._steering, waits=True)
        return {
            "count": self.count,
            "elapsed": self.running,
            "rates": self.rates.state_dict(),
            "controller": None if self._steering is None else self._steering.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """The part of a state that needs no controller."""
        self.count, self.elapsed = state["count"], state["elapsed"]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.resume(state)
        self.rates.load_state_dict(state["rates"])
        self.steering.load_state_dict(state["controller"])
        self.clock.stop()
        self._untimed, self._overhead, self._carried = 0, 0.0, 0.0
        self._plain.clear()
        if self._laps is not None:
            self._laps.clear()
        self.discard()

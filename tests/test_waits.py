"""A step on a GPU waits for nothing but its own numbers, and its time is the device's.

The device is played by tests/queueing_device.py, so these run everywhere; a GPU is asked the same
in tests/test_cuda_trainer.py.
"""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import isample
from isample.control import Choices, make_controller
from isample.engine.laps import Laps
from isample.support import processes
from isample.support.clocks import StepClock, clock_of
from isample.support.processes import Processes
from isample.support.readback import BlockReader
from isample.values import Plan
from tests.queueing_device import CUDA, Queued, make_queued, queueing

pytestmark = pytest.mark.usefixtures("one_thread")
b, B, CLASSES = 2, 6, 5
N = 64 * b * 2  # so that a table serves two batches
MEASURED = 40  # steps, behind the first epoch's


@pytest.fixture
def device(monkeypatch):
    with queueing(monkeypatch) as device:
        yield device


class Items(Dataset):
    """Samples one by one, on the host."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


class Follows(type(make_controller("always", Choices(b, remembers=True)))):
    """One plan for all steps, which hears of their time."""

    def __init__(self, plan):
        super().__init__(Choices(b, remembers=True, candidates=(B,), thins=True))
        self.wanted, self.heard = plan, []

    def observe(self, state, seen):
        self.heard.append("seen")
        return super().observe(state, seen)

    def clock(self, state, seconds, overhead):
        self.heard.append((seconds, overhead))
        return state

    def plan(self, state):
        return self.wanted


PLANS = {
    "plain": Plan(observe=False),
    "watched": Plan(observe=True),
    "scored": Plan(candidates=B, keep=b),
    "thinned": Plan(candidates=b, keep=b // 2),
    "drawn": Plan(importance=True, gain_cap=2.0),
    "drawn and scored": Plan(importance=True, candidates=B, keep=b),
}


def make_model():
    """On the device."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))
    return make_queued(model)


def make_loader(where):
    random = torch.Generator("cpu").manual_seed(1)
    inputs = torch.randn(N, 6, generator=random)
    targets = torch.randint(CLASSES, (N,), generator=random)
    if where == "device":
        inputs, targets = Queued(inputs), Queued(targets)
    data = (Items if where == "items" else TensorDataset)(inputs, targets)
    return DataLoader(data, batch_size=b, shuffle=True)


def make_trainer(plan, **options):
    model = make_model()
    control = Follows(plan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return isample.Trainer(
        model, optimizer, batch_size=b, mode="memory", control=control, **options
    ), control


def measured(trainer, loader, device):
    """Yields so many steps behind the first epoch, and counts their waits alone."""
    for step, report in enumerate(trainer.iterate(loader, epochs=9), 1):
        if step > N // b:
            yield report
        if step == N // b:
            device.waits.clear()
        elif step == N // b + MEASURED:
            return


@pytest.mark.parametrize("where", ["device", "tensors", "items"])
@pytest.mark.parametrize("plan", PLANS)
def test_a_step_waits_for_its_own_numbers_only(device, plan, where):
    """Where the data are on the host, one read more brings the indices of a whole block: of 64
    dealt batches, of all batches that one table serves."""
    trainer, _ = make_trainer(PLANS[plan])
    steps = len([*measured(trainer, make_loader(where), device)])
    assert set(device.waits) == {"event"}
    dealt = steps * (PLANS[plan].candidates or b) // b
    blocks = steps // 2 + 1 if PLANS[plan].importance else 2 * (dealt // 64 + 2)
    assert 0 <= len(device.waits) - steps <= (0 if where == "device" else blocks)


def test_a_closed_gate_waits_for_nothing_where_a_head_is_marked(device):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    engine = isample.Engine(optimizer, head=model[2], control="never", adapt=None)
    loader = engine.loader(make_loader("device"))
    for step, (inputs, targets) in enumerate(loader):
        if step == 2:
            device.waits.clear()
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert device.waits == []
    assert device.queued > device.passed


@pytest.mark.parametrize(
    "options",
    [
        {"presample": B, "control": "always"},
        {"presample": B, "control": "always", "scoring": isample.Scoring(ahead=True, chunk=5)},
        {"presample": B, "control": "always", "score": "loss", "draws": "pps"},
        {"presample": B, "control": "threshold"},
    ],
)
def test_a_presampled_step_waits_for_its_own_numbers_only(device, options):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    trainer = isample.Trainer(model, optimizer, batch_size=b, mode="presample", **options)
    steps = len([*measured(trainer, make_loader("device"), device)])
    assert device.waits == ["event"] * steps


@pytest.mark.parametrize(
    ("loss", "soft"),
    [
        (
            lambda: nn.CrossEntropyLoss(torch.rand(CLASSES, device=CUDA) + 0.5, ignore_index=2),
            False,
        ),
        (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), False),
        (nn.BCEWithLogitsLoss, True),
    ],
)
@pytest.mark.parametrize("mode", ["memory", "presample"])
def test_other_losses_wait_no_more(device, loss, soft, mode):
    model, made = make_model(), loss()
    made.reduction = "none"
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.05),
        loss=made,
        batch_size=b,
        mode=mode,
        control="always",
        presample=B if mode == "presample" else None,
    )
    loader = make_loader("device")
    if soft:
        labels = torch.rand(N, CLASSES, device=CUDA)
        data = TensorDataset(loader.dataset.tensors[0], labels)
        loader = DataLoader(data, batch_size=b, shuffle=True)
    steps = len([*measured(trainer, loader, device)])
    assert device.waits == ["event"] * steps


def test_a_wait_is_seen(device, monkeypatch):
    """The counter counts."""
    trainer, _ = make_trainer(PLANS["drawn"])
    learn = isample.MemorySampler.recall

    def and_look(sampler, score, *given):
        score.sum().item()
        return learn(sampler, score, *given)

    monkeypatch.setattr(isample.MemorySampler, "recall", and_look)
    steps = len([*measured(trainer, make_loader("device"), device)])
    assert device.waits.count("aten._local_scalar_dense.default") == steps


def test_numbers_of_the_host_travel_late_to_other_processes(device, monkeypatch):
    monkeypatch.setattr(processes.distributed, "all_reduce", lambda tensor, group: tensor.mul_(2))
    monkeypatch.setattr(Processes, "__init__", lambda self: None)
    two = Processes()
    two.count, two.group, two._watch = 2, None, None
    read = two.read_late([Queued(torch.tensor([1.5, 2.5]))], CUDA, (3, 8), (0.25, 4.0))
    assert device.waits == [] and device.pageable == 0
    assert read() == [1.5, 2.5, 0.25, 4.0]
    assert device.waits == ["event"]


def test_parts_of_a_block_come_to_the_host_with_it(device):
    """As numbers do not tell whether two blocks are one, neither do equal places in them."""
    reader = BlockReader()
    for begin in (0, 100, 200):
        block = Queued(torch.arange(begin, begin + 12))
        device.waits.clear()
        parts = [reader.on_host(part).tolist() for part in block.split(5)]
        assert sum(parts, []) == [*range(begin, begin + 12)]
        assert device.waits == ["event"]


# ---- Time -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["plain", "watched", "drawn"])
def test_a_controller_hears_the_time_of_the_device(device, plan):
    """A step's time is that of the ops queued in it, whenever the host waits for them; it is heard
    before the next step is observed."""
    trainer, control = make_trainer(PLANS[plan])
    heard, ends = control.heard, []
    for _ in trainer.iterate(make_loader("device"), epochs=1):
        ends.append(device.queued)
    trainer.state_dict()  # what was not told is
    seconds = [entry[0] for entry in heard if entry != "seen"]
    assert [entry == "seen" for entry in heard] == [True, False] * (len(heard) // 2)
    assert len(seconds) == len(ends)
    assert all(seconds), "each step queues ops"
    assert sum(seconds) * 1e3 == pytest.approx(ends[-1], rel=0.1)
    usual = sorted(seconds)[len(seconds) // 2] * 1e3
    between = sorted(now - then for then, now in pairwise(ends))
    assert usual == pytest.approx(between[len(between) // 2], abs=2)
    if plan == "drawn":
        overheads = [entry[1] for entry in heard if entry != "seen"]
        assert all(0 < o < s for o, s in zip(overheads, seconds))


def test_steps_of_one_lap_share_its_time(device):
    """Plain ones and others; none is told before the lap is over, unless it is waited for."""
    told, busy = [], Queued(torch.zeros(1))

    class Told:
        def plain(self, size, seconds):
            told.append((size, seconds))

        def clock(self, seconds, overhead):
            told.append((seconds, overhead))

    clock = clock_of(CUDA)
    laps = Laps.where_needed(clock)
    assert Laps.where_needed(StepClock()) is None
    clock.tick()
    for count in (40, 8):
        for _ in range(count):
            busy.add_(1.0)
        clock.tick()
        laps.add([4, 3], 2, 0.25)
    laps.tell(Told())
    assert told == []
    laps.tell(Told(), waits=True)
    assert (
        told
        == [(4, 0.01), (3, 0.01), *[(0.01, 0.25)] * 2, (4, 0.002), (3, 0.002)] + [(0.002, 0.25)] * 2
    )


def test_what_a_pause_queues_is_no_time_of_a_step(device):
    trainer, control = make_trainer(PLANS["watched"])
    busy = Queued(torch.zeros(1))
    for _ in measured(trainer, make_loader("device"), device):
        with trainer.engine.paused():
            for _ in range(500):
                busy.add_(1.0)
    trainer.state_dict()
    seconds = [heard[0] for heard in control.heard if heard != "seen"]
    assert len(seconds) >= N // b + MEASURED - 1
    assert max(seconds) < 0.5

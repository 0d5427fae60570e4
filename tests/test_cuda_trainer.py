"""Training on a CUDA device."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample import ops
from isample.ops.memory import expected_scores, recall
from isample.sources.calibration import OCTAVES, PRIOR, SHARE
from tests.on_cuda import needs_cuda

pytestmark = needs_cuda


def blobs(n=600):
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(5, (n,), generator=random)
    centres = torch.randn(5, 8, generator=random) * 2
    return centres[targets] + torch.randn(n, 8, generator=random), targets


def make_trainer(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5)).cuda()
    return isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), batch_size=12, **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"presample": 60, "tau_threshold": 1.15},
        {"presample": 60, "control": "always", "score": "gradient_norm", "draws": "pps"},
        {"presample": 60, "control": "always", "autocast": torch.bfloat16, "clip_grad_norm": 1.0},
        {"mode": "memory", "control": "always"},
        {"mode": "memory", "control": "always", "adapt": "batch", "score": "loss"},
        {
            "presample": 60,
            "control": "always",
            "scoring": isample.Scoring(dtype=torch.bfloat16, chunk=32),
        },
        {"control": "never"},
    ],
)
def test_training_learns(options):
    trainer = make_trainer(**options)
    loader = DataLoader(TensorDataset(*blobs()), batch_size=12, shuffle=True)
    history = trainer.fit(loader, epochs=6)
    assert trainer.evaluate(loader).error < 0.1
    assert (history.active_share > 0) == (options.get("control") != "never")
    assert all(report.scoring_seconds >= 0 for report in history.steps)


def test_a_step_that_is_not_finite_moves_nothing():
    inputs, targets = (part.cuda() for part in blobs(60))
    for control in ("always", "threshold"):
        trainer = make_trainer(presample=60, control=control)
        trainer.step(inputs, targets)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        poisoned = inputs.clone()
        poisoned[3, 0] = math.nan
        with pytest.raises(isample.NonFiniteScoreError) as caught:
            trainer.step(poisoned, targets)
        assert caught.value.rows == [3]
        assert all(torch.equal(a, c) for a, c in zip(before, trainer.model.parameters()))


STEPS = 20


def launches_of(step):
    """What the device runs in each of STEPS calls of ``step``, kernels and copies, in the mean."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    on_device = [
        event
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA" and not getattr(event, "is_user_annotation", False)
    ]
    assert len(on_device) > STEPS  # the profiler sees the device
    return len(on_device) / STEPS


def plain_launches(data):
    trainer = make_trainer()
    model, optimizer = trainer.model, trainer.optimizer
    batches = iter(torch.randperm(len(data[0]), device="cuda").split(12))

    def step():
        places = next(batches)
        loss = F.cross_entropy(model(data[0][places]), data[1][places])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    return launches_of(step)


@pytest.mark.parametrize(
    ("options", "begin", "most"),
    [
        ({"control": "never"}, 2, 2),
        ({"mode": "memory", "control": "always"}, 384 + 12, 8),
    ],
)
def test_a_step_launches_little_more_than_a_plain_one(options, begin, most):
    """Tables included: one serves six batches, as for CIFAR-10 in batches of 128."""
    data = [part.cuda() for part in blobs(6 * 64 * 12)]
    trainer = make_trainer(seed=3, **options)
    loader = DataLoader(TensorDataset(*data), batch_size=12, shuffle=True)
    reports = trainer.iterate(loader, epochs=3)
    for _ in range(begin):
        report = next(reports)
    assert report.active == (most == 8)
    launches = launches_of(lambda: next(reports))
    assert launches - plain_launches(data) <= most


def test_a_captured_step_is_the_same_step():
    """All that a step by memory adds, a new table and its draws included, in one CUDA graph."""
    inputs, targets = (part.cuda() for part in blobs(20_000))
    weight = torch.randn(8, 5, device="cuda", requires_grad=True)
    start = torch.rand(len(inputs), device="cuda"), torch.rand(OCTAVES, 3, device="cuda")

    def step(memory, met):
        bound = {"contradicted": 0.9, "share": SHARE, "gain_cap": 2.0, "floor": 0.2}
        expected, bounded = expected_scores(memory, met, prior=PRIOR, **bound)
        table = ops.prefix_sum(expected, floor=0.2)
        places, weights = ops.draw(table, 128, method="stratified")
        loss, score = ops.cross_entropy(inputs[places] @ weight, targets[places], weights)
        (gradient,) = torch.autograd.grad(loss, weight)
        numbers = recall(memory, met, score, places, weights=weights, table=None, rate=0.5)
        return places, weights, loss.detach(), gradient, numbers, bounded, table.tau

    def fresh():
        return [part.clone() for part in start]

    warm, captured = fresh(), fresh()
    with torch.cuda.stream(torch.cuda.Stream()):
        step(*warm)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = step(*captured)
    for part, first in zip(captured, start):
        part.copy_(first)
    torch.manual_seed(11)
    replays = []
    for _ in range(4):
        graph.replay()
        replays.append([part.clone() for part in (*made, *captured)])
    torch.manual_seed(11)
    memory, met = fresh()
    for replayed in replays:
        expected = [*step(memory, met), memory, met]
        for one, other in zip(replayed, expected, strict=True):
            torch.testing.assert_close(one, other)
        assert torch.equal(replayed[0], expected[0])
    assert len({tuple(replayed[0].tolist()) for replayed in replays}) == 4


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"control": "never"},
        {"mode": "memory", "control": "always"},
        {"mode": "memory", "control": "always", "score": "loss"},
        {"presample": 60, "control": "always"},
    ],
)
def test_a_step_waits_for_its_own_numbers_only(options, on_device):
    """torch raises at whatever waits for the device; numbers and indices come by events, which it
    lets pass. The order of a pass is begun outside."""
    trainer = make_trainer(**options)
    data = [part.cuda() if on_device else part for part in blobs()]
    loader = DataLoader(TensorDataset(*data), batch_size=12, shuffle=True)
    steps = trainer.iterate(loader, epochs=4)
    for _ in range(55):
        next(steps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(30):
            next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    steps.close()


@pytest.mark.parametrize(
    "options",
    [{"mode": "memory", "control": "always"}, {"presample": 60, "control": "always"}],
)
def test_a_state_that_was_loaded_onto_the_device_goes_on(options, tmp_path):
    """Bit for bit; with map_location generators' states come there too."""
    loader = DataLoader(TensorDataset(*blobs()), batch_size=12, shuffle=True)
    trainer = make_trainer(**options)
    whole, rest = [trainer, trainer.model, trainer.optimizer], []
    for step, report in enumerate(trainer.iterate(loader, epochs=8), 1):
        rest.append(report.loss)
        if step == 70:
            torch.save([part.state_dict() for part in whole], tmp_path / "state.pt")
            rest.clear()

    other = make_trainer(**options)
    saved = torch.load(tmp_path / "state.pt", map_location="cuda", weights_only=True)
    for part, state in zip([other, other.model, other.optimizer], saved):
        part.load_state_dict(state)
    assert [report.loss for report in other.iterate(loader, epochs=8)] == rest and rest
    for mine, theirs in zip(trainer.model.parameters(), other.model.parameters()):
        assert torch.equal(mine, theirs)


def test_a_controller_hears_of_the_work_and_not_of_its_queueing():
    """A step that queues a long kernel takes its time, though the host goes on at once."""
    from isample.support.clocks import DeviceClock

    device = torch.device("cuda")
    large = torch.rand(4096, 4096, device=device)
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    clock = DeviceClock(device)
    clock.tick()
    first.record()
    for _ in range(8):
        large @ large
    last.record()
    clock.tick()
    lap = clock.lap()
    seconds = lap.seconds()
    assert lap.is_over
    assert seconds >= first.elapsed_time(last) / 1e3 > 0

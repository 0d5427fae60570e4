"""Training on a CUDA device."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
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

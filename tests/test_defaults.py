"""Torch's default dtype and device are the user's: scores stay float32, and stay where they are."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import isample

b, CLASSES = 8, 4
RUNS = {
    "auto": {},
    "presample": {"mode": "presample", "control": "always", "presample": 3 * b},
    "memory": {"mode": "memory", "control": "always"},
    "threshold": {"control": "threshold"},
    "paper": {"paper": True, "control": "always"},
    "gradient norm": {"mode": "presample", "control": "always", "score": "gradient_norm"},
}


@pytest.fixture(params=[torch.float64, torch.float16, torch.bfloat16])
def default_dtype(request):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


@pytest.fixture
def default_device():
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def made(dtype):
    """A loader, a model and its optimizer, on the CPU whatever the default is."""
    with torch.device("cpu"):
        random = torch.Generator().manual_seed(0)
        x = torch.randn(64, 3, dtype=torch.float32, generator=random).to(dtype)
        y = torch.randint(0, CLASSES, (64,), generator=random)
        torch.manual_seed(0)
        model = nn.Linear(3, CLASSES, dtype=torch.float32).to(dtype)
        generator = torch.Generator().manual_seed(1)
        loader = DataLoader(TensorDataset(x, y), b, shuffle=True, generator=generator)
    return loader, model, torch.optim.SGD(model.parameters(), 1e-3)


def losses(name, dtype, listed=False):
    loader, model, optimizer = made(dtype)
    if listed:  # torch's own DataLoader takes its seed on the default device
        with torch.device("cpu"):
            loader = list(loader)
    options = dict(RUNS[name])
    make = isample.Trainer.paper if options.pop("paper", False) else isample.Trainer
    trainer = make(model, optimizer, batch_size=b, seed=3, **options)
    trainer.fit(loader, epochs=3)
    assert trainer.batch.weights is None or trainer.batch.weights.dtype == torch.float32
    return [report.loss for report in trainer.history.steps]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_under_any_default_dtype(name, default_dtype):
    found = losses(name, torch.float64)
    torch.set_default_dtype(torch.float32)
    expected = losses(name, torch.float64)
    assert len(found) >= 6
    if "control" in RUNS[name]:  # "auto" goes by the clock
        assert found == expected


@pytest.mark.parametrize("name", ["presample", "memory", "paper"])
def test_a_run_is_the_same_under_another_default_device(name, default_device):
    listed = name != "memory"
    found = losses(name, torch.float32, listed)
    torch.set_default_device(None)
    assert found == losses(name, torch.float32, listed)


def test_a_memory_by_hand_and_an_engine(default_dtype):
    sampler = isample.MemorySampler(64, b, seed=0)
    assert sampler.score.dtype == sampler.tau.dtype == sampler.bounded.dtype == torch.float32
    logits, labels = torch.randn(b, CLASSES), torch.zeros(b, dtype=torch.int64)
    for _ in range(3):
        for indices in sampler:
            drawn = sampler.take(indices)
            assert drawn.weights.dtype == torch.float32
            sampler.update(drawn.indices, isample.softmax_score(logits, labels)[0])
    assert sampler.implied_weights(drawn.indices).dtype == torch.float32

    loader, model, optimizer = made(torch.float32)
    engine = isample.Engine(optimizer, head=model, control="always", seed=0)
    for _ in range(3):
        for inputs, targets in engine.loader(loader):
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert engine.report.active and engine.dealer.source.memory.score.dtype == torch.float32


def test_rows_score_in_float32(default_dtype):
    objective = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    loader, model, optimizer = made(torch.float32)
    engine = isample.Engine(
        optimizer, head=model, model=model, objective=objective, batch_size=b, adapt=None
    )
    with torch.device("cpu"):
        batch = torch.randn(3 * b, 3, dtype=torch.float32), torch.zeros(3 * b, dtype=torch.int64)
    kept = engine.choose(batch)
    objective(model, kept).backward()
    optimizer.step()
    assert len(kept[0]) == b


def test_import_under_another_default():
    """Nothing is made by the defaults at import."""
    code = "import torch; torch.set_default_device('meta'); torch.set_default_dtype(torch.float16)"
    subprocess.run([sys.executable, "-c", f"{code}; import isample"], check=True)

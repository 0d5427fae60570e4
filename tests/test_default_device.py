"""New tensors are where their work is, whatever torch's default device is."""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample

pytestmark = pytest.mark.usefixtures("one_thread")
b, B, CLASSES = 2, 6, 5


@pytest.fixture
def elsewhere():
    """Whatever names no device goes to one where nothing can be read."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "memory", "control": "always"},
        {"mode": "memory", "control": "always", "adapt": "batch"},
        {"mode": "presample", "presample": B, "control": "always"},
        {"mode": "presample", "presample": B, "control": "always", "score": "loss"},
        {
            "mode": "presample",
            "presample": B,
            "control": "always",
            "scoring": isample.Scoring(ahead=True, chunk=5),
        },
        {"control": "never"},
    ],
)
def test_nothing_goes_by_the_default_device(elsewhere, options):
    with torch.device("cpu"):
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))
        data = TensorDataset(torch.randn(40, 6), torch.randint(CLASSES, (40,)))
        loader = DataLoader(data, batch_size=b, shuffle=True)
        batches = [*loader]
    given = loader if options.get("mode") == "memory" else batches
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05), batch_size=b, **options
    )
    trainer.fit(given, epochs=2)
    assert trainer.evaluate(batches).loss > 0
    trainer.load_state_dict(trainer.state_dict())
    assert len(trainer.fit(given, epochs=3).steps) > 0


MAKERS = {
    *("empty", "zeros", "ones", "full", "arange", "tensor", "as_tensor", "linspace", "eye"),
    *("rand", "randn", "randint", "randperm", "scalar_tensor"),
}


def test_every_new_tensor_names_its_device():
    """Or passes options that do."""
    for path in Path(isample.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            of = call.func.value
            if isinstance(of, ast.Name) and of.id == "torch" and call.func.attr in MAKERS:
                names = {keyword.arg for keyword in call.keywords}
                assert names & {"device", None}, f"{path.name}:{call.lineno} names no device"

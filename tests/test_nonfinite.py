"""What is not finite stops a step before parameters move, and the error says where and why."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample

b, N, BAD = 8, 64, 37
RUNS = {
    "never": {"control": "never"},
    "speedup": {},
    "memory": {"mode": "memory", "control": "always"},
    "presample": {"mode": "presample", "control": "always", "presample": 3 * b},
    "stream": {"mode": "presample", "control": "never"},
    "threshold": {"control": "threshold"},
    "accumulated": {"control": "never", "accumulate": 3},
    "accumulated memory": {"mode": "memory", "control": "always", "accumulate": 3},
    "scaled": {"control": "never", "scaler": torch.amp.GradScaler("cpu")},
    "scaled memory": {"mode": "memory", "control": "always", "scaler": torch.amp.GradScaler("cpu")},
}
ERRORS = (isample.NonFiniteLossError, isample.NonFiniteScoreError)


class Spoiling(nn.Module):
    """Its ``at``-th training pass is not finite in row 2."""

    def __init__(self, at, value):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.passes, self.at, self.value = nn.Linear(3, 4), 0, at, value

    def forward(self, x):
        z = self.linear(x)
        self.passes += self.training
        if self.training and self.passes == self.at:
            self.before = copy.deepcopy(self.linear.state_dict())
            z = torch.where((torch.arange(len(x)) == 2)[:, None], self.value, z)
        return z


def loader(inputs=None):
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 3, generator=random), torch.randint(4, (N,), generator=random)
    return DataLoader(TensorDataset(x if inputs is None else inputs, y), b, shuffle=True)


def make(model, **options):
    return isample.Trainer(
        model, torch.optim.SGD(model.parameters(), 0.1), batch_size=b, seed=0, **options
    )


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("at", [1, 2, 15])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_training_pass(name, at, value):
    model = Spoiling(at, value)
    trainer = make(model, **RUNS[name])
    with pytest.raises(ERRORS) as caught:
        trainer.fit(loader(), epochs=20)
    assert all(map(torch.equal, model.before.values(), model.linear.state_dict().values()))
    said = str(caught.value)
    assert "another process" not in said and "processes" not in said
    for cause in ("learning rate", "inputs", "log of 0", "GradScaler", "no parameter was changed"):
        assert cause in said
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    if trainer.memory is not None:
        assert caught.value.places and "data set indices" in said


@pytest.mark.parametrize("name", RUNS)
def test_a_sample_that_is_not_finite_is_named(name):
    inputs = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    inputs[BAD, 1] = float("nan")
    model = nn.Linear(3, 4)
    trainer = make(model, **RUNS[name])
    with pytest.raises(ERRORS) as caught:
        trainer.fit(loader(inputs), epochs=20)
    error, said = caught.value, str(caught.value)
    assert len(error.rows) == 1 and f"rows {error.rows[0]}" in said
    if trainer.memory is not None:
        assert error.places == [BAD] and f"data set indices {BAD}" in said
    assert all(p.isfinite().all() for p in model.parameters())


def test_spoilt_parameters_are_told():
    model = nn.Linear(3, 4)
    trainer = make(model, control="never")
    with torch.no_grad():
        model.bias[0] = float("nan")
    with pytest.raises(isample.NonFiniteLossError, match="parameters are not finite already"):
        trainer.fit(loader(), epochs=1)


@pytest.mark.parametrize(
    "error",
    [
        isample.NonFiniteLossError(float("inf"), [2], [37], "; in rows 2"),
        isample.NonFiniteScoreError(12, range(10), [37], "; somewhere"),
        isample.NonFiniteScoreError(2, [2, 5]),
    ],
)
def test_they_pass_between_processes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert vars(again) == vars(error)

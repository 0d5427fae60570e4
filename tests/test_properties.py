"""What holds for every setting of a trainer and an engine, tried on settings drawn at random.

``make fuzz`` draws many more than ``make test``: the environment variable ISAMPLE_EXAMPLES says by
what factor.
"""

import copy
import inspect
import math
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset

import isample
from tests.reliability.runs import RATES, Begun, Run, differences, everything

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]

FACTOR = float(os.environ.get("ISAMPLE_EXAMPLES", 1))


def examples(count):
    """The same ones every time; no example is judged by its time."""
    return settings(
        max_examples=max(1, round(FACTOR * count)),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


class Numbered(Dataset):
    """Samples that carry their number, in one of three forms."""

    def __init__(self, size, form, loss):
        generator = torch.Generator().manual_seed(size)
        self.inputs = torch.randn(size, 6, generator=generator)
        self.inputs[:, 0] = torch.arange(size)
        kinds = {
            "cross_entropy": lambda: torch.randint(4, (size,), generator=generator),
            "mse": lambda: torch.randn(size, 4, generator=generator),
            "bce_with_logits": lambda: torch.rand(size, 4, generator=generator).round(),
        }
        self.targets, self.form = kinds[loss](), form

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        x, target = self.inputs[index], self.targets[index]
        forms = {"tensor": x, "tuple": (x, x[:2]), "dict": {"x": x, "more": x[:2]}}
        return forms[self.form], target


class Net(nn.Module):
    """Notes the numbers of the samples that it is trained on."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 4)
        self.seen = []

    def forward(self, x, more=None):
        if self.training and torch.is_grad_enabled():
            self.seen.append(x[:, 0].long())
        hidden = self.first(x[:, 1:]).relu()
        return self.last(hidden if more is None else hidden + 0 * more.sum())


RUNS = st.builds(
    Run,
    mode=st.sampled_from(("memory", "presample")),
    control=st.sampled_from(("always", "never")),
    adapt=st.sampled_from(("lr", "batch", None)),
    score=st.sampled_from(("upper_bound", "loss", "gradient_norm")),
    optimizer=st.sampled_from(("sgd", "adam")),
    schedule=st.sampled_from((None, "StepLR")),
    evaluates=st.booleans(),
    accumulate=st.integers(1, 4),
    clip=st.sampled_from((None, 0.5)),
    dropout=st.sampled_from((0.0, 0.4)),
    samples=st.integers(17, 60),
    batch_size=st.integers(2, 12),
    epochs=st.just(3),
).filter(lambda run: run.samples % run.batch_size != 1)  # a batch norm needs two samples


@examples(25)
@given(
    size=st.integers(9, 60),
    batch_size=st.integers(1, 12),
    mode=st.sampled_from(("memory", "presample")),
    control=st.sampled_from(("never", "speedup")),
    drop_last=st.booleans(),
    accumulate=st.integers(1, 4),
    adapt=st.sampled_from(("lr", "batch", None)),
    loss=st.sampled_from(("cross_entropy", "mse", "bce_with_logits")),
    form=st.sampled_from(("tensor", "tuple", "dict")),
)
def test_a_dealt_epoch_trains_on_every_sample_once(
    size, batch_size, mode, control, drop_last, accumulate, adapt, loss, form
):
    """Under "speedup" the first epoch of a memory is dealt."""
    mode = "memory" if control == "speedup" else mode
    model = Net()
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), 0.01),
        loss,
        batch_size,
        mode=mode,
        control=control,
        adapt=adapt,
        accumulate=accumulate,
    )
    data = Numbered(size, form, loss)
    loader = DataLoader(data, batch_size, shuffle=True, drop_last=drop_last and size >= batch_size)
    for _ in range(1 if control == "speedup" else 2):
        model.seen.clear()
        steps = trainer.step_count
        trainer.fit(loader, epochs=1)
        counts = Counter(torch.cat(model.seen).tolist())
        assert set(counts.values()) == {1}
        assert len(counts) == (size // batch_size * batch_size if loader.drop_last else size)
        assert trainer.step_count - steps == len(loader)
    assert len(trainer.history.steps) == trainer.step_count


@examples(15)
@given(run=RUNS)
def test_history_and_rates(run):
    begun = Begun(replace(run, epochs=2)).fit()
    trainer = begun.trainer
    assert [report.step for report in trainer.history.steps] == [*range(1, trainer.step_count + 1)]
    assert len(trainer.history.evaluations) == (2 if run.evaluates else 0)
    rates = [group["lr"] for group in begun.optimizer.param_groups]
    assert rates == (begun.scheduler.get_last_lr() if begun.scheduler else list(RATES))
    assert begun.modes() == begun.modes_before


@examples(12)
@given(run=RUNS, place=st.floats(0, 1))
def test_a_resumed_run_is_the_whole_one(run, place):
    whole = Begun(run).fit()
    expected = everything(whole)
    step = max(1, math.ceil(place * whole.trainer.step_count))
    with tempfile.TemporaryDirectory() as folder:
        path, begun, saved = Path(folder) / "run.pt", Begun(run), []

        def save(trainer, report):
            if report.step >= step and not saved and begun.saves(path):
                saved.append(report.step)

        begun.fit(callbacks=[save])
        if not saved:
            begun.trainer.save(path)
        resumed = Begun(run, seed=99)
        isample.load(path, resumed.trainer)
    assert differences(expected, everything(resumed.fit())) == []


@examples(12)
@given(
    size=st.integers(8, 40),
    share=st.floats(0.1, 1.0),
    method=st.sampled_from(("pps", "systematic", "alias")),
    seed=st.integers(0, 2**31),
)
def test_weights_have_mean_one(size, share, method, seed):
    """In expectation: the mean over many draws of (sum of weights) / (N or b) within 5 standard
    errors, which the draws measure themselves."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(size, generator=generator) + 0.05
    count = max(1, int(share * size))
    draws = 400
    means = torch.empty(draws, dtype=torch.float64)
    for k in range(draws):
        _, weights = isample.draw(scores, count, method=method, seed=seed % 10**6 + k)
        means[k] = weights.double().mean()
    error = means.std() / math.sqrt(draws) + 1e-6
    assert abs(means.mean().item() - 1.0) < 5 * error


BASE = {"batch_size": 8, "mode": "presample", "control": "always", "presample": 24, "seed": 1}
CHANGES = {  # another value of each argument, and what it is tried beside
    "batch_size": (6, {}),
    "presample": (32, {}),
    "mode": ("memory", {"presample": None}),
    "control": ("never", {}),
    "score": ("loss", {}),
    "draws": ("alias", {}),
    "adapt": ("lr", {"adapt": None, "mode": "memory", "presample": None}),
    "scoring": (isample.Scoring(dtype=torch.bfloat16), {}),
    "tau_threshold": (1e9, {"control": "threshold", "tau_threshold": 0.5}),
    "tau_momentum": (0.1, {}),
    "clip_grad_norm": (1e-3, {}),
    "autocast": (torch.bfloat16, {}),
    "accumulate": (2, {}),
    "seed": (2, {}),
    "loss": ("mse", {}),
    "scaler": (torch.amp.GradScaler("cpu", init_scale=3.0), {}),
}


def observed(options):
    """Parameters and reports of a short training, or the error that refuses ``options``."""
    torch.manual_seed(0)
    loss = options.get("loss", "cross_entropy")
    data = Numbered(72, "tensor", "cross_entropy")
    if loss == "mse":
        data.targets = nn.functional.one_hot(data.targets, 4).float()
    model = Net()
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.05), **options)
    loader = DataLoader(data, options["batch_size"], shuffle=True)
    trainer.fit(loader, epochs=12)
    told = [(r.kept, r.scored, repr(r.tau_ema)) for r in trainer.history.steps]
    return [p.detach().clone() for p in model.parameters()], told


def test_every_argument_is_tried():
    known = set(inspect.signature(isample.Trainer.__init__).parameters)
    assert known - {"self", "model", "optimizer", "gate"} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_no_argument_is_ignored(name):
    value, beside = CHANGES[name]
    base = {k: v for k, v in {**BASE, **beside}.items() if v is not None or k == "adapt"}
    one, other = observed(base), observed({**base, name: value})
    same = one[1] == other[1] and all(map(torch.equal, one[0], other[0]))
    assert not same


WRONG = {
    "batch_size": (0, -3, 2.5, "8", None),
    "presample": (4, 0, 12.5, "24"),
    "mode": ("remember", 3),
    "control": ("sometimes", 7),
    "score": ("best", 3),
    "draws": ("lottery", 3),
    "adapt": ("rate", 3),
    "tau_threshold": (-1.0, "high"),
    "tau_momentum": (-0.1, 1.5, "x"),
    "clip_grad_norm": (0.0, -1.0, "x"),
    "accumulate": (0, 1.5, "2"),
    "seed": (1.5, "x"),
    "loss": ("huber?", 3),
    "autocast": ("bf16",),
    "scaler": ("x",),
    "scoring": ("fast",),
}


@examples(60)
@given(data=st.data(), name=st.sampled_from(sorted(WRONG)))
def test_what_is_wrong_is_refused_before_anything_changes(data, name):
    value = data.draw(st.sampled_from(WRONG[name]))
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    model.first.weight.grad = torch.ones_like(model.first.weight)
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    hooks = len(model._forward_hooks) + len(optimizer._optimizer_step_pre_hooks)
    options = {**BASE, name: value}
    if name == "tau_threshold":
        options["control"] = "threshold"
    with pytest.raises((ValueError, TypeError), match=name):
        isample.Trainer(model, optimizer, **options)
    assert differences(before, [model.state_dict(), optimizer.state_dict()]) == []
    assert model.first.weight.grad.eq(1).all()
    assert len(model._forward_hooks) + len(optimizer._optimizer_step_pre_hooks) == hooks

"""Arguments that cannot be right are refused where they are given: rule, value and remedy."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.values import Evaluation

b = 8
RANDOM = torch.Generator().manual_seed(0)
X, Y = torch.randn(64, 3, generator=RANDOM), torch.randint(4, (64,), generator=RANDOM)


def loader(*tensors, batch_size=b):
    return DataLoader(TensorDataset(*(tensors or (X, Y))), batch_size)


def sgd(model):
    return torch.optim.SGD(model.parameters(), 0.1)


def make(model=None, optimizer=None, **options):
    model = nn.Linear(3, 4) if model is None else model
    return isample.Trainer(
        model, sgd(model) if optimizer is None else optimizer, **{"batch_size": b, **options}
    )


class Closing(torch.optim.SGD):
    def step(self, closure):
        closure()
        return super().step()


LINEAR = nn.Linear(3, 4)
TRAINERS = [
    ({"autocast": True}, TypeError, "autocast must be a torch.dtype or None; got True"),
    ({"autocast": "bf16"}, TypeError, "got 'bf16' (give torch.bfloat16)"),
    ({"autocast": "bfloat16"}, TypeError, "(give torch.bfloat16)"),
    ({"autocast": torch.float64}, ValueError, "must be torch.bfloat16, torch.float16 or None"),
    ({"autocast": torch.int8}, ValueError, "got torch.int8"),
    ({"scaler": 3}, TypeError, "scaler must be a torch.amp.GradScaler or None; got 3"),
    ({"scaler": True}, TypeError, "(give torch.amp.GradScaler())"),
    ({"scaler": torch.amp.GradScaler}, TypeError, "got GradScaler"),
    ({"seed": "a"}, TypeError, "seed must be an int"),
    ({"seed": True}, TypeError, "seed must be an int"),
    ({"seed": 1.0}, TypeError, "seed must be an int"),
    ({"seed": -1}, ValueError, "seed must be in [0, 2^63); got -1"),
    ({"seed": 2**63}, ValueError, "seed must be in [0, 2^63)"),
    ({"accumulate": True}, ValueError, "accumulate must be an integer >= 1; got True"),
    ({"clip_grad_norm": "1"}, TypeError, "clip_grad_norm must be a number; got '1'"),
    ({"clip_grad_norm": True}, TypeError, "clip_grad_norm must be a number; got True"),
    ({"clip_grad_norm": float("nan")}, ValueError, "clip_grad_norm must be > 0; got nan"),
    ({"tau_threshold": "x"}, TypeError, "tau_threshold must be a number; got 'x'"),
    ({"tau_momentum": None}, TypeError, "tau_momentum"),
    ({"mode": ""}, ValueError, "mode must be one of auto, memory, presample; got ''"),
    ({"mode": ["auto"]}, ValueError, "mode must be one of auto, memory, presample"),
    ({"draws": ""}, ValueError, "draws must be one of alias, pps, systematic; got ''"),
    ({"scoring": True}, TypeError, "scoring must be an isample.Scoring or None; got bool"),
    ({"adapt": 3}, TypeError, "adapt must be 'lr', 'batch', None"),
    ({"batch_size": None}, ValueError, "batch_size must be an integer >= 1; got None"),
    ({"loss": nn.MSELoss}, TypeError, "(give MSELoss(reduction='none'))"),
    ({"model": nn.Linear, "optimizer": 3}, TypeError, "model must be a module, not its class"),
    ({"model": 3, "optimizer": 3}, TypeError, "model must be a torch.nn.Module; got int"),
    ({"optimizer": torch.optim.SGD}, TypeError, "(give SGD(model.parameters(), lr=...))"),
    ({"optimizer": "sgd"}, TypeError, "optimizer must be a torch.optim.Optimizer; got str"),
    ({"optimizer": sgd(LINEAR)}, ValueError, "optimizer must be of the model's parameters"),
    (
        {"model": LINEAR, "optimizer": torch.optim.LBFGS(LINEAR.parameters())},
        TypeError,
        "use an isample.Engine with attach=False",
    ),
    (
        {"model": LINEAR, "optimizer": Closing(LINEAR.parameters(), 0.1)},
        TypeError,
        "without a closure for Trainer; got a Closing",
    ),
    ({"model": nn.Linear(3, 4, device="meta")}, ValueError, "model.to_empty(device=...)"),
    ({"scor": "loss"}, TypeError, "Trainer.__init__() got an unexpected keyword argument 'scor'"),
]


@pytest.mark.parametrize("options, error, said", TRAINERS)
def test_trainers(options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        make(**options)


def test_a_scheduler_may_come_before_the_trainer():
    """It wraps the optimizer's step in a function of another signature."""
    optimizer = sgd(LINEAR)
    lr_scheduler.StepLR(optimizer, 1)
    isample.Trainer(LINEAR, optimizer)


def test_the_preset_speaks_of_the_trainer():
    with pytest.raises(TypeError, match=r"Trainer.__init__\(\) got an unexpected .* 'scor'"):
        isample.Trainer.paper(LINEAR, sgd(LINEAR), scor="loss")


ENGINES = [
    ({"optimizer": torch.optim.SGD}, TypeError, "optimizer must be a torch.optim.Optimizer, not"),
    ({"head": "fc"}, TypeError, "head must be a torch.nn.Module; got str"),
    ({"head": nn.Linear}, TypeError, "head must be a module, not its class; got Linear"),
    ({"model": "m", "loss": "mse"}, TypeError, "model must be a torch.nn.Module; got str"),
    ({"model": LINEAR, "objective": 3}, TypeError, "objective must be a callable"),
    ({"control": "spedup"}, ValueError, "control must be one of always, never, speedup, threshold"),
    ({"seed": "a"}, TypeError, "seed must be an int"),
    ({"seed": -1}, ValueError, "seed must be in [0, 2^63)"),
    ({"seed": False}, TypeError, "seed must be an int"),
    ({"batch_size": "8"}, ValueError, "batch_size must be an integer >= 1; got '8'"),
    ({"attach": None}, TypeError, "attach must be True or False; got None"),
    ({"sampling": "pps"}, TypeError, "sampling must be an isample.Sampling; got str"),
    ({"processes": 2}, TypeError, "processes must be"),
    ({"adapt": 3}, TypeError, "adapt must be"),
    ({"optimizer": torch.optim.LBFGS(LINEAR.parameters())}, ValueError, "attach must be False"),
]


@pytest.mark.parametrize("options, error, said", ENGINES)
def test_engines(options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        isample.Engine(options.pop("optimizer", None) or sgd(LINEAR), **options)
    assert not LINEAR._forward_hooks


def test_a_memory_by_hand():
    with pytest.raises(TypeError, match="seed must be an int"):
        isample.MemorySampler(64, b, seed="a")
    with pytest.raises(ValueError, match="seed must be in"):
        isample.MemorySampler(64, b, seed=-3)


FITS = [
    ({"callbacks": print}, TypeError, "callbacks must be a list of callables; got print (give ["),
    ({"callbacks": [3]}, TypeError, "callback(trainer, report); got one that is 3"),
    ({"callbacks": None}, TypeError, "callbacks must be a list of callables; got NoneType"),
    ({"scheduler": lr_scheduler.StepLR}, TypeError, "got StepLR (give, for one"),
    ({"scheduler": print}, TypeError, "scheduler must be a torch.optim.lr_scheduler.LRScheduler"),
    ({"scheduler": lr_scheduler.StepLR(sgd(LINEAR), 1)}, ValueError, "the trainer's optimizer"),
    ({"evaluate": 5}, TypeError, "evaluate must be an iterable of (inputs, targets) batches"),
    ({"evaluate": X}, TypeError, "such as a DataLoader; got Tensor"),
    ({"evaluate": TensorDataset(X, Y)}, TypeError, "wrap it: torch.utils.data.DataLoader"),
    ({"evaluate": []}, ValueError, "evaluate must yield at least one batch"),
    ({"evaluate": [{"x": X, "y": Y}]}, TypeError, "evaluate's loader must yield (inputs, targets)"),
    ({"evaluate": iter(loader())}, TypeError, "evaluate must begin anew after each epoch"),
    ({"loader": None}, TypeError, "loader must be an iterable of (inputs, targets) batches"),
    ({"loader": TensorDataset(X, Y)}, TypeError, "loader must yield batches; got a data set"),
    ({"loader": loader(batch_size=4)}, ValueError, "(build Trainer with batch_size=4)"),
    ({"loader": loader(X, Y, Y)}, TypeError, "must yield (inputs, targets); got a list of 3"),
    ({"loader": [{"x": X[:b]}]}, TypeError, "got a dict with 'x' (return such a pair"),
    ({"epochs": True}, ValueError, "epochs must be an integer >= 1; got True"),
]


@pytest.mark.parametrize("options, error, said", FITS)
def test_fits(options, error, said):
    trainer = make()
    before = [p.detach().clone() for p in trainer.model.parameters()]
    with pytest.raises(error, match=re.escape(said)):
        trainer.fit(**{"loader": loader(), "epochs": 2, **options})
    assert trainer.step_count == 0 and all(map(torch.equal, before, trainer.model.parameters()))


def test_nothing_to_train():
    with pytest.raises(ValueError, match="parameters that require grad; got none"):
        make(nn.Linear(3, 4).requires_grad_(False)).fit(loader(), epochs=1)


class Wrapped(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x)}


def test_outputs_and_losses():
    with pytest.raises(TypeError, match=r"got dict .*outputs\['logits'\]"):
        make(Wrapped(3, 4)).fit(loader(), epochs=1)
    with pytest.raises(ValueError, match="reduction='none'"):
        make(loss=F.cross_entropy).fit(loader(), epochs=1)
    with pytest.raises(ValueError, match=r"loss.flatten\(1\).mean\(1\)"):
        loss = lambda z, y: (z - F.one_hot(y, 4)) ** 2  # noqa: E731
        make(loss=loss).fit(loader(), epochs=1)


@pytest.mark.parametrize("presample", [12, 20])
def test_candidates_that_batches_do_not_make_up(presample):
    trainer = make(presample=presample, control="always")
    with pytest.raises(ValueError, match=r"multiple of batch_size=8 .* \(give presample=(16|24)\)"):
        trainer.fit(loader(), epochs=1)
    assert trainer.step_count == 0
    assert trainer.step(X[:presample], Y[:presample]).presample == presample


def test_a_plateau_goes_by_the_evaluations_loss():
    trainer = make(control="never")
    scheduler = lr_scheduler.ReduceLROnPlateau(trainer.optimizer, factor=0.5, patience=0)
    with pytest.raises(ValueError, match="evaluate must be given with a ReduceLROnPlateau"):
        trainer.fit(loader(), epochs=2, scheduler=scheduler)
    assert trainer.step_count == 0

    told = iter([1.0, 2.0, 3.0, 0.5])
    trainer.evaluate = lambda loader: Evaluation(0, 0.0, next(told), 0.0)
    trainer.fit(loader(), epochs=4, scheduler=scheduler, evaluate=loader())
    assert scheduler.best == 0.5 and trainer.optimizer.param_groups[0]["lr"] == 0.1 / 4
    assert [each.loss for each in trainer.history.evaluations] == [1.0, 2.0, 3.0, 0.5]


@pytest.mark.parametrize("evaluated", [True, False])
def test_other_schedulers_step_once_an_epoch(evaluated):
    trainer = make(control="never", adapt=None)
    scheduler = lr_scheduler.StepLR(trainer.optimizer, 1, 0.5)
    evaluate = loader() if evaluated else None
    trainer.fit(loader(), epochs=3, scheduler=scheduler, evaluate=evaluate)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.1 / 8


def test_callbacks_may_come_from_a_generator():
    """Once it was exhausted by the first step."""
    trainer, steps = make(control="never"), []
    trainer.fit(
        loader(), epochs=1, callbacks=(f for f in [lambda _, report: steps.append(report.step)])
    )
    assert steps == list(range(1, 9))


def test_what_frameworks_pass_is_taken():
    """A scaler that is off, a seed of 0, an integer norm."""
    model = nn.Linear(3, 4)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    make(model, sgd(model), scaler=scaler, seed=0, autocast=torch.bfloat16, clip_grad_norm=1)

"""Arguments, batches and loaders that a Trainer refuses before anything has changed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from tests.small_training import CLASSES, B, b, make_data, make_model, make_trainer, parameters_of


@pytest.mark.parametrize(
    "options,match",
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1; got 0"),
        ({"batch_size": 8, "presample": 4}, "presample must be >= batch_size"),
        (
            {"score": "gradnorm"},
            "score must be one of gradient_norm, loss, upper_bound; got 'gradnorm'",
        ),
        ({"draws": "x"}, "draws must be one of alias, pps, systematic"),
        ({"control": "x"}, "control must be one of always, never, speedup, threshold"),
        ({"loss": "x"}, "loss must be one of bce_with_logits, cross_entropy, mse"),
        ({"loss": nn.CrossEntropyLoss()}, "reduction='none'"),
        ({"control": "always", "tau_threshold": 2.0}, "tau_threshold"),
        ({"tau_threshold": -0.5}, "threshold must be >= 0; got -0.5"),
        ({"tau_momentum": 1.0}, r"tau_momentum must be in \[0, 1\)"),
        ({"accumulate": 0}, "accumulate must be an integer >= 1"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm must be > 0"),
    ],
)
def test_bad_arguments(options, match):
    model = make_model()
    with pytest.raises(ValueError, match=match):
        isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), **options)


def test_a_controller_must_be_one():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(
        TypeError, match=r"control must be a name or an isample\.control\.Controller.*; got int"
    ):
        isample.Trainer(model, optimizer, control=3)


def test_the_former_name_of_control_works_and_warns():
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.warns(DeprecationWarning, match="gate= is called control= now") as told:
        trainer = isample.Trainer(model, optimizer, batch_size=b, presample=B, gate="always")
    assert trainer.next_size == B and told[0].filename == __file__
    with pytest.warns(DeprecationWarning):
        paper = isample.Trainer.paper(model, optimizer, batch_size=b, presample=B, gate="never")
    assert paper.next_size == b
    with pytest.raises(ValueError, match="gate must be None with control='never', its new name"):
        isample.Trainer(model, optimizer, control="never", gate="always")


def test_bad_batches_change_nothing():
    inputs, targets = make_data(B)
    cases = [
        (inputs, targets[:-1], {}, "targets must hold as many samples"),
        (inputs[:0], targets[:0], {}, "at least one sample"),
        (inputs, torch.full((B,), CLASSES), {}, "targets"),
        (inputs, targets, {"loss": lambda z, y: F.cross_entropy(z, y)}, "not reduced"),
        (inputs, targets, {"score": lambda z, y: z}, "one value a sample"),
    ]
    for x, y, options, match in cases:
        for control in ("always", "threshold"):
            model = nn.Linear(8, CLASSES)
            trainer = make_trainer(model, control=control, **options)
            before = parameters_of(model)
            with pytest.raises(ValueError, match=match):
                trainer.step(x, y)
            assert (
                all(torch.equal(a, c) for a, c in zip(before, parameters_of(model)))
                and trainer.step_count == 0
            )

    class Dictionary(nn.Linear):
        def forward(self, x):
            return {"logits": super().forward(x)}

    with pytest.raises(TypeError, match="model must return a tensor of logits; got dict"):
        make_trainer(Dictionary(8, CLASSES)).step(inputs, targets)


def test_bad_loaders_and_budgets():
    inputs, targets = make_data(B)
    trainer = make_trainer(nn.Linear(8, CLASSES))
    with pytest.raises(ValueError, match="at least one batch"):
        trainer.fit([], epochs=1)
    with pytest.raises(ValueError, match="at least one batch"):
        trainer.fit(iter(()), epochs=1)
    with pytest.raises(ValueError, match=r"batch_size must be the trainer's \(12\); got 20"):
        trainer.fit(DataLoader(TensorDataset(inputs, targets), batch_size=20), epochs=1)
    with pytest.raises(ValueError, match="at most batch_size=12"):
        trainer.fit([(inputs, targets)], epochs=1)
    with pytest.raises(TypeError, match=r"loader must yield \(inputs, targets\); got Tensor"):
        trainer.fit([inputs[:b]], epochs=1)
    for budget in ({}, {"epochs": 1, "seconds": 1.0}):
        with pytest.raises(ValueError, match="exactly one of epochs and seconds"):
            trainer.fit([(inputs[:b], targets[:b])], **budget)
    assert trainer.step_count == 0

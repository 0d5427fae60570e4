"""ImportanceLoader: the same algorithm for a loop of one's own."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isample
from tests.test_trainer import CLASSES, B, b, make_data, make_model, make_trainer, parameters_of

OPTIONS = {"batch_size": b, "presample": B, "draws": "alias", "tau_threshold": 1.15, "seed": 7}


def batches():
    inputs, targets = make_data()
    return [(inputs[i : i + b], targets[i : i + b]) for i in range(0, len(inputs), b)]


def test_a_plain_loop_does_what_the_trainer_does():
    """But for the rounding of the loss's gradient, which the trainer does not leave to autograd;
    100 steps add it up."""
    model = make_model()
    twin = copy.deepcopy(model)
    trainer = make_trainer(model)
    trainer.fit(batches(), epochs=4)

    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    loader, active = isample.ImportanceLoader(batches(), twin, **OPTIONS), []
    for _ in range(4):
        for batch in loader:
            loss = (
                batch.weights * F.cross_entropy(twin(batch.inputs), batch.targets, reduction="none")
            ).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            active.append(batch.active)
    assert active == [report.active for report in trainer.history.steps] and len(set(active)) == 2
    torch.testing.assert_close(loader.sampler.tau_ema, trainer.sampler.tau_ema, rtol=1e-5, atol=0)
    for mine, theirs in zip(parameters_of(model), parameters_of(twin)):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
    assert not twin._forward_hooks


def test_a_uniform_batch_that_the_model_never_saw_is_an_error():
    model = nn.Linear(8, CLASSES)
    with pytest.raises(RuntimeError, match="model must be called on batch.inputs"):
        for _ in isample.ImportanceLoader(batches(), model, **OPTIONS):
            pass
    assert not model._forward_hooks
    for gate in ("always", "never"):
        options = {**OPTIONS, "gate": gate, "tau_threshold": None}
        drawn = list(isample.ImportanceLoader(batches(), model, **options))
        assert all(batch.active == (gate == "always") for batch in drawn)
        assert len(drawn) == (6 if gate == "always" else 30)


def test_non_finite_scores_stop_the_loop():
    inputs, targets = make_data(B)
    inputs[2] = float("nan")
    model = nn.Linear(8, CLASSES)
    parts = [(inputs[i : i + b], targets[i : i + b]) for i in range(0, B, b)]
    with pytest.raises(isample.NonFiniteScoreError):
        next(iter(isample.ImportanceLoader(parts, model, batch_size=b, presample=B, gate="always")))

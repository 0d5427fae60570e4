"""Trainer.step and fit against Algorithm 1 written out in plain Python, and the promises around
it."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.ops import reference
from isample.scoring.scores import gradient_norm
from tests.small_training import (
    CLASSES,
    B,
    b,
    make_data,
    make_model,
    make_trainer,
    parameters_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_step_replays_algorithm_1_line_by_line():
    """tau's average, decisions, indices, weights and parameters of 60 steps, against the
    pseudo-code in plain Python.

    The replay scores with a float64 softmax, so tau agrees to float32 rounding. It draws in
    Python's integers from the scores that the Trainer reports, since one last digit of a score may
    move a draw.
    """
    inputs, targets = make_data()
    model = make_model()
    twin, trainer = copy.deepcopy(model), make_trainer(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    words = torch.Generator().manual_seed(7)
    order = torch.Generator().manual_seed(3)
    tau_ema, decisions = 0.0, []

    for _ in range(60):
        active = tau_ema > 1.15  # line 5
        decisions.append(active)
        assert trainer.next_size == (B if active else b)
        chosen = torch.randperm(len(inputs), generator=order)[: B if active else b]  # lines 6, 12
        x, y = inputs[chosen], targets[chosen]
        report = trainer.step(x, y)
        if active:
            twin.eval()
            with torch.no_grad():
                logits = twin(x)
            twin.train()
            seed = (
                torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=words).item()
                % 2**64
            )
            picks, weights = reference.draw(
                reference.masses(trainer.batch.score), b, "alias", seed
            )  # line 8
            assert torch.equal(trainer.batch.chosen, picks)
            assert torch.equal(trainer.batch.weights, weights)
        else:
            picks, weights = torch.arange(b), torch.ones(b)  # line 13
        training_logits = twin(x[picks])
        loss = (weights * F.cross_entropy(training_logits, y[picks], reduction="none")).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # lines 10, 14
        logits = logits if active else training_logits.detach()
        g = (torch.softmax(logits.double(), 1) - F.one_hot(y, CLASSES)).norm(dim=1)  # lines 7, 15
        p = g / g.sum()
        size = len(p)
        tau = (
            1 - ((p - 1 / size) ** 2).sum() / (p**2).sum()
        ) ** -0.5  # line 17, as the paper prints it
        tau_ema = 0.9 * tau_ema + 0.1 * tau.item()
        assert report.active == active
        assert report.tau == pytest.approx(tau.item(), rel=2e-6)
        assert report.tau_ema == pytest.approx(tau_ema, rel=2e-6)
        assert report.loss == pytest.approx(loss.item(), rel=1e-5)
        for mine, theirs in zip(parameters_of(model), parameters_of(twin)):
            torch.testing.assert_close(
                mine, theirs, rtol=1e-5, atol=1e-6
            )  # the gradient's rounding, in 60 steps
    assert not decisions[0] and decisions[-1], "the run must see both phases"


@pytest.mark.parametrize(
    "batch_size,presample,expected", [(128, 640, 8 / 3), (16, 48, 2.0), (32, 128, 7 / 3)]
)
def test_default_threshold_is_the_papers(batch_size, presample, expected):
    model = make_model()
    trainer = isample.Trainer.paper(
        model, torch.optim.SGD(model.parameters(), 0.1), "mse", batch_size, presample
    )
    assert trainer.next_size == batch_size
    assert trainer.engine.steps.steering.controller.threshold == pytest.approx(expected)


@pytest.mark.parametrize("draws", ["alias", "systematic", "pps"])
def test_weighted_gradient_is_unbiased(draws):
    """The mean over 2,000 steps' gradients of one frozen network equals the presample's gradient:
    each coordinate within 5 standard errors (213 coordinates: a false alarm in 10^4 runs; the seed
    is fixed)."""
    inputs, targets = make_data(B)
    model = make_model().eval()  # BatchNorm as a constant, so that a sample's gradient is its own
    trainer = make_trainer(model, draws=draws, control="always")
    F.cross_entropy(model(inputs), targets).backward()
    truth = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
    gradients = []
    trainer.optimizer.step = lambda: None
    for _ in range(2000):
        trainer.step(inputs, targets)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]).double())
    gradients = torch.stack(gradients)
    error = (gradients.mean(0) - truth).abs()
    limit = 5 * gradients.std(0) / math.sqrt(len(gradients)) + 1e-7
    assert (error <= limit).all()


def test_epoch_is_one_pass_over_the_loader():
    inputs, targets = make_data(100)  # not a multiple of b, and the last presample is short
    seen = []

    class Recording(TensorDataset):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    for control in ("always", "never", "threshold"):
        seen.clear()
        make_trainer(make_model(), control=control).fit(
            DataLoader(Recording(inputs, targets), batch_size=b, shuffle=True), epochs=2
        )
        assert sorted(seen) == sorted(list(range(100)) * 2)


def test_a_stream_without_a_length_trains():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(TensorDataset(*make_data(120)))

    for control in ("always", "never"):
        trainer = make_trainer(make_model(), control=control)
        trainer.fit(DataLoader(Stream(), batch_size=b), epochs=2)
        assert trainer.step_count == (4 if control == "always" else 20) and trainer.progress == 1.0


def test_scoring_leaves_no_trace():
    inputs, targets = make_data(B)
    model = make_model(dropout=0.5)
    model[3].eval()  # a mode of its own, to be found again
    trainer = make_trainer(model, control="always")
    before, random = parameters_of(model), torch.get_rng_state()
    scorer = trainer.engine.parts.scorer
    scorer.select((inputs, targets), B, b, None)
    assert all(torch.equal(a, c) for a, c in zip(before, parameters_of(model)))
    assert torch.equal(random, torch.get_rng_state())
    assert [m.training for m in model] == [True, True, True, False, True] and model.training
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError):
        scorer.select((inputs, torch.full((B,), CLASSES)), B, b, None)
    assert model.training and not model[3].training


@pytest.mark.parametrize("control", ["always", "threshold"])
def test_a_score_that_needs_the_model_is_made_by_it(control):
    """Of the candidates, or of the batch that is trained on, by the parameters before the step."""
    inputs, targets = make_data(B)
    model = make_model()
    trainer = make_trainer(model, control=control, score="gradient_norm", adapt=None)
    size = trainer.next_size
    twin = copy.deepcopy(model).eval()
    trainer.step(inputs[:size], targets[:size])
    loss = nn.CrossEntropyLoss(reduction="none")
    expected = gradient_norm(loss, twin, inputs[:size], targets[:size])
    if control == "always":
        torch.testing.assert_close(trainer.batch.score, expected)
    else:  # after a forward pass in training mode, which moved BatchNorm's statistics
        assert trainer.batch.score.shape == expected.shape and trainer.batch.score.min() > 0


@pytest.mark.parametrize("control", ["always", "threshold"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_scores_stop_the_step(control, bad):
    inputs, targets = make_data(B)
    model = nn.Linear(8, CLASSES)
    trainer = make_trainer(model, control=control)
    trainer.step(inputs, targets)
    before, tau_ema, steps = (
        parameters_of(model),
        trainer.engine.parts.selector.tau_ema.clone(),
        trainer.step_count,
    )
    inputs = inputs.clone()
    inputs[3, 0] = inputs[9, 2] = bad
    with pytest.raises(isample.NonFiniteScoreError) as caught:
        trainer.step(inputs, targets)
    assert caught.value.count == 2 and list(caught.value.rows) == [3, 9]
    assert "2" in str(caught.value) and "3" in str(caught.value) and "9" in str(caught.value)
    assert all(torch.equal(a, c) for a, c in zip(before, parameters_of(model)))
    assert trainer.engine.parts.selector.tau_ema == tau_ema and trainer.step_count == steps


def test_never_is_plain_training():
    inputs, targets = make_data(120)
    model, twin = make_model(), make_model()
    trainer = make_trainer(model, control="never")
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    for start in range(0, 120, b):
        report = trainer.step(inputs[start : start + b], targets[start : start + b])
        loss = F.cross_entropy(twin(inputs[start : start + b]), targets[start : start + b])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert report.effective_batch == b and report.weight_max == 1.0 and math.isnan(report.tau)
    for mine, theirs in zip(parameters_of(model), parameters_of(twin)):
        torch.testing.assert_close(mine, theirs)


def test_accumulation_equals_one_large_step():
    inputs, targets = make_data(2 * b)
    model, twin = nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)
    twin.load_state_dict(model.state_dict())
    trainer = make_trainer(model, control="never", accumulate=2)
    trainer.step(inputs[:b], targets[:b])
    with pytest.raises(RuntimeError, match="pending"):
        trainer.state_dict()
    trainer.step(inputs[b:], targets[b:])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(twin(inputs), targets).backward()
    optimizer.step()
    torch.testing.assert_close(model.weight, twin.weight)


def test_clipping_and_autocast():
    inputs, targets = make_data(B)
    model = nn.Linear(8, CLASSES)
    before = model.weight.detach().clone()
    trainer = make_trainer(model, control="always", clip_grad_norm=1e-3, autocast=torch.bfloat16)
    report = trainer.step(inputs * 100, targets)
    assert report.active and math.isfinite(report.loss)
    assert (model.weight - before).norm() <= 0.1 * 1e-3 * 1.001  # lr times the clipped norm


def test_nested_inputs_and_seconds_and_iterate():
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.c = nn.Linear(8, CLASSES), nn.Linear(8, CLASSES)

        def forward(self, left, right):
            return self.a(left) + self.c(right)

    inputs, targets = make_data(96)
    pairs = [
        ({"left": inputs[i : i + b], "right": inputs[i : i + b] * 2}, targets[i : i + b])
        for i in range(0, 96, b)
    ]
    model = TwoInputs()
    trainer = make_trainer(model, control="always")
    history = trainer.fit(pairs, seconds=0.2, evaluate=pairs)
    assert trainer.progress == 1.0 and history.evaluations[-1].elapsed >= 0.2
    assert 0 <= history.evaluations[-1].error <= 1 and history.active_share > 0.5
    count = len(history.steps)
    steps = [report.step for report in trainer.iterate(pairs, epochs=1)]
    assert steps[0] == count + 1 and len(history.steps) == count + len(steps)
    tuples = [((x["left"], x["right"]), y) for x, y in pairs]
    assert math.isfinite(trainer.step(*tuples[0]).loss)

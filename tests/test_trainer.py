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

B, b, CLASSES = 60, 12, 5


@pytest.fixture(autouse=True)
def one_thread():
    """These networks are too small to share out, and bit-equality asks for one order of
    summation."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_data(n=360, seed=1):
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(CLASSES, (n,), generator=generator)
    centres = torch.randn(CLASSES, 8, generator=generator) * 2.0
    return centres[targets] + torch.randn(n, 8, generator=generator), targets


def make_model(seed=0, dropout=0.0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, CLASSES)
    )


def make_trainer(model, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"batch_size": b, "presample": B, "tau_threshold": 1.15, "seed": 7} | options
    if options.get("gate", "threshold") != "threshold":
        options.pop("tau_threshold")
    return isample.Trainer.paper(model, optimizer, **options)


def parameters_of(model):
    return [p.detach().clone() for p in model.state_dict().values()]


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
        assert trainer.sampler.active == active
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
                reference.masses(trainer.selection.score), b, "alias", seed
            )  # line 8
            assert torch.equal(trainer.selection.indices, picks)
            assert torch.equal(trainer.selection.weights, weights)
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
    assert trainer.sampler.gate.threshold == pytest.approx(expected)


@pytest.mark.parametrize("draws", ["alias", "systematic", "pps"])
def test_weighted_gradient_is_unbiased(draws):
    """The mean over 2,000 steps' gradients of one frozen network equals the presample's gradient:
    each coordinate within 5 standard errors (213 coordinates: a false alarm in 10^4 runs; the seed
    is fixed)."""
    inputs, targets = make_data(B)
    model = make_model().eval()  # BatchNorm as a constant, so that a sample's gradient is its own
    trainer = make_trainer(model, draws=draws, gate="always")
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


def trained(make, epochs, save_at=None, resume=None):
    """A trainer that ``make(model)`` made, fitted on a shuffling loader and a network with dropout;
    the parameters; and, if ``save_at`` is a step, all state as it was then and whether that step
    was active, for a later ``resume``."""
    model = make_model(dropout=0.3)
    trainer, saved = make(model), {}
    torch.manual_seed(11)
    parts = {"model": model, "optimizer": trainer.optimizer, "trainer": trainer}
    if resume:
        for name, part in parts.items():
            part.load_state_dict(resume[name])

    def save(trainer, report):
        if report.step == save_at:
            states = {name: part.state_dict() for name, part in parts.items()}
            saved.update(copy.deepcopy({**states, "active": report.active}))

    loader = DataLoader(TensorDataset(*make_data()), batch_size=b, shuffle=True)
    trainer.fit(loader, epochs=epochs, callbacks=[save])
    return trainer, parameters_of(model), saved


def test_resumed_run_is_bit_identical():
    """Saved in the middle of an epoch, in the active phase, with dropout and a shuffling loader."""
    whole, expected, saved = trained(make_trainer, epochs=5, save_at=40)
    assert saved["active"], "the save must fall into the active phase"
    assert 0 < saved["trainer"]["loop"]["batches"] < 30, "and into the middle of an epoch"
    resumed, parameters, _ = trained(make_trainer, epochs=5, resume=saved)
    assert resumed.step_count == whole.step_count
    assert [r.tau_ema for r in resumed.history.steps] == [
        r.tau_ema for r in whole.history.steps[40:]
    ]
    for mine, theirs in zip(parameters, expected):
        assert torch.equal(mine, theirs)


def test_epoch_is_one_pass_over_the_loader():
    inputs, targets = make_data(100)  # not a multiple of b, and the last presample is short
    seen = []

    class Recording(TensorDataset):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    for gate in ("always", "never", "threshold"):
        seen.clear()
        make_trainer(make_model(), gate=gate).fit(
            DataLoader(Recording(inputs, targets), batch_size=b, shuffle=True), epochs=2
        )
        assert sorted(seen) == sorted(list(range(100)) * 2)


def test_a_stream_without_a_length_trains():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(TensorDataset(*make_data(120)))

    for gate in ("always", "never"):
        trainer = make_trainer(make_model(), gate=gate)
        trainer.fit(DataLoader(Stream(), batch_size=b), epochs=2)
        assert trainer.step_count == (4 if gate == "always" else 20) and trainer.progress == 1.0


def test_scoring_leaves_no_trace():
    inputs, targets = make_data(B)
    model = make_model(dropout=0.5)
    model[3].eval()  # a mode of its own, to be found again
    trainer = make_trainer(model, gate="always")
    before, random = parameters_of(model), torch.get_rng_state()
    trainer.sampler.select(model, inputs, targets)
    assert all(torch.equal(a, c) for a, c in zip(before, parameters_of(model)))
    assert torch.equal(random, torch.get_rng_state())
    assert [m.training for m in model] == [True, True, True, False, True] and model.training
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError):
        trainer.sampler.select(model, inputs, torch.full((B,), CLASSES))
    assert model.training and not model[3].training


@pytest.mark.parametrize("gate", ["always", "threshold"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_scores_stop_the_step(gate, bad):
    inputs, targets = make_data(B)
    model = nn.Linear(8, CLASSES)
    trainer = make_trainer(model, gate=gate)
    trainer.step(inputs, targets)
    before, tau_ema, steps = (
        parameters_of(model),
        trainer.sampler.tau_ema.clone(),
        trainer.step_count,
    )
    inputs = inputs.clone()
    inputs[3, 0] = inputs[9, 2] = bad
    with pytest.raises(isample.NonFiniteScoreError) as caught:
        trainer.step(inputs, targets)
    assert caught.value.count == 2 and list(caught.value.rows) == [3, 9]
    assert "2" in str(caught.value) and "3" in str(caught.value) and "9" in str(caught.value)
    assert all(torch.equal(a, c) for a, c in zip(before, parameters_of(model)))
    assert trainer.sampler.tau_ema == tau_ema and trainer.step_count == steps


def test_never_is_plain_training():
    inputs, targets = make_data(120)
    model, twin = make_model(), make_model()
    trainer = make_trainer(model, gate="never")
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
    trainer = make_trainer(model, gate="never", accumulate=2)
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
    trainer = make_trainer(model, gate="always", clip_grad_norm=1e-3, autocast=torch.bfloat16)
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
    trainer = make_trainer(model, gate="always")
    history = trainer.fit(pairs, seconds=0.2, evaluate=pairs)
    assert trainer.progress == 1.0 and history.steps[-1].elapsed >= 0.2
    assert 0 <= history.evaluations[-1].error <= 1 and history.active_share > 0.5
    assert [r.step for r in trainer.iterate(pairs, epochs=1)][0] == len(history.steps) + 1
    tuples = [((x["left"], x["right"]), y) for x, y in pairs]
    assert math.isfinite(trainer.step(*tuples[0]).loss)


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
        ({"gate": "x"}, "gate must be one of always, never, speedup, threshold"),
        ({"loss": "x"}, "loss must be one of bce_with_logits, cross_entropy, mse"),
        ({"loss": nn.CrossEntropyLoss()}, "reduction='none'"),
        ({"gate": "always", "tau_threshold": 2.0}, "tau_threshold"),
        ({"tau_momentum": 1.0}, r"tau_momentum must be in \[0, 1\)"),
        ({"accumulate": 0}, "accumulate must be an integer >= 1"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm must be > 0"),
    ],
)
def test_bad_arguments(options, match):
    model = make_model()
    with pytest.raises(ValueError, match=match):
        isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), **options)


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
        for gate in ("always", "threshold"):
            model = nn.Linear(8, CLASSES)
            trainer = make_trainer(model, gate=gate, **options)
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

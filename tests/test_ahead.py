"""Scoring the next presample during the present backward pass: which parameters score, what is
drawn and trained on, and which step the controller's decisions go to. The tests with "cuda" need a
GPU, for the side stream."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Settings
from isample.values import Candidates, Plan
from tests.small_training import (
    B,
    b,
    make_data,
    make_model,
    parameters_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

AHEAD = isample.Scoring(ahead=True)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    ),
]


class Scripted:
    """Scores by a list of decisions, one a step, and keeps what was observed."""

    settings = Settings()

    def __init__(self, decisions):
        self.decisions, self.told = decisions, []

    def init(self):
        return 0

    def observe(self, state, seen):
        self.told.append((seen.scored, seen.kept))
        return state + 1

    def clock(self, state, seconds, overhead):
        assert seconds >= 0.0
        return state

    def plan(self, state):
        return Plan(candidates=B if self.decisions[state] else None, keep=b)

    def gain(self, state, seen):
        return 1.0


def make(model, control="always", scoring=AHEAD, **options):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    options = {"batch_size": b, "presample": B, "adapt": None, "seed": 7} | options
    return isample.Trainer(model, optimizer, control=control, scoring=scoring, **options)


def run(trainer, loader, epochs=1):
    """The reports of a fit, each with its step's batch and the parameters after it."""
    kept = []
    trainer.fit(
        loader,
        epochs=epochs,
        callbacks=[lambda t, report: kept.append((report, t.batch, copy.deepcopy(t.model)))],
    )
    return kept


@pytest.mark.parametrize("device", DEVICES)
def test_scores_are_of_the_parameters_before_the_last_update(device):
    """The scores of every presample in double precision, by the model as it was a step earlier; the
    first of an epoch, which nothing precedes, by the model as it is. Then the update, replayed with
    the indices and weights drawn."""
    inputs, targets = (part.to(device) for part in make_data(6 * B))
    model = make_model().to(device)
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    before = [copy.deepcopy(twin)] * 2  # of a step, and of the one before it
    kept = run(make(model), DataLoader(TensorDataset(inputs, targets), b))
    assert len(kept) == 6
    for step, (report, batch, after) in enumerate(kept):
        x, y = inputs[step * B : (step + 1) * B], targets[step * B : (step + 1) * B]
        assert report.active and report.scored == B and report.scoring_seconds > 0
        # BatchNorm's running statistics, which no update changes, are those after the forward pass
        # of the step before
        scored_with = copy.deepcopy(before[0])
        scored_with.load_state_dict(dict(before[1].named_buffers()), strict=False)
        logits = scored_with.double().eval()(x.double()).detach()
        expected = (logits.softmax(1) - F.one_hot(y, 5)).norm(dim=1)
        torch.testing.assert_close(batch.score.double(), expected, rtol=1e-4, atol=1e-6)

        i = batch.chosen
        optimizer.zero_grad()
        (batch.weights * F.cross_entropy(twin(x[i]), y[i], reduction="none")).mean().backward()
        optimizer.step()
        for mine, theirs in zip(parameters_of(after), parameters_of(twin)):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        before = [before[1], copy.deepcopy(twin)]


def test_scores_a_step_ago_differ_from_present_ones():
    """Or the test above would say nothing."""
    loader = DataLoader(TensorDataset(*make_data(3 * B)), b)
    ahead, present = (
        run(make(make_model(), scoring=scoring), loader) for scoring in (AHEAD, isample.Scoring())
    )
    torch.testing.assert_close(ahead[0][1].score, present[0][1].score)
    assert (ahead[1][1].score - present[1][1].score).abs().max() > 1e-3


def test_decisions_are_acted_on_a_step_later_and_every_sample_is_seen_once():
    numbers = torch.arange(20 * b)
    inputs, targets = make_data(20 * b)
    control = Scripted([False, True, True, False, False, True, False, True, *[False] * 20])
    seen = []
    model = make_model()
    model.register_forward_pre_hook(
        lambda module, args: seen.append((module.training, len(args[0])))
    )
    trainer = make(model, control)
    reports = [report for report, *_ in run(trainer, DataLoader(TensorDataset(inputs, targets), b))]
    # Decisions before each of the steps: 0 1 1 0 0 1 0 1 0. The first step is its own; the next
    # have those of the step before.
    assert [report.active for report in reports] == [0, 0, 1, 1, 0, 0, 1, 0]
    assert [report.scored for report in reports] == [0, 0, B, B, 0, 0, B, 0]
    assert sum(report.presample for report in reports) == len(numbers)
    assert control.told == [(report.scored, b) for report in reports]
    assert [size for training, size in seen if training] == [b] * len(reports)
    assert sum(size for training, size in seen if not training) == 3 * B


def test_the_first_presample_of_an_epoch_is_scored_in_its_own_step():
    trainer = make(make_model())
    reports = [
        report
        for report, *_ in run(trainer, DataLoader(TensorDataset(*make_data(2 * B)), b), epochs=3)
    ]
    assert [report.presample for report in reports] == [B] * 6


def test_a_resumed_run_trains_on_the_rest_of_the_epoch():
    data = TensorDataset(make_data(4 * B)[0], torch.arange(4 * B) % 5)
    states, rest = [], []

    def save(trainer, report):
        if report.step == 2:
            states.append(copy.deepcopy((trainer.state_dict(), trainer.model.state_dict())))

    trainer = make(make_model())
    trainer.fit(DataLoader(data, b), epochs=1, callbacks=[save])
    state, parameters = states[0]
    again = make(make_model(seed=1))
    again.model.load_state_dict(parameters)
    again.load_state_dict(state)
    scoring_pass = again.engine.parts.scorer.scoring_pass
    scoring_pass.logits = spy(scoring_pass.logits, rest)
    history = again.fit(DataLoader(data, b), epochs=1)
    assert [report.step for report in history.steps] == [3, 4]
    assert torch.equal(torch.cat(rest), data.tensors[0][2 * B :])


def spy(logits, seen):
    def spied(model, inputs, size):
        seen.append(inputs.clone())
        return logits(model, inputs, size)

    return spied


def test_scores_that_are_not_finite_stop_the_step_that_would_use_them():
    """The step that scores them is a good one, and is taken; the parameters then stay."""
    inputs, targets = make_data(3 * B)
    inputs[B + 3] = float("nan")
    model = make_model()
    kept = []
    with pytest.raises(isample.NonFiniteScoreError):
        make(model).fit(
            DataLoader(TensorDataset(inputs, targets), b),
            epochs=1,
            callbacks=[lambda t, r: kept.append(parameters_of(t.model))],
        )
    assert len(kept) == 1
    for mine, theirs in zip(parameters_of(model), kept[0]):
        assert torch.equal(mine, theirs)


def test_the_paper_s_rule_trains_with_it():
    """A run that goes on and off by itself learns what one that scores in time learns."""
    loader = DataLoader(TensorDataset(*make_data(1200)), b, shuffle=True)
    errors = {}
    for scoring in (AHEAD, isample.Scoring()):
        model = make_model()
        torch.manual_seed(5)
        trainer = isample.Trainer.paper(
            model,
            torch.optim.SGD(model.parameters(), lr=0.05),
            batch_size=b,
            presample=B,
            tau_threshold=1.3,
            seed=7,
            scoring=scoring,
        )
        trainer.fit(loader, epochs=6)
        assert 0.1 < trainer.history.active_share < 1
        errors[scoring] = trainer.evaluate(loader).loss
    assert max(errors.values()) < 1.2 * min(errors.values()) + 0.02, errors


@pytest.mark.parametrize(
    "make_it,match",
    [
        (
            lambda: make(make_model(), mode="memory", presample=None),
            "scoring must not be ahead in mode='memory'",
        ),
        (
            lambda: make(make_model(), score="gradient_norm"),
            "scoring must not be ahead for score='gradient_norm'",
        ),
        (lambda: make(make_model()).step(*make_data(B)), r"scoring must not be ahead for step\(\)"),
        (lambda: isample.Scoring(ahead=1), "ahead must be True or False; got 1"),
    ],
)
def test_where_it_cannot_be(make_it, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make_it()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_cuda_scoring_is_queued_beside_the_backward_pass():
    """The side stream scores while the main one is kept busy: its work is done before the main
    stream's."""
    model = nn.Sequential(nn.Linear(8, 4096), nn.ReLU(), nn.Linear(4096, 5)).cuda()
    trainer = make(model)
    overlap = trainer.overlap
    batch = tuple(part.cuda() for part in make_data(B))
    pairs = overlap.pair(iter([Candidates(batch, B)] * 2))
    next(pairs)
    torch.cuda.synchronize()
    overlap.forward_queued()
    torch.cuda._sleep(
        2_000_000_000
    )  # about a second of the main stream, in place of a backward pass
    main = torch.cuda.current_stream().record_event()
    overlap.begin()
    overlap.side.synchronize()
    assert not main.query()
    overlap.wait()
    torch.cuda.synchronize()
    given, ahead = next(pairs)
    torch.testing.assert_close(ahead.logits, model(given.batch[0]).detach())

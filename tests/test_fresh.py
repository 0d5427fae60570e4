"""A memory with a scoring pass on top: what the memory drew is scored, and a batch drawn of it
again."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Always, Choices, Speedup
from isample.values import Plan
from tests.small_training import (
    CLASSES,
    b,
    make_data,
    make_model,
    parameters_of,
)

pytestmark = pytest.mark.usefixtures("one_thread")

N, B = 400, 5 * b


class Presampling(Always):
    """Every step scores candidates; ``by_memory`` says whether remembered scores choose them."""

    def __init__(self, by_memory, presample=B):
        super().__init__(Choices(b, remembers=True, candidates=(presample,)))
        self.wanted = Plan(importance=by_memory, candidates=presample, keep=b)
        self.seen = []

    def observe(self, state, seen):
        self.seen.append(seen)
        return super().observe(state, seen)

    def plan(self, state):
        return self.wanted


def make_trainer(control, learning_rate=0.0, model=None, **options):
    model = model or make_model()
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    options = {"batch_size": b, "mode": "memory", "adapt": None, "seed": 0, **options}
    return isample.Trainer(model, optimizer, control=control, **options)


def make_loader(**options):
    return DataLoader(TensorDataset(*make_data(N)), batch_size=b, shuffle=True, **options)


def linear_model():
    torch.manual_seed(0)
    return nn.Linear(8, CLASSES)


@pytest.mark.parametrize("remembered", [True, False])
def test_the_loss_stays_unbiased(remembered):
    """The model stands still, so every step estimates one number: the data set's mean loss."""
    model, (inputs, targets) = linear_model(), make_data(N)
    truth = F.cross_entropy(model(inputs), targets).item()
    reports = list(
        make_trainer(Presampling(remembered), model=model).iterate(make_loader(), epochs=25)
    )
    losses = torch.tensor(
        [report.loss for report in reports[len(make_loader()) :]], dtype=torch.float64
    )
    assert all(report.active and b < report.scored == report.presample <= B for report in reports)
    assert abs(losses.mean() - truth) < 4 * losses.std() / math.sqrt(len(losses))
    assert losses.std() > 0


def test_the_weights_are_both_draws_together():
    """w / (B p) with p in proportion to w g, from the report of a step; and the memory knows the
    scores of all candidates."""
    trainer = make_trainer(Presampling(True), model=linear_model(), draws="alias")
    trainer.fit(make_loader(), epochs=3)
    batch, seen = trainer.batch, trainer.engine.steps.steering.controller.seen[-1]
    assert batch.score.shape == (B,) and batch.chosen.shape == batch.weights.shape == (b,)
    assert (seen.scored, seen.kept, seen.by_memory) == (B, b, True)
    mean = seen.memory.mean
    # Scores of the scoring pass and of training are the same here, so w g of what is drawn is the
    # same for all: its mean.
    weighted = batch.weights * batch.score[batch.chosen]
    torch.testing.assert_close(weighted, torch.full((b,), mean), rtol=1e-4, atol=0)
    assert seen.fresh.importance == pytest.approx(mean**2, rel=1e-4)
    again = (weighted * batch.score[batch.chosen]).mean().item()
    assert seen.fresh.uniform == pytest.approx(again, rel=1e-4)
    inputs, targets = make_data(N)
    fresh = isample.softmax_score(trainer.model(inputs).detach(), targets)[0]
    # Of B draws, whose w g^2 differ by less than twice their mean: five standard errors are 5 /
    # sqrt(B) of it.
    assert seen.memory.uniform == pytest.approx(fresh.square().mean().item(), rel=5 / math.sqrt(B))
    torch.testing.assert_close(trainer.memory.score, fresh, rtol=1e-5, atol=1e-7)


def test_an_epoch_has_as_many_steps_as_ever_and_uniform_candidates_are_passes_over_the_data():
    trainer = make_trainer(Presampling(False, 2 * b))
    reports = list(trainer.iterate(make_loader(), epochs=1))
    assert len(reports) == len(make_loader())
    assert trainer.memory.num_batches == 2 * len(make_loader())
    sampler = isample.MemorySampler(60, 10, seed=0)
    batches = []
    sampler.follow(Plan(importance=True, candidates=30))
    for batch in sampler:
        batches.append(batch)
        if len(batches) == 4:
            sampler.follow(Plan(importance=True))
    assert [len(batch) for batch in batches] == [30] * 4 + [10] * 2
    assert sorted(batches[0] + batches[1]) == list(range(60))
    by_importance = [sampler.match(batch).by_importance for batch in batches]
    assert by_importance == [False, False, True, True, True, True]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_resumed_bit_for_bit(workers):
    def run(trainer):
        yield from (
            report.step for report in trainer.iterate(make_loader(num_workers=workers), epochs=3)
        )

    whole, resumed = (make_trainer(Presampling(True), 0.05) for _ in range(2))
    for step in run(whole):
        if step == 70:
            state = copy.deepcopy([whole.model.state_dict(), whole.state_dict()])
    resumed.model.load_state_dict(state[0])
    resumed.load_state_dict(state[1])
    assert list(run(resumed)) == list(range(71, step + 1))
    assert all(map(torch.equal, parameters_of(whole.model), parameters_of(resumed.model)))


class Machine(Speedup):
    """A clock on which a step takes a second, remembering ``remembers`` of one, and scoring a
    batch ``scores``."""

    remembers, scores = 0.001, 5.0

    def clock(self, state, seconds, overhead):
        kind = state.seen
        remembered = self.remembers * kind.remembers
        return super().clock(state, 1.0 + remembered + self.scores * kind.scored, remembered)


def test_the_controller_chooses_between_memory_candidates_and_neither():
    """Some labels are wrong, the network changes little: an old score is nearly as good as a fresh
    one. So the memory draws alone while that is cheap, and nothing does where it is not."""
    inputs, targets = make_data(1200)
    targets[::17] = (targets[::17] + 1) % CLASSES
    control = Machine(Choices(b, remembers=True, candidates=(2 * b, 5 * b)))
    trainer = make_trainer(control, 0.05, linear_model())
    loader, shares = DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True), []
    steps = trainer.iterate(loader, epochs=10**6)
    for remembers, scores in ((0.001, 5.0), (30.0, 5.0)):
        control.remembers, control.scores = remembers, scores
        reports = [next(steps) for _ in range(1000)][-300:]
        scored = sum(report.scored > 0 for report in reports)
        shares.append((sum(report.active for report in reports) / 300, scored / 300))
    (by_memory, few), (active, none) = shares
    assert by_memory > 0.9 and few < 0.1
    assert active < 0.1 and none < 0.1


def test_a_bad_score_stops_the_step_before_anything_moves():
    inputs, targets = make_data(N)
    inputs[7, 0] = math.nan
    trainer = make_trainer(Presampling(True), 0.05)
    before = parameters_of(trainer.model)
    with pytest.raises(isample.NonFiniteScoreError, match="that are not"):
        for _ in trainer.iterate(
            DataLoader(TensorDataset(inputs[:b], targets[:b]), batch_size=b), epochs=1
        ):
            before = parameters_of(trainer.model)
    assert all(map(torch.equal, parameters_of(trainer.model), before))

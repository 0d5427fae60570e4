"""Memory mode with fresh presamples: what the memory drew is scored, and a batch drawn of it
again."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control.gate import ConstantGate, FreshGate, MemoryGate
from tests.test_trainer import CLASSES, b, make_data, make_model, parameters_of

N, B = 400, 5 * b


class Presampling(ConstantGate):
    """Every step has a fresh presample; whether remembered scores choose it, is ``open``."""

    def __init__(self, open, presample=B):
        super().__init__(open)
        self.presample = presample
        self.told = []

    def foresee(self, *told):
        self.told.append(told)


def make_trainer(gate, learning_rate=0.0, model=None, **options):
    model = model or make_model()
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    return isample.Trainer(
        model, optimizer, batch_size=b, mode="memory", gate=gate, adapt=None, seed=0, **options
    )


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


def drawn_again(weighted, draws, generator):
    """Indices and weights of b of ``weighted`` in proportion to it."""
    if draws == "alias":
        again = torch.multinomial(weighted, b, replacement=True, generator=generator)
        return again, weighted.sum() / (len(weighted) * weighted[again])
    return isample.draw(weighted.float(), b, method=draws, generator=generator)


@pytest.mark.parametrize("draws", ["alias", "pps"])
@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize("told_of", [3 * b, B])
def test_what_a_step_is_worth_is_foretold(draws, remembered, told_of):
    """For a presample of B, from steps of which none or some had one, of another size; against the
    noise of the gradient at the logits over many batches."""
    model, (inputs, targets) = linear_model(), make_data(N)
    targets[::9] = (targets[::9] + 1) % CLASSES
    logits = model(inputs).detach()
    rows = (logits.softmax(1) - F.one_hot(targets, CLASSES)).double()
    score = rows.norm(dim=1)
    generator = torch.Generator().manual_seed(1)
    recalled = (
        score * torch.exp(0.7 * torch.randn(N, generator=generator))
        if remembered
        else torch.ones(N)
    )
    p = (0.8 * recalled / recalled.sum() + 0.2 / N).double()
    gate, found = MemoryGate(b, [B], replaces=draws == "alias"), []
    for step in range(6000):
        size = B if step > 1000 else told_of
        places = torch.multinomial(p, size, replacement=True, generator=generator)
        weights = 1 / (N * p[places])
        again, drawn_weights = drawn_again(weights * score[places], draws, generator)
        final, fresh = weights[again] * drawn_weights, score[places[again]]
        if step > 1000:
            found.append((final[:, None] * rows[places[again]]).mean(0) - rows.mean(0))
            continue
        second = (weights * score[places] ** 2).mean().item()
        drawn = (final * fresh**2).mean().item(), (final * fresh).square().mean().item()
        drawn = drawn if step % 2 else ()
        gate.foresee((weights * score[places]).mean().item(), second, drawn, told_of, remembered)
        gate.gain.observe(second, (weights * score[places]).square().mean().item(), share=0.0)
    noise = b * torch.stack(found).square().sum(1).mean() + rows.mean(0).square().sum()
    uniform = score.square().mean()
    assert gate.worth(remembered, B) == pytest.approx((uniform / noise).item(), rel=0.12)


def test_the_weights_are_both_draws_together():
    """w / (B p) with p in proportion to w g, from the report of a step; and the memory knows the
    scores of all candidates."""
    trainer = make_trainer(Presampling(True), model=linear_model(), draws="alias")
    for report in trainer.iterate(make_loader(), epochs=3):
        drawn = trainer.memory
    selection = trainer.selection
    assert selection.score.shape == (B,) and selection.indices.shape == selection.weights.shape == (
        b,
    )
    mean, uniform, (again, found), scored, remembered = trainer.sampler.gate.told[-1]
    assert scored == B and remembered
    # Scores of the scoring pass and of training are the same here, so w g of what is drawn is the
    # same for all: its mean.
    weighted = selection.weights * selection.score[selection.indices]
    torch.testing.assert_close(weighted, torch.full((b,), mean), rtol=1e-4, atol=0)
    assert found == pytest.approx(mean**2, rel=1e-4)
    assert again == pytest.approx(
        (weighted * selection.score[selection.indices]).mean().item(), rel=1e-4
    )
    inputs, targets = make_data(N)
    fresh = isample.softmax_score(trainer.model(inputs).detach(), targets)[0]
    # Of B draws, whose w g^2 differ by less than twice their mean: five standard errors are 5 /
    # sqrt(B) of it.
    assert uniform == pytest.approx(fresh.square().mean().item(), rel=5 / math.sqrt(B))
    torch.testing.assert_close(drawn.score, fresh, rtol=1e-5, atol=1e-7)


def test_an_epoch_has_as_many_steps_as_ever_and_uniform_presamples_are_passes_over_the_data():
    trainer = make_trainer(Presampling(False, 2 * b))
    reports = list(trainer.iterate(make_loader(), epochs=1))
    assert len(reports) == len(make_loader()) and trainer.memory.drawn == 2 * len(make_loader())
    sampler = isample.MemorySampler(60, 10, seed=0)
    batches = []
    sampler.presample = 30
    for batch in sampler:
        batches.append(batch)
        if len(batches) < 4:
            sampler.presample = 30  # it holds for one batch, however many are drawn ahead
    assert [len(batch) for batch in batches] == [30] * 4 + [10] * 2
    assert sorted(batches[0] + batches[1]) == list(range(60))
    assert [sampler.take(batch).active for batch in batches] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


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


def test_the_gate_chooses_between_memory_fresh_presamples_and_neither():
    """Some labels are wrong, the network changes little: an old score is nearly as good as a fresh
    one. By a clock on which scoring a batch takes a fifth of a step, and nearly two steps in the
    end."""
    inputs, targets = make_data(1200)
    targets[::17] = (targets[::17] + 1) % CLASSES
    gate = MemoryGate(b, (2 * b, 5 * b))
    gate.WATCH = math.inf
    trainer = make_trainer(gate, 0.05, linear_model())
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=b, shuffle=True)
    cost, clock, chosen = 0.2, gate.clock, []
    gate.clock = lambda active, seconds, overhead, scored: clock(
        active, 1.0 + cost * scored / b, 0.001, scored
    )
    for report in trainer.iterate(loader, epochs=25):
        chosen.append((trainer.memory.active, gate.fresh.opened, report.scored > 0))
        gate.LIMIT, gate.PAID = (
            (1e-9, 0.0) if report.step > 1000 else (math.inf, 0.0)
        )  # remembering is then too dear
        if report.step == 2000:
            cost = 1.8

    def shares(steps):
        return [sum(used) / len(steps) for used in zip(*steps)]

    remembered, fresh, presampled = shares(chosen[700:1000])
    assert remembered == 1 and fresh == 0 and presampled < 0.2  # trials, in a hundredth of the time
    remembered, fresh, presampled = shares(chosen[1600:2000])
    assert (
        remembered == 0
        and fresh == 1
        and presampled == pytest.approx(1 - FreshGate.ROW / FreshGate.REMINDER, abs=0.01)
    )
    remembered, fresh, presampled = shares(chosen[-400:])
    assert remembered == 0 and fresh == 0 and presampled < 0.1


class Machine:
    """A clock for a :class:`FreshGate` by which remembered scores are worth nothing and fresh ones
    as much as they can be. ``step`` gives whether that step had a presample; the first of a row of
    a kind takes ``cold`` times as long."""

    def __init__(self, gate, cost, cold=1.0):
        self.gate, self.cost, self.cold, self.speed, self.last = gate, cost, cold, 1.0, False

    def step(self):
        for _ in range(2):
            self.gate.foresee(0.5, 1.0)  # E[g]^2 / E[g^2] = 1/4
        active = self.gate.is_open(1.0)
        seconds = (
            (1.0 + self.cost * active) / self.speed * (self.cold if active != self.last else 1.0)
        )
        self.last = active
        self.gate.clock(active, seconds, 0.0, self.gate.presample if active else 0)
        return active


def rows_of(chosen, kind):
    """How long the rows of steps of that kind are."""
    return [len(list(steps)) for each, steps in itertools.groupby(chosen) if each == kind]


def test_a_trial_is_a_row_whose_first_steps_tell_nothing():
    """Presamples of 2b take 1.3 steps, or 2.6 where another kind of step was before. They bring
    twice the batch: it opens."""
    machine = Machine(FreshGate(b, [2 * b], replaces=False), cost=0.3, cold=2.0)
    closed = list(
        itertools.takewhile(
            lambda _: not machine.gate.opened, (machine.step() for _ in range(20_000))
        )
    )
    assert machine.gate.opened and machine.gate.cost(2 * b) == pytest.approx(1.3)
    assert set(rows_of(closed, True)) <= {
        FreshGate.ROW - 1,
        FreshGate.ROW,
    }  # the last step of the row finds it open


def test_a_trial_that_turns_out_dear_is_broken_off():
    """Presamples that take a hundred steps get no row of them, and a hundredth of the time."""
    machine = Machine(FreshGate(b, [2 * b], replaces=False), cost=100.0)
    chosen = [machine.step() for _ in range(40_000)]
    assert set(rows_of(chosen, True)) == {1} and 1 < sum(chosen) < 40_000 * 0.01 / 100 + 2


def test_an_open_gate_notices_that_all_steps_take_longer_or_that_presamples_do():
    machine = Machine(FreshGate(b, [2 * b], replaces=False), cost=0.3)
    while not machine.gate.opened:
        machine.step()
    chosen = [machine.step() for _ in range(960)]
    assert (
        machine.gate.opened
        and set(rows_of(chosen, False)) == {FreshGate.ROW}
        and sum(chosen) >= 960 - 10 * FreshGate.ROW
    )
    machine.speed = 0.3  # something else runs on this machine
    for _ in range(6000):
        machine.step()
    assert machine.gate.opened and machine.gate.cost(2 * b) == pytest.approx(1.3)
    machine.cost = 1.5  # more than twice the batch is worth
    for _ in range(200):
        machine.step()
    assert not machine.gate.opened


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

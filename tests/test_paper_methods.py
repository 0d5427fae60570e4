"""The paper's methods and its baselines that select samples, each replayed by the rule of its own
paper."""

import itertools
import math

import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")

import torch
from torch import nn

import isample
from bench.training.__main__ import checked_plan, parser
from bench.training.methods import METHODS, find_method
from bench.training.methods.online_batch_selection import OnlineBatchSelection, rank_probabilities
from bench.training.methods.prioritized import Priorities, Prioritized
from bench.training.report import command
from bench.training.runfile import Point, Record, Run
from bench.training.training import Training
from tests.linear import begin, parameters

# --- Algorithm 1, by three scores -----------------------------------------------------------------

HAND_SCORES = {  # of the residual r of a line, at x
    "upper-bound": lambda r, x: 2 * r.abs(),
    "loss": lambda r, x: r.square(),
    "gradient-norm": lambda r, x: 2 * r.abs() * (1 + x.square()).sqrt(),
}


@pytest.mark.parametrize("name", HAND_SCORES)
def test_algorithm_1_draws_in_proportion_to_its_score(name):
    """Every 16th sample lies far off the line, so tau is near 4 and the switch, at 8/3, is thrown
    after a few steps."""
    x = torch.randn(640, 1, generator=torch.Generator().manual_seed(0))
    y = torch.where(torch.arange(640)[:, None] % 16 == 0, 50.0 + 10 * x.square(), 1.0)
    made = begin(x, y, 32, 1e-5, model=lambda: nn.Linear(1, 1))
    method, active_steps = find_method(name).make(made), 0
    with torch.random.fork_rng(devices=[]):  # the same batches again
        loaded = iter(list(itertools.islice(made.batches(32), 25 * 5)))
    steps = iter(method)
    for _ in range(25):
        weight, bias = (p.detach().clone() for p in made.model.parameters())
        active = next(steps).active
        selection = method.trainer.batch
        batches = [next(loaded) for _ in range(len(selection.score) // 32)]
        inputs, targets = (torch.cat(parts) for parts in zip(*batches))
        residual = (weight * inputs + bias - targets)[:, 0]
        score = HAND_SCORES[name](residual, inputs[:, 0])
        torch.testing.assert_close(selection.score, score, rtol=1e-4, atol=1e-4)
        weights, chosen = torch.ones(32), torch.arange(32)
        if active:
            active_steps += 1
            chosen = selection.chosen
            weights = score.sum() / (len(score) * score[chosen])
            torch.testing.assert_close(selection.weights, weights, rtol=1e-4, atol=1e-5)
        slope = (weights * 2 * residual[chosen]).mean()
        expected = torch.stack([(weights * 2 * residual[chosen] * inputs[chosen, 0]).mean(), slope])
        begun = torch.cat([weight.flatten(), bias])
        torch.testing.assert_close(parameters(made), begun - 1e-5 * expected, rtol=1e-4, atol=1e-6)
    assert 10 <= active_steps < 25


def test_all_methods_are_compared_unless_some_are_named():
    plan = checked_plan(
        parser().parse_args(["compare", "--task", "regression", "--output", "runs"])
    )
    assert plan.entrants == [(name, 1.0) for name in METHODS]
    assert all(name == name.lower() and "_" not in name for name in METHODS)


def test_a_comparison_of_all_says_so():
    """Its page's command is the one that does it again."""
    point = Point(1.0, 10, cpu_seconds=1.0, load=0.0, training_loss=0.5, test_error=0.5)
    records = [
        Record(Run("compare", "digits", name, 0, 1.0, "digits"), {}, [point]) for name in METHODS
    ]
    assert "--methods all " in command(records)
    assert "--methods all " not in command(records[1:]) and "large-batch,double-rate," in command(
        records[1:]
    )


# --- online batch selection -----------------------------------------------------------------------


class Recorded(Training):
    """Keeps the indices of each batch that was trained on, which its inputs tell, and the loss that
    was minimised."""

    def losses(self, outputs, targets):
        losses = super().losses(outputs, targets)
        if torch.is_grad_enabled():
            self.batch = (targets[:, 0].int().tolist(), losses.detach())
        return losses

    def update(self, loss):
        self.trained = [*getattr(self, "trained", []), (*self.batch, float(loss.detach()))]
        super().update(loss)


def numbers(size, batch_size, rate):
    """Targets 0 to size - 1 of inputs that are the same numbers, scaled."""
    targets = torch.arange(size, dtype=torch.float32)[:, None]
    return begin(targets / size, targets, batch_size, rate, kind=Recorded)


@pytest.mark.parametrize("pressure", [1.0, 10.0, 100.0])
def test_rank_probabilities_fall_by_the_pressure(pressure):
    p = rank_probabilities(50, pressure).tolist()
    assert p[0] / p[-1] == pytest.approx(pressure ** (49 / 50), rel=1e-5)
    assert all(
        high / low == pytest.approx(pressure ** (1 / 50), rel=1e-5)
        for high, low in itertools.pairwise(p)
    )


@pytest.mark.parametrize("progress, pressure", [(0.0, 100.0), (0.5, 10.0), (1.0, 1.0)])
def test_the_pressure_decays_exponentially_to_1(progress, pressure, monkeypatch):
    draws, size = 40_000, 20
    loss = torch.randperm(size, generator=torch.Generator().manual_seed(1)).float()
    method = OnlineBatchSelection(numbers(size, 4, 0.05), recompute_every=draws // 4 + 5)
    next(iter(method))  # the first epoch's five batches begin
    method.loss, method.left, method.training.progress = loss, method.left[:0], progress
    monkeypatch.setattr("bench.training.methods.online_batch_selection.SORT_EVERY", draws // 4)
    name, drawn = method.next_phase()
    assert name == "train" and len(drawn) == draws
    counts = torch.bincount(drawn, minlength=size)
    highest_first = sorted(range(20), key=lambda i: -float(loss[i]))
    mass = [math.exp(-math.log(pressure) / 20 * rank) for rank in range(20)]
    for rank, sample in enumerate(highest_first):
        p = mass[rank] / sum(mass)
        assert abs(int(counts[sample]) - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


def test_online_batch_selection_step_by_step():
    """25 batches an epoch, r = 30: the first epoch, an immediate draw of 5, then rounds of a
    recomputation and 30."""
    size, batch_size, every = 100, 4, 30
    made = numbers(size, batch_size, 0.05)
    steps = iter(OnlineBatchSelection(made, pressure=10.0, recompute_every=every))
    generator, known = made.generator(), [math.inf] * size

    def follow(batches):
        for batch in batches:
            next(steps)
            index, losses, minimised = made.trained[-1]
            assert index == batch.tolist() and minimised == pytest.approx(
                float(losses.mean()), rel=1e-5
            )
            for i, loss in zip(index, losses.tolist()):
                known[i] = loss

    def drawn(count):
        order = sorted(range(size), key=lambda i: -known[i])
        pressure = 10.0 ** (1 - made.progress)
        mass = torch.tensor([math.exp(-math.log(pressure) / size * rank) for rank in range(size)])
        ranks, _ = isample.draw(isample.alias_table(mass), count * batch_size, generator=generator)
        return torch.tensor(order)[ranks].split(batch_size)

    follow(torch.randperm(size, generator=generator).split(batch_size))
    assert sorted(sum((batch for batch, *_ in made.trained), [])) == list(range(size))
    follow(drawn(5))
    for progress in (0.3, 0.6):
        made.progress = progress
        before, updates = parameters(made).clone(), len(made.trained)
        for _ in range(size // batch_size):  # the recomputation trains on nothing
            next(steps)
        assert torch.equal(parameters(made), before) and len(made.trained) == updates
        known = [(float(before[0]) * i / size - i) ** 2 for i in range(size)]
        follow(drawn(every))


# --- prioritized ----------------------------------------------------------------------------------


def test_prioritized_step_by_step():
    size, batch_size, alpha, beta = 60, 4, 0.7, 0.5
    made = numbers(size, batch_size, 0.02)
    steps = iter(Prioritized(made, alpha, beta))
    generator, priority, seen = made.generator(), [1.0] * size, set()
    for _ in range(80):
        next(steps)
        index, losses, minimised = made.trained[-1]
        drawn, _ = isample.draw(
            isample.prefix_sum(torch.tensor(priority)), batch_size, generator=generator
        )
        assert index == drawn.tolist()
        weights = [(sum(priority) / (size * priority[i])) ** beta for i in index]
        expected = (
            sum(w / max(weights) * loss for w, loss in zip(weights, losses.tolist())) / batch_size
        )
        assert minimised == pytest.approx(expected, rel=1e-4)
        for i, loss in zip(index, losses.tolist()):
            priority[i] = (abs(loss) + 1e-6) ** alpha
        seen |= set(index)
        highest = max(priority[i] for i in seen)
        priority = [priority[i] if i in seen else highest for i in range(size)]
    assert len(seen) > size / 2


def test_what_was_never_drawn_comes_first():
    priorities = Priorities(100)
    priorities.update(torch.arange(90), torch.linspace(1e-8, 1e-4, 90))
    assert priorities.priority[90:].tolist() == [priorities.priority[89].item()] * 10
    assert priorities.priority[:89].max() < priorities.priority[89]


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_the_weighted_draws_are_unbiased(alpha):
    random = torch.Generator().manual_seed(0)
    values = torch.randn(50, generator=random, dtype=torch.float64) + 1
    estimates = {beta: [] for beta in (0.0, 1.0)}
    for beta, means in estimates.items():
        priorities = Priorities(50, alpha, beta)
        priorities.update(torch.arange(50), (values - values.min() + 0.3).float() ** 2)
        for _ in range(4000):
            index, weights = priorities.draw(8, random)
            means.append((weights * values[index]).mean())
    right, wrong = (torch.stack(estimates[beta]) for beta in (1.0, 0.0))
    assert (right.mean() - values.mean()).abs() < 4 * right.std() / 4000**0.5
    # and it would be seen if the weights were missing
    assert (wrong.mean() - values.mean()).abs() > 8 * wrong.std() / 4000**0.5


# --- yielding -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["online-batch-selection", "prioritized", "svrg", "scsg", "katyusha"]
)
def test_no_more_than_two_batches_pass_between_two_yields(name):
    """So that no evaluation comes late: the anchor's and the scoring passes over the data are
    interrupted, too."""
    made, passed = numbers(400, 8, 0.01), []
    made.model.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    steps = iter(find_method(name).make(made))
    for _ in range(1400):
        passed.clear()
        next(steps)
        assert 0 < sum(passed) <= 16

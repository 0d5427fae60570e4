"""The paper's methods and baselines: each replayed by its own paper's rule, and on problems whose answer is known."""

import math

import pytest

pytest.importorskip("scipy")

import torch
from torch import nn

import isample
from bench.training.data import Rows, Sets
from bench.training.methods import EACH_ONCE, METHODS, find_method
from bench.training.methods.anchor import Anchor, cast_anchor
from bench.training.methods.katyusha import katyusha
from bench.training.methods.online_batch_selection import Ranking, online_batch_selection, rank_probabilities
from bench.training.methods.prioritized import Priorities, prioritized
from bench.training.methods.scsg import geometric, scsg
from bench.training.methods.svrg import svrg
from bench.training.methods.uniform import uniform
from bench.training.referee import Meter
from bench.training.tasks import Task
from bench.training.training import Training


def begin(inputs, targets, batch_size, rate, momentum=0.0, weight_decay=0.0, model=None, kind=Training):
    """A training of one linear layer, in the precision of ``inputs``."""
    rows = Rows(inputs, targets)
    sets = Sets(rows, rows, rows)

    def linear():
        return nn.Linear(inputs.shape[1], 1, bias=False).to(inputs.dtype)

    task = Task("", "", lambda root, seed: sets, model or linear, "mse", batch_size, rate, momentum, weight_decay)
    return kind.begin(task, sets, 60.0, seed=0)


def parameters(made):
    return torch.cat([p.detach().flatten() for p in made.model.parameters()])


# --- Algorithm 1, by three scores -------------------------------------------------------------------------------------

HAND_SCORES = {  # of the residual r of a line, at x
    "upper_bound": lambda r, x: 2 * r.abs(),
    "loss": lambda r, x: r.square(),
    "gradient_norm": lambda r, x: 2 * r.abs() * (1 + x.square()).sqrt(),
}


@pytest.mark.parametrize("name", HAND_SCORES)
def test_algorithm_1_draws_in_proportion_to_its_score(name, monkeypatch):
    """Every 16th sample lies far off the line, so tau is near 4 and the switch, at 8/3, is thrown after a few steps."""
    trainers, original = [], isample.Trainer.paper
    monkeypatch.setattr(isample.Trainer, "paper", lambda *a, **k: trainers.append(original(*a, **k)) or trainers[0])
    x = torch.randn(640, 1, generator=torch.Generator().manual_seed(0))
    y = torch.where(torch.arange(640)[:, None] % 16 == 0, 50.0 + 10 * x.square(), 1.0)
    made = begin(x, y, 32, 1e-5, model=lambda: nn.Linear(1, 1))
    steps, loaded, active_steps = find_method(name).train(made), made.batches(32), 0
    for _ in range(25):
        weight, bias = (p.detach().clone() for p in made.model.parameters())
        active = next(steps)
        selection = trainers[0].selection
        batches = [next(loaded) for _ in range(len(selection.score) // 32)]
        inputs, targets = (torch.cat(parts) for parts in zip(*batches))
        residual = (weight * inputs + bias - targets)[:, 0]
        score = HAND_SCORES[name](residual, inputs[:, 0])
        torch.testing.assert_close(selection.score, score, rtol=1e-4, atol=1e-4)
        weights, chosen = torch.ones(32), torch.arange(32)
        if active:
            active_steps += 1
            chosen = selection.indices
            weights = score.sum() / (len(score) * score[chosen])
            torch.testing.assert_close(selection.weights, weights, rtol=1e-4, atol=1e-5)
        slope = (weights * 2 * residual[chosen]).mean()
        expected = torch.stack([(weights * 2 * residual[chosen] * inputs[chosen, 0]).mean(), slope])
        begun = torch.cat([weight.flatten(), bias])
        torch.testing.assert_close(parameters(made), begun - 1e-5 * expected, rtol=1e-4, atol=1e-6)
    assert 10 <= active_steps < 25


def test_each_method_has_one_name_but_the_paper_s_which_has_two():
    assert METHODS["paper"] is METHODS["upper_bound"] and find_method("paper") is find_method("upper_bound")
    entries = [METHODS[name] for name in EACH_ONCE]
    assert all(entries.count(entry) == 1 for entry in METHODS.values()) and "upper_bound" in EACH_ONCE


# --- online batch selection -------------------------------------------------------------------------------------------


class Recorded(Training):
    """Keeps the indices of each batch that was trained on, which its inputs tell, and the loss that was minimised."""

    def losses(self, outputs, targets):
        losses = super().losses(outputs, targets)
        if torch.is_grad_enabled():
            self.batch = (targets[:, 0].int().tolist(), losses.detach())
        return losses

    def update(self, loss):
        self.trained = getattr(self, "trained", []) + [(*self.batch, float(loss.detach()))]
        super().update(loss)


def numbers(size, batch_size, rate):
    """Targets 0 to size - 1 of inputs that are the same numbers, scaled."""
    targets = torch.arange(size, dtype=torch.float32)[:, None]
    return begin(targets / size, targets, batch_size, rate, kind=Recorded)


@pytest.mark.parametrize("pressure", [1.0, 10.0, 100.0])
def test_rank_probabilities_fall_by_the_pressure(pressure):
    p = rank_probabilities(50, pressure).tolist()
    assert p[0] / p[-1] == pytest.approx(pressure ** (49 / 50), rel=1e-5)
    assert all(high / low == pytest.approx(pressure ** (1 / 50), rel=1e-5) for high, low in zip(p, p[1:]))


@pytest.mark.parametrize("progress, pressure", [(0.0, 100.0), (0.5, 10.0), (1.0, 1.0)])
def test_the_pressure_decays_exponentially_to_1(progress, pressure):
    ranking, draws = Ranking(20, 100.0), 40_000
    ranking.loss = torch.randperm(20, generator=torch.Generator().manual_seed(1)).float()
    ranking.sort(progress)
    counts = torch.bincount(ranking.draw(draws, torch.Generator().manual_seed(2)), minlength=20)
    highest_first = sorted(range(20), key=lambda i: -float(ranking.loss[i]))
    mass = [math.exp(-math.log(pressure) / 20 * rank) for rank in range(20)]
    for rank, sample in enumerate(highest_first):
        p = mass[rank] / sum(mass)
        assert abs(int(counts[sample]) - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


def test_online_batch_selection_step_by_step():
    """25 batches an epoch, r = 30: the first epoch, an immediate draw of 5, then rounds of a recomputation and 30."""
    size, batch_size, every = 100, 4, 30
    made = numbers(size, batch_size, 0.05)
    steps = online_batch_selection(made, pressure=10.0, recompute_every=every)
    generator, known = made.generator(), [math.inf] * size

    def follow(batches):
        for batch in batches:
            next(steps)
            index, losses, minimised = made.trained[-1]
            assert index == batch.tolist() and minimised == pytest.approx(float(losses.mean()), rel=1e-5)
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


# --- prioritized ------------------------------------------------------------------------------------------------------


def test_prioritized_step_by_step():
    size, batch_size, alpha, beta = 60, 4, 0.7, 0.5
    made = numbers(size, batch_size, 0.02)
    steps = prioritized(made, alpha, beta)
    generator, priority, seen = made.generator(), [1.0] * size, set()
    for _ in range(80):
        next(steps)
        index, losses, minimised = made.trained[-1]
        drawn, _ = isample.draw(isample.prefix_sum(torch.tensor(priority)), batch_size, generator=generator)
        assert index == drawn.tolist()
        weights = [(sum(priority) / (size * priority[i])) ** beta for i in index]
        expected = sum(w / max(weights) * loss for w, loss in zip(weights, losses.tolist())) / batch_size
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


# --- variance-reduced -------------------------------------------------------------------------------------------------

SAMPLES, FEATURES, BATCH, RATE = 64, 3, 4, 0.05


def least_squares():
    """Inputs and noisy targets: at the optimum no sample's own gradient is 0."""
    random = torch.Generator().manual_seed(3)
    x = torch.randn(SAMPLES, FEATURES, generator=random, dtype=torch.float64)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    return x, y + torch.randn(SAMPLES, 1, generator=random, dtype=torch.float64)


def optimum(sigma=0.0):
    """Of mean((x w - y)^2) + sigma |w|^2 / 2."""
    x, y = least_squares()
    square = 2 / SAMPLES * x.T @ x + sigma * torch.eye(FEATURES, dtype=torch.float64)
    return torch.linalg.solve(square, 2 / SAMPLES * x.T @ y)[:, 0]


def hand_gradient(w, index):
    x, y = least_squares()
    return 2 / len(index) * x[index].T @ (x[index] @ w - y[index, 0])


def fitted(weight_decay=0.0, momentum=0.9):
    """The momentum is one that the variance-reduced methods have to leave out."""
    return begin(*least_squares(), BATCH, RATE, momentum, weight_decay)


def follow_hand_written(made, steps, points):
    for point in points:
        next(steps)
        torch.testing.assert_close(parameters(made), point, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_svrg_step_by_step(sigma):
    made = fitted(sigma)
    generator, w = made.generator(), parameters(made).clone()
    steps = svrg(made, epochs=1.5)
    for _ in range(3):
        anchor, mu, points = w, hand_gradient(w, range(SAMPLES)), [w] * (SAMPLES // BATCH)
        for index in torch.randint(SAMPLES, (24, BATCH), generator=generator):
            v = hand_gradient(w, index) - hand_gradient(anchor, index) + mu
            w = w - RATE * (v + sigma * w)
            points.append(w)
        follow_hand_written(made, steps, points)


def test_scsg_step_by_step():
    made = fitted()
    generator, w, lengths = made.generator(), parameters(made).clone(), []
    steps = scsg(made, anchor_batches=3)
    for _ in range(12):
        chosen = torch.randperm(SAMPLES, generator=generator)[:12]
        anchor, mu, points = w, hand_gradient(w, chosen), [w] * 3
        uniform_number = 1 - torch.rand((), generator=generator, dtype=torch.float64).item()
        lengths.append(math.floor(math.log(uniform_number) / math.log(12 / 16)))
        for places in torch.randint(12, (lengths[-1], BATCH), generator=generator):
            v = hand_gradient(w, chosen[places]) - hand_gradient(anchor, chosen[places]) + mu
            w = w - RATE * v
            points.append(w)
        follow_hand_written(made, steps, points)
    assert len(set(lengths)) > 3


@pytest.mark.parametrize("mean", [1.0, 32.0])
def test_the_rounds_of_scsg_have_geometric_lengths(mean):
    random, draws, q = torch.Generator().manual_seed(0), 4000, mean / (1 + mean)
    lengths = torch.tensor([geometric(q, random) for _ in range(draws)], dtype=torch.float64)
    assert (lengths.mean() - mean).abs() < 4 * math.sqrt(mean * (mean + 1) / draws)
    for k in (0, 1, 2):
        p = (1 - q) * q**k
        assert abs(int((lengths == k).sum()) - draws * p) < 4 * math.sqrt(draws * p * (1 - p))


@pytest.mark.parametrize("sigma, tau1", [(0.0, 0.5), (0.3, 0.2)])
def test_katyusha_step_by_step(sigma, tau1):
    made = fitted(sigma)
    generator, y = made.generator(), parameters(made).clone()
    z = anchor = y
    steps, alpha = katyusha(made, tau1), RATE / tau1
    for _ in range(3):
        mu, points, ys = hand_gradient(anchor, range(SAMPLES)), [anchor] * (SAMPLES // BATCH), []
        for index in torch.randint(SAMPLES, (2 * SAMPLES // BATCH, BATCH), generator=generator):
            x = tau1 * z + 0.5 * anchor + (0.5 - tau1) * y
            v = hand_gradient(x, index) - hand_gradient(anchor, index) + mu
            z = (z - alpha * v) / (1 + alpha * sigma)
            y = (x - RATE * v) / (1 + RATE * sigma)
            ys.append(y)
        weights = [(1 + alpha * sigma) ** j for j in range(len(ys))]
        anchor = sum(weight * y for weight, y in zip(weights, ys)) / sum(weights)
        follow_hand_written(made, steps, points + ys)


def distances(made, steps, rounds, sigma=0.0):
    """From the optimum, after each of so many rounds of three epochs' worth of yields."""
    answer, found = optimum(sigma), []
    for count in range(1, 1 + 3 * SAMPLES // BATCH * rounds[-1]):
        next(steps)
        if count in [3 * SAMPLES // BATCH * r for r in rounds]:
            found.append(float((parameters(made) - answer).norm()))
    return found


@pytest.mark.parametrize(
    "method, options, sigma",
    [(svrg, {"epochs": 2}, 0.0), (scsg, {"anchor_batches": 16}, 0.0), (katyusha, {}, 0.0), (katyusha, {}, 0.2)],
)
def test_a_constant_step_converges_linearly_to_the_optimum(method, options, sigma):
    """A number of rounds takes off a like factor each time, and nothing stops it before rounding does."""
    made = fitted(sigma)
    first, second, third, last = distances(made, method(made, **options), (5, 10, 15, 45), sigma)
    assert second < first / 20 and third < second / 20 and last < 1e-12


def test_plain_sgd_stalls_at_that_step():
    made = fitted(momentum=0.0)
    assert min(distances(made, uniform(made), (10, 15, 20, 25))) > 1e-2


def test_scsg_stalls_unless_its_anchor_is_all_and_nearer_the_larger_it_is():
    squares = {}
    for batches in (1, 15):
        made = fitted()
        found = distances(made, scsg(made, batches), range(10, 30))
        squares[batches] = sum(distance**2 for distance in found) / len(found)
    assert 1e-4 < squares[15] < squares[1] / 4


def advance_until_done(generator):
    while True:
        try:
            next(generator)
        except StopIteration as ended:
            return ended.value


def test_the_corrected_gradient_is_right_on_average():
    """Over a partition into batches its mean is the whole gradient; at the anchor every batch's is, without noise."""
    made, batches = fitted(), torch.arange(SAMPLES).split(BATCH)
    anchor: Anchor = advance_until_done(cast_anchor(made, batches))
    of_all = hand_gradient(parameters(made), range(SAMPLES))
    for inputs, targets in made.fetch(batches):
        torch.testing.assert_close(anchor.corrected(inputs, targets)[0][0], of_all)
    with torch.no_grad():
        made.model.weight.add_(1.0)
    moved = hand_gradient(parameters(made), range(SAMPLES))
    estimates = [anchor.corrected(*batch)[0][0] for batch in made.fetch(batches)]
    torch.testing.assert_close(torch.stack(estimates).mean(0), moved)
    assert (torch.stack(estimates) - moved).abs().max() > 0.1


def test_an_anchor_s_last_batch_may_be_smaller():
    made = fitted()
    anchor = advance_until_done(cast_anchor(made, torch.arange(SAMPLES).split(7)))
    torch.testing.assert_close(anchor.mean[0][0], hand_gradient(parameters(made), range(SAMPLES)))


def test_the_anchor_leaves_the_network_s_statistics_alone():
    x, y = (part.float() for part in least_squares())
    made = begin(x, y, BATCH, RATE, model=lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, 1)))
    before = {name: b.clone() for name, b in made.model.named_buffers()}
    anchor = advance_until_done(cast_anchor(made, torch.arange(SAMPLES).split(BATCH)))
    assert all(torch.equal(b, before[name]) for name, b in made.model.named_buffers())
    anchor.corrected(x[:4], y[:4])
    assert made.model[0].num_batches_tracked == 1


# --- what the referee asks of all -------------------------------------------------------------------------------------


def counted_and_moved(method, steps):
    """For each of so many units of work: how many updates the referee counted, whether the network had moved."""
    made, counted, moved = fitted(), [], []
    meter, generator = Meter(made), method(made)
    for _ in range(steps):
        before, updates = parameters(made).clone(), meter.updates
        meter.advance(generator)
        counted.append(meter.updates - updates)
        moved.append(int(not torch.equal(before, parameters(made))))
    return counted, moved


@pytest.mark.parametrize("method, updates", [(svrg, 80), (katyusha, 32)])
def test_an_anchor_counts_as_no_update(method, updates):
    counted, _ = counted_and_moved(method, 3 * (16 + updates))
    assert counted == 3 * ([0] * 16 + [1] * updates)


@pytest.mark.parametrize("method", [svrg, scsg])
def test_an_update_is_counted_whenever_the_network_moves(method):
    counted, moved = counted_and_moved(method, 200)
    assert counted == moved and 0 < sum(counted) < 200


@pytest.mark.parametrize("method", [svrg, scsg, katyusha])
def test_the_learning_rate_is_the_schedule_s(method):
    made = fitted()
    steps, before = method(made), parameters(made).clone()
    next(steps)
    made.optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(150):
        next(steps)
    torch.testing.assert_close(parameters(made), before)


@pytest.mark.parametrize("name", ["online-batch-selection", "prioritized", "svrg", "scsg", "katyusha"])
def test_no_more_than_two_batches_pass_between_two_yields(name):
    """So that no evaluation comes late: the anchor's and the scoring passes over the data are interrupted, too."""
    made, passed = numbers(400, 8, 0.01), []
    made.model.register_forward_hook(lambda module, inputs, output: passed.append(len(output)))
    steps = find_method(name).train(made)
    for _ in range(1400):
        passed.clear()
        next(steps)
        assert 0 < sum(passed) <= 16

"""SVRG, SCSG and Katyusha: replayed by hand, and on least squares, whose answer is known."""

import math

import pytest

pytest.importorskip("scipy")

import torch
from torch import nn

from bench.training.meter import Meter
from bench.training.methods.anchor import Anchor
from bench.training.methods.katyusha import Katyusha
from bench.training.methods.scsg import SCSG, geometric
from bench.training.methods.svrg import SVRG
from bench.training.methods.uniform import Uniform
from tests.linear import begin, parameters

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
    steps = iter(SVRG(made, epochs=1.5))
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
    steps = iter(SCSG(made, anchor_batches=3))
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
    steps, alpha = iter(Katyusha(made, tau1)), RATE / tau1
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
    [
        (SVRG, {"epochs": 2}, 0.0),
        (SCSG, {"anchor_batches": 16}, 0.0),
        (Katyusha, {}, 0.0),
        (Katyusha, {}, 0.2),
    ],
)
def test_a_constant_step_converges_linearly_to_the_optimum(method, options, sigma):
    """A number of rounds takes off a like factor each time, and nothing stops it before rounding
    does."""
    made = fitted(sigma)
    first, second, third, last = distances(
        made, iter(method(made, **options)), (5, 10, 15, 45), sigma
    )
    assert second < first / 20 and third < second / 20 and last < 1e-12


def test_plain_sgd_stalls_at_that_step():
    made = fitted(momentum=0.0)
    assert min(distances(made, iter(Uniform(made)), (10, 15, 20, 25))) > 1e-2


def test_scsg_stalls_unless_its_anchor_is_all_and_nearer_the_larger_it_is():
    squares = {}
    for batches in (1, 15):
        made = fitted()
        found = distances(made, iter(SCSG(made, batches)), range(10, 30))
        squares[batches] = sum(distance**2 for distance in found) / len(found)
    assert 1e-4 < squares[15] < squares[1] / 4


def cast(made, batches):
    anchor = Anchor(made)
    for inputs, targets in made.fetch(batches):
        anchor.add(inputs, targets)
    return anchor


def test_the_corrected_gradient_is_right_on_average():
    """Over a partition into batches its mean is the whole gradient; at the anchor every batch's is,
    without noise."""
    made, batches = fitted(), torch.arange(SAMPLES).split(BATCH)
    anchor = cast(made, batches)
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
    anchor = cast(made, torch.arange(SAMPLES).split(7))
    torch.testing.assert_close(anchor.mean[0][0], hand_gradient(parameters(made), range(SAMPLES)))


def test_the_anchor_leaves_the_network_s_statistics_alone():
    x, y = (part.float() for part in least_squares())
    made = begin(
        x,
        y,
        BATCH,
        RATE,
        model=lambda: nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, 1)),
    )
    before = {name: b.clone() for name, b in made.model.named_buffers()}
    anchor = cast(made, torch.arange(SAMPLES).split(BATCH))
    assert all(torch.equal(b, before[name]) for name, b in made.model.named_buffers())
    anchor.corrected(x[:4], y[:4])
    assert made.model[0].num_batches_tracked == 1


# --- what the referee sees ------------------------------------------------------------------------


def counted_and_moved(method, steps):
    """For each of so many units of work: how many updates the referee counted, whether the network
    had moved."""
    made, counted, moved = fitted(), [], []
    meter = Meter(made, method)
    for _ in range(steps):
        before, updates = parameters(made).clone(), meter.updates
        meter.advance()
        counted.append(meter.updates - updates)
        moved.append(int(not torch.equal(before, parameters(made))))
    return counted, moved


@pytest.mark.parametrize("method, updates", [(SVRG, 80), (Katyusha, 32)])
def test_an_anchor_counts_as_no_update(method, updates):
    counted, _ = counted_and_moved(method, 3 * (16 + updates))
    assert counted == 3 * ([0] * 16 + [1] * updates)


@pytest.mark.parametrize("method", [SVRG, SCSG])
def test_an_update_is_counted_whenever_the_network_moves(method):
    counted, moved = counted_and_moved(method, 200)
    assert counted == moved and 0 < sum(counted) < 200


@pytest.mark.parametrize("method", [SVRG, SCSG, Katyusha])
def test_the_learning_rate_is_the_schedule_s(method):
    made = fitted()
    steps, before = iter(method(made)), parameters(made).clone()
    next(steps)
    made.optimizer.param_groups[0]["lr"] = 0.0
    for _ in range(150):
        next(steps)
    torch.testing.assert_close(parameters(made), before)

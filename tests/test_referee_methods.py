"""Each competitor against the rule of its own paper, on problems small enough to follow by hand."""

import itertools

import pytest

pytest.importorskip("scipy")

import torch
from torch import nn

import isample
from bench.common.datasets import Rows, Sets
from bench.common.sets import Data
from bench.training.methods import METHODS, find_method
from bench.training.methods.infobatch import ANNEAL_FROM, Pruning, infobatch
from bench.training.methods.selective_backprop import Acceptance, selective_backprop, weighted_mean
from bench.training.methods.uniform import Uniform, double_rate, large_batch, random_selection
from bench.training.tasks import Task
from bench.training.training import Training

SIZE, BATCH = 120, 8


def tiny_sets():
    """Targets 0 to 119 of inputs that are the same numbers: a batch's targets say which samples it
    holds."""
    numbers = torch.arange(SIZE, dtype=torch.float32)[:, None]
    rows = Rows(numbers / SIZE, numbers)
    return Sets(rows, rows, rows)


class Recorded(Training):
    """A training that keeps the targets of each batch that its network was differentiated on, and
    moves nothing."""

    def losses(self, outputs, targets):
        losses = super().losses(outputs, targets)
        if torch.is_grad_enabled():
            self.trained.append((targets[:, 0].int().tolist(), losses.detach()))
        return losses

    def update(self, loss):
        self.updated.append(float(loss.detach()))


def training(seed=0, batch_size=BATCH):
    data = Data("numbers", lambda root: tiny_sets())
    task = Task(data, "", lambda: nn.Linear(1, 1), "mse", batch_size, 0.01)
    made = Recorded.begin(task, tiny_sets(), 1.0, seed)
    made.trained, made.updated = [], []
    return made


def advance(method, made, steps):
    generator = iter(method(made))
    for _ in range(steps):
        next(generator)


def test_uniform_visits_every_sample_once_an_epoch_in_another_order_each():
    made, again = training(), training()
    advance(Uniform, made, 2 * SIZE // BATCH)
    advance(Uniform, again, 2 * SIZE // BATCH)
    batches = [batch for batch, _ in made.trained]
    epochs = [sum(part, []) for part in (batches[: SIZE // BATCH], batches[SIZE // BATCH :])]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs) and epochs[0] != epochs[1]
    assert batches == [batch for batch, _ in again.trained]
    assert made.updated == pytest.approx([float(losses.mean()) for _, losses in made.trained])


def test_uniform_leaves_out_what_fills_no_batch():
    made = training(batch_size=50)
    advance(Uniform, made, 5)
    assert [len(batch) for batch, _ in made.trained] == [50] * 5


def test_large_batch_is_twice_the_batch_at_twice_the_learning_rate():
    made = training()
    advance(large_batch, made, 3)
    assert [len(batch) for batch, _ in made.trained] == [2 * BATCH] * 3
    assert (
        made.optimizer.param_groups[0]["lr"] == made.optimizer.param_groups[0]["initial_lr"] == 0.02
    )
    made.progress = 0.75
    made.decay_learning_rate()
    assert made.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)


def test_double_rate_is_uniform_at_twice_the_learning_rate():
    made, plain = training(), training()
    advance(double_rate, made, 3)
    advance(Uniform, plain, 3)
    assert [batch for batch, _ in made.trained] == [batch for batch, _ in plain.trained]
    assert (
        made.optimizer.param_groups[0]["lr"] == made.optimizer.param_groups[0]["initial_lr"] == 0.02
    )


def test_random_selection_takes_a_fifth_of_what_was_loaded_without_preference():
    counts = torch.zeros(5 * BATCH)
    rounds = 3000
    made = training()
    with torch.random.fork_rng(devices=[]):  # the same batches again
        loaded = iter(list(itertools.islice(made.batches(5 * BATCH), rounds)))
    advance(random_selection, made, rounds)
    for batch, _ in made.trained:
        presample = next(loaded)[1][:, 0].int().tolist()
        assert len(set(batch)) == BATCH and set(batch) <= set(presample)
        counts[[presample.index(number) for number in batch]] += 1
    # Each place is chosen with probability 1/5; five standard deviations of a binomial count bound
    # all 40 places.
    spread = (rounds * 0.2 * 0.8) ** 0.5
    assert (counts - 0.2 * rounds).abs().max() < 5 * spread


# --- Selective-Backprop ---------------------------------------------------------------------------


def test_acceptance_is_the_squared_percentile():
    losses = torch.tensor([0.3, 0.1, 0.4, 0.2])
    assert Acceptance()(losses).tolist() == pytest.approx(
        [(3 / 4) ** 2, (1 / 4) ** 2, 1.0, (2 / 4) ** 2]
    )


def test_acceptance_looks_back_over_the_last_losses_alone():
    acceptance = Acceptance(beta=1.0, history=6)
    acceptance(torch.tensor([9.0, 9.0, 9.0, 9.0]))
    # The history is now 9, 9, 1, 2, 3, 4: two of the nines are forgotten.
    assert acceptance(torch.tensor([1.0, 2.0, 3.0, 4.0])).tolist() == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 4 / 6]
    )


def test_acceptance_keeps_a_third_and_the_floored_one_no_less_than_a_tenth():
    losses = torch.rand(1024, generator=torch.Generator().manual_seed(0))
    # mean of (k/n)^2 over k = 1..n is (n+1)(2n+1)/(6n^2)
    assert Acceptance()(losses).mean().item() == pytest.approx(
        1025 * 2049 / (6 * 1024**2), rel=1e-5
    )
    assert Acceptance(least=0.1)(losses).min().item() == pytest.approx(0.1)


def test_selective_backprop_trains_on_accepted_samples_in_order():
    """Replayed in plain Python: percentiles by counting, the queue as a list, the same random
    numbers."""
    made = training(seed=3)
    steps = 40
    with torch.random.fork_rng(devices=[]):  # the same batches again
        loaded = iter(list(itertools.islice(made.batches(BATCH), steps)))
    advance(selective_backprop, made, steps)
    numbers, history, queue, expected = made.generator(), [], [], []
    weight, bias = made.model.weight.item(), made.model.bias.item()
    for _ in range(steps):
        inputs, targets = next(loaded)
        losses = [
            (weight * x + bias - y) ** 2 for (x,), (y,) in zip(inputs.tolist(), targets.tolist())
        ]
        history = (history + losses)[-1024:]
        chances = torch.rand(BATCH, generator=numbers).tolist()
        for loss, target, chance in zip(losses, targets[:, 0].int().tolist(), chances):
            # equal losses may round apart between this and torch: no other loss lies within a
            # thousandth
            rank = sum(other <= loss * (1 + 1e-4) for other in history)
            if chance < (rank / len(history)) ** 2:
                queue.append(target)
        if len(queue) >= BATCH:
            expected.append(queue[:BATCH])
            queue = queue[BATCH:]
    assert [batch for batch, _ in made.trained] == expected and len(expected) > 5
    assert made.updated == pytest.approx([float(losses.mean()) for _, losses in made.trained])


def test_the_reweighted_mean_is_that_of_all_samples():
    random = torch.Generator().manual_seed(1)
    losses = torch.rand(512, generator=random) ** 4
    probability = Acceptance(least=0.1)(losses)
    estimates, plain = [], []
    for _ in range(2000):
        kept = torch.rand(512, generator=random) < probability
        estimates.append(weighted_mean(losses[kept], 1 / probability[kept]))
        plain.append(losses[kept].mean())
    # 2,000 estimates: their mean's deviation is a few 1e-4; the unweighted one is more than double
    # the truth.
    assert torch.stack(estimates).mean().item() == pytest.approx(losses.mean().item(), rel=0.01)
    assert torch.stack(plain).mean() > 2 * losses.mean()


# --- InfoBatch ------------------------------------------------------------------------------------


def test_first_epoch_and_annealing_leave_nothing_out():
    pruning = Pruning(50)
    for order, weights in (
        pruning.epoch(torch.Generator()),
        pruning.whole_epoch(torch.Generator()),
    ):
        assert sorted(order.tolist()) == list(range(50)) and weights.tolist() == [1.0] * 50


def test_pruning_keeps_the_hard_and_doubles_the_easy():
    random = torch.Generator().manual_seed(0)
    pruning = Pruning(100)
    pruning.loss = torch.arange(100.0)  # mean 49.5: samples 0 to 49 are easy
    order, weights = pruning.epoch(random)
    assert set(range(50, 100)) <= set(order.tolist()) and len(set(order.tolist())) == len(order)
    assert weights.tolist() == [2.0] * 50 + [1.0] * 50
    assert order.tolist() != sorted(order.tolist())


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_the_pruned_and_rescaled_gradient_is_right_on_average(ratio):
    random = torch.Generator().manual_seed(0)
    pruning = Pruning(60, ratio)
    pruning.loss = torch.rand(60, generator=random) ** 3
    gradients = torch.randn(60, generator=random, dtype=torch.float64) * pruning.loss
    sums = []
    for _ in range(4000):
        order, weights = pruning.epoch(random)
        sums.append((weights[order] * gradients[order]).sum())
    estimate = torch.stack(sums)
    error = (estimate.mean() - gradients.sum()).abs()
    assert error < 4 * estimate.std() / len(sums) ** 0.5
    # and it would be seen if the weights were missing: the easy half's share is far more than that
    easy = pruning.loss < pruning.loss.mean()
    assert (ratio * gradients[easy].sum()).abs() > 8 * estimate.std() / len(sums) ** 0.5


def test_infobatch_prunes_by_the_losses_that_it_saw_and_stops_near_the_end():
    made = training()
    steps = infobatch(made)
    for _ in range(SIZE // BATCH):
        next(steps)
    first = sum((batch for batch, _ in made.trained), [])
    assert sorted(first) == list(range(SIZE))
    loss_of = {n: float(loss) for batch, losses in made.trained for n, loss in zip(batch, losses)}
    mean = sum(loss_of.values()) / SIZE
    hard = {n for n, loss in loss_of.items() if loss >= mean}

    made.trained.clear(), made.updated.clear()
    kept = []
    while (
        len(made.trained) < 2 or len(kept) % BATCH == 0
    ):  # an epoch of n samples ends with a smaller batch
        next(steps)
        kept += made.trained[-1][0]
        batch, losses = made.trained[-1]
        weights = torch.tensor([1.0 if n in hard else 2.0 for n in batch])
        assert made.updated[-1] == pytest.approx(float((weights * losses).mean()))
    assert hard <= set(kept) and len(hard) < len(kept) < SIZE

    next(steps)  # in the middle of a pruned epoch
    made.progress = ANNEAL_FROM
    made.trained.clear()
    for _ in range(SIZE // BATCH):
        next(steps)
    assert sorted(sum((batch for batch, _ in made.trained), [])) == list(range(SIZE))


# --- the registry ---------------------------------------------------------------------------------


def without_engine(name):
    return name == "isample-plain-loop" and not hasattr(isample, "Engine")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns_from_the_same_beginning(name):
    if without_engine(name):
        pytest.skip("isample has no Engine yet")
    task = Task(Data("line", lambda root: line()), "", lambda: nn.Linear(1, 1), "mse", 16, 0.05)
    made = Training.begin(task, line(), 60.0, seed=1)
    begin = [p.clone() for p in made.model.parameters()]
    again = Training.begin(task, line(), 60.0, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(begin, again.model.parameters()))
    steps = iter(find_method(name).make(made))
    for _ in range(600):
        told = next(steps)
        assert told is None or isinstance(told, isample.StepReport)
    assert made.model.weight.item() == pytest.approx(3.0, abs=0.1)
    assert made.model.bias.item() == pytest.approx(1.0, abs=0.1)


def line():
    x = torch.linspace(-1, 1, 320)[:, None]
    rows = Rows(x, 3 * x + 1)
    return Sets(rows, rows, rows)

"""The loss that a Trainer minimises and the loss that it evaluates are torch's own means."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.scoring.counts import counts_of
from isample.scoring.losses import per_sample_loss
from isample.scoring.objective import Objective

C, N, b = 4, 48, 8
WEIGHT = torch.tensor([0.2, 1.0, 4.0, 2.0], dtype=torch.float64)
POSITIVE = torch.tensor([0.5, 3.0, 1.0, 1.0], dtype=torch.float64)


def numbers(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=random)


def labels(*shape, ignored=None, share=0.4, seed=1):
    random = torch.Generator().manual_seed(seed)
    made = torch.randint(C, shape, generator=random)
    if ignored is not None:
        made[torch.rand(shape, generator=random) < share] = ignored
        made[: b + 3] = ignored  # a batch, and more, of nothing else
    return made


CASES = {
    "plain": (nn.CrossEntropyLoss, {}, (), labels(N)),
    "ignored": (nn.CrossEntropyLoss, {}, (), labels(N, ignored=-100)),
    "ignored 0": (nn.CrossEntropyLoss, {"ignore_index": 0}, (), labels(N, ignored=0)),
    "weights": (nn.CrossEntropyLoss, {"weight": WEIGHT}, (), labels(N)),
    "all": (
        nn.CrossEntropyLoss,
        {"weight": WEIGHT, "ignore_index": 2, "label_smoothing": 0.2},
        (),
        labels(N, ignored=2),
    ),
    "soft": (nn.CrossEntropyLoss, {"weight": WEIGHT}, (), numbers(N, C, seed=3).softmax(1)),
    "nll": (nn.NLLLoss, {"weight": WEIGHT}, (), labels(N, ignored=-100)),
    "nll sequence": (nn.NLLLoss, {"ignore_index": 1}, (5,), labels(N, 5, ignored=1)),
    "sequence": (nn.CrossEntropyLoss, {}, (5,), labels(N, 5, ignored=-100)),
    "weighted sequence": (
        nn.CrossEntropyLoss,
        {"weight": WEIGHT, "label_smoothing": 0.1},
        (5,),
        labels(N, 5, ignored=-100),
    ),
    "image": (nn.CrossEntropyLoss, {}, (2, 3), labels(N, 2, 3, ignored=-100)),
    "binary": (nn.BCEWithLogitsLoss, {"pos_weight": POSITIVE}, (), numbers(N, C, seed=3).sigmoid()),
    "binary, weighted": (nn.BCEWithLogitsLoss, {"weight": WEIGHT}, (), numbers(N, C).sigmoid()),
    "squares": (nn.MSELoss, {}, (), numbers(N, C, seed=4)),
    "Huber": (nn.HuberLoss, {"delta": 0.3}, (5,), numbers(N, C, 5, seed=4)),
}


class Net(nn.Module):
    def __init__(self, shape, log):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, C * math.prod(shape)).double()
        self.shape, self.log = shape, log

    def forward(self, x):
        z = self.linear(x).view(len(x), C, *self.shape)
        return z.log_softmax(1) if self.log else z


def made(case):
    kind, options, shape, targets = CASES[case]
    model = Net(shape, kind is nn.NLLLoss)
    data = TensorDataset(numbers(N, 3, seed=9), targets)
    return model, kind(reduction="none", **options), kind(**options), data


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["presample", "memory"])
def test_a_uniform_batch_is_trained_by_torchs_mean(case, mode):
    """Torch's loss of a batch whose labels are all ignored is NaN, its gradient 0; ours is 0."""
    model, loss, reduced, data = made(case)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    trainer = isample.Trainer(model, optimizer, loss, b, mode=mode, control="never", seed=1)
    batches = []
    model.register_forward_pre_hook(lambda _, args: batches.append(args[0].detach()))
    report = trainer.fit(DataLoader(data, b), epochs=2).steps

    twin = Net(CASES[case][2], CASES[case][0] is nn.NLLLoss)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, momentum=0.5)
    for step, inputs in zip(report, batches, strict=True):
        rows = [int((data.tensors[0] == row).all(1).nonzero()) for row in inputs]
        expected = reduced(twin(inputs), data.tensors[1][rows])
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        assert step.loss == pytest.approx(expected.nan_to_num(0.0).item(), rel=1e-6)
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)  # of a float32 loss


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [5, N])
def test_evaluation_is_torchs_mean_whatever_the_batches(case, size):
    model, loss, reduced, data = made(case)
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss, b)
    found = trainer.evaluate(DataLoader(data, size))
    logits, targets = model(data.tensors[0]), data.tensors[1]
    assert found.loss == pytest.approx(reduced(logits, targets).item(), rel=1e-6)
    if targets.is_floating_point():
        assert math.isnan(found.error)
    else:
        counted = targets != reduced.ignore_index
        wrong = (logits.argmax(1) != targets)[counted].double().mean().item()
        assert found.error == pytest.approx(wrong, rel=1e-12)


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_evaluation_of_nothing_that_counts_is_nan_as_torchs_is(kind):
    model, loss = Net((), kind is nn.NLLLoss), kind(reduction="none")
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), loss, b)
    found = trainer.evaluate([(numbers(6, 3), torch.full((6,), -100))])
    assert math.isnan(found.loss) and math.isnan(found.error)


@pytest.mark.parametrize("case", ["nll sequence", "sequence", "weighted sequence", "image"])
def test_a_samples_loss_is_torchs_mean_of_it_alone(case):
    model, loss, reduced, data = made(case)
    logits, targets = model(data.tensors[0]), data.tensors[1]
    found = per_sample_loss(loss, logits, targets)
    for i in range(N):
        alone = reduced(logits[i : i + 1], targets[i : i + 1]).nan_to_num(0.0)
        assert found[i].item() == pytest.approx(alone.item(), rel=1e-9, abs=1e-12)


RATIOS = ["ignored", "ignored 0", "weights", "all", "nll", "sequence", "weighted sequence"]


@pytest.mark.parametrize("case", RATIOS)
def test_drawn_batches_estimate_the_mean_of_the_data(case):
    """5000 draws in proportion to any scores; 4 standard errors go by chance in 1 of 16000."""
    model, loss, reduced, data = made(case)
    objective = Objective(loss)
    logits, targets = model(data.tensors[0]).detach(), data.tensors[1]
    for part in range(0, N, b):  # an epoch was dealt
        objective.mean(logits[part : part + b], targets[part : part + b], notes=True)
    random = torch.Generator().manual_seed(3)
    score = torch.rand(N, generator=random) ** 2 + 0.05
    found = []
    for _ in range(5000):
        places, weights = isample.draw(score, b, generator=random)
        found.append(objective.mean(logits[places], targets[places], weights)[0].double())
    found = torch.stack(found)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - reduced(logits, targets)) < 4 * error


@pytest.mark.parametrize("case", ["ignored", "all", "nll", "sequence"])
def test_presamples_estimate_the_mean_of_their_candidates(case):
    """Ignored labels have no score and are never kept: the mean count is of all candidates."""
    model, loss, reduced, data = made(case)
    found = []
    for seed in range(300):
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        trainer = isample.Trainer(
            model, optimizer, loss, b, presample=N, control="always", adapt=None, seed=seed
        )
        found.append(trainer.step(*data.tensors).loss)
    found = torch.tensor(found, dtype=torch.float64)
    error = found.std() / math.sqrt(len(found))
    expected = reduced(model(data.tensors[0]), data.tensors[1]).item()
    assert abs(found.mean() - expected) < 4 * error


def test_a_longer_sequence_has_the_larger_score():
    """It adds more to the batch's mean: the scores are norms of what each adds."""
    objective = Objective("cross_entropy")
    logits, targets = numbers(1, C, 6).repeat(2, 1, 1), labels(1, 6).repeat(2, 1)
    targets[1, 3:] = -100
    whole, half = objective.scores(None, None, targets, logits)
    leaf = logits.clone().requires_grad_()
    (rows,) = torch.autograd.grad(F.cross_entropy(leaf, targets, reduction="sum"), leaf)
    norms = rows.flatten(1).norm(dim=1)
    assert (whole / half).item() == pytest.approx((norms[0] / norms[1]).item(), rel=1e-5)


def test_halves_do_not_overflow_in_sums():
    logits = torch.zeros(4096, C, 16, dtype=torch.float16)
    logits[:, 0] = 30.0
    targets = torch.ones(4096, 16, dtype=torch.int64)
    mean, _ = Objective("cross_entropy").mean(logits, targets)
    assert mean.item() == pytest.approx(30.0, rel=1e-2)


def test_the_mean_count_goes_with_the_state():
    model, loss, _, data = made("weights")
    loader = DataLoader(data, b, shuffle=True)

    def trainer():
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        return isample.Trainer(model, optimizer, loss, b, mode="memory", control="always", seed=1)

    first, second = trainer(), trainer()
    first.fit(loader, epochs=2)
    second.load_state_dict(first.state_dict())
    second.fit(loader, epochs=3)
    count = second.engine.parts.known.mean_count
    assert count.value == pytest.approx(WEIGHT[data.tensors[1]].mean().item())
    assert count.samples >= N


@pytest.mark.parametrize(
    ("smoothing", "weight"), [(0.0, None), (0.1, None), (0.0, torch.tensor([0.2, 3.0, 0.5]))]
)
@pytest.mark.parametrize("ignored", [0, 3, 7])
def test_a_device_that_must_not_be_waited_for_gives_torch_s_mean(
    monkeypatch, smoothing, weight, ignored
):
    """The labels are counted there; loss, gradient and the mean count are the CPU's."""
    for module in ("objective", "counts"):
        monkeypatch.setattr(f"isample.scoring.{module}.is_read_freely", lambda tensor: False)
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 3, generator=random, requires_grad=True)
    targets = torch.randint(3, (7,), generator=random)
    targets[:ignored] = -100
    objective = Objective(nn.CrossEntropyLoss(weight, reduction="none", label_smoothing=smoothing))
    counts = counts_of(objective.loss, targets)
    assert counts is not None
    for weights in (None, torch.rand(7, generator=random)):
        mean, score = objective.mean(logits, targets, weights, notes=weights is None)
        terms = objective.loss(logits, targets)
        if weights is None:
            expected = terms.sum() / counts.sum().clamp(min=1e-30)
        else:
            expected = (weights * terms).mean() / counts.double().mean().clamp(min=1e-30)
        torch.testing.assert_close(mean, expected.float())
        gradients = [torch.autograd.grad(loss, logits)[0] for loss in (mean, expected)]
        torch.testing.assert_close(*gradients)
        assert score is not None and score.shape == (7,)
    assert float(objective.mean_count.total) == pytest.approx(float(counts.sum()))
    assert objective.mean_count.samples == 7

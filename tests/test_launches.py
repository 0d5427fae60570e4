"""Kernel launches of a training step on CUDA beside a plain loop's, counted without a device.

They are counted op by op (tests/launches.py) on a played device; tests/test_cuda_trainer.py counts
them on a real one.
"""

from collections import Counter
from statistics import median
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from tests.queueing_device import Queued, make_queued, queueing

pytestmark = pytest.mark.usefixtures("one_thread")
b, TABLE = 8, 4
N = 64 * TABLE * b  # samples: a table serves TABLE batches
SERVED = 6  # batches: by a table for CIFAR-10 in batches of 128
EPOCH = N // b

ACTIVE, CLOSED = 8, 2  # launches beyond those of a plain loop, at most


class Counted(NamedTuple):
    by_op: Counter
    active: bool

    @property
    def total(self):
        return self.by_op.total()

    @property
    def makes_table(self):
        return any("prefix_sum_into" in name for name in self.by_op)


def make_data():
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(5, (N,), generator=random)
    centres = 2 * torch.randn(5, 8, generator=random)
    inputs = centres[targets] + torch.randn(N, 8, generator=random)
    return TensorDataset(Queued(inputs), Queued(targets))


def make_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5))
    make_queued(model)
    return model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


@pytest.fixture
def device(monkeypatch):
    with queueing(monkeypatch) as device:
        yield device


def counted(device, work):
    """What ``work`` launches."""
    device.launches = Counter()
    work()
    return device.launches


@pytest.fixture
def plain(device):
    """The launches of a step of a plain loop over tensors on the device."""
    model, optimizer = make_model()
    data = make_data()
    order = torch.randperm(N, device="cuda")

    def step(places):
        inputs, targets = (tensor[places] for tensor in data.tensors)
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    first, second, *_ = order.split(b)
    step(first)
    return counted(device, lambda: step(second)).total()


def steps_of(device, count, **options):
    """What each of the first ``count`` steps of a trainer launches."""
    model, optimizer = make_model()
    trainer = isample.Trainer(model, optimizer, batch_size=b, seed=3, **options)
    loader = DataLoader(make_data(), batch_size=b, shuffle=True)
    steps = []
    device.launches = Counter()
    for report in trainer.iterate(loader, epochs=3):
        steps.append(Counted(device.launches, report.active))
        device.launches = Counter()
        if len(steps) == count:
            return steps
    raise AssertionError("the run was too short")


def more(steps, plain):
    return [step.total - plain for step in steps]


def extra(steps):
    """What a table and its draws launch beside the usual steps by it."""
    tables = sum(step.makes_table for step in steps)
    usual = median(step.total for step in steps if not step.makes_table)
    return (sum(step.total for step in steps) - usual * len(steps)) / tables


@pytest.fixture
def drawn(device):
    """Steps of whole tables, which all draw by them."""
    steps = steps_of(device, EPOCH + 21 * TABLE, mode="memory", control="always")
    steps = steps[EPOCH + 1 :]
    assert all(step.active for step in steps)
    first, *_, last = [place for place, step in enumerate(steps) if step.makes_table]
    assert (last - first) % TABLE == 0
    return steps[first:last]


def test_the_count_is_of_forward_and_backward(device):
    weight = Queued(torch.ones(3, 2)).requires_grad_()
    launches = counted(device, lambda: (weight.unsqueeze(0) * 2).sum().backward())
    assert launches == {"aten::mul.Tensor": 2, "aten::sum": 1, "aten::ones_like": 1}
    places, values = Queued(torch.tensor([1, 1])), weight.detach()[:2, 0]
    zeros = Queued(torch.zeros(4))
    scatter = counted(device, lambda: zeros.index_put_((places,), values, accumulate=True))
    assert scatter == {"aten::index_put_": 11}
    host = torch.empty(4, pin_memory=True)
    assert counted(device, lambda: host.copy_(zeros, non_blocking=True)) == {"copy": 1}
    score = Queued(torch.ones(20))
    assert counted(device, lambda: isample.prefix_sum(score)) == {"isample::prefix_sum": 6}


def test_a_loop_s_cross_entropy_is_four_launches(device):
    logits, targets = Queued(torch.zeros(4, 3)), Queued(torch.tensor([0, 1, 2, 0]))
    logits.requires_grad_()
    launches = counted(device, lambda: F.cross_entropy(logits, targets).backward())
    assert launches.total() - launches["aten::ones_like"] == 4


def test_a_closed_gate_costs_few_launches(device, plain):
    steps = steps_of(device, 100, control="never")[1:]
    assert not any(step.active for step in steps)
    assert median(more(steps, plain)) <= CLOSED


def test_a_scored_uniform_step_costs_few_launches(device, plain):
    steps = steps_of(device, EPOCH - 1, mode="memory", control="always")[1:]
    assert not any(step.active for step in steps)
    assert all(step.by_op["isample::recall"] == 1 for step in steps)
    assert sum(more(steps, plain)) / len(steps) <= ACTIVE


def test_a_drawn_step_costs_few_launches(drawn, plain):
    between = [step for step in drawn if not step.makes_table]
    assert len(between) == len(drawn) * (TABLE - 1) // TABLE
    assert median(more(between, plain)) <= ACTIVE


def test_a_drawn_step_and_its_share_of_a_table_cost_few_launches(drawn, plain):
    between = [step for step in drawn if not step.makes_table]
    assert median(more(between, plain)) + extra(drawn) / SERVED <= ACTIVE


def test_a_table_costs_few_launches(drawn):
    tables = [step for step in drawn if step.makes_table]
    assert all(
        step.by_op["isample::_expected_scores_into"] == 3 for step in tables
    )  # flattened, too
    assert extra(drawn) <= 20  # six of them for the draws of all its batches, three to learn


@pytest.mark.parametrize("options", [{"control": "never"}, {"mode": "memory", "control": "always"}])
def test_no_op_reads_a_number_back(device, options):
    """The step's numbers come by one copy, which no op waits for."""
    steps = steps_of(device, EPOCH + 20, **options)[1:]
    assert not any(step.by_op["aten::_local_scalar_dense"] for step in steps)
    assert all(step.by_op["copy"] == 1 for step in steps)

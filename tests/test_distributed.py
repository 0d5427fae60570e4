"""Two processes that train one model: they stay one model, decide alike, share the data, and do
what one process would with the batches of both."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import isample
from isample.control import Choices, Speedup

COUNT, N, b, CLASSES, LR = 2, 603, 10, 4, 0.05


def make_data():
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(CLASSES, (N,), generator=random)
    inputs = torch.randn(CLASSES, 6, generator=random)[targets] * 1.5 + torch.randn(
        N, 6, generator=random
    )
    return inputs, targets


def make_model(normalise=False):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16) if normalise else nn.ReLU(), nn.Linear(16, CLASSES)
    )


def make_loader(rank, shuffle=True, **options):
    dataset = TensorDataset(*make_data())
    sampler = DistributedSampler(dataset, COUNT, rank, shuffle=shuffle)
    return DataLoader(dataset, batch_size=b, sampler=sampler, **options)


def parameters_of(model):
    return torch.cat([p.detach().flatten().clone() for p in model.parameters()])


class Machine(Speedup):
    """On which remembering takes next to nothing. The clock of each process moves its state, but
    decides nothing. Every fifth step of those that the memory draws scores candidates."""

    def clock(self, state, seconds, overhead):
        kind = state.seen
        took = 1.0 + 0.01 * kind.scored + kind.kept + 1e-6 * seconds
        return super().clock(state, took, 1e-3)

    def plan(self, state):
        plan = super().plan(state)
        scores = plan.importance and state.steps % 5 == 0
        return replace(plan, candidates=2 * b) if scores else plan


def report_of(report):
    return {"active": report.active, "scored": report.scored, "kept": report.kept}


def train(rank, mode, seconds=None, epochs=None, normalise=False, **options):
    """A run and all that must be alike in every process, or is recorded for a replay; the rate
    falls with the time. The first process alone evaluates, as is usual."""
    model = DistributedDataParallel(make_model(normalise))
    optimizer = torch.optim.SGD(model.parameters(), LR)
    trainer = isample.Trainer(model, optimizer, batch_size=b, mode=mode, seed=3, **options)
    alike, own = [], []
    for report in trainer.iterate(make_loader(rank), epochs=epochs, seconds=seconds):
        numbers = report.loss, report.elapsed, trainer.progress, report.effective_batch
        state = trainer.engine.steps.state_dict()["controller"]
        alike.append({"report": report_of(report), "numbers": numbers, "state": state})
        own.append((trainer.batch.places, trainer.batch.weights))
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - trainer.progress)
    if rank == 0:
        assert trainer.evaluate(make_loader(0)).error < 0.5
    return {"parameters": parameters_of(model), "alike": alike, "own": own}


def by_its_own_clock(rank):
    """A second of training; in the second process a look at the clock takes twice as long."""
    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * (1 + rank) / 512)
    with mock.patch("isample.support.clocks.time", clock):
        return train(rank, "presample", seconds=1.0)


def loop_of_ones_own(rank):
    model = DistributedDataParallel(make_model())
    optimizer = torch.optim.SGD(model.parameters(), LR)
    engine = isample.Engine(optimizer, head=model.module[-1], control="always", seed=3)
    loader = engine.loader(make_loader(rank))
    alike = []
    for _ in range(3):
        for inputs, targets in loader:
            loss = F.cross_entropy(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            alike.append((engine.report.active, engine.report.tau, engine.report.weight_max))
    assert {active for active, *_ in alike} == {False, True}
    return {"parameters": parameters_of(model), "alike": alike}


def a_bad_score_in_one_process(rank, **options):
    """Sample 9 is not a number."""
    inputs, targets = make_data()
    inputs[9, 0] = math.nan
    model = DistributedDataParallel(make_model())
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), LR), batch_size=b, control="always", **options
    )
    dataset = TensorDataset(inputs, targets)
    loader = DataLoader(dataset, batch_size=b, sampler=DistributedSampler(dataset, COUNT, rank))
    try:
        trainer.fit(loader, epochs=1)
    except isample.NonFiniteScoreError as error:
        return {"count": error.count, "message": str(error), "parameters": parameters_of(model)}


RUNS = {
    "chosen": lambda rank: train(
        rank, "memory", epochs=8, control=Machine(Choices(b, remembers=True))
    ),
    "presamples by the clock": by_its_own_clock,
    "paper": lambda rank: train(
        rank, "presample", epochs=3, control="threshold", draws="alias", adapt=None
    ),
    "gradient norms": lambda rank: train(
        rank,
        "presample",
        epochs=2,
        control="always",
        score="gradient_norm",
        presample=30,
        normalise=True,
    ),
    "replayed": lambda rank: train(rank, "memory", epochs=3, control="always", adapt=None),
    "a loop of one's own": loop_of_ones_own,
    "bad": lambda rank: a_bad_score_in_one_process(rank, mode="memory"),
    "bad in a presample": lambda rank: a_bad_score_in_one_process(
        rank, mode="presample", presample=3 * b
    ),
}


def work(rank, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=COUNT)
    torch.save({name: run(rank) for name, run in RUNS.items()}, f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(work, (folder,), nprocs=COUNT)
    return [torch.load(folder / str(rank)) for rank in range(COUNT)]


@pytest.mark.parametrize("run", [name for name in RUNS if not name.startswith("bad")])
def test_all_take_the_same_steps_and_stay_one_model(results, run):
    first, second = (result[run] for result in results)
    assert repr(first["alike"]) == repr(second["alike"])  # of floats, to the bit; NaN is NaN
    assert torch.equal(first["parameters"], second["parameters"])
    assert len(first["alike"]) >= 20
    assert first["parameters"].isfinite().all()


def test_the_switch_and_the_rate_were_at_work(results):
    """Or the runs above would agree on nothing."""
    steps = results[0]["chosen"]["alike"]
    assert {step["report"]["active"] for step in steps} == {False, True}
    assert max(step["numbers"][3] for step in steps) > 1.5 * b  # from where it raises the rate
    assert any(step["report"]["scored"] > 0 for step in steps)
    timed = [step["numbers"][1] for step in results[0]["presamples by the clock"]["alike"]]
    assert timed == sorted(timed) and timed[-1] >= 1.0  # seconds


def test_each_draws_from_a_part_of_its_own(results):
    """Half of the samples each, 302, the first given twice: of their places in its part each
    process meets all, and not in the other's order."""
    places = [
        torch.cat([indices for indices, _ in result["replayed"]["own"]]) for result in results
    ]
    for own in places:
        assert sorted(set(own[:302].tolist())) == list(range(302))
    assert not torch.equal(*(own[:302] for own in places))


def test_one_process_with_the_batches_of_both_gets_the_same_model(results):
    """SGD by hand on the recorded indices and weights: sample i of process r's part is sample 2 i +
    r, the one past the last being the first. The mean over two processes is summed in another order
    than here: float32 rounding, over 93 steps."""
    inputs, targets = make_data()
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), LR)
    rates = [step["numbers"][2] for step in results[0]["replayed"]["alike"]]
    for step, drawn in enumerate(zip(*(result["replayed"]["own"] for result in results))):
        loss = 0.0
        for rank, (indices, weights) in enumerate(drawn):
            mine = (2 * indices + rank) % N
            weights = torch.ones(len(mine)) if weights is None else weights
            losses = F.cross_entropy(model(inputs[mine]), targets[mine], reduction="none")
            loss = loss + (weights * losses).mean() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - rates[step])
    torch.testing.assert_close(
        parameters_of(model), results[0]["replayed"]["parameters"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("run", ["bad", "bad in a presample"])
def test_a_bad_score_stops_all_before_anything_moves(results, run):
    first, second = sorted((result[run] for result in results), key=lambda result: result["count"])
    assert second["count"] == 1 and first["count"] == 0 and "in another process" in first["message"]
    assert (
        torch.equal(first["parameters"], second["parameters"])
        and first["parameters"].isfinite().all()
    )


class Recorded(TensorDataset):
    """Notes what is fetched."""

    def __getitem__(self, index):
        self.fetched.append(index)
        return super().__getitem__(index)


def test_every_epoch_of_presamples_is_dealt_anew():
    """A DistributedSampler deals all epochs alike unless it is told which one it is."""
    dataset, model = Recorded(*make_data()), make_model()
    dataset.fetched = []
    sampler = DistributedSampler(dataset, COUNT, 0)
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), LR),
        batch_size=b,
        mode="presample",
        control="never",
    )
    trainer.fit(DataLoader(dataset, batch_size=b, sampler=sampler), epochs=2)
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected.append(list(sampler))
    assert dataset.fetched == sum(expected, []) and expected[0] != expected[1]


def test_shared_data_need_a_shared_model():
    model = make_model()
    trainer = isample.Trainer(model, torch.optim.SGD(model.parameters(), LR), batch_size=b)
    with pytest.raises(
        ValueError, match="model must be trained by the 2 processes .* got one that is trained by 1"
    ):
        trainer.fit(make_loader(0), epochs=1)

"""The ops on a CUDA device: the CPU's bits, graphs, streams, and no waiting."""

import math

import pytest
import torch
from torch import library

import isample
from isample.ops.memory import expected_scores, recall
from tests.kinds import KINDS, scores
from tests.on_cuda import METHODS, make_logits, needs_cuda, to_cuda
from tests.test_ops import CHECKS
from tests.test_ops import cases as opcheck_cases

pytestmark = needs_cuda
ops = torch.ops.isample


# ---- From scores on: the CPU's bits --------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 127, 128, 640, 4096, 4097, 65536, 1000003])
@pytest.mark.parametrize("kind", KINDS)
def test_distribution_tables_and_draws_are_the_cpus_bit_for_bit(kind, n):
    score = scores(kind, n)
    device_score, count = score.cuda(), max(1, min(n, 4096) // 5)
    for floor in (0.0, 0.25):
        pairs = [
            (
                isample.distribution(device_score, floor=floor),
                isample.distribution(score, floor=floor),
            ),
            (
                isample.alias_table(device_score, floor=floor),
                isample.alias_table(score, floor=floor),
            ),
            (isample.prefix_sum(device_score, floor=floor), isample.prefix_sum(score, floor=floor)),
        ]
        for method in METHODS:
            options = {"method": method, "floor": floor, "seed": 5, "offset": 3}
            pairs.append(
                (
                    isample.draw(device_score, count, **options),
                    isample.draw(score, count, **options),
                )
            )
        for table in pairs[1:3]:
            pairs.append(tuple(isample.draw(side, count, seed=-1, offset=8) for side in table))
        for got, expected in pairs:
            for mine, theirs in zip(got, expected):
                assert torch.equal(mine.cpu(), theirs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "shape", [(2, 3), (128, 10), (640, 100), (1024, 1000), (4096, 128), (6000, 50)]
)
def test_the_fused_op_is_its_stages(shape, method):
    logits, labels = (part.cuda() for part in make_logits(shape))
    count, ema, stages_ema = (
        max(1, shape[0] // 5),
        *(torch.tensor(1.5, device="cuda") for _ in range(2)),
    )
    sample = isample.importance_sample(
        logits, labels, count, ema, draws=method, floor=0.1, seed=4, offset=2
    )
    score, loss = isample.softmax_score(logits, labels)
    _, tau = isample.distribution(score, floor=0.1, tau_ema=stages_ema)
    indices, weights = isample.draw(score, count, method=method, floor=0.1, seed=4, offset=2)
    torch.testing.assert_close(sample.score, score, rtol=2e-6, atol=0)
    torch.testing.assert_close(sample.loss, loss, rtol=2e-6, atol=0)
    fresh = isample.draw(sample.score, count, method=method, floor=0.1, seed=4, offset=2)
    assert torch.equal(sample.indices, fresh[0]) and torch.equal(sample.weights, fresh[1])
    torch.testing.assert_close(
        torch.stack([sample.tau, ema]), torch.stack([tau, stages_ema]), rtol=2e-6, atol=0
    )


def test_results_are_reproducible_bit_for_bit():
    logits, labels = (part.cuda() for part in make_logits((3, 128257)))
    runs = [isample.softmax_score(logits, labels)[0] for _ in range(20)]
    assert all(torch.equal(run, runs[0]) for run in runs)


def test_invalid_scores_show_and_change_nothing():
    logits, labels = (part.cuda() for part in make_logits((640, 10)))
    logits[7, 3] = math.nan
    ema = torch.tensor(1.25, device="cuda")
    sample = isample.importance_sample(logits, labels, 128, ema)
    assert (
        sample.tau.isnan()
        and sample.weights.isnan().all()
        and (sample.indices == 0).all()
        and ema == 1.25
    )
    bad_label = labels.clone()
    bad_label[5] = 10
    assert isample.softmax_score(logits, bad_label)[0][5].isnan()
    for value in (math.nan, math.inf, -1.0):
        score = torch.rand(5000, device="cuda")
        score[4321] = value
        assert isample.distribution(score, tau_ema=ema)[1].isnan() and ema == 1.25
        table = isample.alias_table(score)
        assert table.total == 0 and isample.draw(table, 10)[1].isnan().all()
        assert isample.draw(isample.prefix_sum(score), 10)[1].isnan().all()


def test_a_device_must_be_one():
    logits, labels = make_logits((8, 3))
    with pytest.raises(ValueError, match="targets must be on the device of logits"):
        isample.softmax_score(logits.cuda(), labels)
    with pytest.raises(ValueError, match="tau_ema must be on the device"):
        isample.distribution(torch.rand(8).cuda(), tau_ema=torch.tensor(1.0))


# ---- What torch asks of an op --------------------------------------------------------------------


@pytest.mark.parametrize("op, arguments, options", list(opcheck_cases()))
def test_opcheck(op, arguments, options):
    op = op if isinstance(op, torch._ops.OpOverload) else op.default
    options = {name: to_cuda(value) for name, value in options.items()}
    library.opcheck(op, tuple(map(to_cuda, arguments)), options, test_utils=CHECKS)


def test_manual_seed_and_generators_reproduce():
    score = torch.rand(100, device="cuda")
    torch.manual_seed(7)
    first, second = isample.draw(score, 50)[0], isample.draw(score, 50)[0]
    torch.manual_seed(7)
    assert torch.equal(isample.draw(score, 50)[0], first) and not torch.equal(first, second)
    generator = torch.Generator("cuda").manual_seed(7)
    assert torch.equal(isample.draw(score, 50, generator=generator)[0], first)


@pytest.mark.parametrize("method", METHODS)
def test_graph_replays_draw_fresh_numbers(method):
    """A captured step, replayed, gives what the same step gives outside a graph, from a generator
    in the same state."""
    logits, labels = (part.cuda() for part in make_logits((640, 100)))
    ema = torch.zeros((), device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        ops.importance_sample(logits, labels, 128, ema, draws=method)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.importance_sample(logits, labels, 128, ema, draws=method)
    torch.manual_seed(11)
    replays = []
    for _ in range(4):
        graph.replay()
        replays.append((captured[0].clone(), captured[1].clone()))
    torch.manual_seed(11)
    for indices, weights in replays:
        expected = ops.importance_sample(logits, labels, 128, ema, draws=method)
        assert torch.equal(indices, expected[0]) and torch.equal(weights, expected[1])
    assert len({tuple(indices.tolist()) for indices, _ in replays}) == 4


def test_two_streams_do_not_disturb_each_other():
    """The kernels' counters and scratch are each launch's own: many launches on two streams give
    the lone results."""
    data = [
        tuple(part.cuda() for part in make_logits((1024, 1000), seed=seed)) for seed in range(2)
    ]
    alone = [
        ops.importance_sample(*pair, 256, torch.zeros((), device="cuda"), seed=9) for pair in data
    ]
    torch.cuda.synchronize()
    streams, results = [torch.cuda.Stream() for _ in data], [[], []]
    for _ in range(50):
        for stream, pair, kept in zip(streams, data, results):
            with torch.cuda.stream(stream):
                kept.append(
                    ops.importance_sample(*pair, 256, torch.zeros((), device="cuda"), seed=9)
                )
    torch.cuda.synchronize()
    for kept, expected in zip(results, alone):
        for got in kept:
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(got, expected))


def test_no_op_waits_for_the_device():
    logits, labels = (part.cuda() for part in make_logits((640, 100)))
    score, ema = torch.rand(640, device="cuda"), torch.zeros((), device="cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        isample.softmax_score(logits, labels)
        isample.softmax_score(logits, labels, label_smoothing=0.1)
        isample.distribution(score, tau_ema=ema)
        isample.draw(isample.alias_table(score), 128)
        isample.draw(isample.prefix_sum(score), 128)
        memory, met = torch.rand(999, device="cuda"), torch.zeros(256, 3, device="cuda")
        places = torch.arange(640, device="cuda")
        recall(memory, met, score, places, weights=None, table=isample.prefix_sum(memory))
        expected_scores(memory, met, prior=2.0, contradicted=1.0, share=0.25)
        for method in METHODS:
            isample.draw(score, 128, method=method)
            isample.importance_sample(logits, labels, 128, ema, draws=method)
    finally:
        torch.cuda.set_sync_debug_mode("default")

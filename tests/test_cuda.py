"""The ops and the trainer on a CUDA device: the CPU's bits, graphs, streams, and no waiting.
Skipped without a GPU, where tests/test_cuda_standin.py executes the kernels on the host instead."""

import math

import pytest
import torch
from torch import library, nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample import _C
from isample.ops.memory import draw_weights, expected_scores, meet, recall
from tests.kinds import KINDS, scores
from tests.test_ops import CHECKS
from tests.test_ops import cases as opcheck_cases

BUILT = bool(_C.build_info()["cuda_architectures"])
pytestmark = pytest.mark.skipif(
    not (BUILT and torch.cuda.is_available()),
    reason="no CUDA device" if BUILT else f"built without CUDA: {_C.build_info()['why_no_cuda']}",
)

ops = torch.ops.isample
METHODS = ("alias", "systematic", "pps")
SHAPES = [
    (1, 1),
    (1, 10),
    (3, 2),
    (127, 7),
    (128, 10),
    (640, 100),
    (1024, 1000),
    (7, 32000),
    (3, 128257),
    (5000, 33),
]


def make_logits(shape, dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=random) * 4
    return logits.to(dtype), torch.randint(shape[1], shape[:1], generator=random)


def to_cuda(value):
    return value.cuda() if isinstance(value, torch.Tensor) else value


# ---- Scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_the_cpu(shape, dtype):
    """Within 2e-6: both sides round a float32 sum of up to C terms, in different orders."""
    logits, labels = make_logits(shape, dtype)
    for options in (
        {},
        {"ignore_index": 0},
        {"label_smoothing": 0.1},
        {"weight": torch.rand(shape[1]) + 0.5},
    ):
        expected = isample.softmax_score(logits, labels, **options)
        on_device = {name: to_cuda(value) for name, value in options.items()}
        got = isample.softmax_score(logits.cuda(), labels.cuda(), **on_device)
        for mine, theirs in zip(got, expected):
            torch.testing.assert_close(
                mine.cpu(), theirs, rtol=2e-6, atol=1e-30 if not options else 1e-6
            )


def test_strided_and_misaligned_rows():
    logits, labels = make_logits((64, 103))
    expected = isample.softmax_score(logits[:, 1:102].contiguous(), labels % 101)
    wide = logits.cuda()
    for view in (wide[:, 1:102], wide.t().contiguous().t()[:, 1:102]):
        got = isample.softmax_score(view, (labels % 101).cuda())
        torch.testing.assert_close(got[0].cpu(), expected[0], rtol=2e-6, atol=0)


def test_soft_targets():
    logits, _ = make_logits((130, 1003))
    targets = torch.softmax(torch.randn(130, 1003), 1)
    expected = isample.softmax_score(logits, targets, label_smoothing=0.2)
    got = isample.softmax_score(logits.cuda(), targets.cuda(), label_smoothing=0.2)
    for mine, theirs in zip(got, expected):
        torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-5, atol=1e-6)


# ---- Losses and rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_and_its_gradient_are_those_of_the_cpu(dtype, soft):
    """The softmax and the sums round in other orders, and bfloat16 keeps 8 bits of a gradient."""
    logits, targets = make_logits((640, 100), dtype)
    targets = torch.softmax(torch.randn(640, 100), 1) if soft else targets
    weights, options = torch.rand(640) + 0.5, {"label_smoothing": 0.1, "weight": torch.rand(100)}
    results = []
    for device in ("cpu", "cuda"):
        leaf = logits.to(device).requires_grad_()
        on_device = {
            name: value if name != "weight" else value.to(device) for name, value in options.items()
        }
        loss, score = isample.ops.cross_entropy(
            leaf, targets.to(device), weights.to(device), **on_device
        )
        loss.backward()
        results.append([part.detach().cpu() for part in (loss, score, leaf.grad)])
    for mine, theirs in zip(*results):
        tolerance = 1e-2 if mine.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(64, 10), (3, 70001), (1, 1), (4, 3, 20, 20)])
def test_rows_are_those_of_the_cpu(shape, dtype):
    """Products to the bit, squares to float32 rounding."""
    gradient, factors = torch.randn(shape).to(dtype), torch.rand(shape[0])
    results = []
    for device in ("cpu", "cuda"):
        leaf = torch.zeros(shape, dtype=dtype, device=device, requires_grad=True)
        squares = torch.ones(shape[0], device=device)
        isample.ops.rows(leaf, factors.to(device), squares, scale=2.0).backward(gradient.to(device))
        results.append((leaf.grad.cpu(), squares.cpu()))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1], rtol=4e-6, atol=0)


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


# ---- Training ------------------------------------------------------------------------------------


def blobs(n=600):
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(5, (n,), generator=random)
    centres = torch.randn(5, 8, generator=random) * 2
    return centres[targets] + torch.randn(n, 8, generator=random), targets


def make_trainer(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 5)).cuda()
    return isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), batch_size=12, **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"presample": 60, "tau_threshold": 1.15},
        {"presample": 60, "gate": "always", "score": "gradient_norm", "draws": "pps"},
        {"presample": 60, "gate": "always", "autocast": torch.bfloat16, "clip_grad_norm": 1.0},
        {"mode": "memory", "gate": "always"},
        {"mode": "memory", "gate": "always", "adapt": "batch", "score": "loss"},
        {
            "presample": 60,
            "gate": "always",
            "scoring": isample.Scoring(dtype=torch.bfloat16, chunk=32),
        },
        {"gate": "never"},
    ],
)
def test_training_learns(options):
    trainer = make_trainer(**options)
    loader = DataLoader(TensorDataset(*blobs()), batch_size=12, shuffle=True)
    history = trainer.fit(loader, epochs=6)
    assert trainer.evaluate(loader).error < 0.1
    assert (history.active_share > 0) == (options.get("gate") != "never")
    assert all(report.scoring_seconds >= 0 for report in history.steps)


@pytest.mark.parametrize("drawn", [True, False])
def test_recalling_agrees_with_the_cpu(drawn):
    """Scores to float32 rounding; weights to the bit, since they are integers divided in double. A
    sample comes twice."""
    generator = torch.Generator().manual_seed(2)
    score, met = torch.rand(40, generator=generator), torch.rand(256, 3, generator=generator)
    memory, indices = (
        torch.rand(300, generator=generator),
        torch.randperm(300, generator=generator)[:40],
    )
    indices[30] = indices[2]
    weights = torch.rand(40, generator=generator) if drawn else None
    results = []
    for device in ("cpu", "cuda"):
        kept, sums = memory.to(device, copy=True), met.to(device, copy=True)
        table = isample.prefix_sum(kept, floor=0.2)
        given = None if weights is None else weights.to(device)
        places = indices.to(device)
        moments = recall(kept, sums, score.to(device), places, weights=given, table=table, rate=0.3)
        results.append([part.cpu() for part in (moments, kept, sums, draw_weights(table, places))])
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)
    assert torch.equal(results[0][-1], results[1][-1])


@pytest.mark.parametrize("contradicted", [None, 1.0])
def test_what_scores_foretell_agrees_with_the_cpu(contradicted):
    """Sums in another order: float32 rounding."""
    generator = torch.Generator().manual_seed(3)
    score = 1.4 * torch.rand(2000, generator=generator) ** 4
    score[::7] = -1.0
    remembered, fresh = score[:500], torch.rand(500, generator=generator)
    fresh[3] = math.nan
    results = []
    for device in ("cpu", "cuda"):
        met = torch.zeros(256, 3, device=device)
        meet(met, remembered.to(device), fresh.to(device))
        expected, bounded = expected_scores(
            score.to(device), met, prior=2.0, contradicted=contradicted, share=0.25
        )
        results.append((met.cpu(), expected.cpu(), bounded.cpu()))
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)


def test_a_step_that_is_not_finite_moves_nothing():
    inputs, targets = (part.cuda() for part in blobs(60))
    for gate in ("always", "threshold"):
        trainer = make_trainer(presample=60, gate=gate)
        trainer.step(inputs, targets)
        before = [p.detach().clone() for p in trainer.model.parameters()]
        poisoned = inputs.clone()
        poisoned[3, 0] = math.nan
        with pytest.raises(isample.NonFiniteScoreError) as caught:
            trainer.step(poisoned, targets)
        assert caught.value.rows == [3]
        assert all(torch.equal(a, c) for a, c in zip(before, trainer.model.parameters()))

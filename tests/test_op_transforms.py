"""Ops where torch changes how they run: several devices, vmap, forward mode, compile and export."""

import pytest
import torch
from torch.func import jvp, vmap

import isample
from isample.ops import memory
from tests.test_ops import cases

ops = torch.ops.isample


# ---- Devices -------------------------------------------------------------------------------------


def mixed():
    """Every case of every op, with one of its tensors on the meta device."""
    for op, arguments, options in cases():
        overload = op if isinstance(op, torch._ops.OpOverload) else op.default
        names = [argument.name for argument in overload._schema.arguments]
        given = dict(zip(names, arguments)) | options
        tensors = [name for name, value in given.items() if isinstance(value, torch.Tensor)]
        for moved in tensors if len(tensors) > 1 else []:
            # a message says that the first tensor is elsewhere by naming the second
            named = tensors[1] if moved == tensors[0] else moved
            yield overload, given | {moved: given[moved].detach().to("meta")}, named


@pytest.mark.parametrize("op, arguments, named", list(mixed()))
def test_a_tensor_on_another_device_is_named(op, arguments, named):
    kept = {n: a.clone() for n, a in arguments.items() if isinstance(a, torch.Tensor)}
    with pytest.raises(ValueError, match=f"^{named} must be on the device of"):
        op(**arguments)
    for name, tensor in kept.items():
        assert tensor.is_meta or torch.equal(tensor, arguments[name])


def test_rows_names_a_tensor_on_another_device():
    z, row = torch.rand(3, 4), torch.rand(3)
    for arguments, named in (
        ((z, row.to("meta"), None), "factors"),
        ((z, None, row.to("meta")), "squares"),
        ((z.to("meta"), row, None), "factors"),
    ):
        with pytest.raises(ValueError, match=f"^{named} must be on the device of z"):
            isample.ops.rows(*arguments)


def test_all_on_the_meta_device_gives_shapes():
    logits, labels = torch.empty(12, 10, device="meta"), torch.empty(12, device="meta").long()
    score, loss = isample.softmax_score(logits, labels)
    indices, weights = isample.draw(isample.prefix_sum(score), 4)
    assert loss.shape == (12,) and indices.shape == weights.shape == (4,)
    assert indices.is_meta and indices.dtype == torch.int64


# ---- vmap ----------------------------------------------------------------------------------------

SCORES = torch.rand(3, 12)
LOGITS, LABELS = torch.randn(3, 12, 10), torch.randint(10, (3, 12))
SUMS = torch.stack([ops.prefix_sum(score)[0] for score in SCORES])
PLACES = torch.randint(12, (3, 5))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize(
    "call, arguments",
    [
        (ops.softmax_score, (LOGITS, LABELS)),
        (ops.softmax_score, (LOGITS, torch.rand(3, 12, 10))),
        (isample.ops.cross_entropy, (LOGITS, LABELS, SCORES)),
        (ops.alias_table, (SCORES,)),
        (ops.prefix_sum, (SCORES,)),
        (ops.draw_weights, (SUMS, PLACES)),
        (lambda g, w: (memory.draw_moments(g, w, drawn=True),), (SCORES, SCORES + 1)),
        (
            lambda g, e: memory.expected_scores(g, e, prior=1.0, contradicted=0.5, share=0.1),
            (SCORES, torch.rand(3, 256, 3)),
        ),
    ],
)
def test_vmap_is_a_loop(call, arguments):
    got = vmap(call)(*arguments)
    for i, each in enumerate(zip(*arguments)):
        truths = call(*each)
        truths = truths if isinstance(truths, tuple) else (truths,)
        for column, truth in zip(got if isinstance(got, tuple) else (got,), truths):
            assert torch.equal(column[i], truth)


@pytest.mark.parametrize("randomness", ["error", "same", "different"])
@pytest.mark.parametrize(
    "call",
    [
        lambda s: isample.draw(s, 4)[0],
        lambda s: ops.draw(s, 4, seed=1)[0],
        lambda s: isample.draw(torch.ones(9), 4)[0] + s[0],
        lambda s: ops.draw.table(*ops.alias_table(s), 4)[0],
        lambda s: ops.draw.prefix_sum(ops.prefix_sum(s)[0], 4)[0],
        lambda s: isample.importance_sample(
            s.view(4, 3), torch.zeros(4, dtype=torch.int64), 2, torch.zeros(())
        )[0],
    ],
)
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_draws_are_refused_under_vmap(call, randomness):
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="cannot draw under torch.vmap"):
        vmap(call, randomness=randomness)(SCORES)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: ops.distribution(s),
        lambda s: ops.distribution(s, tau_ema=torch.ones(())),
        lambda s: memory.remember(s, torch.tensor([0]), torch.ones(1)),
        lambda s: memory.remember(torch.ones(12), torch.arange(12), s),
        lambda s: memory.meet(torch.ones(256, 3), s, s),
        lambda s: memory.recall(
            torch.ones(12), torch.ones(256, 3), s, torch.arange(12), weights=None, table=None
        ),
        lambda s: ops._add_row_squares(torch.ones(12), s[:, None], 1.0),
        lambda s: ops._scale_rows(s[:, None], torch.ones(12), None, 1.0),
        lambda s: isample.ops.rows(s[:, None], torch.ones(12)),
        lambda s: isample.draw(isample.PrefixSum((s * 9).long().cumsum(0), s[0]), 2),
    ],
)
def test_what_may_change_an_argument_is_refused_under_vmap(call):
    with pytest.raises(RuntimeError, match="cannot (take a batched tensor|draw) under torch.vmap"):
        vmap(call)(SCORES)


def test_forward_mode_is_refused_where_a_gradient_would_be_missing():
    def loss(z):
        return isample.ops.cross_entropy(z, LABELS[0])[0]

    with pytest.raises(RuntimeError, match="no forward-mode derivative: use torch.nn.functional"):
        jvp(loss, (LOGITS[0],), (torch.ones(12, 10),))


# ---- Compile and export --------------------------------------------------------------------------


def test_the_number_of_draws_may_be_a_size_that_is_not_known():
    """One graph serves all sizes: count is symbolic."""
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    def draws(score, like):
        return isample.draw(score, like.shape[0], seed=2**64 - 1)

    compiled = torch.compile(draws, fullgraph=True, dynamic=True, backend=backend)
    for n, b in ((12, 4), (30, 7), (50, 9)):
        score = torch.rand(n)
        for got, truth in zip(compiled(score, torch.ones(b)), draws(score, torch.ones(b))):
            assert torch.equal(got, truth)
    assert len(graphs) == 1


def test_export_keeps_the_ops_and_the_free_size():
    class Sampler(torch.nn.Module):
        def forward(self, logits, labels, like):
            score, _ = isample.softmax_score(logits, labels)
            return isample.draw(isample.alias_table(score), like.shape[0], seed=5)

    size, rows = torch.export.Dim("size", min=2), torch.export.Dim("rows", min=2)
    given = (LOGITS[0], LABELS[0], torch.ones(4))
    program = torch.export.export(
        Sampler(), given, dynamic_shapes=({0: rows}, {0: rows}, {0: size})
    )
    for n, b in ((12, 4), (20, 7)):
        arguments = (torch.randn(n, 10), torch.randint(10, (n,)), torch.ones(b))
        for got, truth in zip(program.module()(*arguments), Sampler()(*arguments)):
            assert torch.equal(got, truth)

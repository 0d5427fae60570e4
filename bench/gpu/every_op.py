"""Every op on device memory beside the CPU's result: `python -m bench.gpu.every_op`.

Small, so that it ends under compute-sanitizer. From the scores on, the bits are the CPU's. Sums in
another order agree to float32 rounding. Ends with 1 where something differs, and where an op of
torch.ops.isample was not called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

import isample  # noqa: F401  (registers torch.ops.isample)

ops = torch.ops.isample
SCORES = {"rtol": 1e-5, "atol": 1e-6}  # each side is good to 5e-6
SUMS = {"rtol": 1e-5, "atol": 1e-7}  # float32 sums in another order
BITS = {"rtol": 0.0, "atol": 0.0}
METHODS = ("alias", "systematic", "pps")


@dataclass
class Comparison:
    """Calls an op on the CPU and on ``device`` with alike arguments, and compares what it returns
    and what it leaves in its arguments."""

    device: str
    called: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def __call__(self, op, *arguments, tolerance=BITS, **options) -> None:
        name = str(op).removeprefix("isample.").removesuffix(".default")
        self.called.add(name)
        sides = []
        for device in ("cpu", self.device):
            given = [moved(each, device) for each in arguments]
            chosen = {key: moved(each, device) for key, each in options.items()}
            results = op(*given, **chosen)
            results = results if isinstance(results, tuple | list) else (results,)
            sides.append([each for each in (*results, *given) if isinstance(each, Tensor)])
        self.compare(f"{name}{tuple(map(brief, arguments))} {options}", *sides, tolerance=tolerance)

    def compare(
        self, what: str, expected: Sequence[Tensor], got: Sequence[Tensor], *, tolerance=BITS
    ) -> None:
        for place, (truth, each) in enumerate(zip(expected, got)):
            try:
                torch.testing.assert_close(each.cpu(), truth, equal_nan=True, **tolerance)
            except AssertionError as error:
                said = " ".join(str(error).split())
                self.faults.append(f"{what}, tensor {place}: {said}")


def moved(value, device: str):
    return value.to(device, copy=True) if isinstance(value, Tensor) else value


def brief(value):
    return tuple(value.shape) if isinstance(value, Tensor) else value


def every_name() -> set[str]:
    """All that is registered; an overload after a dot."""
    names = torch._C._dispatch_get_all_op_names()
    return {name for space, name in (each.split("::") for each in names) if space == "isample"}


def logits() -> Iterator[tuple[Tensor, Tensor]]:
    """Shapes with one block and with many, aligned rows and others."""
    for shape in ((1, 1), (128, 10), (640, 100), (37, 1003), (5, 33_001), (3, 200_003)):
        for dtype in (torch.float32, torch.bfloat16):
            yield (torch.randn(shape) * 4).to(dtype), torch.randint(shape[1], shape[:1])


def scoring(same: Comparison) -> None:
    for z, y in logits():
        same(ops.softmax_score.default, z, y, tolerance=SCORES)
        same(ops.softmax_score.default, z, y, label_smoothing=0.1, tolerance=SCORES)
        soft = torch.randn(z.shape).softmax(1)
        weight = torch.rand(z.shape[1])
        same(ops.softmax_score.default, z, soft, weight=weight, tolerance=SCORES)
        drawn(same, z, y)


def drawn(same: Comparison, z: Tensor, y: Tensor) -> None:
    """The fused op's draws are those of its own scores; they need not be those of the CPU's."""
    same.called.add("importance_sample")
    count = max(1, len(z) // 5)
    for method in METHODS:
        ema = torch.zeros((), device=same.device)
        given = z.to(same.device), y.to(same.device), count, ema
        indices, weights, score, loss, tau = ops.importance_sample(*given, draws=method, seed=3)
        expected = ops.draw(score.cpu(), count, method=method, seed=3)
        what = f"importance_sample {tuple(z.shape)} {method}"
        same.compare(what, expected, [indices, weights])
        same.compare(what, ops.softmax_score(z, y), [score, loss], tolerance=SCORES)
        same.compare(what, [ops.distribution(score.cpu())[1]], [tau])


def learning(same: Comparison) -> None:
    for z, y in logits():
        if z.numel() > 1_000_000:
            continue
        y[::3] = -100
        given = {"weight": torch.rand(z.shape[1]) + 0.5, "tolerance": SUMS | {"atol": 1e-6}}
        for label_smoothing in (0.0, 0.1):
            same(ops._mean_cross_entropy.default, z, y, label_smoothing=label_smoothing, **given)
        mean_gradients(same, z, y, given["weight"])
        for weights in (None, torch.rand(len(z))):
            same(ops.cross_entropy.default, z, y, weights, tolerance=SCORES)
            for label_smoothing in (0.0, 0.1):
                same(
                    ops._cross_entropy_with_gradient.default,
                    z,
                    y,
                    weights,
                    label_smoothing=label_smoothing,
                    tolerance=SUMS | {"atol": 1e-6},
                )
            gradients = []
            for device in ("cpu", same.device):
                own = z.to(device, copy=True).requires_grad_()
                given = None if weights is None else weights.to(device)
                loss = ops.cross_entropy(own, y.to(device), given)[0]
                gradients.append(torch.autograd.grad(loss, own)[0])
            # a gradient of bfloat16 logits is rounded to them
            step = {"rtol": 2**-7, "atol": 1e-6} if z.dtype == torch.bfloat16 else SUMS
            same.compare(
                f"cross_entropy's gradient {tuple(z.shape)}",
                gradients[:1],
                gradients[1:],
                tolerance=step,
            )


def mean_gradients(same: Comparison, z: Tensor, y: Tensor, weight: Tensor) -> None:
    """Through the node: on the CPU the gradient is that of the mean, on CUDA by a ratio."""
    same.called.add("_mean_cross_entropy_with_gradient")
    results = []
    for device in ("cpu", same.device):
        own = z.to(device, copy=True).requires_grad_()
        loss = ops._mean_cross_entropy(own, y.to(device), weight=weight.to(device))[0]
        results.append([loss.detach(), torch.autograd.grad(loss, own)[0]])
    step = {"rtol": 2**-7, "atol": 1e-6} if z.dtype == torch.bfloat16 else SUMS
    same.compare(f"_mean_cross_entropy's gradient {tuple(z.shape)}", *results, tolerance=step)


def packed(same: Comparison) -> None:
    values = [torch.rand(3), torch.arange(4), torch.rand(2, 3).double().t(), torch.ones(1).bool()]
    for count in (1, 20):
        devices = ("cpu", same.device)
        sides = [[ops._pack([each.to(on) for each in values * count])] for on in devices]
        same.compare(f"_pack of {count * len(values)}", *sides)
    same.called.add("_pack")


def rows(same: Comparison) -> None:
    for shape in ((12, 10), (5, 3, 4, 7), (3, 40_007)):
        gradient, factors, squares = torch.randn(shape), torch.rand(shape[0]), torch.rand(shape[0])
        same(ops._add_row_squares.default, squares, gradient, 1.5, tolerance=SUMS)
        same(ops._scale_rows.default, gradient, factors, squares, 2.0, tolerance=SUMS)
        same(ops._scale_rows.default, gradient, factors, None, 1.0)
        same.called.add("rows")
        seen = []
        for device in ("cpu", same.device):
            z, sums = gradient.to(device, copy=True).requires_grad_(), torch.zeros(shape[0])
            sums = sums.to(device)
            ops.rows(z, factors.to(device), sums, 1.0).square().sum().backward()
            seen.append([z.grad, sums])
        same.compare(f"rows {shape}", *seen, tolerance=SUMS)


def sampling(same: Comparison) -> None:
    for n in (1, 100, 1500, 14_464, 40_011, 300_001):
        score = torch.rand(n)
        score[1::3] = 0
        count = max(1, min(n // 5, 5000))
        for floor in (0.0, 0.2):
            same(ops.distribution.default, score, floor=floor)
            same(ops.distribution.default, score, floor=floor, tau_ema=torch.tensor(1.5))
            same(ops.alias_table.default, score, floor=floor)
            same(ops.prefix_sum.default, score, floor=floor)
            same(
                ops._prefix_sum_into.default,
                torch.zeros(n, dtype=torch.int64),
                score,
                floor=floor,
            )
            for method in METHODS:
                same(ops.draw.default, score, count, method=method, floor=floor, seed=1)
        table, (sums, _) = ops.alias_table(score), ops.prefix_sum(score, floor=0.2)
        same(ops.draw.table, *table, count, seed=1)
        same(ops.draw.prefix_sum, sums, count, seed=1)
        same(ops._check_table.default, *table)
        same(ops._check_prefix_sums.default, sums)
        same(ops.permuted.default, torch.randperm(n)[:count], n, seed=7)
        remembering(same, score, sums, count)


def remembering(same: Comparison, memory: Tensor, sums: Tensor, count: int) -> None:
    """A sample may come twice in a batch."""
    places = torch.randint(len(memory), (count,))
    fresh, weights, met = torch.rand(count), torch.rand(count) + 0.1, torch.rand(256, 3)
    fractions = [0.25, 0.5]
    same(ops.draw_weights.default, sums, places)
    for was_drawn in (True, False):
        same(ops.draw_moments.default, fresh, weights, was_drawn, fractions, tolerance=SUMS)
    same(ops.remember.default, memory, places, fresh, rate=0.3, tolerance=SUMS)
    same(ops.meet.default, met, memory[places], fresh, tolerance=SUMS)
    for given, table in ((weights, None), (None, sums), (None, None)):
        same(
            ops.recall.default,
            memory,
            met,
            fresh,
            places,
            given,
            table,
            fractions,
            rate=0.3,
            tolerance=SUMS,
        )
    for contradicted, gain_cap in ((None, None), (0.5, None), (0.5, 1.5)):
        options = {"prior": 2.0, "contradicted": contradicted, "share": 0.25}
        options |= {"gain_cap": gain_cap, "floor": 0.2, "tolerance": SUMS}
        same(ops.expected_scores.default, memory, met, **options)
        same(ops._expected_scores_into.default, torch.empty(len(memory)), memory, met, **options)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.every_op", description=__doc__)
    parser.add_argument("--device", default="cuda")
    same = Comparison(parser.parse_args(words).device)
    torch.manual_seed(0)
    for part in (scoring, learning, packed, rows, sampling):
        part(same)
    if same.device == "cuda":
        torch.cuda.synchronize()
    missed = sorted(every_name() - same.called)
    for fault in same.faults[:40]:
        print(fault)
    print(f"{len(same.called)} ops: {len(same.faults)} differences; not called: {missed or 'none'}")
    return int(bool(same.faults or missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

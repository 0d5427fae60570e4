"""A memory on a CUDA device remembers and foretells what it does on a CPU."""

import math

import pytest
import torch

import isample
from isample.ops.memory import draw_weights, expected_scores, meet, recall, remember
from tests.on_cuda import needs_cuda

pytestmark = needs_cuda


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


@pytest.mark.parametrize("count", [40, 5000])
def test_the_last_of_a_doubled_sample_is_remembered(count):
    """As on the CPU, to the bit: each of ten samples comes many times."""
    generator = torch.Generator().manual_seed(4)
    score = torch.rand(count, generator=generator)
    indices = torch.randint(10, (count,), generator=generator)
    memory = torch.rand(16, generator=generator)
    memory[::3] = -1.0
    results = []
    for device in ("cpu", "cuda"):
        kept = memory.to(device, copy=True)
        before = remember(kept, indices.to(device), score.to(device), rate=0.3)
        results.append((kept.cpu(), before.cpu()))
    for mine, theirs in zip(*results):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)
    fresh = torch.full((16,), -1.0)
    for index, value in zip(indices.tolist(), score.tolist()):
        fresh[index] = value
    unseen = (memory < 0) & (fresh >= 0)
    assert torch.equal(results[1][0][unseen], fresh[unseen])

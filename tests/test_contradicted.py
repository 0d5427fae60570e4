"""Samples whose label the network contradicts get no more than their share of the draws: by hand,
and in training."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import isample
from isample.control import Choices, Speedup
from isample.scoring.contradicted import contradicted_above
from isample.scoring.scores import make_score
from isample.sources.calibration import Calibration


@pytest.mark.parametrize(
    "score,above,expected,bounded",
    [
        (
            [6.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            5.0,
            [2.0],
            True,
        ),  # half of all: a quarter is left, 2 of 8
        (
            [6.0, 2.0, 1.0, 1.0, 1.0, 1.0],
            1.0,
            [3 / 2, 1 / 2],
            True,
        ),  # two of six may have a third, 2 of 6, between them
        ([2.5, 2.0, 2.0, 2.0, 2.0, 2.0], 2.0, [2.5], False),  # less than a quarter is left as it is
        ([3.0, 3.0], 3.0, [], False),
        ([3.0, 5.0], 1.0, [3.0, 5.0], False),  # all of them
        ([3.0, 0.0, 0.0, 0.0], 1.0, [0.0], True),  # the others foretell nothing
        ([5.0, 1.0, 1.0, 1.0], None, [], False),
    ],
)
def test_their_share_by_hand(score, above, expected, bounded):
    """With no experience each score foretells itself."""
    score = torch.tensor(score)
    result, is_bounded = Calibration().expected(score, contradicted=above)
    theirs = score > (math.inf if above is None else above)
    torch.testing.assert_close(result[theirs], torch.tensor(expected))
    torch.testing.assert_close(result[~theirs], score[~theirs])
    assert is_bounded.shape == () and is_bounded.item() == bounded


def test_which_scores_have_a_bound():
    cross_entropy, weighted = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=torch.ones(3))
    assert contradicted_above(make_score("upper_bound"), cross_entropy) == 1.0
    assert contradicted_above(make_score("upper_bound"), weighted) is None
    assert contradicted_above(make_score("upper_bound"), nn.MSELoss()) is None
    assert contradicted_above(make_score("loss"), cross_entropy) is None


def sampler_of(scores, **options):
    sampler = isample.MemorySampler(
        len(scores), 10, uniform_epochs=1e-9, floor=0.2, seed=0, **options
    )
    sampler.draw()  # the uniform one
    sampler.update(torch.arange(len(scores)), scores)
    return sampler


def test_the_draws_of_a_memory():
    """100 of 1,000 samples are contradicted and have 1.4 against 0.1: without a bound (1 - 0.2) 140
    / 230 + 0.2 / 10 of the draws, with it 0.8 / 4 + 0.02. Stratified draws are within one a batch
    of that, so within 4 in 2,000 by far."""
    scores = torch.full((1000,), 0.1)
    scores[:100] = 1.4
    for limit, share in ((None, 0.8 * 140 / 230 + 0.02), (1.0, 0.22)):
        sampler = sampler_of(scores, contradicted=limit, rebuild_every=10**9)
        drawn = [sampler.draw() for _ in range(200)]
        indices, weights = (
            torch.cat([batch.indices for batch in drawn]),
            torch.cat([batch.weights for batch in drawn]),
        )
        assert (indices < 100).float().mean().item() == pytest.approx(share, abs=0.004)
        p = torch.where(indices < 100, share / 100, (1 - share) / 900)
        torch.testing.assert_close(weights, 1 / (1000 * p), rtol=1e-4, atol=0)


def test_a_sample_never_seen_is_not_contradicted():
    """Even where an average one is, with (30 x 1.4 + 5 x 0.1) / 35 = 1.21: the 30 alone are, and
    get 0.3 of the draws; the others what is left, as e says: 65 x 1.21 to 5 x 0.1."""
    scores = torch.full((100,), 1.4)
    scores[30:35], scores[35:] = 0.1, math.nan  # the latter not remembered
    sampler = sampler_of(scores, contradicted=1.0)
    share = sampler.by_group((torch.arange(100) >= 30).long() + (torch.arange(100) >= 35))[1]
    unseen = 65 * 42.5 / 35
    left = [0.3, 0.7 * 0.5 / (unseen + 0.5), 0.7 * unseen / (unseen + 0.5)]
    expected = 0.8 * torch.tensor(left) + 0.2 * torch.tensor([0.3, 0.05, 0.65])
    torch.testing.assert_close(share, expected, rtol=1e-4, atol=0)


def test_the_trainer_bounds_what_wrong_labels_get():
    """Two classes far apart and 6 % wrong labels: a linear network contradicts these, and no
    others, all along."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(1200) % 2
    inputs = 4.0 * (2 * targets[:, None] - 1) + torch.randn(1200, 4, generator=generator)
    wrong = torch.arange(1200) % 50 < 3
    labels = torch.where(wrong, 1 - targets, targets)
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05), batch_size=30, control="always", seed=0
    )
    trainer.fit(DataLoader(TensorDataset(inputs, labels), 30, shuffle=True), epochs=8)
    share = trainer.memory.by_group(wrong.long())[1][1].item()
    assert share == pytest.approx(0.8 * 0.25 + 0.2 * 0.06, abs=0.02)


class Machine(Speedup):
    """On which every step takes a second, and remembering a thousandth of one."""

    def clock(self, state, seconds, overhead):
        return super().clock(state, 1.0, 0.001)


@pytest.mark.parametrize("share,opens", [(0.2, False), (0.0, True)])
def test_the_trainer_stays_uniform_where_many_labels_are_wrong(share, opens):
    """Two classes that hardly overlap. With a fifth of the labels wrong, a quarter of the draws
    takes a fifth off the noise of these, which is nearly all."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(2000) % 2
    inputs = 2.0 * (2 * targets[:, None] - 1) + torch.randn(2000, 4, generator=generator)
    wrong = torch.rand(2000, generator=generator) < share
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    control = Machine(Choices(20, remembers=True))
    trainer = isample.Trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.05), batch_size=20, control=control, seed=0
    )
    loader = DataLoader(
        TensorDataset(inputs, torch.where(wrong, 1 - targets, targets)), 20, shuffle=True
    )
    history = trainer.fit(loader, epochs=8)
    assert bool(trainer.memory.bounded) != opens
    assert any(report.active for report in history.steps) == opens


def test_the_state_holds_the_bound():
    sampler = sampler_of(torch.rand(40), contradicted=1.0)
    assert isample.MemorySampler.from_state(sampler.state_dict()).memory.contradicted == 1.0
    with pytest.raises(ValueError, match="contradicted must be > 0; got 0"):
        sampler_of(torch.rand(40), contradicted=0.0)

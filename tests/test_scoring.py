"""Cheap scoring passes: the same logits where they should be, and what is asked for done."""

import copy

import pytest
import torch
from torch import nn

import isample
from isample.scoring.forward import Scoring, ScoringPass
from isample.scoring.scores import leaving_no_trace
from tests.small_training import B, b, make_data, make_model

CPU = torch.device("cpu")


def logits_by(scoring, model, inputs, size):
    model.eval()
    return ScoringPass(scoring, CPU).logits(model, inputs, size)


@pytest.mark.parametrize("chunk", [1, 7, 60, 1000])
def test_chunks_change_nothing_but_the_order_of_sums(chunk):
    inputs, _ = make_data(60)
    model = make_model().eval()
    with torch.no_grad():
        expected = model.double()(inputs.double())
    sizes = []
    model = model.float()
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    torch.testing.assert_close(
        logits_by(Scoring(chunk=chunk), model, inputs, 60).double(), expected, rtol=1e-5, atol=1e-5
    )
    assert sum(sizes) == 60 and max(sizes) == min(chunk, 60)


def test_chunks_of_nested_inputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return a["x"] + b

    inputs = ({"x": torch.arange(20.0).view(10, 2)}, torch.ones(10, 2))
    assert torch.equal(
        logits_by(Scoring(chunk=3), Two(), inputs, 10), torch.arange(20.0).view(10, 2) + 1
    )


def test_bfloat16():
    """Logits in bfloat16's three digits: within 2 % of the largest, and not float32's."""
    inputs, _ = make_data(60)
    model = make_model()
    exact, coarse = (
        logits_by(Scoring(), model, inputs, 60),
        logits_by(Scoring(dtype=torch.bfloat16), model, inputs, 60),
    )
    assert coarse.dtype == torch.bfloat16
    error = (coarse.float() - exact).abs().max() / exact.abs().max()
    assert 1e-4 < error < 2e-2


class Clock:
    """In place of the module ``time``: it stands unless it is moved."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("isample.scoring.forward.time", clock)
    return clock


class Timed(nn.Linear):
    """Takes ``seconds`` longer in its own precision or, if they are negative, in bfloat16."""

    clock = Clock()

    def __init__(self, seconds, error=None):
        super().__init__(8, 5)
        self.seconds, self.error, self.calls = seconds, error, 0

    def forward(self, x):
        self.calls += 1
        coarse = torch.is_autocast_enabled("cpu")
        if coarse and self.error is not None:
            raise self.error
        self.clock.now += 0.01 + max(0.0, -self.seconds if coarse else self.seconds)
        return super().forward(x)


@pytest.mark.parametrize("seconds,dtype", [(0.01, torch.bfloat16), (-0.01, None)])
def test_the_first_pass_measures_which_precision_is_faster(clock, seconds, dtype):
    inputs, _ = make_data(60)
    model, scoring_pass = Timed(seconds).eval(), ScoringPass(Scoring(dtype="auto", chunk=20), CPU)
    model.clock = clock
    logits = scoring_pass.logits(model, inputs, 60)
    assert scoring_pass.dtype == dtype and logits.dtype == (dtype or torch.float32)
    trials = model.calls
    scoring_pass.logits(model, inputs, 60)
    assert model.calls - trials == 3 and trials == 9


def test_a_model_that_cannot_compute_in_bfloat16_is_scored_without_and_says_so():
    inputs, _ = make_data(60)
    model = Timed(0.01, RuntimeError("expected Float")).eval()
    with pytest.warns(
        UserWarning,
        match="scored in the model's own precision, since in bfloat16 it raised: expected Float",
    ):
        logits = logits_by(Scoring(dtype="auto"), model, inputs, 60)
    torch.testing.assert_close(logits, model(inputs).detach())
    broken = nn.Sequential(model, nn.Linear(3, 3))  # in any precision: that is the caller's to hear
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        logits_by(Scoring(dtype="auto"), broken, inputs, 60)


def test_the_precision_of_training_s_autocast_stands():
    inputs, _ = make_data(60)
    model, scoring_pass = Timed(0.01).eval(), ScoringPass(Scoring(dtype="auto"), CPU)
    with torch.autocast("cpu", torch.bfloat16):
        scoring_pass.logits(model, inputs, 60)
    assert scoring_pass.dtype is None and model.calls == 1


def test_the_clock_chooses_the_precision_only_where_it_chooses_already():
    def dtype_of(make=isample.Trainer, **options):
        model = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = make(model, optimizer, batch_size=b, **options)
        return trainer.engine.parts.scorer.scoring_pass.dtype

    assert dtype_of() == dtype_of(mode="memory") == dtype_of(presample=B) == "auto"
    assert [dtype_of(control=control) for control in ("always", "never", "threshold")] == [None] * 3
    assert dtype_of(isample.Trainer.paper) is None
    assert dtype_of(scoring=Scoring()) is None


def test_proxy_and_preparation_score_in_the_model_s_place():
    model, proxy = make_model(), nn.Linear(4, 5)
    model.register_forward_pre_hook(lambda *_: pytest.fail("the model was called"))
    inputs, _ = make_data(60)
    scoring = Scoring(proxy=proxy, prepare=lambda x: x[:, :4])
    torch.testing.assert_close(logits_by(scoring, model, inputs, 60), proxy(inputs[:, :4]).detach())


def test_a_compiled_pass_gives_the_same_scores():
    inputs, _ = make_data(60)
    model = make_model()
    scoring = Scoring(compile=True, compile_options=(("backend", "aot_eager"),))
    torch.testing.assert_close(
        logits_by(scoring, model, inputs, 60), logits_by(Scoring(), model, inputs, 60)
    )


@pytest.mark.parametrize("scoring", [Scoring(chunk=7), Scoring(dtype=torch.bfloat16)])
def test_the_trainer_scores_as_told_and_leaves_no_trace(scoring):
    """BatchNorm's statistics and the random state stay, and the gradient is that of the batch that
    was drawn."""
    inputs, targets = make_data(B)
    model = make_model()
    trainer = isample.Trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        batch_size=b,
        presample=B,
        control="always",
        scoring=scoring,
        seed=1,
    )
    twin = copy.deepcopy(model)
    trainer.step(inputs, targets)
    batch = trainer.batch
    logits, labels = twin(inputs[batch.chosen]), targets[batch.chosen]
    losses = nn.functional.cross_entropy(logits, labels, reduction="none")
    (batch.weights * losses).mean().backward()
    for mine, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(model.buffers(), twin.buffers()):
        torch.testing.assert_close(mine, theirs)


def test_a_proxy_keeps_its_mode():
    proxy = nn.Sequential(nn.Linear(8, 5), nn.Dropout(0.5)).train()
    with leaving_no_trace(proxy, CPU):
        assert not proxy[1].training
    assert proxy[1].training


@pytest.mark.parametrize(
    "options,error,match",
    [
        ({"chunk": 0}, ValueError, "chunk must be an integer >= 1 or None; got 0"),
        (
            {"dtype": torch.int8},
            TypeError,
            "dtype must be a floating torch.dtype, 'auto' or None; got torch.int8",
        ),
        (
            {"dtype": "bf16"},
            TypeError,
            "dtype must be a floating torch.dtype, 'auto' or None; got 'bf16'",
        ),
        (
            {"proxy": lambda x: x},
            TypeError,
            "proxy must be a torch.nn.Module or None; got function",
        ),
    ],
)
def test_bad_arguments(options, error, match):
    with pytest.raises(error, match=match):
        Scoring(**options)

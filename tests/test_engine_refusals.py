"""Batches and losses that cannot be scored are refused, with what to do instead."""

import pytest
from torch import nn

import isample
from tests.engine_loop import (
    b,
    equal,
    make_data,
    make_engine,
    make_loader,
    make_model,
    parameters_of,
)


def test_a_score_that_needs_a_model_is_refused_without_one():
    model = make_model()
    before = parameters_of(model)
    sampling = isample.Sampling(score="gradient_norm")
    engine = make_engine(model, head=None, loss="cross_entropy", sampling=sampling)
    inputs, targets = next(iter(engine.loader(make_loader())))
    with pytest.raises(ValueError, match=r"model must be given.*score='gradient_norm'.*got None"):
        engine.loss(model(inputs), targets)
    assert equal(parameters_of(model), before)


def test_a_choice_is_refused_where_a_memory_knows_samples_by_their_place():
    model = make_model()
    engine = make_engine(model, head=None, model=model, loss="cross_entropy")
    engine.loader(make_loader())
    with pytest.raises(ValueError, match=r"batch must come from engine\.loader.*of its own"):
        engine.choose(make_data()[: 3 * b])


def test_an_objective_without_the_marked_logits_is_refused():
    model = make_model()
    beside = nn.Linear(6, 1)

    def objective(model, batch):
        engine.rows(model(batch[0]))
        return beside(batch[0]).mean()

    engine = make_engine(model, head=None, model=model, objective=objective, batch_size=b)
    with pytest.raises(RuntimeError, match="objective must compute its loss of logits that pass"):
        engine.choose(make_data()[: 3 * b])

"""The measures and networks of the paper's experiments, against closed forms and hand
arithmetic."""

import numpy as np
import pytest
import torch
from torch import nn

from bench.common.networks import PixelLSTM, wide_resnet
from bench.training.experiments import gradients

# --- figures 1 and 2: a linear model, whose gradients and variances are known ---------------------


def linear_problem(samples=256, features=5, seed=0):
    """y = w x without a bias under squared error: sample i has the gradient 2 r_i x_i, r_i = w x_i
    - y_i."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((samples, features)) * random.gamma(1.0, 1.0, (samples, 1))
    y = random.standard_normal((samples, 1)) ** 3
    model = nn.Linear(features, 1, bias=False)
    residual = x @ model.weight.detach().numpy().T.astype(float) - y
    by_hand = 2 * residual * x
    scores = {
        "uniform": np.ones(samples),
        "loss": residual[:, 0] ** 2,
        "upper_bound": 2 * np.abs(residual[:, 0]),
        "gradient_norm": np.linalg.norm(by_hand, axis=1),
    }
    return model, torch.from_numpy(x).float(), torch.from_numpy(y).float(), by_hand, scores


def test_scores_are_those_of_the_closed_form():
    model, x, y, _, scores = linear_problem()
    for name, made in gradients.scores_of(model, "mse", x, y).items():
        assert made.numpy() == pytest.approx(scores[name], rel=1e-4)


def test_mean_squared_distance_is_the_variance():
    """E ||G_b - G_B||^2 = 1/b (sum_i p_i ||g_i / (B p_i)||^2 - ||G_B||^2), each p proportional to
    its score."""
    model, x, y, by_hand, scores = linear_problem()
    repeats, draws, size = 3000, 16, len(y)
    measured = gradients.distances(
        model, "mse", x, y, draws, repeats, torch.Generator().manual_seed(1)
    )
    assert list(measured) == ["uniform", "loss", "upper_bound", "gradient_norm"]
    for name, score in scores.items():
        p = score / score.sum()
        moment = (np.square(by_hand).sum(1) / (size**2 * p)).sum()
        variance = (moment - np.square(by_hand.mean(0)).sum()) / draws
        squares = measured[name].double().square().numpy()
        error = squares.std() / repeats**0.5
        assert abs(squares.mean() - variance) < 4 * error and error < 0.2 * variance, name


def test_mean_gradient_is_weighted_and_over_chunks():
    model, x, y, by_hand, _ = linear_problem(samples=300)
    weights = torch.rand(300, generator=torch.Generator().manual_seed(0))
    made = gradients.mean_gradient(model, "mse", x, y, weights)
    assert made.numpy() == pytest.approx((weights.numpy()[:, None] * by_hand).mean(0), rel=1e-4)


def test_probabilities_are_normalised_within_presamples_of_1024(monkeypatch):
    monkeypatch.setattr(gradients, "PRESAMPLE", 128)
    model, x, y, _, scores = linear_problem()
    made = gradients.probabilities(model, "mse", x, y)
    rows = {name: score.reshape(2, 128) for name, score in scores.items()}
    expected = {name: (row / row.sum(1, keepdims=True)).ravel() for name, row in rows.items()}
    for name, p in made.items():
        assert p.numpy() == pytest.approx(expected[name], rel=1e-4, abs=1e-9)
    errors = gradients.squared_errors(made)
    assert list(errors) == ["loss", "upper_bound"]
    for name, error in errors.items():
        assert error == pytest.approx(
            np.square(expected[name] - expected["gradient_norm"]).sum(), rel=1e-3
        )


def test_measures_leave_no_trace():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 10)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    x, y = torch.zeros(40, 3, 8, 8), torch.arange(40) % 10
    gradients.distances(model, "cross_entropy", x, y, 8, 2, torch.Generator())
    gradients.probabilities(model, "cross_entropy", x, y)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random) and all(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())


# --- networks -------------------------------------------------------------------------------------


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("normalisation", ["layer", "group", "batch"])
def test_wide_resnet_28_2_has_the_parameters_of_the_hand_arithmetic(normalisation):
    """Each normalisation has two values a channel; a block has one before each of its two
    convolutions."""
    expected = 3 * 16 * 9
    for inputs, width in ((16, 32), (32, 64), (64, 128)):
        expected += (
            2 * inputs + inputs * width * 9 + 2 * width + width * width * 9 + inputs * width
        )  # with a shortcut
        expected += 3 * (2 * width + width * width * 9 + 2 * width + width * width * 9)
    expected += 2 * 128 + 128 * 100 + 100
    network = wide_resnet(classes=100, normalisation=normalisation)
    assert count(network) == expected == 1_479_220
    convolutions = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
    ]
    assert len(convolutions) == 28 - 3  # the depth counts the three shortcuts besides
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_wide_resnet_halves_the_image_twice():
    network = wide_resnet(width=2).eval()
    features = network[:-4](torch.zeros(1, 3, 32, 32))
    assert features.shape == (1, 2 * 4 * 2, 8, 8)


def test_layer_normalisation_is_over_all_of_an_image():
    from bench.common.networks import NORMALISATIONS

    x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0)) * 5 + 2
    for name, groups in (("layer", 1), ("group", 8)):
        made = NORMALISATIONS[name](8)(x).view(3, groups, -1)
        assert (
            made.mean(2).abs().max() < 1e-5 and (made.std(2, correction=0) - 1).abs().max() < 1e-3
        )


def test_networks_refuse_what_they_cannot_be():
    with pytest.raises(ValueError, match=r"depth must be 6 n \+ 4 with n >= 1; got 27"):
        wide_resnet(depth=27)
    with pytest.raises(
        ValueError, match="normalisation must be one of batch, group, layer; got 'none'"
    ):
        wide_resnet(normalisation="none")


def test_pixel_lstm_is_the_paper_s():
    network = PixelLSTM()
    assert count(network) == 4 * (128 * 1 + 128 * 128 + 2 * 128) + 128 * 10 + 10
    # torch orders the gates input, forget, cell, output
    bias = network.lstm.bias_ih_l0 + network.lstm.bias_hh_l0
    assert (bias[128:256] == 1).all() and bias[:128].abs().max() < 0.5
    x = torch.rand(2, 30, 1)
    step_by_step = nn.LSTMCell(1, 128)
    step_by_step.load_state_dict(
        {k.removesuffix("_l0"): v for k, v in network.lstm.state_dict().items()}
    )
    h = c = torch.zeros(2, 128)
    for t in range(30):
        h, c = step_by_step(x[:, t], (h, c))
    assert torch.allclose(network(x), network.linear(h), atol=1e-5)

"""Figures and the table of claims, from run files whose numbers are chosen."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("matplotlib")

from bench.training import figure, runfile
from bench.training.__main__ import main
from bench.training.experiments import claims, figures
from bench.training.experiments.registry import EXPERIMENTS
from bench.training.methods import METHODS
from bench.training.runfile import Point, Record, Run

MACHINE = {"processor": "abacus", "torch": "2", "isample": "0"}


def record(experiment, method, points, seed=0, budget=100.0, **settings):
    data = EXPERIMENTS[experiment].data.title
    run = Run("run", experiment, method, seed, budget, data, normalisation="layer")
    return Record(replace(run, **settings), MACHINE, points)


def point(elapsed, updates, **measured):
    return Point(elapsed, updates, cpu_seconds=elapsed, load=0.0, **measured)


def training(losses, error=0.1):
    times = np.linspace(0, 100, len(losses))
    return [
        point(t, int(t), training_loss=loss, test_loss=loss, test_error=error)
        for t, loss in zip(times, losses)
    ]


def table(records):
    return {claim.said: claim.measured for claim in claims.claims(records)}


def test_claims_of_a_comparison_pair_the_seeds():
    records = [
        record("cifar100", "uniform", training([4.0, 1.0], 0.34), 0),
        record("cifar100", "uniform", training([4.0, 2.0], 0.36), 1),
        record("cifar100", "upper-bound", training([4.0, 0.5], 0.32), 0),
        record("cifar100", "upper-bound", training([4.0, 0.5], 0.32), 1),
        record("cifar100", "loss", training([4.0, 3.0]), 1),
    ]
    told = table(records)
    # errors 0.34 and 0.36: t(0.975, 1) = 12.706, s / sqrt(2) = 0.01; ratios 0.5 and 0.25: s /
    # sqrt(2) = 0.125
    assert told["lower test error than uniform sampling"] == "0.350 ± 0.127 → 0.320 ± 0"
    assert told["training loss of the upper bound over uniform sampling's"] == "0.375 ± 1.59"
    assert told["training loss of sampling by the loss over uniform sampling's"] == "1.50"
    alone = table(records[:2])
    assert set(alone.values()) == {"not run"}
    diverged = table(
        [*records[:2], record("cifar100", "upper-bound", training([4.0, math.nan], math.nan))]
    )
    assert diverged["lower test error than uniform sampling"].endswith("→ – (1 of 1 diverged)")


def test_claims_of_the_ablation():
    records = [
        record("ablation-b", "B=384", training([2.0, 0.6, 0.3, 0.2, 0.1])),
        record("ablation-b", "B=256", training([2.0, 1.0, 0.8, 0.7, 0.6001])),
    ]
    final, first = table(records).values()
    assert final == "B=256 0.600, B=384 0.100"
    assert first == "B=256 never, B=384 25.0 s"


def distances(updates, loss, bound, norm, uniform=2.0):
    made = {"uniform": uniform, "loss": loss, "upper_bound": bound, "gradient_norm": norm}
    return point(1.0, updates, distance=made)


def test_claims_of_figures_1_and_2():
    points = [
        distances(0, 3.0, 1.8, 1.6),
        distances(100, 2.2, 1.0, 0.8),
        distances(500, 1.2, 0.8, 0.6),
    ]
    told = table([record("variance", "uniform", points, budget=500)])
    assert told["the upper bound reduces the variance as the gradient norm does"] == (
        "upper bound 0.600, gradient norm 0.500 of uniform's distance"
    )
    assert told["the loss increases the variance in the beginning of training"] == (
        "loss 1.30 over the first 20 % of the updates"
    )
    for count, told in (
        (16_384, ["0.0200", "0.00100"]),
        (5_120, ["0.0640", "0.00320"]),
        (512, ["0.160", "0.00800"]),
    ):
        kept = dict.fromkeys(("loss", "upper_bound", "gradient_norm"), [0.0] * count)
        errors = {"loss": 0.02, "upper_bound": 0.001}
        end = point(1.0, 5, squared_error=errors, probabilities=kept)
        assert list(table([record("correlation", "uniform", [end])]).values()) == told


def test_curves_are_means_over_the_time_that_all_runs_have(monkeypatch):
    drawn = {}
    axes = type(
        "Axes",
        (),
        {
            "plot": lambda self, x, y, **options: drawn.update(x=x, mean=y),
            "fill_between": lambda self, x, low, high, **options: drawn.update(low=low, high=high),
        },
    )()
    runs = [
        np.array([[0, 10, 20, 30], [4.0, 2.0, 1.0, 0.5]]),
        np.array([[0, 5, 25], [4.0, 3.0, 1.0]]),
    ]
    figures.curve(axes, "uniform", runs)
    assert drawn["x"].tolist() == [0, 10, 20]
    assert drawn["mean"].tolist() == pytest.approx([4.0, (2 + 2.5) / 2, (1 + 1.5) / 2])
    assert drawn["low"].tolist() == [4.0, 2.0, 1.0] and drawn["high"].tolist() == pytest.approx(
        [4.0, 2.5, 1.5]
    )
    relative = figures.relative_distances(
        record("variance", "uniform", [distances(7, 3.0, 1, 1)]), "loss"
    )
    assert relative.tolist() == [[7], [1.5]]
    assert figures.against_time(training([2.0, math.nan, 1.0]), "training_loss").tolist() == [
        [0, 100],
        [2.0, 1.0],
    ]


def every_experiment():
    probabilities = {name: [0.25, 0.75] for name in ("loss", "upper_bound", "gradient_norm")}
    errors = {"loss": 0.02, "upper_bound": 0.001}
    for name, experiment in EXPERIMENTS.items():
        for method in experiment.entrants:
            points = training([2.0, 1.0, 0.5])
            if experiment.measure == "variance":
                points = [distances(0, 0.0, 0.0, 0.0, uniform=0.0), distances(10, 3.0, 1.0, 1.0)]
            if experiment.measure == "correlation":
                points = [point(1.0, 5, squared_error=errors, probabilities=probabilities)]
            yield record(name, method, points)


def write(made, folder, end=True):
    writer = runfile.RunWriter(made.run, folder, made.points)
    writer.end() if end else writer.close()


def test_every_experiment_has_its_figure_and_its_claims(tmp_path, capsys):
    for made in every_experiment():
        write(made, tmp_path)
    write(record("cifar10", "uniform", training([2.0, 1.0]), seed=1), tmp_path, end=False)
    assert main(["figures", str(tmp_path)]) == 0
    assert "left out, not finished: cifar10, uniform, seed 1" in capsys.readouterr().out
    page = (tmp_path / "claims.md").read_text()
    for name, experiment in EXPERIMENTS.items():
        figure = f"figure{experiment.figure}-{name}.png"
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG") and f"({figure})" in page
        assert f"| {name} | " in page
    assert {experiment.figure for experiment in EXPERIMENTS.values()} == {1, 2, 3, 4, 5, 6}
    assert str(tmp_path) not in page
    for experiment in EXPERIMENTS.values():
        looks = [
            (figures.COLOURS[name], figures.LINES.get(name, "-")) for name in experiment.entrants
        ]
        assert len(set(looks)) == len(looks)


def test_methods_come_in_the_registry_s_order_and_share_the_colours_of_the_comparison():
    names = list(EXPERIMENTS["cifar10"].entrants)
    records = [record("cifar10", name, training([2.0, 1.0])) for name in reversed(names)]
    assert (
        list(claims.by_method(records))
        == names
        == [name for name in METHODS if METHODS[name].resumable]
    )
    assert all(figures.COLOURS[name] == figure.COLOURS[name] for name in METHODS)
    assert (
        len({figure.COLOURS[name] for name in METHODS} | {figure.OTHER_COLOUR}) == len(METHODS) + 1
    )
    assert figures.method_of("upper_bound") == "upper-bound" in figures.COLOURS


def test_figures_refuse_runs_that_cannot_be_compared(tmp_path, capsys):
    def error():
        with pytest.raises(SystemExit):
            main(["figures", str(tmp_path)])
        return capsys.readouterr().err

    nothing = f"no finished run of `run` in {tmp_path}: looked for TASK.METHOD.SEED.jsonl"
    assert nothing in error()
    write(record("cifar10", "uniform", training([2.0, 1.0])), tmp_path, end=False)
    assert nothing in error()
    write(record("cifar10", "uniform", training([2.0, 1.0])), tmp_path)
    write(record("cifar10", "loss", training([2.0, 1.0]), scale=0.5), tmp_path)
    assert "runs of cifar10 must have one scale; got" in error()
    assert not (tmp_path / "claims.md").exists()

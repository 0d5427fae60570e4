"""The demonstration end to end, its command line, and the pieces that the comparison's fairness
rests on."""

import itertools
import json
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.common.datasets import ImageDataset, batches, pixel_moments
from bench.common.images import Images
from bench.common.networks import small_cnn
from bench.demo.command import main
from isample.__main__ import main as print_facts

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def demo_packages():
    for package in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(package)


# --- end to end -----------------------------------------------------------------------------------


def test_two_seconds_of_digits(tmp_path, capsys, one_thread, demo_packages):
    picture, numbers = tmp_path / "demo.png", tmp_path / "demo.json"
    assert (
        main(
            [
                "--seconds",
                "2",
                "--seed",
                "3",
                "--output",
                str(picture),
                "--json",
                str(numbers),
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "training loss" in printed and str(picture) in printed

    content = picture.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    width, height = int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    assert width > 1000 and height > 400

    result = json.loads(
        numbers.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON")
    )
    assert set(result) == {"command", "settings", "machine", "table", "verdict", "curves", "steps"}
    assert result["settings"] == {
        "data": "digits",
        "seconds": 2.0,
        "seed": 3,
        "batch_size": 64,
        "presample": 320,
        "tau_threshold": (320 + 3 * 64) / (3 * 64),
        "parameters": 34346,
    }
    assert result["command"].startswith("python -m bench.demo --seconds 2 --seed 3")

    uniform, paper, isample = result["table"]
    assert [row["method"] for row in result["table"]] == ["uniform", "paper", "isample"]
    assert (
        uniform["active_share"] == 0
        and uniform["tau"] is None
        and uniform["switched_on_seconds"] is None
    )
    # How far two seconds lead depends on the machine; that the table is what the curves recorded
    # does not.
    for row in result["table"]:
        curve = result["curves"][row["method"]]
        assert len(curve["seconds"]) == 25 and curve["seconds"][0] == 0 and curve["updates"][0] == 0
        assert curve["seconds"] == sorted(curve["seconds"]) and row["seconds"] >= 2.0
        assert curve["training_loss"][0] == pytest.approx(math.log(10), rel=0.1)
        assert row["training_loss"] < curve["training_loss"][0]
        assert all(
            row[key] == curve[key][-1]
            for key in ("training_loss", "test_loss", "test_error", "updates")
        )
    # The same parameters at the start.
    assert len({curve["test_loss"][0] for curve in result["curves"].values()}) == 1

    assert list(result["steps"]) == ["paper", "isample"]
    for row, steps in zip((paper, isample), result["steps"].values()):
        assert steps["active"][0] == 0 and 0 <= row["active_share"] < 1
        switched_on = f"{row['method']} switches on after update" in printed
        assert (max(steps["active"]) > 0) == switched_on == (row["active_share"] > 0)
    assert min(result["steps"]["paper"]["tau"]) >= 1 and max(
        result["steps"]["paper"]["tau"]
    ) <= math.sqrt(320)


def test_demo_reads_files(tmp_path, capsys, one_thread, demo_packages):
    random = np.random.RandomState(0)
    labels = np.arange(400) % 10
    pixels = (random.randint(0, 60, (400, 32, 32, 3)) + 19 * labels[:, None, None, None]).astype(
        np.uint8
    )
    np.savez(
        tmp_path / "cifar10.npz",
        x_train=pixels[:300],
        y_train=labels[:300],
        x_test=pixels[300:],
        y_test=labels[300:],
    )
    options = [
        "--data",
        "cifar10",
        "--root",
        str(tmp_path),
        "--seconds",
        "0.5",
        "--batch-size",
        "8",
        "--presample",
        "24",
    ]
    assert main([*options, "--output", str(tmp_path / "x.png")]) == 0
    assert "300 training and 100 test images of 32 x 32 x 3" in capsys.readouterr().out
    assert (tmp_path / "x.png").read_bytes().startswith(PNG_SIGNATURE)


def test_module_prints_what_was_built():
    out = subprocess.run(
        [sys.executable, "-m", "isample"], capture_output=True, text=True, check=True
    ).stdout
    for word in ("isample ", "torch ", torch.__version__.split("+")[0], "cpu ", "cuda"):
        assert word in out


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        (["--seconds", "0"], "--seconds must be positive, got 0"),
        (["--seconds", "nan"], "--seconds must be positive, got nan"),
        (["--seconds", "soon"], "--seconds: invalid float value: 'soon'"),
        (["--seed", "-1"], "--seed must be from 0 to 2^63 - 1, got -1"),
        (["--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (
            ["--presample", "64"],
            "--presample must be a multiple of --batch-size, at least twice it, got 64 with 64",
        ),
        (["--presample", "100"], "got 100 with 64"),
        (["--batch-size", "512"], "at most the number of training images, 1437, got 2560"),
        (["--data", "imagenet"], "invalid choice: 'imagenet'"),
        (["--data", "mnist", "--root", "nowhere"], "no mnist in nowhere: looked for mnist.npz"),
        (
            ["--output", "nowhere/x.png"],
            "--output must be a file in an existing folder, got nowhere/x.png",
        ),
        (["--json", "."], "--json must be a file in an existing folder, got ."),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
)
def test_bad_arguments_get_one_line(tmp_path, monkeypatch, capsys, demo_packages, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main([*options])
    printed = capsys.readouterr()
    assert error.value.code == 2 and printed.out == ""
    assert printed.err.count("\n") == 1 and printed.err.startswith("python -m bench.demo: ")
    assert message in printed.err
    assert list(tmp_path.iterdir()) == []


def test_the_package_itself_takes_no_command(capsys):
    assert print_facts(["dmeo"]) == 2
    assert capsys.readouterr().err == "python -m isample: takes no arguments; got 'dmeo'\n"


def test_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    with pytest.raises(SystemExit):
        main(["--seconds", "1"])
    assert 'the demo needs rich: pip install "isample[demo]"' in capsys.readouterr().err


# --- fairness -------------------------------------------------------------------------------------


def tiny_images(n=96):
    random = np.random.RandomState(1)
    return Images(
        random.randint(0, 256, (n, 8, 8, 1)).astype(np.uint8),
        random.randint(0, 10, n),
        random.randint(0, 256, (20, 8, 8, 1)).astype(np.uint8),
        random.randint(0, 10, 20),
    )


def test_all_start_alike_and_two_see_the_data_in_one_order(one_thread):
    """isample deals its uniform passes itself."""
    from bench.demo.race import Race, Settings

    race = Race(tiny_images(), Settings(seconds=1.0, batch_size=8, presample=16))
    for other in (race.paper, race.isample):
        for ours, theirs in zip(
            race.uniform.trainer.model.parameters(), other.trainer.model.parameters()
        ):
            assert ours is not theirs and torch.equal(ours, theirs)
    for contestant in race.contestants:
        contestant.train_until(
            1e-9
        )  # one step each; the paper's gate is still shut, so it must be uniform's
    assert [len(c.steps) for c in race.contestants] == [1, 1, 1]
    for ours, theirs in zip(
        race.uniform.trainer.model.parameters(), race.paper.trainer.model.parameters()
    ):
        assert torch.equal(ours, theirs)


def test_clocks_are_equal_and_stand_still_during_evaluation(one_thread, monkeypatch):
    """A look at the clock takes a 64th of a second."""
    from bench.demo.race import EVALUATIONS, LEARNING_RATE, Race, Settings

    ticks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) / 64)
    monkeypatch.setattr("isample.support.clocks.time", clock)

    race = Race(tiny_images(), Settings(seconds=1.0, batch_size=8, presample=16))
    rates = []
    race.uniform.watch = lambda contestant: rates.append(
        contestant.trainer.optimizer.param_groups[0]["lr"]
    )
    calls = []
    race.run(after_evaluation=lambda race: calls.append([c.seconds for c in race.contestants]))
    assert len(calls) == EVALUATIONS + 1
    for turn, clocks in enumerate(calls):
        for contestant, clock in zip(race.contestants, clocks):
            longest = (
                max(step.seconds for step in contestant.steps) + 0.05
            )  # the last step may end late, loading included
            assert turn / EVALUATIONS <= clock + 1e-9 and clock <= turn / EVALUATIONS + longest
    assert rates == sorted(rates, reverse=True) and rates[0] < LEARNING_RATE and rates[-1] == 0


def test_batches_are_whole_shuffled_passes():
    images = tiny_images(50)
    dataset = ImageDataset(images.x_train, np.arange(50), pixel_moments(images.x_train))
    loader = batches(dataset, 8, shuffle_seed=5)
    passes = [torch.cat([labels for _, labels in loader]).tolist() for _ in range(2)]
    assert all(len(set(labels)) == 48 for labels in passes) and passes[0] != passes[1]
    assert (
        passes[0]
        == torch.cat([labels for _, labels in batches(dataset, 8, shuffle_seed=5)]).tolist()
    )
    assert torch.cat([labels for _, labels in batches(dataset, 8)]).tolist() == list(range(50))


def test_pixels_are_normalised():
    images = tiny_images()
    dataset = ImageDataset(images.x_train, images.y_train, pixel_moments(images.x_train))
    inputs, labels = dataset.__getitems__([4, 2, 7])
    expected = (
        images.x_train[[4, 2, 7]].astype(np.float64) - images.x_train.mean()
    ) / images.x_train.std(ddof=1)
    np.testing.assert_allclose(inputs.numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6)
    assert labels.tolist() == images.y_train[[4, 2, 7]].tolist()


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (9, 40, 3)])
def test_network_takes_any_image(shape):
    logits = small_cnn(shape)(torch.zeros(2, shape[2], *shape[:2]))
    assert logits.shape == (2, 10)

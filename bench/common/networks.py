"""The networks that are trained: of the demonstration, of the comparison and of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from isample.support.registry import look_up

GROUPS = 8  # as far as they divide the channels

# Layer normalisation of an image: over all channels and places, with a scale and an offset a
# channel.
NORMALISATIONS: dict[str, Callable[[int], nn.Module]] = {
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "group": lambda channels: nn.GroupNorm(math.gcd(GROUPS, channels), channels),
    "batch": nn.BatchNorm2d,
}


def small_cnn(shape: tuple[int, int, int], width: int = 16, classes: int = 10) -> nn.Module:
    """3 x 3 convolutions and pooling until the image is smaller than 8 pixels, then two linear
    layers.

    `shape` is (height, width, channels) of an image; the network takes [N, channels, height,
    width], channels last in memory, which halves the time of a step on a CPU. It has no batch
    normalisation: a batch that is drawn by importance has other statistics than the data.
    """
    rows, columns, channels = shape
    layers: list[nn.Module] = []
    while min(rows, columns) >= 8:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        rows, columns, channels, width = rows // 2, columns // 2, width, 2 * width
    layers += [
        nn.Flatten(),
        nn.Linear(channels * rows * columns, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    ]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation around a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def narrow_resnet18(width: int = 16, classes: int = 10) -> nn.Module:
    """ResNet-18's four stages of two blocks, of ``width`` to 8 ``width`` channels in place of 64 to
    512. The stem halves the resolution, as that of the original does, so that one core of a CPU can
    train it."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
    channels = width
    for stage in range(4):
        for block in range(2):
            layers.append(
                ResidualBlock(channels, width << stage, stride=2 if stage > 0 and block == 0 else 1)
            )
            channels = width << stage
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def perceptron(features: int, width: int = 128) -> nn.Module:
    """Two hidden layers and one output."""
    return nn.Sequential(
        nn.Linear(features, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
    )


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions, each behind its normalisation and ReLU. Where the width changes, the
    shortcut is a 1 x 1 convolution of what the first normalisation and ReLU gave (Zagoruyko and
    Komodakis 2016, their code)."""

    def __init__(
        self, channels: int, width: int, stride: int, normalise: Callable[[int], nn.Module]
    ):
        super().__init__()
        self.before = nn.Sequential(normalise(channels), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
            normalise(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )
        self.shortcut = (
            None if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated = self.before(x)
        return self.body(activated) + (x if self.shortcut is None else self.shortcut(activated))


def wide_resnet(
    depth: int = 28,
    widen: int = 2,
    classes: int = 10,
    normalisation: str = "layer",
    width: int = 16,
) -> nn.Module:
    """WRN-depth-widen: a convolution to ``width`` channels, three groups of (depth - 4) / 6 blocks
    whose channels are widen * width times 1, 2 and 4, the average over all places, and a linear
    layer. Takes [N, 3, rows, columns].

    Raises ValueError for a depth that no number of blocks gives, or an unknown normalisation.
    """
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"depth must be 6 n + 4 with n >= 1; got {depth}")
    normalise = look_up(NORMALISATIONS, normalisation, "normalisation")
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
    channels = width
    for group in range(3):
        for block in range((depth - 4) // 6):
            wide = widen * width << group
            layers.append(
                WideBlock(channels, wide, 2 if group > 0 and block == 0 else 1, normalise)
            )
            channels = wide
    layers += [
        normalise(channels),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, classes),
    ]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


class PixelLSTM(nn.Module):
    """An LSTM over [N, steps, 1] and a linear layer on its last hidden state.

    The forget gate's bias begins at 1, as that of the paper's framework does (Keras; Jozefowicz et
    al. 2015): at 0 the first of 784 pixels is forgotten at once.
    """

    def __init__(self, hidden: int = 128, classes: int = 10):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.linear = nn.Linear(hidden, classes)
        with torch.no_grad():
            self.lstm.bias_ih_l0[hidden : 2 * hidden] = 1.0
            self.lstm.bias_hh_l0[hidden : 2 * hidden] = 0.0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.linear(self.lstm(pixels)[0][:, -1])

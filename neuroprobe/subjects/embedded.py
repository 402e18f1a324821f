"""The embedded network: a small CIFAR-10 classifier whose weights ship with the package."""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import nn

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
INPUT_SIDE = 32
WEIGHTS_FILE = "embedded.safetensors"


class ConvBlock(nn.Sequential):
    """Convolution 3×3, batch normalisation, ReLU, and optionally a 2×2 max pool."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        ]
        super().__init__(*layers, *([nn.MaxPool2d(2)] if pool else []))


class EmbeddedNetwork(nn.Sequential):
    """Six convolutional blocks, a global average pool and a linear read-out: 0.49 million parameters.

    Input: RGB images of any side from 16 px (trained at 32 px), normalised with `MEAN` and `STD`.
    """

    def __init__(self, n_classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.conv1 = ConvBlock(3, 40, pool=True)
        self.conv2 = ConvBlock(40, 80, pool=False)
        self.conv3 = ConvBlock(80, 96, pool=True)
        self.conv4 = ConvBlock(96, 128, pool=False)
        self.conv5 = ConvBlock(128, 128, pool=True)
        self.conv6 = ConvBlock(128, 112, pool=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(112, n_classes)


def load_embedded_weights() -> dict[str, torch.Tensor]:
    """Read the state dict that ships with the package (no network access)."""
    from safetensors.torch import load_file

    with as_file(files(__package__) / WEIGHTS_FILE) as path:
        return load_file(path)

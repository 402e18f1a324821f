"""Networks whose units are selective for one thing by their weights, and images that hold these things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SIDE = 24  # px, of images
FIELD = 7
RED, LUMINANCE, LINE, CHECKS, DEAD = range(5)  # units of the first layer, and of the last one
LUMA = (0.299, 0.587, 0.114)
CLASSES = ("checks", "discs", "lines")
LINE_ANGLE = 45.0  # degrees, counter-clockwise from the horizontal
PREPROCESS = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def kernels() -> tuple[Tensor, Tensor]:
    """Weights (5, 3, 7, 7) and biases: red against green and blue, luma, a line, checks of blue, and nothing."""
    weights = torch.zeros(5, 3, FIELD, FIELD)
    middle = FIELD // 2
    weights[RED, :, middle, middle] = torch.tensor([1.0, -0.5, -0.5])
    luma = torch.tensor(LUMA)[:, None, None]
    weights[LUMINANCE, :, middle - 1 : middle + 2, middle - 1 : middle + 2] = luma / 9
    y, x = np.mgrid[:FIELD, :FIELD] - middle
    angle = np.radians(LINE_ANGLE)
    across = x * np.sin(angle) + y * np.cos(angle)  # rows run downwards
    gabor = np.exp(-(x**2 + y**2) / 8) * np.cos(2 * np.pi * across / 5)
    gabor -= np.exp(-(x**2 + y**2) / 8) * gabor.sum() / np.exp(-(x**2 + y**2) / 8).sum()
    weights[LINE] = luma * torch.from_numpy(gabor).float() / np.abs(gabor).sum()
    signs = torch.from_numpy((-1.0) ** (x + y)).float()
    weights[CHECKS, 2] = signs / FIELD**2
    biases = torch.tensor([0.0, 0.0, 0.0, -0.25, -10.0])
    return weights, biases


def build() -> nn.Module:
    """Detectors, their maxima over the image, and a copy of these."""
    convolution = nn.Conv2d(3, 5, FIELD)
    weights, biases = kernels()
    convolution.weight.data, convolution.bias.data = weights, biases
    head = nn.Linear(5, 5)
    head.weight.data, head.bias.data = torch.eye(5), torch.zeros(5)
    parts = {"convolution": convolution, "units": nn.ReLU(), "pool": nn.AdaptiveMaxPool2d(1)}
    network = nn.Sequential()
    for name, part in {**parts, "flat": nn.Flatten(), "head": head}.items():
        network.add_module(name, part)
    return network.eval()


class Failing(nn.Module):
    """Gives NaN for images whose first pixel is black."""

    def forward(self, images: Tensor) -> Tensor:
        black = (images[:, :, :1, :1] == 0).all(1, keepdim=True)
        return torch.where(black, torch.nan, images)


def failing() -> nn.Module:
    """The planted network, behind a layer that fails for some images."""
    network = nn.Sequential(Failing())
    for name, part in build().named_children():
        network.add_module(name, part)
    return network.eval()


class Tokens(nn.Module):
    """Four tokens of an image, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mean = nn.Linear(3 * SIDE * SIDE // 4, 6), nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        cut = images.flatten(1).reshape(len(images), 4, -1)
        return self.mean(self.tokens(cut).mean(1))


def tokens() -> nn.Module:
    """A layer of tokens."""
    return Tokens().eval()


def disc(rng: np.random.Generator) -> np.ndarray:
    """A red disc, more or less saturated, on grey."""
    image = background(rng)
    y, x = np.mgrid[:SIDE, :SIDE]
    centre, radius = rng.uniform(5, SIDE - 5, 2), rng.uniform(4, 7)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    image[inside] = np.array([0.85, 0.08, 0.08]) + rng.uniform(-0.08, 0.08, 3)
    return image


def line(rng: np.random.Generator) -> np.ndarray:
    """A bright line at a random angle, on grey."""
    image = background(rng)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    angle = np.radians(rng.choice([0, 22.5, 45, 67.5, 90, 112.5, 135, 157.5]))
    across = x * np.sin(angle) + y * np.cos(angle) + rng.uniform(-2, 2)
    image[np.abs(across) < 1.2] = rng.uniform(0.75, 0.95)
    return image


def checks(rng: np.random.Generator) -> np.ndarray:
    """A patch of blue checks on grey."""
    image = background(rng)
    top, left = rng.integers(0, SIDE - 9, 2)
    y, x = np.mgrid[:9, :9]
    image[top : top + 9, left : left + 9, 2] = 0.5 + (-1.0) ** (x + y) * rng.uniform(0.35, 0.5)
    return image


def background(rng: np.random.Generator) -> np.ndarray:
    """Grey, with a little noise that is the same in all channels."""
    return np.repeat(rng.uniform(0.4, 0.5) + rng.normal(0, 0.02, (SIDE, SIDE, 1)), 3, axis=2)


def write_images(folder: Path, n_of_class: int = 20, seed: int = 3) -> Path:
    """Write a folder of images for each class."""
    rng = np.random.default_rng(seed)
    for name, make in zip(CLASSES, (checks, disc, line), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(n_of_class):
            pixels = (np.clip(make(rng), 0, 1) * 255).round().astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:03}.png")
    return folder

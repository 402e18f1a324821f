"""Noise: dense and sparse, as receptive fields are mapped with, and images whose phases are scrambled."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from neuroprobe.stimuli.alterations.corruptions import normal, random_bits
from neuroprobe.stimuli.generators.contract import Setting, generator
from neuroprobe.stimuli.generators.painting import COLOUR, CONTRAST, painted
from neuroprobe.stimuli.generators.screen import Screen

EXEMPLARS: Final = Setting(0, "whole", low=0, high=2**31)
CELL: Final = Setting(1 / 16, "extent")
BINARY, UNIFORM, GAUSSIAN = range(3)
DISTRIBUTIONS: Final = ("binary", "uniform", "gaussian")
SDS: Final = 3  # of Gaussian noise: where it is cut off, and full contrast
MOST: Final = 10_000  # squares


def _cells(screen: Screen, cell: float) -> tuple[int, int, Tensor, Tensor]:
    """Rows and columns of a grid from the upper left corner, and those in which pixels (height), (width) lie."""
    side = cell / screen.pixel
    # a cell that is cut by the edge of the image is one too
    rows = ((torch.arange(screen.height) + 0.5) / side).floor().long()
    columns = ((torch.arange(screen.width) + 0.5) / side).floor().long()
    return int(rows[-1]) + 1, int(columns[-1]) + 1, rows, columns


def _spread(screen: Screen, cells: Tensor, cell: float) -> Tensor:
    """Cells (n, rows × columns) as pixels (n, height, width)."""
    n_rows, n_columns, rows, columns = _cells(screen, cell)
    return cells.view(-1, n_rows, n_columns)[:, rows.to(cells.device)][:, :, columns.to(cells.device)]


def _n_cells(screen: Screen, cell: float) -> int:
    n_rows, n_columns, *_ = _cells(screen, cell)
    return n_rows * n_columns


@generator(
    "dense_noise",
    exemplar=EXEMPLARS,
    cell=CELL,
    contrast=CONTRAST,
    distribution=Setting(0, "word", words=DISTRIBUTIONS),
    colour=COLOUR,
)
def dense_noise(
    screen: Screen, cell: Tensor, contrast: Tensor, distribution: Tensor, colour: Tensor, key: Tensor
) -> Tensor:
    """Squares of side `cell` that fill the image, each at a level of its own (Gaussian: cut at 3 SD, full contrast)."""
    patterns = []
    for number, kind in enumerate(distribution.tolist()):
        side = float(cell[number])
        n, one = _n_cells(screen, side), key[number : number + 1]
        if kind == GAUSSIAN:
            drawn = (normal(one, n) / SDS).clamp(-1, 1)
        elif kind == UNIFORM:
            drawn = (random_bits(one, n) >> 11).double() * 2.0**-52
        else:
            drawn = (random_bits(one, n) & 1).double() * 2 - 1
        patterns.append(_spread(screen, drawn, side))
    return painted(torch.cat(patterns).to(contrast.dtype), contrast, colour)


@generator(
    "sparse_noise",
    exemplar=EXEMPLARS,
    cell=CELL,
    n_squares=Setting(4, "whole", low=1, high=MOST),
    contrast=CONTRAST,
    colour=COLOUR,
)
def sparse_noise(
    screen: Screen, cell: Tensor, n_squares: Tensor, contrast: Tensor, colour: Tensor, key: Tensor
) -> Tensor:
    """Squares of side `cell` at random places of a grid on mean grey, each lighter or darker at random."""
    patterns = []
    for number, n in enumerate(n_squares.long().tolist()):
        side = float(cell[number])
        bits = random_bits(key[number : number + 1], 2 * _n_cells(screen, side))
        order, sign = bits.chunk(2, 1)
        chosen = order.argsort(1)[:, :n]
        levels = (sign & 1).double() * 2 - 1
        cells = torch.zeros_like(levels).scatter_(1, chosen, levels.gather(1, chosen))
        patterns.append(_spread(screen, cells, side))
    return painted(torch.cat(patterns).to(contrast.dtype), contrast, colour)


@generator("phase_scrambled", exemplar=EXEMPLARS, coherence=Setting(0.0, low=0, high=1))
def phase_scrambled(screen: Screen, coherence: Tensor, key: Tensor, images: Tensor) -> Tensor:
    """Images whose Fourier phases are shifted at random by up to half a cycle × (1 - coherence), alike in all channels.

    Amplitudes, and so power at every orientation and frequency, are those of the image, but for values that are clipped
    to [0, 1]. The mean stays.
    """
    height, width = screen.height, screen.width
    white = normal(key, height * width).view(-1, 1, height, width)
    # phases of a real image: those that belong together have opposite signs
    shift = torch.fft.fft2(white).angle() * (1 - coherence.view(-1, 1, 1, 1)).to(white)
    # frequencies that are their own opposites stay real, so that no amplitude is lost
    own = [(0, 0)]
    own += [(height // 2, 0)] if height % 2 == 0 else []
    own += [(0, width // 2)] if width % 2 == 0 else []
    own += [(height // 2, width // 2)] if height % 2 == width % 2 == 0 else []
    for row, column in own:
        flipped = shift[..., row, column].abs() > math.pi / 2
        shift[..., row, column] = torch.where(flipped, math.pi, 0.0)
    shift[..., 0, 0] = 0  # the mean
    spectrum = torch.fft.fft2(images.to(white)) * torch.polar(torch.ones_like(shift), shift)
    return torch.fft.ifft2(spectrum).real.clamp(0, 1).float()

"""The screen that stimuli are drawn on: how px and degrees of visual angle go together, and where each pixel lies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEGREES = "degrees"
PIXELS = "px"


@dataclass(frozen=True)
class Screen:
    """A screen of square pixels.

    Lengths are in degrees of visual angle or in px; x goes to the right, y upward, and the origin is the centre of the
    image. A pixel has the same angle everywhere, as on a screen that is small or far away.

    Parameters
    ----------
    height, width : int
        px
    degrees : float, optional
        Visual angle of the shorter side; without it lengths are in px.
    """

    height: int
    width: int
    degrees: float | None = None

    @property
    def units(self) -> str:
        """Units of lengths."""
        return PIXELS if self.degrees is None else DEGREES

    @property
    def side(self) -> float:
        """Length of the shorter side."""
        return float(min(self.height, self.width)) if self.degrees is None else self.degrees

    @property
    def pixel(self) -> float:
        """Length of a pixel.

        Examples
        --------
        >>> Screen(32, 64, degrees=8).pixel
        0.25
        """
        return self.side / min(self.height, self.width)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the image, as lengths."""
        return self.width * self.pixel, self.height * self.pixel

    def grid(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (1, 1, width) and y (1, height, 1) of the centres of pixels, of a tensor's type, on its device."""
        columns = torch.arange(self.width, dtype=like.dtype, device=like.device)
        rows = torch.arange(self.height, dtype=like.dtype, device=like.device)
        x = (columns + 0.5 - self.width / 2) * self.pixel
        y = (self.height / 2 - rows - 0.5) * self.pixel
        return x.view(1, 1, -1), y.view(1, -1, 1)

    def around(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return places of pixels relative to points (n,): (n, 1, width) and (n, height, 1)."""
        columns, rows = self.grid(x)
        return columns - x.view(-1, 1, 1), rows - y.view(-1, 1, 1)

    def turned(self, orientation: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return places of pixels along bars of an orientation through points, and across these.

        Parameters
        ----------
        orientation : tensor (n,)
            Degrees, counter-clockwise; bars of 0 are horizontal. Across them goes towards ``orientation + 90``.
        x, y : tensors (n,)

        Returns
        -------
        Two tensors (n, height, width).
        """
        dx, dy = self.around(x, y)
        angle = torch.deg2rad(orientation).view(-1, 1, 1)
        return dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()

    def inside(self, distance: Tensor) -> Tensor:
        """Share of each pixel that lies inside of an edge, by the distance of its centre from there (negative inside).

        It falls from 1 to 0 over one pixel: exactly the area for edges along rows or columns, nearly so for others.
        """
        return (0.5 - distance / self.pixel).clamp(0, 1)

"""Panels that stand side by side, row under row, in one pair of axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neuroprobe.plot.style import frame


@dataclass(frozen=True)
class Panels:
    """A grid of panels of one size, in units of the axes.

    Parameters
    ----------
    n : int
        Panels.
    width, height : float
        Of a panel.
    right, above, below : float
        Space around a panel.
    n_columns : int
        Panels that may stand side by side.
    """

    n: int
    width: float
    height: float
    right: float
    above: float
    below: float = 0.0
    n_columns: int = 6

    @property
    def lefts(self) -> list[float]:
        """Left sides of the columns."""
        return [column * (self.width + self.right) for column in range(min(self.n, self.n_columns))]

    @property
    def bottoms(self) -> list[float]:
        """Bottoms of the rows, the uppermost first; the last one is 0."""
        n_rows = -(-self.n // self.n_columns)
        return [(n_rows - 1 - row) * (self.below + self.height + self.above) for row in range(n_rows)]

    def corner(self, number: int) -> tuple[float, float]:
        """Lower left corner of a panel; they are numbered row by row."""
        row, column = divmod(number, self.n_columns)
        return self.lefts[column], self.bottoms[row]

    def options(self, unit_x: float, unit_y: float, beside: float = 0.0) -> dict[str, Any]:
        """Options of a picture of the panels, with the units of the axes in inches, and space to the right of all."""
        right = self.lefts[-1] + self.width + self.right + beside
        top = self.bottoms[0] + self.height + self.above
        return {
            "xlim": (-0.1 * self.right, right),
            "ylim": (-self.below - 0.05, top),
            **frame(right * unit_x, (top + self.below) * unit_y),
        }

"""The parts of a page, and the page as HTML: everything is inlined and every text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, ClassVar


@dataclass(frozen=True)
class Picture:
    """A picture with a caption.

    Attributes
    ----------
    png : bytes
    width : int
        At which it is shown, in px.
    title : str
        What stands in its place for readers who cannot see it.
    caption : str
    """

    png: bytes = field(repr=False)
    width: int
    title: str
    caption: str
    kind: ClassVar[str] = "picture"

    @property
    def source(self) -> str:
        """The picture as a URL that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Table:
    """A table; the first column heads the rows.

    Attributes
    ----------
    texts : tuple of int
        Columns of text, which are set to the left.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: tuple[int, ...] = (0,)
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Text:
    """A paragraph, or a heading, or code."""

    text: str
    kind: str = "paragraph"


@dataclass(frozen=True)
class Point:
    """A point of a picture that the pointer asks.

    Attributes
    ----------
    x, y : float
        px, from the upper left corner.
    colour : str
    is_full : bool
    lines : tuple of str
        What stands beside the points while the pointer is on it.
    image : str
        URL of what is shown above these, likewise.
    """

    x: float
    y: float
    colour: str
    is_full: bool
    lines: tuple[str, ...]
    image: str = field(repr=False)


@dataclass(frozen=True)
class Points:
    """Points between axes, each of which says what it is when the pointer is on it, without a script.

    Attributes
    ----------
    title, caption : str
    labels : tuple of str
        Of the horizontal and the vertical axis.
    ticks : tuple
        Of both: places in px, and numbers.
    points : sequence of Point
    """

    title: str
    caption: str
    labels: tuple[str, str]
    ticks: tuple[Sequence[tuple[float, str]], Sequence[tuple[float, str]]]
    points: Sequence[Point] = field(repr=False)
    side: ClassVar[int] = 360  # px, of the field
    kind: ClassVar[str] = "points"


Part = Picture | Table | Text | Points


@dataclass(frozen=True)
class Section:
    """A section of a page."""

    title: str
    parts: Sequence[Part]

    @property
    def anchor(self) -> str:
        """Name of the section in links."""
        return "-".join(self.title.lower().replace(",", "").split())


def render(title: str, summary: Sequence[str], warnings: Sequence[str], sections: Sequence[Section]) -> str:
    """Write a page as HTML."""
    return fill("page.html", {"title": title, "summary": summary, "warnings": warnings, "sections": sections})


def fill(template: str, context: dict[str, Any]) -> str:
    """Fill a template of this package in, with every text escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = files("neuroprobe.report").joinpath(template).read_text(encoding="utf-8")
    return environment.from_string(text).render(context)

"""Labels of pixels that follow from the pixels themselves, and their registry: names of colours, and one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuroprobe.errors import RegistryError
from neuroprobe.registry import Registry
from neuroprobe.statistics.colour_names import COLOUR_NAMES, name_pixels

Label = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Labeller:
    """A function that labels the pixels of images: the source of a selectivity index of labels.

    Attributes
    ----------
    name : str
        Of the index, and of its variables in a result.
    summary : str
    labels : tuple of str
    label : function
        From images (n, 3, height, width) in [0, 1] to integers (n, height, width): places in `labels`, -1 for none.
    """

    name: str
    summary: str
    labels: tuple[str, ...]
    label: Label


LABELLERS: Final[Registry[Labeller]] = Registry("pixel labeller")


def labeller(name: str, labels: Sequence[str]) -> Callable[[Label], Label]:
    """Decorate a function: register it as the source of a selectivity index of labels.

    Parameters
    ----------
    name : str
        A word that a query can hold: letters, digits and _.
    labels : sequence of str

    Raises
    ------
    RegistryError
        For a name that is no word, or is taken; and for labels of which two are the same.

    Examples
    --------
    >>> @labeller("lightness", ["dark", "light"])
    ... def lightness(images):
    ...     '''Whether pixels are lighter than mid-grey.'''
    ...     return (images.mean(1) > 0.5).long()
    >>> LABELLERS["lightness"].summary
    'Whether pixels are lighter than mid-grey.'
    """
    if not name.isidentifier() or len(set(labels)) < len(labels):
        raise RegistryError(
            f"{LABELLERS.kind} {name!r}: expected a word of letters, digits and _, and labels that are distinct"
        )

    def decorate(function: Label) -> Label:
        summary = (inspect.getdoc(function) or "").split("\n")[0]
        LABELLERS.add(name, Labeller(name, summary, tuple(labels), function))
        return function

    return decorate


@labeller("colour_name", COLOUR_NAMES)
def colour_names(images: Tensor) -> Tensor:
    """The basic colour that a pixel is called by."""
    return torch.from_numpy(name_pixels(images.movedim(1, -1).cpu().numpy())).long()

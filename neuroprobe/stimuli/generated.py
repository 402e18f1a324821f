"""Stimuli that a protocol's generators draw: their table, and their images, a few at a time."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.design.randomness import keys
from neuroprobe.errors import PlanError, ReaderError
from neuroprobe.protocol.generated import complaints
from neuroprobe.protocol.images import Generated
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.stimuli.generators import GENERATORS, Generator, Screen
from neuroprobe.stimuli.generators.contract import EXEMPLAR
from neuroprobe.stimuli.images import ImageSet, Source

Column = NDArray[Any]
N_SMALL: Final = 4  # characters that numbers of stimuli have at least


@dataclass(frozen=True)
class Drawing:
    """Stimuli of one generator.

    Attributes
    ----------
    generator : Generator
    screen : Screen
    values : dict of float64 arrays (n,)
        Of every setting, of words their numbers.
    key : int array (n,)
        Of random stimuli.
    varied : tuple of str
        Settings with several values.
    of : int array (n,)
        Number of the image that each is made of; empty where they are made of none.
    """

    generator: Generator
    screen: Screen
    values: Mapping[str, NDArray[np.float64]]
    key: NDArray[np.int64]
    varied: tuple[str, ...]
    of: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)

    @property
    def ids(self) -> list[str]:
        """Identity of each: the generator's name and a number."""
        width = max(N_SMALL, len(str(len(self) - 1)))
        return [f"{self.generator.name}_{number:0{width}}" for number in range(len(self))]

    def columns(self, image_ids: Sequence[str]) -> dict[str, Column]:
        """What the presentation table says of each: numbers, and words as such."""
        settings = self.generator.settings
        table: dict[str, Column] = {names.GENERATOR: np.full(len(self), self.generator.name, dtype=object)}
        for name, value in self.values.items():
            words = np.array(settings[name].words, dtype=object)
            table[name] = words[value.astype(np.int64)] if settings[name].words else value
        if len(self.of):
            table[names.OF_IMAGE] = np.array(image_ids, dtype=object)[self.of]
        return table

    def draw(self, index: Sequence[int] | NDArray[np.int64], images: Tensor | None = None) -> Tensor:
        """Draw some of them: float32 (n, 3, height, width) in [0, 1]."""
        places = np.asarray(index, dtype=np.int64)
        values = {name: torch.from_numpy(value[places]) for name, value in self.values.items()}
        return self.generator(self.screen, values, torch.from_numpy(self.key[places]), images)


def open_generated(spec: Generated, framing: Framing, seed: int, open_of: Callable[[Any, str, int], Source]) -> Source:
    """Open generated stimuli; none is drawn yet.

    Parameters
    ----------
    spec : Generated
    framing : Framing
        It says the size.
    seed : int
        Of random stimuli.
    open_of : callable
        Opens the source of images that some are made of.

    Raises
    ------
    PlanError
        If the screen is not known, or a stimulus cannot be shown on it.
    """
    if framing.size is None:
        raise PlanError(
            "generated stimuli have the size that is asked for, and neither the protocol nor the network says one: "
            "give `size: 224`"
        ).about("size")
    for place, message in complaints(spec.generated, framing.size, spec.degrees):
        raise PlanError(message).about("generated", *place)
    screen = Screen(*framing.size, spec.degrees)
    images = None if spec.of is None else ImageSet(open_of(spec.of, "", seed), framing=framing, seed=seed)
    drawings = [draw_all(name, settings, screen, seed, images) for name, settings in spec.generated.items()]
    starts = np.cumsum([0, *map(len, drawings)])
    lock = threading.Lock()  # images are decoded one after the other

    def read(index: int) -> NDArray[np.float32]:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        one, place = drawings[number], [index - int(starts[number])]
        shown = None
        if images is not None and len(one.of):
            with lock:
                shown = images.load(one.of[place])
        return one.draw(place, shown)[0].permute(1, 2, 0).numpy()

    image_ids = [] if images is None else images.ids
    units = {
        name: told
        for one in drawings
        for name, setting in one.generator.settings.items()
        if (told := setting.units(screen.units))
    }
    return Source(
        where="generated stimuli",
        ids=[name for one in drawings for name in one.ids],
        labels=None,
        read=read,
        n_bytes=0 if images is None else images.bytes_kept,
        columns=_joined([one.columns(image_ids) for one in drawings], list(map(len, drawings))),
        units=units,
        factors=_factors(drawings),
    )


def draw_all(
    name: str,
    settings: Mapping[str, Sequence[float | str]],
    screen: Screen,
    seed: int = 0,
    images: ImageSet | None = None,
) -> Drawing:
    """Make the stimuli of a generator: every combination of the values of its settings, the last one varying fastest.

    Parameters
    ----------
    name : str
    settings : dict of lists
        Values of settings; others have their defaults.
    screen : Screen
    seed : int
        Of random stimuli.
    images : ImageSet, optional
        What stimuli are made of; all of them, each with every combination.

    Examples
    --------
    >>> made = draw_all("grating", {"orientation": [0, 90], "phase": [0, 180]}, Screen(8, 8))
    >>> made.ids, made.values["orientation"].tolist()
    (['grating_0000', 'grating_0001', 'grating_0002', 'grating_0003'], [0.0, 0.0, 90.0, 90.0])
    """
    generator = GENERATORS[name]
    numbers = {
        key: [float(setting.words.index(str(one))) if setting.words else float(one) for one in settings[key]]
        if key in settings
        else [setting.default_on(screen)]
        for key, setting in generator.settings.items()
    }
    if generator.takes_images != (images is not None) and generator.takes_images:
        raise ReaderError(f"{name} is made of images: give some")
    n_images = len(images) if generator.takes_images and images is not None else 0
    rows = np.array(list(itertools.product(range(max(n_images, 1)), *numbers.values())), dtype=np.float64)
    values = {key: rows[:, 1 + at].copy() for at, key in enumerate(numbers)}
    of = rows[:, 0].astype(np.int64) if n_images else np.empty(0, dtype=np.int64)
    exemplar = values.get(EXEMPLAR, np.zeros(len(rows))).astype(np.int64)
    key = keys(seed, f"generated {name}", exemplar)
    if n_images and images is not None:
        key = np.empty(len(rows), dtype=np.int64)
        for number, image_id in enumerate(images.ids):
            key[of == number] = keys(seed, f"generated {name} of {image_id}", exemplar[of == number])
    varied = tuple(key for key, levels in numbers.items() if len(levels) > 1)
    return Drawing(generator, screen, values, key, varied, of)


def _factors(drawings: Sequence[Drawing]) -> tuple[str, ...]:
    """Columns that vary by design; of several generators none has a value everywhere."""
    if len(drawings) > 1:
        return ()
    (one,) = drawings
    return (names.OF_IMAGE,) * (len(set(one.of.tolist())) > 1) + one.varied


def _joined(tables: Sequence[Mapping[str, Column]], lengths: Sequence[int]) -> dict[str, Column]:
    """Put tables below each other; what one lacks is NaN, or empty text."""
    joined = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        is_text = any(table[name].dtype == object for table in tables if name in table)
        nothing: Any = "" if is_text else math.nan
        parts = [table.get(name, np.full(n, nothing)) for table, n in zip(tables, lengths, strict=True)]
        joined[name] = np.concatenate([part.astype(object if is_text else np.float64) for part in parts])
    return joined

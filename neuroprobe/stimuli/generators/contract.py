"""What a generator of stimuli is: its function, its settings, the registry, and the check of the contract."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Literal

import torch
from torch import Tensor

from neuroprobe import names
from neuroprobe.errors import RegistryError
from neuroprobe.registry import Registry
from neuroprobe.stimuli.generators.screen import PIXELS, Screen

Kind = Literal["number", "angle", "extent", "position", "frequency", "whole", "word"]
NYQUIST: Final = 0.5  # cycles/px; from there on a grating looks as one of a lower frequency
TOLERANCE: Final = 1e-9  # relative: of lengths that are computed from each other
SAME: Final = 1e-5  # apart that values may be which were computed in batches of another size
# columns of the presentation table, and dimensions of responses, which settings would be taken for
TAKEN: Final = {
    *(names.PRESENTATION, names.UNIT, names.CHANNEL, names.TOKEN, names.Y, names.X, names.TIME_BIN, names.LAYER),
    *(names.DESIGN, names.SAMPLE, names.ROLE, names.IMAGE_ID, names.CLASS_LABEL, names.SOURCE, names.ARM),
    *(names.FILE, names.STIMULUS_SET, names.START_TIME, names.STOP_TIME, names.ID),
    *(names.STIMULUS_ID, names.REPETITION, names.CONTROL_KIND, names.N_TRIALS, names.GENERATOR, names.OF_IMAGE),
}
EXEMPLAR: Final = "exemplar"  # the setting of which a random stimulus is a function


@dataclass(frozen=True)
class Setting:
    """One setting of a generator, which protocols give one value or several.

    Parameters
    ----------
    default : float
        Taken where a protocol gives none. Of a length, in parts of the shorter side of the image; of a frequency, in
        cycles per that side; of a word, its number. NaN stands for none, as for a grating without an aperture.
    kind : str
        ``number``; ``angle`` (degrees); ``extent`` (a length, such as a diameter, from a pixel to the screen);
        ``position`` (a length, on the screen); ``frequency`` (below Nyquist's); ``whole`` number; ``word``.
    low, high : float
        Values that make sense.
    words : tuple of str
        What protocols write for 0, 1, ….
    """

    default: float
    kind: Kind = "number"
    low: float = -math.inf
    high: float = math.inf
    words: tuple[str, ...] = ()

    def default_on(self, screen: Screen) -> float:
        """Return the default in the units of a screen."""
        if self.kind in ("extent", "position"):
            return self.default * screen.side
        return self.default / screen.side if self.kind == "frequency" else self.default

    def units(self, length: str) -> str:
        """Units of the values, where those of lengths are given."""
        of_frequency = "cycles/px" if length == PIXELS else "cycles/degree"
        known = {"angle": "degrees", "extent": length, "position": length, "frequency": of_frequency, "number": "1"}
        return known.get(self.kind, "")

    def complaint(self, value: float, screen: Screen | None = None) -> str:
        """Say what is wrong with a value, on a screen where it is known; empty where nothing is."""
        if not self.low <= value <= self.high:
            span = f"{self.low:g} or more" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"
            return f"lies {span}, received {value:g}"
        if self.kind == "whole" and value != int(value):
            return f"is a whole number, received {value:g}"
        if self.kind == "extent" and value <= 0 and self.low != 0:
            return f"is above 0, received {value:g}"
        return "" if screen is None else self._on_screen(value, screen)

    def _on_screen(self, value: float, screen: Screen) -> str:
        size = f"{screen.height} × {screen.width} px" + ("" if screen.degrees is None else f" for {screen.degrees:g}°")
        given = f"{value:g} {self.units(screen.units)}"
        in_pixels = value * (screen.pixel if self.kind == "frequency" else 1 / screen.pixel)
        if self.kind == "frequency" and in_pixels >= NYQUIST * (1 - TOLERANCE):
            return (
                f"of {given} has {in_pixels:.3g} cycles/px, and from {NYQUIST:g} (Nyquist's) it would look as a lower "
                f"one: with {size} it is below {NYQUIST / screen.pixel:g} {self.units(screen.units)}; lower it, or "
                "give more px by `size`" + ("" if screen.degrees is None else ", or fewer `degrees`")
            )
        if self.kind == "extent" and value > screen.side * (1 + TOLERANCE):
            return f"of {given} is larger than the screen ({size}), whose shorter side is {screen.side:g}: lower it"
        if self.kind == "extent" and 0 < in_pixels < 1 - TOLERANCE:
            return f"of {given} is {in_pixels:.3g} px, expected a pixel or more: raise it, or give more px by `size`"
        if self.kind == "position" and abs(value) > max(screen.extent) / 2 * (1 + TOLERANCE):
            return (
                f"of {given} is outside of the screen ({size}), which ends {max(screen.extent) / 2:g} from its centre"
            )
        return ""


@dataclass(frozen=True)
class Generator:
    """A generator: its function and its settings."""

    name: str
    function: Callable[..., Tensor]
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @cached_property
    def takes_key(self) -> bool:
        """Whether the function draws at random, from a key per stimulus."""
        return "key" in inspect.signature(self.function).parameters

    @cached_property
    def takes_images(self) -> bool:
        """Whether stimuli are made of images."""
        return "images" in inspect.signature(self.function).parameters

    def __call__(
        self, screen: Screen, values: Mapping[str, Tensor], key: Tensor | None = None, images: Tensor | None = None
    ) -> Tensor:
        """Draw stimuli (n, 3, height, width) with values (n,) of all settings but the exemplar; float32 in [0, 1]."""
        own = {name: value for name, value in values.items() if name != EXEMPLAR}
        with_key = {"key": key} if self.takes_key else {}
        with_images = {"images": images} if self.takes_images else {}
        return self.function(screen, **own, **with_key, **with_images)


GENERATORS: Final[Registry[Generator]] = Registry("generator")


def generator(name: str, **settings: Setting) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorate a function: register it as a generator of stimuli with these settings.

    The function takes a `Screen` and, for each setting, a float64 tensor (n,), of words their numbers; it gives float32
    (n, 3, height, width) in [0, 1] on the device of these. One that takes `key`, an int64 tensor (n,), draws at random
    as a function of it, and has a setting ``exemplar``, which tells its stimuli apart and is not handed on; one that
    takes `images` is given some (n, 3, height, width).

    Examples
    --------
    >>> import torch
    >>> @generator("half", level=Setting(1.0, low=0, high=1))
    ... def half(screen, level):
    ...     '''The right half at a level, the left one at mean grey.'''
    ...     x, _ = screen.grid(level)
    ...     shown = torch.where(x > 0, level.view(-1, 1, 1), 0.5)
    ...     return shown[:, None].expand(-1, 3, screen.height, -1).float()
    >>> check_generator("half")
    """
    if not name.isidentifier():
        raise RegistryError(f"generator {name!r}: expected a word of letters, digits and _")
    taken = sorted(TAKEN.intersection(settings))
    if taken:
        raise RegistryError(
            f"generator {name!r}: {', '.join(taken)} would be taken for another column of the presentation table: "
            "choose another name"
        )

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        made = Generator(name, function, settings)
        if made.takes_key != (EXEMPLAR in settings):
            raise RegistryError(
                f"generator {name!r}: one that takes `key` has a setting {EXEMPLAR!r}, and no other has: give both"
            )
        GENERATORS.add(name, made)
        return function

    return decorate


def check_generator(name: str, *, height: int = 24, width: int = 32) -> None:
    """Check that a registered generator keeps the contract; for authors of generators, and for our tests.

    It has to be batched (stimuli do not affect each other), deterministic, and to give float32 in [0, 1].

    Parameters
    ----------
    name : str
        Name in the registry.
    height, width : int
        Size of the stimuli that are tried.

    Raises
    ------
    RegistryError
        Naming the rule that is broken.
    """
    thing, n = GENERATORS[name], 4
    for screen in (Screen(height, width), Screen(height, width, degrees=6.0)):
        values = {
            key: torch.full((n,), setting.default_on(screen), dtype=torch.float64)
            for key, setting in thing.settings.items()
        }
        rng = torch.Generator().manual_seed(0)
        images = torch.rand(n, 3, height, width, generator=rng)
        for complaint in _complaints(thing, screen, values, torch.arange(n) + 10**12, images):
            raise RegistryError(f"generator {name!r}: {complaint}")


def _complaints(
    thing: Generator, screen: Screen, values: dict[str, Tensor], key: Tensor, images: Tensor
) -> Iterator[str]:
    """Rules that a generator breaks, one after the other; each relies on those before it."""

    def draw(part: slice = slice(None)) -> Tensor:
        return thing(screen, {name: value[part] for name, value in values.items()}, key[part], images[part])

    drawn: object = draw()
    if not isinstance(drawn, Tensor):
        yield f"it gave {type(drawn).__name__}, expected a tensor"
        return
    expected = (len(key), 3, screen.height, screen.width)
    if drawn.shape != expected or drawn.dtype != torch.float32:
        yield f"it gave {drawn.dtype} of shape {tuple(drawn.shape)}, expected torch.float32 of {expected}"
        return
    if not bool(((drawn >= 0) & (drawn <= 1)).all()):
        yield "it gave values outside [0, 1]: clamp them"
    if not torch.equal(drawn, draw()):
        yield "it is not deterministic: draw from `key`"
    alone = torch.cat([draw(slice(i, i + 1)) for i in range(len(key))])
    if not torch.allclose(alone, drawn, atol=SAME):
        yield "it mixes the stimuli of a batch: treat each by itself"

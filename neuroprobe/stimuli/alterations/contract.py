"""What an alteration is: its function, its parameters, the registry, and the check of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from neuroprobe.design.laws import Law
from neuroprobe.errors import RegistryError
from neuroprobe.registry import Registry

REFERENCE_SIDE: Final = 224


@dataclass(frozen=True)
class Parameter:
    """One parameter of an alteration.

    Parameters
    ----------
    law : Law
        Taken where a protocol gives none.
    low, high : float
        Values that make sense.
    identity : float, optional
        Value at which the alteration returns the image bit for bit; where several parameters have one, all together.
    units : str
        Of the value, for the presentation table.
    is_length : bool
        Whether the value is a length, given in px of an image of `REFERENCE_SIDE` and scaled to the image's side.
    words : tuple of str or bool
        Where the values are 0, 1, …: the words that a protocol writes for them, ``(False, True)`` of a flag.
    """

    law: Law
    low: float = -float("inf")
    high: float = float("inf")
    identity: float | None = None
    units: str = "1"
    is_length: bool = False
    words: tuple[str | bool, ...] = ()


@dataclass(frozen=True)
class Alteration:
    """An alteration: its function and its parameters."""

    name: str
    function: Callable[..., Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @cached_property
    def takes_key(self) -> bool:
        """Whether the function draws at random, from a key per image."""
        return "key" in inspect.signature(self.function).parameters

    def __call__(self, images: Tensor, parameters: Mapping[str, Tensor], key: Tensor, reference: float) -> Tensor:
        """Alter images; lengths are in px of an image of side `reference`."""
        scale = min(images.shape[-2:]) / reference
        scaled = {
            name: parameters[name] * scale if parameter.is_length else parameters[name]
            for name, parameter in self.parameters.items()
        }
        return self.function(images, **scaled, **({"key": key} if self.takes_key else {}))


ALTERATIONS: Final[Registry[Alteration]] = Registry("alteration")


def alteration(name: str, **parameters: Parameter) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorate a function: register it as an alteration with these parameters.

    Examples
    --------
    >>> import torch
    >>> @alteration("fading", level=Parameter(Law("uniform", (0.0, 1.0)), low=0, high=1, identity=1.0))
    ... def fading(images, level):
    ...     '''Multiply by a level.'''
    ...     return images * level.view(-1, 1, 1, 1)
    >>> check_alteration("fading")
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        ALTERATIONS.add(name, Alteration(name, function, parameters))
        return function

    return decorate


def per_image(values: Tensor) -> Tensor:
    """One value per image (n,), as a factor of images (n, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def choose(chosen: Tensor, altered: Tensor, images: Tensor) -> Tensor:
    """Take `altered` where `chosen` (float, broadcast) is 1, and `images` where it is 0, each bit for bit.

    Much faster than ``torch.where`` on a CPU, where operations on booleans are not vectorised.
    """
    return torch.lerp(images, altered, chosen)


def check_alteration(name: str, *, side: int = 32, n_images: int = 6) -> None:
    """Check that a registered alteration keeps the contract; for authors of alterations, and for our tests.

    It has to be batched (images do not affect each other), deterministic, to keep shape, dtype and range, to leave
    its input alone, and to return the image bit for bit at its identity parameters.

    Parameters
    ----------
    name : str
        Name in the registry.
    side, n_images : int
        Size of the test batch.

    Raises
    ------
    RegistryError
        Naming the rule that is broken.
    """
    thing = ALTERATIONS[name]
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(n_images, 3, side, side, generator=rng)
    u = torch.rand(len(thing.parameters), n_images, generator=rng).double().numpy()
    drawn = {
        key: torch.from_numpy(parameter.law.ppf(row)).float()
        for (key, parameter), row in zip(thing.parameters.items(), u, strict=True)
    }
    for complaint in _complaints(thing, images, drawn, torch.arange(n_images) + 10**12):
        raise RegistryError(f"alteration {name!r}: {complaint}")


def _complaints(thing: Alteration, images: Tensor, drawn: dict[str, Tensor], key: Tensor) -> Iterator[str]:
    """Rules that an alteration breaks, one after the other; each relies on those before it."""

    def alter(values: dict[str, Tensor], part: slice = slice(None)) -> Tensor:
        return thing(images[part].clone(), {k: v[part] for k, v in values.items()}, key[part], REFERENCE_SIDE)

    kept = images.clone()
    altered: object = thing(images, drawn, key, REFERENCE_SIDE)
    if not isinstance(altered, Tensor):
        yield f"it gave {type(altered).__name__}, expected a tensor"
        return
    if not torch.equal(images, kept):
        yield "it changed its input: work on a copy"
    if altered.shape != images.shape:
        yield f"it gave shape {tuple(altered.shape)} for {tuple(images.shape)}"
    if altered.dtype != images.dtype:
        yield f"it gave {altered.dtype} for {images.dtype}"
    if not bool(((altered >= 0) & (altered <= 1)).all()):
        yield "it gave values outside [0, 1]: clamp them"
    if not torch.equal(altered, alter(drawn)):
        yield "it is not deterministic: draw from `key`"
    alone = torch.cat([alter(drawn, slice(i, i + 1)) for i in range(len(images))])
    if alone.shape != altered.shape or not torch.allclose(alone, altered, atol=1e-5):
        yield "it mixes the images of a batch: treat each by itself"
    identity = {k: p.identity for k, p in thing.parameters.items() if p.identity is not None}
    if identity:
        values = {k: torch.full_like(v, identity[k]) if k in identity else v for k, v in drawn.items()}
        if not torch.equal(alter(values), images):
            yield f"at its identity {identity} it does not return the image bit for bit"

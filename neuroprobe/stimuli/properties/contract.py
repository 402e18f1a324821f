"""What a manipulation is: its function, its options, the registry, and the check of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import torch
from pydantic import ValidationError
from torch import Tensor

from neuroprobe.errors import RegistryError, reason
from neuroprobe.protocol.model import Model, problem
from neuroprobe.registry import Registry

Alter = Callable[[Tensor, Any, Tensor], Tensor]
Members = Callable[[Any], tuple[str, ...]]
SIZES: Final = ((40, 33), (24, 24), (5, 3), (1, 7), (2, 2), (1, 1))  # height and width (px) that are tried
SAME: Final = 1e-4  # apart that values may be which were computed in batches of another size


class NoOptions(Model):
    """Options of a manipulation that has none."""


def one_member(options: Model) -> tuple[str, ...]:
    """Label of a manipulation that is no family."""
    return ("",)


@dataclass(frozen=True)
class Manipulation:
    """A manipulation that takes a property away from stimuli, alone or as a family, as of angles.

    Parameters
    ----------
    name : str
        Of the selectivity index, and of its variables in a result.
    summary : str
    options : type of Model
        Its parameters, all with defaults.
    members : function
        From the options to the labels of the family, in the order in which `alter` gives them; ``("",)`` of one.
    alter : function
        Of crops (n, 3, height, width) in [0, 1], options, and keys (n,), giving (members, n, 3, height, width) in
        [0, 1], with NaN for a crop to which a member does not apply.
    invariance : bool
        Whether the index is what is left of the response, as for mirror symmetry, not what is lost.
    """

    name: str
    summary: str
    options: type[Model]
    members: Members
    alter: Alter
    invariance: bool = False


MANIPULATIONS: Final[Registry[Manipulation]] = Registry("selectivity index", "selectivity indexes")


def manipulation(
    name: str,
    *,
    summary: str | None = None,
    options: type[Model] = NoOptions,
    members: Members = one_member,
    invariance: bool = False,
) -> Callable[[Alter], Alter]:
    """Decorate a function: register it as the manipulation of a selectivity index.

    Parameters
    ----------
    name : str
        A word that a query can hold: letters, digits and _.
    summary : str, optional
        Else the first line of the function's docstring.
    options, members, invariance
        As in `Manipulation`.

    Raises
    ------
    RegistryError
        For a name that is no word, or is taken.

    Examples
    --------
    >>> @manipulation("polarity")
    ... def polarity(crops, options, keys):
    ...     '''Exchange light and dark.'''
    ...     return (1 - crops)[None]
    >>> check_manipulation("polarity")
    >>> MANIPULATIONS["polarity"].summary
    'Exchange light and dark.'
    """
    if not name.isidentifier():
        raise RegistryError(
            f"{MANIPULATIONS.kind} {name!r}: expected a word of letters, digits and _, which a query can hold"
        )

    def decorate(function: Alter) -> Alter:
        first = (inspect.getdoc(function) or "").split("\n")[0]
        made = Manipulation(name, first if summary is None else summary, options, members, function, invariance)
        MANIPULATIONS.add(name, made)
        return function

    return decorate


def labels(values: Iterable[float]) -> tuple[str, ...]:
    """Labels of a family by its numbers.

    Examples
    --------
    >>> labels((15.0, 0.5, 0))
    ('15', '0.5', '0')
    """
    return tuple(f"{value:g}" for value in values)


def distinct(values: tuple[float, ...]) -> tuple[float, ...]:
    """Refuse numbers whose labels are equal; for options."""
    if len(set(labels(values))) < len(values):
        raise problem(f"given {', '.join(labels(values))}, expected distinct numbers")
    return values


def check_manipulation(thing: str | Manipulation, options: Model | None = None, *, device: str = "cpu") -> None:
    """Check that a manipulation keeps the contract; for authors of manipulations, and for our tests.

    It has to be batched (crops do not affect each other), a function of crops and keys, to give one altered batch per
    member, in the dtype and on the device of the crops, in [0, 1], and to leave its input alone: for crops of any
    size, down to one pixel, uniform and grey ones among them.

    Parameters
    ----------
    thing : str or Manipulation
        Or its name in the registry.
    options : Model, optional
        Else its defaults.
    device : str
        On which the crops lie.

    Raises
    ------
    RegistryError
        Naming the rule that is broken.
    """
    found = MANIPULATIONS[thing] if isinstance(thing, str) else thing
    for complaint in _complaints(found, options, device):
        raise RegistryError(f"{MANIPULATIONS.kind} {found.name!r}: {complaint}")


def _complaints(thing: Manipulation, options: Model | None, device: str) -> Iterator[str]:
    """Rules that a manipulation breaks, one after the other; each relies on those before it."""
    of: object = thing.options
    if not (isinstance(of, type) and issubclass(of, Model)):
        yield f"its options are {of!r}, expected a subclass of Model"
        return
    if options is None:
        try:
            options = of()
        except ValidationError as error:
            missing = ", ".join(str(part) for item in error.errors() for part in item["loc"])
            yield f"its options have no valid default for {missing}: give each one"
            return
    members: object = thing.members(options)
    if not (isinstance(members, tuple) and members and all(isinstance(label, str) for label in members)):
        yield f'its members are {members!r}, expected a tuple of labels, ("",) for one alone'
        return
    if len(set(members)) < len(members):
        yield f"its members {', '.join(members)} are not distinct"
    for height, width in SIZES:
        for dtype in (torch.float32, torch.float64):
            crops = _crops(height, width).to(device, dtype)
            try:
                found = list(islice(_complaints_of_crops(thing, options, len(members), crops), 1))
            except Exception as error:
                found = [f"it raised {reason(error)}"]
            yield from (f"of crops of {height}×{width} px: {complaint}" for complaint in found)


def _crops(height: int, width: int) -> Tensor:
    """Three crops of noise, and a grey one, a uniform one and a black one, which have no hue, contrast or light."""
    crops = torch.rand(6, 3, height, width, generator=torch.Generator().manual_seed(0))
    crops[3] = crops[3, :1]
    crops[4] = crops[4, :, :1, :1]
    crops[5] = 0
    return crops


def _keys(crops: Tensor) -> Tensor:
    return torch.arange(len(crops), device=crops.device) + 10**12


def _complaints_of_crops(thing: Manipulation, options: Model, n_members: int, crops: Tensor) -> Iterator[str]:
    """Rules that a manipulation breaks for crops of one size."""

    def alter(part: slice = slice(None)) -> Tensor:
        return thing.alter(crops[part].clone(), options, _keys(crops)[part])

    given = crops.clone()
    altered: object = thing.alter(given, options, _keys(crops))
    if not isinstance(altered, Tensor):
        yield f"it gave {type(altered).__name__}, expected a tensor"
        return
    if not torch.equal(given, crops):
        yield "it changed its input: work on a copy"
    expected = (n_members, *crops.shape)
    if altered.shape != expected:
        yield f"it gave shape {tuple(altered.shape)}, expected (members, crops, 3, height, width) = {expected}"
        return
    if altered.dtype != crops.dtype or altered.device != crops.device:
        yield f"it gave {altered.dtype} on {altered.device} for {crops.dtype} on {crops.device}"
    missing = altered.isnan().flatten(2)
    if bool((missing.any(2) & ~missing.all(2)).any()):
        yield "it gave NaN for a part of a crop: expected all of it, where a member does not apply, or none"
    if not bool(((altered >= 0) & (altered <= 1) | altered.isnan()).all()):
        yield "it gave values outside [0, 1]: clamp them"
    if not torch.equal(altered.nan_to_num(nan=-1), alter().nan_to_num(nan=-1)):
        yield "it is not deterministic: draw from `keys`"
    alone = torch.cat([alter(slice(i, i + 1)) for i in range(len(crops))], 1)
    if alone.shape != altered.shape or not torch.allclose(alone, altered, atol=SAME, rtol=0, equal_nan=True):
        yield "it mixes the crops of a batch: treat each by itself"

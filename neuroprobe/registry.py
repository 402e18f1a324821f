"""Named things that users may add to: a decorator, entry points, and errors that list what exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from neuroprobe.errors import RegistryError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A mapping from names to things of one kind, open to other packages.

    Parameters
    ----------
    kind : str
        What the things are called in messages ("alteration", "network", ...).
    plural : str, optional
        Of the kind, where it is not the kind with an s.

    Notes
    -----
    A package adds its own by an entry point in the group ``neuroprobe.<plural>``, with _ for spaces, named as the
    thing is named; it is loaded when it is first asked for.

    Examples
    --------
    >>> colours = Registry("colour")
    >>> colours.add("red", 0xFF0000)
    >>> colours["red"]
    16711680
    >>> colours["rad"]
    Traceback (most recent call last):
        ...
    neuroprobe.errors.RegistryError: unknown colour 'rad' (did you mean 'red'?); known: red
    """

    def __init__(self, kind: str, plural: str | None = None) -> None:
        self.kind = kind
        self.group = f"neuroprobe.{(plural or f'{kind}s').replace(' ', '_')}"
        self._known: dict[str, T] = {}

    def add(self, name: str, thing: T) -> None:
        """Register `thing` under `name`; a name that is taken by another thing is an error."""
        if self._known.get(name, thing) is not thing:
            raise RegistryError(f"{self.kind} {name!r} is registered already: choose another name")
        self._known[name] = thing

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate: register the decorated thing under `name`."""

        def decorate(thing: T) -> T:
            self.add(name, thing)
            return thing

        return decorate

    def __getitem__(self, name: str) -> T:
        if name not in self._known:
            self._load(name)
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """All names: ours in the order of registration, then those of other packages."""
        return list(dict.fromkeys([*self._known, *(point.name for point in entry_points(group=self.group))]))

    def _load(self, name: str) -> None:
        points = [point for point in entry_points(group=self.group) if point.name == name]
        if not points:
            raise RegistryError(unknown_name(self.kind, name, self.names()))
        try:
            thing = points[0].load()
        except Exception as error:
            raise RegistryError(
                f"{self.kind} {name!r}: the package that offers it ({points[0].value}) does not import: {error}"
            ) from error
        self._known.setdefault(name, thing)

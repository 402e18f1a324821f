"""What a reader of recordings is, and what it gives out: the contract, its registry and its checker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError, shown, unknown_name
from neuroprobe.registry import Registry

Window = tuple[float, float]
MEASURES: Final = ("count", "rate")
MAX_PROBLEMS: Final = 20  # that a message lists
UNIT_DIMS: Final = {names.UNIT, names.CHANNEL, names.TOKEN}


@dataclass(frozen=True)
class Choices:
    """What a caller says of a recording; None where nothing is said.

    Attributes
    ----------
    trials : str, mapping or path
        The table of presentations: its name in the file, a table's path, or its columns.
    window : (float, float) or ``"interval"``
        s after the start of a presentation, [start, stop); or each presentation's own interval.
    baseline : (float, float)
        s, likewise.
    factors : sequence of str
        Columns of the table that the experimenter varied.
    units : sequence of str
        Identifiers of units, with ``*`` for any characters.
    region : sequence of str
    bins : float or sequence of float
        Width of bins of time in s, or their edges after the start of a presentation.
    measure : str
        ``count`` or ``rate``.
    options : mapping
        What one reader alone understands.
    """

    trials: Any = None
    window: Window | str | None = None
    baseline: Window | None = None
    factors: Sequence[str] | None = None
    units: Sequence[str] | None = None
    region: Sequence[str] | None = None
    bins: float | Sequence[float] | None = None
    measure: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def given(self) -> dict[str, Any]:
        """Return the choices that were made, by name."""
        named = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "options"}
        return {name: value for name, value in {**named, **self.options}.items() if value is not None}

    def option(self, name: str, default: Any = None) -> Any:
        """Return an option, or `default` where it was not given."""
        value = self.options.get(name)
        return default if value is None else value


@dataclass(frozen=True)
class Reader:
    """Reads recordings of one format.

    Attributes
    ----------
    summary : str
        One line for lists.
    claims : callable
        Whether a path (or another object) looks like this format; it opens no more than a header, and never raises.
    read : callable
        (path or object, Choices) → DataTree that `check_recording` accepts.
    choices : frozenset of str
        The choices and options that mean something to it; any other is refused before it is called.
    """

    summary: str
    claims: Callable[[Any], bool]
    read: Callable[[Any, Choices], xr.DataTree]
    choices: frozenset[str]

    def require_known(self, name: str, choices: Choices) -> None:
        """Refuse choices that the format has no use for.

        Raises
        ------
        ReaderError
        """
        for choice in choices.given():
            if choice not in self.choices:
                raise ReaderError(unknown_name(f"choice for {name} recordings", choice, sorted(self.choices)))


READERS: Final[Registry[Reader]] = Registry("recording reader")


def check_recording(tree: xr.DataTree) -> None:
    """Check that a tree is a recording which every analysis can use.

    Parameters
    ----------
    tree : xarray.DataTree
        Of a reader, or of `neuroprobe.open_recording`.

    Raises
    ------
    ReaderError
        With everything that is wrong.

    Notes
    -----
    ``/responses`` has one node per population that was recorded together. A node holds numbers
    ``response(presentation, unit[, time_bin])`` (a network's: its own dimensions), the presentation table as
    coordinates of ``presentation``, and ``unit_id`` on ``unit`` without repeats. The table stands at the root too,
    unless nodes have tables of their own: then the root has no presentations. Bins of time have ``time_bin_start`` and
    ``time_bin_end`` in s; a mean over trials has ``n_trials``. Coordinates are numbers or text, attributes numbers
    or text, so that all can be stored.

    Examples
    --------
    >>> check_recording(xr.DataTree.from_dict({"/responses/it": xr.Dataset({"rate": ("unit", [1.0])})}))
    Traceback (most recent call last):
        ...
    neuroprobe.errors.ReaderError: not a recording: /responses/it: no variable 'response'
    """
    problems = list(_problems(tree))
    if problems:
        more = f"\n… and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise ReaderError("not a recording: " + "\n".join(problems[:MAX_PROBLEMS]) + more)


def _problems(tree: xr.DataTree) -> Iterator[str]:
    yield from _storable("/", tree.to_dataset())
    if names.RESPONSES not in tree.children or not tree[names.RESPONSES].children:
        yield f"/{names.RESPONSES}: no node, expected one per population"
        return
    root = tree.to_dataset()
    stray = [str(name) for name, variable in root.variables.items() if variable.dims != (names.PRESENTATION,)]
    if stray:
        yield f"/: {', '.join(stray)} not on ({names.PRESENTATION},) alone, as the presentation table is"
    for node in tree[names.RESPONSES].children.values():
        dataset = node.to_dataset(inherit=False)
        for problem in [*_storable(node.path, dataset), *_node_problems(dataset, root)]:
            yield problem if problem.startswith("/") else f"{node.path}: {problem}"


def _node_problems(node: xr.Dataset, root: xr.Dataset) -> Iterator[str]:
    if names.RESPONSE not in node:
        yield f"no variable {names.RESPONSE!r}"
        return
    response = node[names.RESPONSE]
    if response.dims[0] != names.PRESENTATION or not UNIT_DIMS & set(response.dims):
        yield f"response has dims {response.dims}, expected ({names.PRESENTATION}, {names.UNIT}[, {names.TIME_BIN}])"
    if response.dtype.kind not in "iuf":
        yield f"response has type {response.dtype}, expected numbers"
    table = {str(name) for name, column in node.coords.items() if column.dims == (names.PRESENTATION,)}
    for name in root.coords:
        if str(name) not in table:
            yield f"column {name} of the root's presentation table is missing"
    if names.UNIT in response.dims:
        yield from _unit_problems(node)
    if names.TIME_BIN in response.dims:
        for name in (names.TIME_BIN_START, names.TIME_BIN_END):
            if name not in node.coords or node[name].dims != (names.TIME_BIN,):
                yield f"no coordinate {name} on {names.TIME_BIN}"
    if names.BASELINE in node and node[names.BASELINE].dims != response.dims[:2]:
        yield f"baseline has dims {node[names.BASELINE].dims}, expected {response.dims[:2]}"
    if names.N_TRIALS in node.variables and not (node[names.N_TRIALS] >= 1).all():
        yield f"{names.N_TRIALS} is below 1 somewhere: leave conditions without trials out"


def _unit_problems(node: xr.Dataset) -> Iterator[str]:
    if names.UNIT_ID not in node.coords or node[names.UNIT_ID].dims != (names.UNIT,):
        yield f"no coordinate {names.UNIT_ID} on {names.UNIT}"
        return
    # zarr gives text in a type of its own, which numpy does not turn into another
    for most, n in Counter(map(str, node[names.UNIT_ID].values.tolist())).most_common(1):
        if n > 1:
            yield f"{names.UNIT_ID} {most!r} is given to {n} units"


def _storable(path: str, dataset: xr.Dataset) -> Iterator[str]:
    """What cannot be written to zarr or netCDF, and read back as it was."""
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "O":
            strange = [value for value in np.asarray(variable.values).ravel() if not isinstance(value, str)]
            if strange:
                yield f"{path}: {name} holds {shown(strange[0])}, expected numbers or text"
        elif variable.dtype.kind not in "iufUT":
            yield f"{path}: {name} has type {variable.dtype}, expected numbers or text"
        for attribute, value in variable.attrs.items():
            if not _is_plain(value):
                yield f"{path}: attribute {attribute} of {name} is {shown(value)}, expected a number or text"
    for attribute, value in dataset.attrs.items():
        if not _is_plain(value):
            yield f"{path}: attribute {attribute} is {shown(value)}, expected a number or text"


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float | np.integer | np.floating) and not isinstance(value, bool)

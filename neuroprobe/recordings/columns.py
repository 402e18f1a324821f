"""Columns of tables as they come: text in bytes, units in names, numbers that stand for something else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, shown, unknown_name

Column = NDArray[Any]
# what laboratories write where there is no value, or for a stimulus that is none
SENTINELS: Final = (98, 99, 999, 9999, 99999)
FAR: Final = 10  # times the largest other value, from where such a number is suspect
N_LISTED: Final = 12  # values or names that a message lists
UNIT_IN_NAME: Final = re.compile(r"^(?P<name>.*\S)\s*[(\[](?P<units>[^()\[\]]+)[)\]]$")


@dataclass
class Table:
    """Columns of equal length, with the units of some.

    Attributes
    ----------
    columns : dict
        Name → numbers (float64, int64) or text (object).
    units : dict of str
        Name → units, where they are known.
    place : callable
        Where a row came from, as messages say it.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    place: Callable[[int], str] = "row {}".format

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def listed(self) -> str:
        """Names of the columns, as messages show them."""
        return listed(self.columns)


def listed(values: Any) -> str:
    """Return values as messages show them: the first, and how many more."""
    values = [str(value) for value in values]
    more = f", … ({len(values)} in all)" if len(values) > N_LISTED else ""
    return ", ".join(values[:N_LISTED]) + more if values else "none"


def plain(values: Any) -> Column:
    """Return values as numbers (float64, int64) or text (object), which is all that is stored.

    Examples
    --------
    >>> plain([b"left", "right"]), plain(np.array([True, False])), plain(np.float32([0.5]))
    (array(['left', 'right'], dtype=object), array([1, 0]), array([0.5]))
    """
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        # -0.0 is the condition 0.0
        return array.astype(np.float64) + 0.0
    if array.dtype.kind in "mM":
        return array.astype(str).astype(object)
    text = np.empty(array.shape, dtype=object)
    text[...] = np.vectorize(_text, otypes=[object])(array) if array.size else ""
    return text


def _text(value: Any) -> str:
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", errors="replace")
    return "" if value is None or value != value else str(value)


def name_and_units(header: str) -> tuple[str, str]:
    """Split ``disparity (deg)`` or ``speed [deg/s]`` into a name and units; the name is fit for a variable.

    Examples
    --------
    >>> name_and_units("stimulus speed (deg/s)"), name_and_units("contrast")
    (('stimulus_speed', 'deg/s'), ('contrast', ''))
    """
    found = UNIT_IN_NAME.match(header.strip())
    name, units = (found["name"], found["units"].strip()) if found else (header.strip(), "")
    return re.sub(r"[\s/]+", "_", name), units


def chosen(kind: str, patterns: Sequence[str] | str, known: Sequence[str]) -> list[int]:
    """Return the places of the names that are asked for, ``*`` for any characters, in the order of `known`.

    Raises
    ------
    ReaderError
        If one of them is not there.
    """
    places: set[int] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = [place for place, name in enumerate(known) if fnmatchcase(name, str(pattern))]
        if not hits:
            some = list(dict.fromkeys(known))
            raise ReaderError(
                unknown_name(kind, str(pattern), some)
                if len(some) <= N_LISTED
                else f"unknown {kind} {str(pattern)!r}; known: {listed(some)}"
            )
        places.update(hits)
    return sorted(places)


def refuse_sentinels(name: str, values: Column, place: Callable[[int], str]) -> None:
    """Refuse a column in which a number such as −9999 or 99 stands far outside all others.

    Raises
    ------
    ReaderError
        With the place of the first one, as `place` tells it of a row.
    """
    if values.dtype.kind not in "if" or not len(values):
        return
    size = np.abs(values)
    suspect = np.isin(size, SENTINELS)
    if not suspect.any():
        return
    others = size[~suspect & np.isfinite(size)]
    far = suspect & (size > FAR * others.max(initial=0)) if len(others) else np.zeros_like(suspect)
    if far.any():
        first = int(np.flatnonzero(far)[0])
        found = listed(np.unique(values[far]))
        raise ReaderError(
            f"{place(first)}: {name} is {values[first]:g}, far outside the other values (up to {others.max():g}); "
            f"if {found} mean that there is no value, say `missing={{{name!r}: [{found}]}}`, if they are "
            f"controls, `controls={{{name!r}: {{{values[first]:g}: 'blank'}}}}`, and if they are values, `missing={{}}`"
        )


def without_missing(name: str, values: Column, missing: Sequence[Any]) -> Column:
    """Return a column with NaN (or empty text) in place of the values that stand for none."""
    if values.dtype.kind == "O":
        gone = np.isin(values, [str(value) for value in missing])
        return np.where(gone, "", values).astype(object)
    numbers = [float(value) for value in missing if not isinstance(value, str)]
    gone = np.isin(values, numbers)
    return np.where(gone, np.nan, values.astype(np.float64)) if gone.any() else values


def split_controls(table: Table, controls: Mapping[str, Mapping[Any, str]]) -> None:
    """Tell stimuli from control conditions that a column marks by special values, such as ±99 for one eye alone.

    The column gets NaN there; ``control_kind`` names the condition and is empty for stimuli, and ``arm`` is
    ``control`` or ``treatment``.

    Raises
    ------
    ReaderError
        If there is no such column, or it holds text.
    """
    kind = np.full(len(table), "", dtype=object)
    for name, meanings in controls.items():
        if name not in table.columns:
            raise ReaderError(unknown_name("column of controls", name, list(table.columns)))
        column = table.columns[name]
        if column.dtype.kind == "O":
            raise ReaderError(f"column {name!r} holds text, such as {shown(column[0])}: controls are given by numbers")
        marked = np.isin(column, [float(value) for value in meanings])
        for value, meaning in meanings.items():
            kind[(column == float(value)) & (kind == "")] = str(meaning)
        table.columns[name] = np.where(marked, np.nan, column.astype(np.float64))
    table.columns[names.CONTROL_KIND] = kind
    arm = np.where(kind == "", names.TREATMENT, names.CONTROL)
    table.columns[names.ARM] = arm.astype(object)

"""Recordings in MATLAB files (version 5): arrays of structs, one element per unit, or matrices; told by a layout."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, unknown_name
from neuroprobe.recordings.build import choose_units, factors_attr, node_of, rows_of, tree_of
from neuroprobe.recordings.columns import (
    Table,
    listed,
    plain,
    refuse_sentinels,
    split_controls,
    without_missing,
)
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.registry import Registry

Element = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class MatLayout:
    """Which variables or fields of a MATLAB file hold what.

    Attributes
    ----------
    response : str
        Field of the responses: one per presentation, or a matrix (presentations, units).
    factors : tuple of str
        Fields with one value per presentation.
    variable : str
        Struct array of which each element is one unit, recorded alone; empty where the file's own variables are the
        fields.
    repeats : str
        Field, a cell array, of the single responses that each mean in `response` is of.
    n_trials : str
        Field with the number of trials of each mean.
    unit_id : str
        Field with the unit's name; by default the struct's variable and the place in it, from 1.
    region : str
        Field with the unit's region, or where there is no such field the region of all.
    region_names : dict
        Value of that field → name.
    subject : str
        Field with the subject's name.
    subject_pattern : str
        Regular expression whose first group finds it in that field.
    unit_fields : tuple of str
        Fields that describe the unit; one with several values becomes ``<field>_1``, ``<field>_2``, ….
    controls : dict
        Factor → value → what it stands for; see `split_controls`.
    missing : dict or tuple
        Values that stand for none, of all factors and the response, or by field.
    units : dict
        Field → its units.
    about : str
        One line: which data have this layout.
    """

    response: str
    factors: tuple[str, ...] = ()
    variable: str = ""
    repeats: str = ""
    n_trials: str = ""
    unit_id: str = ""
    region: str = ""
    region_names: Mapping[Any, str] = field(default_factory=dict)
    subject: str = ""
    subject_pattern: str = ""
    unit_fields: tuple[str, ...] = ()
    controls: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    missing: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    about: str = ""


LAYOUTS: Final[Registry[MatLayout]] = Registry("recording layout")

LAYOUTS.add(
    "manning2024_mt",
    MatLayout(
        variable="ddat",
        response="firing_rate",
        factors=("disparity", "speed"),
        unit_id="cellnum",
        region="MT",
        subject="cellnum",
        subject_pattern=r"^(m\d+)c",
        controls={
            "disparity": {-9999: "null", -99: "left_eye", 99: "right_eye", 98: "uncorrelated"},
            "speed": {-9999: "null"},
        },
        units={"firing_rate": "spikes/s", "disparity": "degree", "speed": "degree/s"},
        about="macaque MT, single trials of disparity (Manning et al. 2024; DeAngelis & Uka 2003)",
    ),
)
LAYOUTS.add(
    "manning2024_v1v2",
    MatLayout(
        variable="DTdata",
        response="resp",
        factors=("dx",),
        repeats="counts",
        region="visualarea",
        region_names={1: "V1", 2: "V2"},
        unit_fields=("pval", "exptype", "or", "rf", "duration", "fp"),
        # not in the data's README: beside `dx` of the longer file, `uid` and `monocid` point at these rows
        controls={"dx": {-1002: "monocular", -1005: "uncorrelated"}},
        units={"resp": "spikes", "dx": "degree", "or": "degree", "rf": "degree", "fp": "degree", "duration": "s"},
        about="macaque V1 and V2, mean counts by disparity; single trials as trials='counts' (Manning et al. 2024)",
    ),
)


def read_matlab(path: Path, choices: Choices) -> xr.DataTree:
    """Read a recording from a MATLAB file, or from all of a folder.

    Parameters
    ----------
    path : Path
    choices : Choices
        ``layout``: the name of one in `LAYOUTS`, or a mapping of `MatLayout`'s attributes. ``trials``: the layout's
        field of single trials, where means and trials are both there; means by default.

    Raises
    ------
    ReaderError
        If the file cannot be read, does not fit the layout, or there is none: it lists variables and fields.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.mat"))
    layout = _layout(choices, files[0])
    if choices.trials is not None and choices.trials != layout.repeats:
        raise ReaderError(unknown_name("field of single trials", choices.trials, [layout.repeats or "none"]))
    sources: list[tuple[str, Element]] = []
    for file in files:
        sources += _elements(file, layout)
    if not layout.variable:
        nodes = {where: _node(where, element, layout, choices) for where, element in sources}
        return _finished(nodes, choices)
    units = [_unit_of(where, element, layout) for where, element in sources]
    together = Table({name: plain([unit.get(name, "") for unit in units]) for name in (names.UNIT_ID, names.REGION)})
    if not any(together.columns[names.REGION]):
        del together.columns[names.REGION]
    kept = choose_units(together, choices)
    nodes = {}
    for place in kept:
        name = str(units[place][names.UNIT_ID])
        if name in nodes:
            raise ReaderError(f"{sources[place][0]}: another unit is called {name!r} too")
        nodes[name] = _node(*sources[place], layout, choices, units[place])
    return _finished(nodes, choices)


def _finished(nodes: Mapping[str, xr.Dataset], choices: Choices) -> xr.DataTree:
    first = next(iter(nodes.values()))
    columns = Table({str(n): c.values for n, c in first.coords.items() if c.dims == (names.PRESENTATION,)})
    return tree_of(nodes, attrs=factors_attr(columns, choices))


def _layout(choices: Choices, file: Path) -> MatLayout:
    given = choices.option("layout")
    if isinstance(given, str):
        return LAYOUTS[given]
    if isinstance(given, MatLayout):
        return given
    known = [one.name for one in fields(MatLayout)]
    if given is None:
        held = "\n".join(f"  {line}" for line in _contents(_load(file)))
        raise ReaderError(
            f"{str(file)!r}: which variables are what? Say `layout`: {listed(LAYOUTS)}, or a mapping with `response`, "
            f"`factors`, `variable`, …; the file holds\n{held}"
        )
    for key in given:
        if key not in known:
            raise ReaderError(unknown_name("key of a layout", key, known))
    if "response" not in given:
        raise ReaderError("a layout says which field is the `response`")
    lists = {
        key: (value,) if isinstance(value, str) else tuple(value)
        for key, value in given.items()
        if key in ("factors", "unit_fields")
    }
    return MatLayout(**{**given, **lists})


def _load(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        variables: dict[str, Any] = loadmat(file)
    except NotImplementedError:
        raise ReaderError(f"{str(file)!r} is of MATLAB 7.3: save it with `-v7`, which this reads") from None
    except Exception as error:  # scipy meets a damaged file with errors of many kinds
        raise ReaderError(f"{str(file)!r}: not a MATLAB file that can be read: {reason(error)}") from error
    return {name: value for name, value in variables.items() if not name.startswith("__")}


def _contents(variables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in variables.items():
        shape = "×".join(str(n) for n in value.shape)
        if value.dtype.names:
            yield f"{name}: {shape} struct with fields {', '.join(value.dtype.names)}"
        else:
            yield f"{name}: {shape} {'cell' if value.dtype.kind == 'O' else value.dtype}"


def _elements(file: Path, layout: MatLayout) -> list[tuple[str, Element]]:
    """Places and fields of the units in a file, or of the file itself."""
    variables = _load(file)
    if not layout.variable:
        return [(file.stem, variables)]
    structs = variables.get(layout.variable)
    if structs is None or not structs.dtype.names:
        held = "; ".join(_contents(variables))
        raise ReaderError(f"{str(file)!r}: no struct {layout.variable!r}; it holds {held}")
    fields_of = structs.dtype.names
    return [
        (f"{file.stem}: {layout.variable}({place})", {name: one[name] for name in fields_of})
        for place, one in enumerate(structs.ravel(), start=1)
    ]


def _field(where: str, element: Element, name: str) -> NDArray[Any]:
    if name not in element:
        raise ReaderError(f"{where}: {unknown_name('field', name, list(element))}")
    return np.asarray(element[name])


def _unit_of(where: str, element: Element, layout: MatLayout) -> dict[str, Any]:
    """What is known of one unit: its name, region, subject, and the layout's fields."""
    place = where.rpartition("(")[2].rstrip(")")
    unit: dict[str, Any] = {names.UNIT_ID: f"{layout.variable}_{int(place):04d}"}
    if layout.unit_id:
        unit[names.UNIT_ID] = str(_scalar(_field(where, element, layout.unit_id)))
    if layout.region:
        given = _scalar(element[layout.region]) if layout.region in element else layout.region
        unit[names.REGION] = str(layout.region_names.get(given, given))
    if layout.subject:
        text = str(_scalar(_field(where, element, layout.subject)))
        found = re.search(layout.subject_pattern or "(.*)", text)
        unit[names.SUBJECT_ID] = found[1] if found else ""
    for name in layout.unit_fields:
        values = _field(where, element, name).ravel()
        if len(values) <= 1:
            unit[name] = _scalar(values)
        else:
            unit |= {f"{name}_{number}": _scalar(value) for number, value in enumerate(values, start=1)}
    return unit


def _scalar(values: Any) -> Any:
    """Return the one value of a field; NaN of an empty one."""
    flat = np.asarray(values).ravel()
    return flat[0].item() if len(flat) and hasattr(flat[0], "item") else flat[0] if len(flat) else np.nan


def _node(
    where: str, element: Element, layout: MatLayout, choices: Choices, unit: Mapping[str, Any] | None = None
) -> xr.Dataset:
    response = _field(where, element, layout.response)
    response = response.reshape(-1, 1) if 1 in response.shape or response.ndim < 2 else response
    if response.dtype.kind not in "iuf":
        raise ReaderError(f"{where}: {layout.response} is of {response.dtype}, expected numbers")
    values = plain(response)
    table = Table(units=dict(layout.units), place=lambda row: f"{where}: presentation {row + 1}")
    for name in layout.factors:
        column = _column(_field(where, element, name), name, where)
        if len(column) != len(values):
            raise ReaderError(
                f"{where}: {name} has {len(column)} values, {layout.response} has {len(values)} presentations"
            )
        table.columns[name] = _cleaned(name, column, layout, table)
    if layout.repeats and choices.trials is not None:
        values, table = _single_trials(where, element, layout, table, values)
    elif layout.repeats or layout.n_trials:
        table.columns[names.N_TRIALS] = _n_trials(where, element, layout, len(values))
    if layout.controls:
        split_controls(table, {name: m for name, m in layout.controls.items() if name in layout.factors})
    for number in range(values.shape[1]):
        values[:, number] = _cleaned(layout.response, values[:, number], layout, table)
    attrs = {"units": layout.units[layout.response]} if layout.response in layout.units else {}
    if unit is not None:
        of_unit = Table({name: plain([value]) for name, value in unit.items()}, dict(layout.units))
        return node_of(values, table, of_unit, attrs=attrs)
    units = Table({names.UNIT_ID: plain(_unit_ids(where, element, layout, values.shape[1]))})
    if layout.region:
        units.columns[names.REGION] = plain([layout.region] * len(units))
    places = choose_units(units, choices)
    return node_of(values[:, places], table, rows_of(units, places), attrs=attrs)


def _column(values: NDArray[Any], name: str, where: str) -> NDArray[Any]:
    """Return a field with one value per presentation; cells of text are unpacked."""
    flat = values.ravel()
    if flat.dtype.kind == "O":
        if any(np.asarray(cell).size > 1 for cell in flat):
            raise ReaderError(f"{where}: {name} has several values per presentation")
        flat = np.array([_scalar(cell) for cell in flat])
    return plain(flat)


def _cleaned(name: str, values: NDArray[Any], layout: MatLayout, table: Table) -> NDArray[Any]:
    missing = layout.missing
    if missing is None:
        if name not in layout.controls:
            refuse_sentinels(name, values, table.place)
        return values
    gone = missing.get(name, ()) if isinstance(missing, Mapping) else missing
    return without_missing(name, values, gone)


def _unit_ids(where: str, element: Element, layout: MatLayout, n_units: int) -> list[str]:
    if not layout.unit_id:
        return [f"unit_{number:04d}" for number in range(1, n_units + 1)]
    ids = _column(_field(where, element, layout.unit_id), layout.unit_id, where)
    if len(ids) != n_units:
        raise ReaderError(f"{where}: {layout.unit_id} has {len(ids)} values, {layout.response} has {n_units} units")
    return [str(one) for one in ids]


def _repeats(where: str, element: Element, layout: MatLayout, n: int) -> list[NDArray[Any]]:
    cells = _field(where, element, layout.repeats).ravel()
    # where conditions have one trial each, MATLAB stores numbers in place of cells
    found = [np.asarray(cell).ravel() for cell in cells]
    if len(found) != n:
        raise ReaderError(f"{where}: {layout.repeats} has {len(found)} conditions, {layout.response} has {n}")
    return found


def _n_trials(where: str, element: Element, layout: MatLayout, n: int) -> NDArray[np.int64]:
    if layout.repeats:
        return np.array([len(cell) for cell in _repeats(where, element, layout, n)], dtype=np.int64)
    given = _column(_field(where, element, layout.n_trials), layout.n_trials, where)
    if len(given) != n:
        raise ReaderError(f"{where}: {layout.n_trials} has {len(given)} values, {layout.response} has {n}")
    return given.astype(np.int64)


def _single_trials(
    where: str, element: Element, layout: MatLayout, table: Table, means: NDArray[Any]
) -> tuple[NDArray[Any], Table]:
    """Return the responses of single trials (trials, 1) and their table, once it is sure that the means are of them."""
    repeats = _repeats(where, element, layout, len(means))
    n = np.array([len(cell) for cell in repeats])
    found = np.array([cell.mean() if len(cell) else np.nan for cell in repeats])
    wrong = np.flatnonzero(~np.isclose(found, means[:, 0], rtol=1e-6, atol=1e-9, equal_nan=True))
    if len(wrong):
        first = int(wrong[0])
        raise ReaderError(
            f"{table.place(first)}: the mean of {layout.repeats} is {found[first]:g}, {layout.response} says "
            f"{means[first, 0]:g}: these are not its single trials"
        )
    condition = np.repeat(np.arange(len(means)), n)
    trials = rows_of(table, condition.tolist())
    trials.columns[names.REPETITION] = np.concatenate([np.arange(count) for count in n]).astype(np.int64)
    return plain(np.concatenate(repeats)).reshape(-1, 1), trials


def _is_matlab(path: Any) -> bool:
    if not isinstance(path, Path):
        return False
    return path.suffix == ".mat" if path.is_file() else path.is_dir() and any(path.glob("*.mat"))


READERS.add(
    "matlab",
    Reader(
        "MATLAB 5 files, or a folder of them: structs of units or matrices, told by a layout",
        _is_matlab,
        read_matlab,
        frozenset({"layout", "trials", "factors", "units", "region"}),
    ),
)

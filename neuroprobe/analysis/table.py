"""Trees of layers as one table of units, of which nothing is read before it is used."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.expression import MAX_SHOWN, NOUNS, Kind, kind_of, present_text, unknown_column
from neuroprobe.analysis.labels import Vocabulary
from neuroprobe.analysis.nodes import Node, unit_nodes
from neuroprobe.analysis.units import UnitColumn, second_channels, similarity_column, to_units, unit_dims
from neuroprobe.errors import ReaderError, closest

Labels = tuple[tuple[str, int, str], ...]
# of the column of similarities to a unit, which is none of the columns before it is asked for
SIMILARITY: Final = re.compile(rf"(?s:{names.SIMILARITY}_(?P<layer>.+)/(?P<channel>[0-9]{{1,18}}))")
MANY: Final = 32  # labels, of which columns are shown only if they are named
PLACES: Final = (names.LAYER, names.CHANNEL, names.Y, names.X, names.TOKEN)  # the first columns, in this order


def is_similarity(name: str) -> bool:
    """Whether it is what the column of similarities to a unit is called."""
    return SIMILARITY.fullmatch(name) is not None


@dataclass(frozen=True)
class Part:
    """What one group holds of a layer: its data, and the columns that these give."""

    group: str
    dataset: xr.Dataset
    columns: dict[str, UnitColumn]

    @cached_property
    def coordinates(self) -> dict[str, UnitColumn]:
        """Columns that tell units apart."""
        return {name: column for name, column in self.columns.items() if column.is_coordinate}

    @cached_property
    def name_of(self) -> dict[tuple[str, Labels], str]:
        """Variable and labels of a column → its name."""
        return {(column.variable, column.labels): name for name, column in self.columns.items()}

    def take(self, chosen: Collection[str]) -> xr.Dataset:
        """Columns over the dimensions of the units; read when they are used."""
        columns = {name: self.columns[name].values(self.dataset) for name in chosen}
        for name, values in columns.items():
            if dim := self.columns[name].label_dim:
                columns[name] = _renamed(values, dim, f"labels of {name}")
        return xr.Dataset(columns).set_coords([name for name in chosen if name in self.coordinates])


def _renamed(values: xr.Variable, dim: str, name: str) -> xr.Variable:
    """Values whose labels are along a dimension of their own: those of other groups may be others."""
    chunks = values.encoding.get("preferred_chunks", {})
    renamed = values.copy(deep=False)
    renamed.dims = tuple(name if one == dim else one for one in values.dims)
    renamed.encoding = {"preferred_chunks": {name if one == dim else one: size for one, size in chunks.items()}}
    return renamed


@dataclass(frozen=True)
class Layer:
    """A layer, and what the groups of trees hold of it."""

    name: str
    parts: list[Part]

    @property
    def names_units(self) -> bool:
        """Whether its units have a coordinate ``layer`` of their own, such as a layer of the cortex."""
        return any(names.LAYER in part.coordinates for part in self.parts)

    @property
    def with_similarity(self) -> list[Part]:
        """What holds the similarities of its units."""
        return [part for part in self.parts if names.SIMILARITY in part.dataset]

    def sizes(self, named: Collection[str]) -> dict[str, int]:
        """Dimensions of the units that columns are about: those of the variables, or all where these do not do."""
        sizes = {dim: part.dataset.sizes[dim] for part in self.parts for dim in unit_dims(part.dataset)}
        found = [part.columns[name] for part in self.parts for name in named if name in part.columns]
        dims = {dim for column in found if not column.is_coordinate for dim in column.dims}
        if any(map(is_similarity, named)):  # which is about channels, also where it is missing
            dims |= sizes.keys() & {names.CHANNEL}
        places = {dim for column in found if column.is_coordinate for dim in column.dims}
        return {dim: size for dim, size in sizes.items() if dim in dims} if dims and places <= dims else sizes

    def n_units(self, named: Collection[str]) -> int:
        """Number of units that columns are about."""
        return math.prod(self.sizes(named).values())

    def coordinates(self, named: Collection[str]) -> set[str]:
        """Coordinates of the units that columns are about."""
        dims = set(self.sizes(named))
        return {
            name for part in self.parts for name, column in part.coordinates.items() if dims.issuperset(column.dims)
        }

    def units(self, named: Collection[str]) -> xr.Dataset:
        """Flat view of columns and of the coordinates of their units; read when it is used.

        Raises
        ------
        ReaderError
            If the columns are in several groups, and these hold different units.
        """
        coordinates = self.coordinates(named)
        missing = {*named, *coordinates}
        groups, pieces = [], []
        for part in self.parts:
            here = missing.intersection(part.columns)
            if here:
                missing -= here
                groups.append(part.group)
                pieces.append(part.take(here | coordinates.intersection(part.columns)))
        try:
            merged = xr.merge(pieces, join="exact", compat="equals", combine_attrs="drop")
        except ValueError:  # other labels or sizes (AlignmentError), or other coordinates (MergeError)
            raise ReaderError(
                f"groups {' and '.join(map(repr, groups))} hold different units of layer {self.name!r}: "
                f"select from one of them, such as result[{groups[0]!r}]"
            ) from None
        return to_units(merged, self.name)

    def values(self, units: xr.Dataset, name: str) -> Any:
        """Read a column of units: an array, or `LabelSets`."""
        part = next((part for part in self.parts if name in part.columns), None)  # the layer itself is in none
        if part is not None and part.columns[name].kind == "labels":
            return part.columns[name].label_sets(part.dataset, units[name].transpose(..., names.UNIT).to_numpy())
        values = units[name].to_numpy()
        return present_text(values) if kind_of(values.dtype) == "text" else values


class UnitTable:
    """All units of some trees, and the columns that they have.

    Parameters
    ----------
    trees : sequence of DataTree
        Their nodes over ``channel`` or ``unit`` are layers, called by the last part of their paths; what is before it
        is their group. Layers of one name are one layer: see `nodes.unit_nodes`.

    Attributes
    ----------
    layers : list of Layer
        In the order of recording, where the tree tells it.
    homes : dict
        Column → the first part of a layer that has it.
    kinds : dict
        Column → kind of its values: coordinates first, then variables.
    ambiguous : dict
        Name of several columns → sentence about them.

    Raises
    ------
    ReaderError
        If no node has units.
    """

    def __init__(self, trees: Sequence[xr.DataTree]) -> None:
        self.layers, self.ambiguous = _name_columns(unit_nodes(trees))
        self.homes: dict[str, Part] = {}
        kinds: dict[str, Kind] = {names.LAYER: "text"}
        for part in (part for layer in self.layers for part in layer.parts):
            for name, column in part.columns.items():
                self.homes.setdefault(name, part)
                if kinds.setdefault(name, column.kind) != column.kind:
                    self.ambiguous[name] = (
                        f"column {name!r} is {NOUNS[kinds[name]]} in one layer, {NOUNS[column.kind]} in another"
                    )
        self.kinds = {name: kinds[name] for name in sorted(kinds, key=self._place) if name not in self.ambiguous}

    def is_coordinate(self, name: str) -> bool:
        """Whether a column tells units apart."""
        return name not in self.homes or self.homes[name].columns[name].is_coordinate  # the layer has no home

    def _place(self, name: str) -> tuple[bool, int]:
        """Order of columns: layer and places, other coordinates, variables."""
        return not self.is_coordinate(name), PLACES.index(name) if name in PLACES else len(PLACES)

    @property
    def variables(self) -> list[str]:
        """Columns that are no coordinates, every pair once."""
        return [
            name
            for name in self.kinds
            if not self.is_coordinate(name) and not self.homes[name].columns[name].is_mirrored
        ]

    def problem(self, name: str) -> str | None:
        """Sentence about a name that is that of no column, or of several; None where it is one."""
        if name in self.kinds:
            return None
        unit = SIMILARITY.fullmatch(name)
        if name in self.ambiguous or unit is None:
            return self.ambiguous.get(name) or unknown_column(name, list(self.kinds))
        return self._add_similarity(name, unit["layer"], int(unit["channel"]))

    def _add_similarity(self, name: str, layer: str, channel: int) -> str | None:
        """Add the column of the similarity of units to one of them; else say what is wrong with that one."""
        having = {one.name: found for one in self.layers if (found := one.with_similarity)}
        if not having:
            return (
                "this result holds no similarities of units: those of a run with `analyses: [selectivity]` do, or "
                "select from such a result together with this one"
            )
        if layer not in having:
            shown = layer[:MAX_SHOWN]
            known = ", ".join(map(repr, having))
            return f"no similarities of units of a layer {shown!r}{closest(shown, having)}; there are some of {known}"
        part, *others = having[layer]
        if others:
            groups = " and ".join(repr(one.group) for one in having[layer])
            return f"groups {groups} hold similarities of layer {layer!r}: select from one of them"
        column = similarity_column(part.dataset, layer, channel)
        if column is None:
            known_channels = second_channels(part.dataset)
            return (
                f"layer {layer!r} has no channel {channel}: it has {len(known_channels)}, from {known_channels.min()} "
                f"to {known_channels.max()}"
            )
        part.columns[name], self.homes[name], self.kinds[name] = column, part, column.kind
        return None

    def vocabularies(self, named: Collection[str]) -> dict[str, Vocabulary]:
        """What a query may call the labels of some columns: those of all layers."""
        found = {}
        for name in (name for name in named if self.kinds.get(name) == "labels"):
            labels: dict[str, None] = {}
            nodes: dict[str, None] | None = None
            for part in (part for layer in self.layers for part in layer.parts if name in part.columns):
                labels |= dict.fromkeys(part.columns[name].known_labels(part.dataset))
                hierarchy = part.columns[name].hierarchy(part.dataset)
                if hierarchy is not None:
                    nodes = (nodes or {}) | dict.fromkeys(hierarchy.numbers)
            found[name] = Vocabulary(tuple(labels), None if nodes is None else tuple(nodes))
        return found

    @property
    def main_variables(self) -> list[str]:
        """Those of them that are not of single labels of many, such as the classes of ImageNet."""
        home = self.homes
        return [
            name
            for name in self.variables
            if all(home[name].dataset.sizes[dim] <= MANY for dim, _, _ in home[name].columns[name].labels)
        ]

    def coordinates(self, named: Collection[str]) -> list[str]:
        """Coordinates of the units that columns are about."""
        found = {names.LAYER}.union(*(layer.coordinates(named) for layer in self.layers))
        return [name for name in self.kinds if name in found]

    def error(self, name: str) -> str | None:
        """Column of the standard error of a column."""
        column = self.homes[name].columns[name]
        return self.homes[name].name_of.get((names.se(column.variable), column.labels))

    def attrs(self, name: str) -> dict[str, Any]:
        """Attributes of a column."""
        if name not in self.homes:
            return {}
        home = self.homes[name]
        return home.columns[name].values(home.dataset).attrs


def _name_columns(nodes: Sequence[Node]) -> tuple[list[Layer], dict[str, str]]:
    """Gather layers, with columns called after their group where several have them; tell names of several columns."""
    groups: dict[str, list[str]] = {}
    for node in nodes:
        for column in node.columns:
            found = groups.setdefault(column.name, [])
            if not column.is_coordinate and node.group not in found:
                found.append(node.group)
    ambiguous = {
        name: f"column {name!r} is in several groups: write {' or '.join(f'{group}_{name}' for group in found)}"
        for name, found in groups.items()
        if len(found) > 1
    }
    layers: dict[str, Layer] = {}
    for node in nodes:
        columns: dict[str, UnitColumn] = {}
        for column in node.columns:
            name = f"{node.group}_{column.name}" if len(groups[column.name]) > 1 else column.name
            if columns.setdefault(name, column) is not column:
                ambiguous[name] = (
                    f"column {name!r} is of several pairs of labels, or variables: take it from the result"
                )
        layers.setdefault(node.layer, Layer(node.layer, [])).parts.append(Part(node.group, node.dataset, columns))
    return list(layers.values()), ambiguous

"""A tree of layers as one table of units, of which nothing is read before it is used."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.expression import NOUNS, Kind
from neuroprobe.analysis.units import UnitColumn, label_units, to_units, unit_columns, unit_dims
from neuroprobe.errors import ReaderError

PLACES: Final = (names.LAYER, names.CHANNEL, names.Y, names.X, names.TOKEN)  # the first columns, in this order


@dataclass(frozen=True)
class Part:
    """What one group of a tree holds of a layer: its data, and the columns that these give."""

    group: str
    dataset: xr.Dataset
    columns: dict[str, UnitColumn]

    @cached_property
    def coordinates(self) -> dict[str, UnitColumn]:
        """Columns that tell units apart."""
        return {name: column for name, column in self.columns.items() if column.is_coordinate}

    def take(self, chosen: Collection[str]) -> xr.Dataset:
        """Columns over the dimensions of the units; read when they are used."""
        columns = {name: self.columns[name].values(self.dataset) for name in chosen}
        return xr.Dataset(columns).set_coords([name for name in chosen if name in self.coordinates])


@dataclass(frozen=True)
class Layer:
    """A layer, and what the groups of a tree hold of it."""

    name: str
    parts: list[Part]

    @property
    def names_units(self) -> bool:
        """Whether its units have a coordinate ``layer`` of their own, such as a layer of the cortex."""
        return any(names.LAYER in part.coordinates for part in self.parts)

    def sizes(self, named: Collection[str]) -> dict[str, int]:
        """Dimensions of the units that columns are about: those of the variables, or all where these do not do."""
        sizes = {dim: part.dataset.sizes[dim] for part in self.parts for dim in unit_dims(part.dataset)}
        found = [part.columns[name] for part in self.parts for name in named if name in part.columns]
        dims = {dim for column in found if not column.is_coordinate for dim in column.dims}
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


class UnitTable:
    """All units of a tree, and the columns that they have.

    Parameters
    ----------
    tree : DataTree
        Its nodes over ``channel`` or ``unit`` are layers, called by the last part of their paths; what is before it is
        their group.

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

    def __init__(self, tree: xr.DataTree) -> None:
        self.layers, self.ambiguous = _name_columns(_nodes(tree))
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

    def _place(self, name: str) -> tuple[bool, int]:
        """Order of columns: layer and places, other coordinates, variables."""
        is_variable = name in self.homes and not self.homes[name].columns[name].is_coordinate
        return is_variable, PLACES.index(name) if name in PLACES else len(PLACES)

    @property
    def variables(self) -> list[str]:
        """Columns that are no coordinates, every pair once."""
        return [name for name in self.kinds if self._place(name)[0] and not self.homes[name].columns[name].is_mirrored]

    def coordinates(self, named: Collection[str]) -> list[str]:
        """Coordinates of the units that columns are about."""
        found = {names.LAYER}.union(*(layer.coordinates(named) for layer in self.layers))
        return [name for name in self.kinds if name in found]

    def error(self, name: str) -> str | None:
        """Column of the standard error of a column."""
        columns = self.homes[name].columns
        wanted = (names.se(columns[name].variable), columns[name].labels)
        return next((other for other, one in columns.items() if (one.variable, one.labels) == wanted), None)

    def attrs(self, name: str) -> dict[str, Any]:
        """Attributes of a column."""
        if name not in self.homes:
            return {}
        home = self.homes[name]
        return home.columns[name].values(home.dataset).attrs


@dataclass(frozen=True)
class _Node:
    layer: str
    group: str
    dataset: xr.Dataset

    @cached_property
    def columns(self) -> list[UnitColumn]:
        return unit_columns(self.dataset)


def _nodes(tree: xr.DataTree) -> list[_Node]:
    """Nodes that have units, by layer in the order of recording."""
    nodes = []
    for node in tree.subtree:
        dataset = node.to_dataset()
        if unit_dims(dataset):
            group = "_".join(PurePosixPath(node.relative_to(tree)).parts[:-1])
            nodes.append(_Node(node.name or "", group, label_units(dataset)))
    if not nodes:
        raise ReaderError(
            f"no units in this tree: expected layers with the dimension {names.CHANNEL!r} or {names.UNIT!r}; "
            "open a result by `open_result`"
        )
    depths = {node.layer: node.dataset.attrs["depth"] for node in nodes if "depth" in node.dataset.attrs}
    return sorted(nodes, key=lambda node: depths.get(node.layer, 0))


def _name_columns(nodes: list[_Node]) -> tuple[list[Layer], dict[str, str]]:
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
                ambiguous[name] = f"column {name!r} is of several pairs of labels: take it from the result"
        layers.setdefault(node.layer, Layer(node.layer, [])).parts.append(Part(node.group, node.dataset, columns))
    return list(layers.values()), ambiguous

"""Results and recordings as tables: one row per unit, whatever the shape of its layer.

The columns of a table are the coordinates of its units (``layer``, ``channel``, ``y``, ``x``, ``token``, and others
that there are, such as ``region``) and the variables. A variable with a dimension of labels, such as ``factor``, gives
one column per label: ``first_order_hue`` and its standard error ``first_order_se_hue``, ``second_order_hue_rotation``
(pairs in either order), ``shapley_hue``. Variables with other dimensions, such as ``presentation``, are no columns.

A variable of shares of labels, whose attribute ``labels`` is ``classes``, gives the column ``classes`` beside those of
its single labels: the set of labels whose share reaches the attribute ``least``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Final
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.expression import Kind, kind_of
from neuroprobe.analysis.labels import Hierarchy, LabelSets
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.label_selectivity import LEAST

UNIT_DIMS: Final = (names.TOKEN, names.CHANNEL, names.Y, names.X)  # units are counted in this order, the last fastest
SECOND: Final = "_2"  # ends the name of the dimension of the second members of pairs


def unit_dims(dataset: xr.Dataset) -> tuple[str, ...]:
    """Dimensions over which the units of a layer extend; none where it holds no units."""
    if names.UNIT in dataset.dims:
        return (names.UNIT,)
    return tuple(dim for dim in UNIT_DIMS if dim in dataset.dims) if names.CHANNEL in dataset.dims else ()


def to_units(node: xr.DataTree | xr.Dataset, layer: str | None = None) -> xr.Dataset:
    """Flat view of a layer: its units in one dimension.

    Parameters
    ----------
    node : DataTree or Dataset
        A layer of a result or of a recording, with the dimensions ``channel``, or ``channel, y, x``, or
        ``token, channel``, or ``unit``, beside others.
    layer : str
        Name of the layer; by default that of the node.

    Returns
    -------
    Dataset
        The same variables over their other dimensions and ``unit``; those that are not in memory as dask arrays, which
        are read when they are computed, chunk by chunk.
        Variables that depend on some of the units' dimensions only are repeated along the others. Its coordinates are
        ``layer``, those of ``channel``, ``y``, ``x`` and ``token`` that there are, and others that the node has.

    Raises
    ------
    ReaderError
        If the node holds no units.

    Examples
    --------
    >>> node = xr.Dataset({"mean": (("channel", "y", "x"), np.arange(8.0).reshape(2, 2, 2))})
    >>> units = to_units(node, "conv1")
    >>> units.isel(unit=[6, 7]).to_dataframe()[["layer", "channel", "y", "x", "mean"]]
          layer  channel  y  x  mean
    unit
    0     conv1        1  1  0   6.0
    1     conv1        1  1  1   7.0
    """
    dataset = node.to_dataset() if isinstance(node, xr.DataTree) else node
    dims = unit_dims(dataset)
    if not dims:
        raise ReaderError(
            f"no units here: expected the dimension {names.CHANNEL!r} or {names.UNIT!r}, "
            f"received {', '.join(map(str, dataset.dims)) or 'none'}; take one layer of a result or recording"
        )
    flat = label_units(dataset.assign({name: _lazy(array, dims) for name, array in dataset.data_vars.items()}))
    if dims != (names.UNIT,):
        flat = flat.stack({names.UNIT: dims}, create_index=False)
    if names.LAYER in flat.variables:
        return flat
    name = (node.name if isinstance(node, xr.DataTree) else None) if layer is None else layer
    return flat.assign_coords({names.LAYER: (names.UNIT, np.full(flat.sizes[names.UNIT], name or "", dtype=object))})


def _lazy(array: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    """Array of dask's in the chunks that it is stored in, but for the dimensions of the units, which are reshaped."""
    # what is in memory is reshaped as it is: dask would copy it
    if array.chunks is not None or array.variable._in_memory:
        return array
    stored: dict[Any, int] = array.encoding.get("preferred_chunks", {})
    # a random token: the default one is a hash of the data
    return array.chunk({dim: -1 if dim in dims else stored.get(dim, 1) for dim in array.dims}, token=uuid4().hex)


def label_units(dataset: xr.Dataset) -> xr.Dataset:
    """Number the places of units along dimensions without labels; labels along ``unit`` become ``unit_id``."""
    if names.UNIT not in dataset.dims:
        dims = [dim for dim in unit_dims(dataset) if dim not in dataset.coords]
        return dataset.assign_coords({dim: np.arange(dataset.sizes[dim]) for dim in dims})
    if names.UNIT not in dataset.coords:
        return dataset
    free = dataset.drop_indexes(names.UNIT)
    return free.drop_vars(names.UNIT) if names.UNIT_ID in free else free.rename_vars({names.UNIT: names.UNIT_ID})


@dataclass(frozen=True)
class UnitColumn:
    """A column of a table of units: a coordinate, or a variable at one label of each of its other dimensions.

    Attributes
    ----------
    variable : str
    kind : str
        Of its values.
    dims : tuple of str
        Dimensions of the units that it is about.
    is_coordinate : bool
        Whether it tells units apart, rather than what was found of them.
    labels : tuple of (str, int, str)
        Dimension, position and label.
    label_dim : str
        Of a column of sets of labels: the dimension along which these are; else empty.
    title : str
        Its name, where that is not made of those of the variable and of the labels.
    """

    variable: str
    kind: Kind
    dims: tuple[str, ...]
    is_coordinate: bool
    labels: tuple[tuple[str, int, str], ...]
    label_dim: str = ""
    title: str = ""

    @cached_property
    def name(self) -> str:
        """What queries call it."""
        return self.title or names.column(self.variable, *(label for _, _, label in self.labels))

    @property
    def is_mirrored(self) -> bool:
        """Whether it names a pair against the order of the labels."""
        places = {dim: position for dim, position, _ in self.labels}
        return any(places.get(f"{dim}{SECOND}", position) < position for dim, position in places.items())

    def values(self, dataset: xr.Dataset) -> xr.Variable:
        """Its values over the dimensions of the units, shares of labels over these too; read when they are used."""
        chosen = dataset.variables[self.variable].isel({dim: position for dim, position, _ in self.labels})
        chosen.attrs = chosen.attrs | {dim: label for dim, _, label in self.labels}
        return chosen

    def known_labels(self, dataset: xr.Dataset) -> tuple[str, ...]:
        """Labels of which units can have sets."""
        return tuple(map(str, dataset[self.label_dim].values))

    def hierarchy(self, dataset: xr.Dataset) -> Hierarchy | None:
        """Hierarchy of these labels, where there is one."""
        text = dataset[self.variable].attrs.get(names.HIERARCHY)
        return None if text is None else Hierarchy.read(str(text), self.known_labels(dataset))

    def label_sets(self, dataset: xr.Dataset, shares: NDArray[Any]) -> LabelSets:
        """Sets of labels of units, given the shares that these have: (labels, units)."""
        least = float(dataset[self.variable].attrs.get(names.LEAST, LEAST))
        return LabelSets(self.known_labels(dataset), shares, least, self.hierarchy(dataset))


def unit_columns(dataset: xr.Dataset) -> list[UnitColumn]:
    """Columns of a layer: the coordinates of its units, then its variables, pairs in both orders."""
    units = unit_dims(dataset)
    labels = {dim: _labels(dataset, str(dim)) for dim in dataset.dims if dim not in units}
    columns = []
    for variable, array in [*dataset.coords.items(), *dataset.data_vars.items()]:
        kind = kind_of(array.dtype)
        dims = tuple(str(dim) for dim in array.dims if dim in units)
        if kind is None or not dims:
            continue
        others = [str(dim) for dim in array.dims if dim not in units]
        title = array.attrs.get(names.LABELS)
        if kind == "number" and isinstance(title, str) and len(others) == 1 and labels[others[0]]:
            columns.append(UnitColumn(str(variable), "labels", dims, False, (), others[0], title))
        for chosen in product(*(labels[dim] for dim in array.dims if dim not in units)):
            label_of = {dim: label for dim, _, label in chosen}
            # a pair has two members
            if all(label_of.get(f"{dim}{SECOND}") != label for dim, label in label_of.items()):
                columns.append(UnitColumn(str(variable), kind, dims, variable in dataset.coords, chosen))
    return columns


def similarity_column(dataset: xr.Dataset, layer: str, channel: int) -> UnitColumn | None:
    """Column of the similarity of a layer's units to one of them; None where there is none."""
    if names.SIMILARITY not in dataset or set(dataset[names.SIMILARITY].dims) != {names.CHANNEL, names.CHANNEL_2}:
        return None
    found = np.flatnonzero(second_channels(dataset) == channel)
    if not found.size:
        return None
    label = (names.CHANNEL_2, int(found[0]), f"{layer}/{channel}")
    return UnitColumn(names.SIMILARITY, "number", (names.CHANNEL,), False, (label,))


def second_channels(dataset: xr.Dataset) -> NDArray[Any]:
    """Numbers of the channels that similarities are to."""
    n = dataset.sizes[names.CHANNEL_2]
    return np.asarray(dataset[names.CHANNEL_2].values if names.CHANNEL_2 in dataset.coords else np.arange(n))


def _labels(dataset: xr.Dataset, dim: str) -> list[tuple[str, int, str]]:
    """Dimension, position and label along a dimension; none where it is not labelled by text."""
    if dim not in dataset.coords or kind_of(dataset[dim].dtype) != "text":
        return []
    return [(dim, position, str(label)) for position, label in enumerate(dataset[dim].values)]

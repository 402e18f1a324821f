"""Comparison of what drives units: populations of profiles of sensitivity, of two networks or a network and a brain."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.units import to_units
from neuroprobe.comparison.responses import AREA
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.profiles import MOST_UNITS, nearest_units, principal_axes, profile_distance

Array = NDArray[np.float64]
SIDES: Final = ("model", "brain")
AXIS: Final = "axis"
N_AXES: Final = 2
NEURON: Final = "neuron"
VARIABLES: Final = (names.SHAPLEY_EFFECT, names.FIRST_ORDER, names.TOTAL_ORDER)


class Profiles:
    """Profiles of the units of one layer or area.

    Attributes
    ----------
    values : float array (units, factors)
    replicate : int array (units,)
        Channel of a network's unit; animal, or session, of a neuron.
    n_undefined : int
        Units without profile, which are left out.
    """

    def __init__(self, name: str, node: xr.Dataset, variable: str, factors: list[str]) -> None:
        units = to_units(node, name)
        array = units[variable].sel({names.FACTOR: factors}).transpose(names.UNIT, names.FACTOR)
        values = np.asarray(array.values, dtype=np.float64)
        known = ~np.isnan(values).any(1)
        self.name, self.values, self.n_undefined = name, values[known], int((~known).sum())
        self.place = np.flatnonzero(known)
        label = next((one for one in (names.SUBJECT_ID, "session", names.CHANNEL) if one in units.coords), None)
        column = np.arange(len(values)) if label is None else units[label].values
        self.replicate = np.unique(column[known].astype(str), return_inverse=True)[1].astype(np.int64)
        self.by = label or names.UNIT


def compare_profiles(
    model: xr.DataTree,
    brain: xr.DataTree,
    *,
    variable: str | None = None,
    n_permutations: int = 999,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Compare populations of profiles; see `neuroprobe.compare`."""
    name, factors, (mine, theirs) = _profiles(model, brain, variable)
    random = generator(seed, "compare profiles")
    shape = (len(mine), len(theirs))
    found = {key: np.full(shape, np.nan) for key in ("energy", "relative", "p_value")}
    of_factors = {key: np.full((len(factors), *shape), np.nan) for key in ("kolmogorov", "kolmogorov_p_value")}
    for row, one in enumerate(mine):
        for column, other in enumerate(theirs):
            if min(len(one.values), len(other.values)) < 2:
                continue
            pair = [_some(side, random) for side in (one, other)]
            distance = profile_distance(pair[0][0], pair[1][0], pair[0][1], pair[1][1], n_permutations, random)
            found["energy"][row, column], found["relative"][row, column] = distance.energy, distance.relative
            found["p_value"][row, column] = distance.p_value
            of_factors["kolmogorov"][:, row, column] = distance.kolmogorov
            of_factors["kolmogorov_p_value"][:, row, column] = distance.kolmogorov_p
    dataset = _labelled(found, of_factors, mine, theirs, factors, name, n_permutations, correction, seed)
    return dataset.assign(_matches(mine, theirs)).assign_coords(_neurons(theirs))


def _matches(mine: list[Profiles], theirs: list[Profiles]) -> dict[str, Any]:
    """Which unit of each layer is like each neuron, and how far its profile is from the neuron's."""
    neurons = np.concatenate([one.values for one in theirs])
    shape = (len(mine), len(neurons))
    unit, far = np.full(shape, -1, dtype=np.int64), np.full(shape, np.nan)
    for row, one in enumerate(mine):
        if len(one.values) and len(neurons):
            nearest, far[row] = nearest_units(one.values, neurons)
            unit[row] = one.place[nearest]
    dims, method = (names.LAYER, NEURON), "Euclidean distance of profiles"
    told = "number of the layer's unit, as `to_units` counts them, whose profile is nearest; -1 without"
    return {
        "nearest_unit": (dims, unit, {"long_name": told, "method": method}),
        "nearest_distance": (dims, far, {"long_name": "how far its profile is", "method": method}),
    }


def _neurons(theirs: list[Profiles]) -> dict[str, Any]:
    """Area of each neuron, and its number there."""
    areas = np.repeat(np.array([one.name for one in theirs], dtype=object), [len(one.values) for one in theirs])
    return {"neuron_area": (NEURON, areas), "neuron_unit": (NEURON, np.concatenate([one.place for one in theirs]))}


def profile_clouds(
    model: xr.DataTree, brain: xr.DataTree, *, variable: str | None = None, most: int = 500, seed: int = 0
) -> xr.Dataset:
    """Place the units of two results in the plane in which their profiles differ most, for `neuroprobe.plot`.

    Parameters
    ----------
    model, brain : DataTree
        Results with shares of variance, as `neuroprobe.open_result` opens them.
    variable : str, optional
        As for `neuroprobe.compare` by ``profiles``.
    most : int
        Units of a layer or area that are placed, drawn at random where there are more; axes are of all.
    seed : int

    Returns
    -------
    Dataset
        Over (``unit``, ``factor``): ``share``; over (``unit``, ``axis``): ``place``; over (``factor``, ``axis``):
        ``loading``; over ``axis``: ``explained``, the share of the variance of profiles; ``centre`` over ``factor``.
        Coordinates of units: ``side`` (model or brain) and ``population`` (layer or area); over ``population_name``:
        ``n_units``, of all that have a profile. Layers and areas count alike for the axes, however many units.

    Raises
    ------
    ReaderError
        If a side has no shares, or fewer than two factors are on both sides.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> def result(name, alpha):
    ...     shares = xr.DataArray(rng.dirichlet(alpha, 20).T, dims=("factor", "channel"))
    ...     node = xr.Dataset({"shapley_effect": shares}, coords={"factor": ["hue", "blur", "noise"]})
    ...     return xr.DataTree.from_dict({f"/shapley/{name}": node})
    >>> found = profile_clouds(result("layer1", [8, 1, 1]), result("v4", [1, 8, 1]))
    >>> found["loading"].sel(axis=1).round(1).values.tolist(), found["place"].shape
    ([0.7, -0.7, -0.0], (40, 2))
    """
    name, factors, sides = _profiles(model, brain, variable)
    if len(factors) < N_AXES:
        raise ReaderError(f"one factor is on both sides, {factors[0]}: a cloud has two or more")
    populations = [(side, one) for side, several in zip(SIDES, sides, strict=True) for one in several]
    axes = principal_axes([one.values for _, one in populations], N_AXES)
    random = generator(seed, "profile clouds")
    drawn = [one.values[np.sort(random.permutation(len(one.values))[:most])] for _, one in populations]
    values, counts = np.concatenate(drawn), [len(one) for one in drawn]
    told = {"method": "principal axes of profiles, layers and areas weighed alike"}
    along = (names.UNIT, AXIS), (names.FACTOR, AXIS)
    return xr.Dataset(
        {
            "share": ((names.UNIT, names.FACTOR), values, {"long_name": f"{name} of a factor"}),
            "place": (along[0], axes.places(values), {"long_name": "place of a profile along an axis", **told}),
            "loading": (along[1], axes.loading, {"long_name": "direction of a factor's share", **told}),
            "explained": (AXIS, axes.explained, {"long_name": "share of the variance of profiles", **told}),
            "centre": (names.FACTOR, axes.centre, {"long_name": "mean profile", **told}),
            names.N_UNITS: ("population_name", [len(one.values) for _, one in populations]),
        },
        coords={
            "side": (names.UNIT, np.repeat(np.array([side for side, _ in populations], dtype=object), counts)),
            "population": (names.UNIT, np.repeat(np.array([one.name for _, one in populations], dtype=object), counts)),
            "population_name": np.array([f"{side} {one.name}" for side, one in populations], dtype=object),
            names.FACTOR: np.array(factors, dtype=object),
            AXIS: [1, 2],
        },
        attrs={"variable": name, "seed": seed, "most": most},
    )


def _profiles(
    model: xr.DataTree, brain: xr.DataTree, variable: str | None
) -> tuple[str, list[str], tuple[list[Profiles], list[Profiles]]]:
    """Name of the shares, factors that both sides have, and profiles of the populations of each side."""
    name = variable or next((one for one in VARIABLES if _nodes(model, one) and _nodes(brain, one)), VARIABLES[0])
    sides = []
    for what, tree in zip(SIDES, (model, brain), strict=True):
        nodes = _nodes(tree, name)
        if not nodes:
            raise ReaderError(
                f"{what}: no layer with {name!r} over {names.FACTOR!r} in this result (it has: "
                f"{', '.join(tree.children) or 'none'}); run `analyses: [shapley]`, or say `variable`"
            )
        sides.append(nodes)
    factors = _shared(sides)
    mine, theirs = ([Profiles(layer, node, name, factors) for layer, node in nodes.items()] for nodes in sides)
    return name, factors, (mine, theirs)


def _nodes(tree: xr.DataTree, variable: str) -> dict[str, xr.Dataset]:
    """Layers of a result that have a variable over factors, by name."""
    found: dict[str, xr.Dataset] = {}
    for node in tree.subtree:
        dataset = node.to_dataset(inherit=False)
        if variable in dataset and names.FACTOR in dataset[variable].dims:
            found.setdefault(str(node.name), dataset)
    return found


def _shared(sides: list[dict[str, xr.Dataset]]) -> list[str]:
    """Factors that all layers of both sides have."""
    lists = [[str(one) for one in node[names.FACTOR].values] for nodes in sides for node in nodes.values()]
    shared = [name for name in lists[0] if all(name in other for other in lists)]
    if not shared:
        raise ReaderError(
            f"no factor is on both sides: {', '.join(lists[0])} and {', '.join(lists[-1])}; give the same ones the "
            "same names (`as` in protocols)"
        )
    return shared


def _some(side: Profiles, random: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Profiles of so many units that all their pairs fit into memory, drawn at random."""
    if len(side.values) <= MOST_UNITS:
        return side.values, side.replicate
    kept = np.sort(random.permutation(len(side.values))[:MOST_UNITS])
    return side.values[kept], np.unique(side.replicate[kept], return_inverse=True)[1].astype(np.int64)


def _labelled(
    found: dict[str, Array],
    of_factors: dict[str, Array],
    mine: list[Profiles],
    theirs: list[Profiles],
    factors: list[str],
    variable: str,
    n_permutations: int,
    correction: str,
    seed: int,
) -> xr.Dataset:
    dims, by_factor = (names.LAYER, AREA), (names.FACTOR, names.LAYER, AREA)
    permuted = f"{n_permutations} permutations of replicates ({mine[0].by}, {theirs[0].by})"
    energy = "energy distance of profiles (Székely & Rizzo 2013)"
    data: dict[str, Any] = {
        "energy": (dims, found["energy"], {"long_name": "distance of the populations", "method": energy}),
        "relative": (
            dims,
            found["relative"],
            {"long_name": "squared distance, 0 to 1", "method": f"{energy}, / 2 E|X-Y|"},
        ),
        "p_value": (dims, found["p_value"], {"long_name": "p-value of a difference", "method": permuted}),
        "p_adjusted": (
            dims,
            adjust(found["p_value"].ravel(), correction).reshape(found["p_value"].shape),
            {"long_name": "p-value of a difference, corrected for layers and areas", "method": correction},
        ),
        "kolmogorov": (
            by_factor,
            of_factors["kolmogorov"],
            {
                "long_name": "largest difference of the distribution functions of a factor's share",
                "method": "Kolmogorov",
            },
        ),
        "kolmogorov_p_value": (
            by_factor,
            of_factors["kolmogorov_p_value"],
            {"long_name": "p-value of a difference of a factor's shares", "method": permuted},
        ),
        "kolmogorov_p_adjusted": (
            by_factor,
            adjust(of_factors["kolmogorov_p_value"].ravel(), correction).reshape(of_factors["kolmogorov"].shape),
            {"long_name": "p-value, corrected for layers, areas and factors", "method": correction},
        ),
        "n_units": (names.LAYER, np.array([len(one.values) for one in mine]), {"long_name": "units with a profile"}),
        "n_undefined": (names.LAYER, np.array([one.n_undefined for one in mine]), {"long_name": "units without"}),
    }
    return xr.Dataset(
        data,
        coords={
            names.LAYER: np.array([one.name for one in mine], dtype=object),
            AREA: np.array([one.name for one in theirs], dtype=object),
            names.FACTOR: np.array(factors, dtype=object),
        },
        attrs={
            "metric": "profiles",
            "version": "energy distance (neuroprobe-1)",
            "definition": f"distances of the distributions of {variable} of {', '.join(factors)}; small ones are alike",
            "variable": variable,
            "n_permutations": n_permutations,
            "seed": seed,
        },
    )

"""Which channels of the layer recorded before units rest on, with labels: a matrix per layer, a list, and a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.selectivity_overview import selectivity_of
from neuroprobe.analysis.selectivity_units import unit_of
from neuroprobe.errors import ReaderError
from neuroprobe.statistics import relevance_tree as trees

Arrays = Mapping[str, NDArray[Any]]
Variable = tuple[tuple[str, ...], Any, dict[str, Any]]
DIMS: Final = (names.EARLIER_CHANNEL, names.CHANNEL)
N_LEVELS: Final = 4
ERROR: Final = "standard error over stimuli, by the jackknife"
SAID: Final = {
    names.RELEVANCE: "Σ|a - a⁻| / Σa over the top stimuli, a⁻ the response with the earlier channel silenced",
    names.SIGNED_RELEVANCE: "Σ(a - a⁻) / Σa likewise: negative where the earlier channel holds the channel back",
}


def relevance_variables(scores: Arrays, earlier: str, classes: Sequence[str]) -> dict[str, Variable]:
    """Variables of the relevance of channels, of what was read with each of them silenced; none where that is nothing.

    Parameters
    ----------
    scores : dict of arrays
        As of `neuroprobe.selectivity.relevance`.
    earlier : str
        The layer recorded before.
    classes : sequence of str
    """
    if "relevance" not in scores:
        return {}
    why = words(scores, "why slow")
    attrs = {names.EARLIER: earlier, "closed_form": int(not why), "why": why}
    found: dict[str, Variable] = {}
    for name, said in SAID.items():
        key = name.replace("_", " ")
        found[name] = (DIMS, scores[key], {"long_name": said, **attrs})
        found[names.se(name)] = (DIMS, scores[f"{key} error"], {"long_name": ERROR})
    if "class drop" in scores:
        said = "largest loss of a class' share of the summed response with the earlier channel silenced"
        word = np.array([*classes, "", ""], dtype=object)  # of images without a class, and where none loses
        found[names.CLASS_DROP] = (DIMS, scores["class drop"], {"long_name": said})
        found[names.DROPPED_CLASS] = (DIMS, word[scores["dropped class"]], {"long_name": "that class"})
    return found


def words(scores: Arrays, key: str) -> str:
    """Words that are kept as bytes; none where there are none."""
    return scores[key].tobytes().decode() if key in scores else ""


def relevant_channels(result: xr.DataTree, layer: str, channel: int, least: float = trees.LEAST_LISTED) -> xr.Dataset:
    """Channels of the layer recorded before that a unit rests on most.

    Parameters
    ----------
    result : xarray.DataTree
        Of a run with ``selectivity: {relevance: true}``.
    layer : str
    channel : int
    least : float
        Share of the largest relevance that others reach.

    Returns
    -------
    Dataset
        ``relevance`` and ``signed_relevance`` with their errors over ``earlier_channel``, the most relevant first; none
        of a unit that does not respond. The attribute ``earlier`` names their layer.

    Raises
    ------
    ReaderError
        If the layer has no relevance, or there is no such layer or channel.
    """
    units = _with_relevance(result, layer)
    unit = unit_of(units, channel)
    order = trees.most_relevant(unit[names.RELEVANCE].values, least)
    found = unit.isel({names.EARLIER_CHANNEL: order}).reset_coords(drop=True)
    return found.assign_attrs({names.EARLIER: str(units[names.RELEVANCE].attrs[names.EARLIER])})


def relevance_tree(
    result: xr.DataTree,
    layer: str,
    channel: int,
    n_parents: int = trees.N_PARENTS,
    least: float = trees.LEAST,
    n_levels: int = N_LEVELS,
) -> xr.Dataset:
    """A unit, the channels of the layer before that it rests on most, those that these rest on, and so on.

    Parameters
    ----------
    result : xarray.DataTree
        Of a run with ``selectivity: {relevance: true}``.
    layer : str
    channel : int
    n_parents : int
        Channels that are kept of each unit, at most.
    least : float
        Share of the largest relevance to a unit, above which others are kept.
    n_levels : int
        Layers before the unit's own, at most.

    Returns
    -------
    Dataset
        Over ``node``, the unit itself first: ``level``, ``layer``, ``channel``; ``child``, the node that it is a parent
        of, -1 of the first; ``relevance`` and ``signed_relevance`` for that node, with their errors.

    Raises
    ------
    ReaderError
        If the layer has no relevance, there is no such layer or channel, or a number is out of its range.
    """
    if n_parents < 1 or n_levels < 1 or not 0 <= least < 1:
        raise ReaderError(
            f"n_parents {n_parents}, n_levels {n_levels}, least {least}: expected 1 or more, 1 or more, and a share in "
            "[0, 1)"
        )
    chain = list(_chain(result, layer, n_levels))
    unit_of(chain[0], channel)
    place = int(np.flatnonzero(chain[0][names.CHANNEL].values == channel)[0])
    tree = trees.relevance_tree([units[names.RELEVANCE].values for units in chain], place, n_parents, least)
    layers = [layer, *(str(units[names.RELEVANCE].attrs[names.EARLIER]) for units in chain)]
    channels = [chain[0][names.CHANNEL].values, *(units[names.EARLIER_CHANNEL].values for units in chain)]
    parents = range(1, len(tree.unit))
    of_nodes = {
        name: [np.nan, *(float(_edge(chain, tree, node, name)) for node in parents)]
        for one in SAID
        for name in (one, names.se(one))
    }
    found = xr.Dataset(
        {
            "level": (names.NODE, tree.level),
            names.LAYER: (names.NODE, np.array([layers[level] for level in tree.level], dtype=object)),
            names.CHANNEL: (
                names.NODE,
                [int(channels[at][one]) for at, one in zip(tree.level, tree.unit, strict=True)],
            ),
            "child": (names.NODE, tree.child, {"long_name": "node that this one is a parent of"}),
            **{name: (names.NODE, values) for name, values in of_nodes.items()},
        },
        attrs={"n_parents": n_parents, names.LEAST: least},
    )
    for name, said in SAID.items():
        found[name].attrs["long_name"] = said
        found[names.se(name)].attrs["long_name"] = ERROR
    return found


def _edge(chain: Sequence[xr.Dataset], tree: trees.RelevanceTree, node: int, name: str) -> Any:
    """What is known of a node and the one that it is a parent of."""
    return chain[tree.level[node] - 1][name].values[tree.unit[node], tree.unit[tree.child[node]]]


def _chain(result: xr.DataTree, layer: str, n_levels: int) -> Iterator[xr.Dataset]:
    """A layer, the one recorded before, and so on, as long as there is relevance."""
    units = _with_relevance(result, layer)
    for level in range(n_levels):
        yield units
        earlier = selectivity_of(result, str(units[names.RELEVANCE].attrs[names.EARLIER]))
        if names.RELEVANCE not in earlier or level == n_levels - 1:
            return
        units = _ordered(earlier)


def _with_relevance(result: xr.DataTree, layer: str) -> xr.Dataset:
    units = selectivity_of(result, layer)
    if names.RELEVANCE in units:
        return _ordered(units)
    why = units.attrs.get("no_relevance", "")
    if why:
        raise ReaderError(f"layer {layer!r} has no relevance of the channels before it: {why}")
    raise ReaderError(
        f"layer {layer!r} has no relevance of the channels before it: run with `selectivity: {{relevance: true}}`, and "
        "take a layer behind the first one that is recorded"
    )


def _ordered(units: xr.Dataset) -> xr.Dataset:
    """Relevances alone, with their errors, of units of which much else is known."""
    kept = [one for name in SAID for one in (name, names.se(name))]
    return units[kept].transpose(*DIMS)

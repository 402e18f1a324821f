"""Single units by what they are selective for: in order of an index, their top stimuli, profiles and relations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.selectivity_overview import selectivity_of, unit_values
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics import summary
from neuroprobe.statistics.unit_relations import symmetric

MAX_TURNED: Final = 512  # units up to which branches are turned so that neighbours are most alike, which takes n³


def unit_of(units: xr.Dataset, channel: int) -> xr.Dataset:
    """What is known of one unit of a layer.

    Raises
    ------
    ReaderError
        If the layer has no such channel.
    """
    channels = units[names.CHANNEL].values
    where = np.flatnonzero(channels == channel)
    if not where.size:
        raise ReaderError(
            f"unknown channel {channel}; this layer has {len(channels):,}, from {channels[0]} to {channels[-1]}"
        )
    return units.isel({names.CHANNEL: int(where[0])})


def ordered_units(
    result: xr.DataTree, layer: str, order_by: str, ascending: bool = False, limit: int | None = None
) -> xr.Dataset:
    """Units of a layer in the order of an index; of equal ones the lower channel comes first.

    Parameters
    ----------
    order_by : str
        A number of each unit, such as ``colour`` or ``gamma``.
    ascending : bool
        Whether the smallest comes first.
    limit : int, optional
        Units that are kept, all by default.

    Returns
    -------
    Dataset
        What is known of the units, those without the index left out; the attribute ``n_undefined`` counts these, and
        ``n_defined`` all others.

    Raises
    ------
    ReaderError
        If no layer holds the index, or there is no such layer.
    """
    values = unit_values(result, layer, order_by)
    defined = np.flatnonzero(np.isfinite(values))
    order = np.argsort(values[defined] if ascending else -values[defined], kind="stable")
    found = selectivity_of(result, layer).isel({names.CHANNEL: defined[order][:limit]})
    return found.assign_attrs({names.N_DEFINED: defined.size, names.N_UNDEFINED: values.size - defined.size})


def activation_curves(result: xr.DataTree, layer: str, channel: int | Sequence[int]) -> xr.Dataset:
    """Responses of units to their top stimuli, by rank.

    Parameters
    ----------
    channel : int or sequence of int

    Returns
    -------
    Dataset
        ``share(channel, rank)``, the responses over the largest, a_j / a_max; NaN for units that do not respond.
        ``mean(channel)``, their mean over ranks. Where the result says which images were shown, the coordinates
        ``image_id`` and ``class_label(channel, rank)``.

    Raises
    ------
    ReaderError
        If there is no such layer or channel.
    """
    units = selectivity_of(result, layer)
    channels = [channel] if isinstance(channel, int | np.integer) else list(channel)
    chosen = xr.concat([unit_of(units, one)[[names.TOP_VALUE, names.TOP_IMAGE]] for one in channels], names.CHANNEL)
    top = chosen[names.TOP_VALUE].transpose(names.CHANNEL, names.RANK)
    peak = top.max(names.RANK)
    share = top / peak.where(peak > 0)
    found = xr.Dataset({names.SHARE: share, names.MEAN: share.mean(names.RANK, skipna=False)})
    return found.assign_coords(_shown(result, chosen[names.TOP_IMAGE].transpose(names.CHANNEL, names.RANK)))


def _shown(result: xr.DataTree, images: xr.DataArray) -> dict[str, xr.DataArray]:
    """What the result says of images, by their numbers."""
    stimuli = result.children.get(names.STIMULI)
    if stimuli is None or names.SHOWN not in stimuli.children:
        return {}
    shown = stimuli.children[names.SHOWN].to_dataset()
    kept = [name for name in (names.IMAGE_ID, names.CLASS_LABEL) if name in shown]
    where = shown.indexes[names.IMAGE].get_indexer(pd.Index(images.values.ravel())).reshape(images.shape)
    # a place in a list that nothing filled has no image
    return {name: images.copy(data=np.where(where >= 0, shown[name].values.astype(object)[where], "")) for name in kept}


def top_stimuli(result: xr.DataTree, layer: str, channel: int) -> xr.Dataset:
    """Neuron Feature, coverage and stored crops of a unit, with the images that they are of.

    Returns
    -------
    Dataset
        ``neuron_feature(field_y, field_x, rgb)``, ``coverage(field_y, field_x)`` and ``share(rank)``, as of
        `activation_curves`; where the result holds crops, ``crop(rank, crop_y, crop_x, rgb)`` of the first ranks.

    Raises
    ------
    ReaderError
        If there is no such layer or channel.
    """
    unit = unit_of(selectivity_of(result, layer), channel)
    curve = activation_curves(result, layer, channel).isel({names.CHANNEL: 0})
    found = curve.assign({name: unit[name].variable for name in (names.NEURON_FEATURE, names.COVERAGE)})
    if names.TOP_CROP not in unit:
        return found
    crops = unit[names.TOP_CROP].transpose(..., "crop_y", "crop_x", "rgb").values
    found = found.isel({names.RANK: slice(len(crops))})
    return found.assign({names.TOP_CROP: ((names.RANK, "crop_y", "crop_x", "rgb"), crops)})


def families(units: xr.Dataset) -> list[str]:
    """Indexes of a layer that are known for each alteration of a family."""
    ending = f"_by_{names.MEMBER}"
    return [str(name).removesuffix(ending) for name in units.data_vars if str(name).endswith(ending)]


def member_profile(
    result: xr.DataTree,
    index: str,
    layer: str,
    channel: int | None = None,
    q: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95),
) -> xr.Dataset:
    """An index for each alteration of its family: of each angle, scale, strength.

    Parameters
    ----------
    index : str
        Such as ``orientation``.
    channel : int, optional
        One unit; by default quantiles over the defined units.

    Returns
    -------
    Dataset
        Over ``member``, the names of the alterations: ``<index>(quantile, member)`` with ``n_defined`` and
        ``n_undefined``, or of one unit ``<index>(member)`` and ``<index>_se(member)``. The attribute ``selectivity`` of
        the index says ``loss`` or ``invariance``.

    Raises
    ------
    ReaderError
        If the index has no family, or there is no such layer or channel.
    """
    units = selectivity_of(result, layer)
    known = families(units)
    if index not in known:
        raise ReaderError(unknown_name("family of alterations", index, known))
    name, dim = f"{index}_by_{names.MEMBER}", f"{index}_{names.MEMBER}"
    kind = {names.SELECTIVITY: units[index].attrs.get(names.SELECTIVITY, "loss")}
    coords = {names.MEMBER: np.array([str(one) for one in units[dim].values], dtype=object)}
    if channel is not None:
        unit = unit_of(units, channel)
        return xr.Dataset(
            {
                index: (names.MEMBER, unit[name].values, kind),
                names.se(index): (names.MEMBER, unit[names.se(name)].values),
            },
            coords,
        )
    values = units[name].transpose(dim, names.CHANNEL).values
    n_defined = int(np.isfinite(values).all(0).sum())
    return xr.Dataset(
        {
            index: ((names.QUANTILE, names.MEMBER), summary.quantiles(values, q).T, kind),
            names.N_DEFINED: n_defined,
            names.N_UNDEFINED: values.shape[1] - n_defined,
        },
        {**coords, names.QUANTILE: list(q)},
    )


def clustered_similarity(result: xr.DataTree, layer: str) -> xr.Dataset:
    """Similarity of the units of a layer, like units beside each other.

    Returns
    -------
    Dataset
        ``similarity(channel, channel_2)``, as stored: how much of its own largest response unit ``channel`` gives to
        the top stimuli of ``channel_2``. Both are in the order of the leaves of a tree (average linkage of 1 - the mean
        of the similarity and its transpose). Units without a similarity are left out; the attribute ``n_undefined``
        counts them.

    Raises
    ------
    ReaderError
        If the layer has no similarity.
    """
    units = selectivity_of(result, layer)
    if names.SIMILARITY not in units:
        raise ReaderError(
            f"layer {layer!r} has no {names.SIMILARITY!r}; it has: {', '.join(map(str, units.data_vars))}"
        )
    stored = units[names.SIMILARITY].transpose(names.CHANNEL, names.CHANNEL_2).values
    defined = np.flatnonzero(np.isfinite(np.diagonal(stored)))
    between = stored[np.ix_(defined, defined)]
    order = _leaves(symmetric(between))
    channels = units[names.CHANNEL].values[defined][order]
    return xr.Dataset(
        {names.SIMILARITY: ((names.CHANNEL, names.CHANNEL_2), between[np.ix_(order, order)])},
        {names.CHANNEL: channels, names.CHANNEL_2: channels},
        {names.N_UNDEFINED: len(stored) - len(defined)},
    )


def _leaves(similarity: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order of units in which like ones are beside each other."""
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    if len(similarity) < 3:
        return np.arange(len(similarity))
    distance = 1 - similarity
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    linkage = hierarchy.linkage(condensed, "average")
    if len(similarity) <= MAX_TURNED:
        linkage = hierarchy.optimal_leaf_ordering(linkage, condensed)
    return hierarchy.leaves_list(linkage).astype(np.int64)


def label_shares(result: xr.DataTree, layer: str, channel: int, labels: str = "classes") -> xr.Dataset:
    """Shares of labels in the weights of the top stimuli of a unit, the largest first.

    Parameters
    ----------
    labels : str
        Such as ``classes`` or ``colours``.

    Returns
    -------
    Dataset
        ``share(label)``, without labels whose share is 0; NaN in all for a unit that does not respond. The attribute
        ``least`` is the share from which a label belongs to the population code.

    Raises
    ------
    ReaderError
        If the layer has no such labels, or there is no such layer or channel.
    """
    units = selectivity_of(result, layer)
    known = {str(one.attrs["labels"]): one for one in units.data_vars.values() if "labels" in one.attrs}
    if labels not in known:
        raise ReaderError(unknown_name("labels", labels, known))
    stored = known[labels]
    (dim,) = set(stored.dims) - {names.CHANNEL}
    share = unit_of(units, channel)[stored.name].values
    order = np.argsort(-share, kind="stable")
    order = order[share[order] != 0]
    return xr.Dataset(
        {names.SHARE: ("label", share[order])},
        {"label": units[dim].values.astype(object)[order]},
        {"least": float(stored.attrs.get("least", np.nan)), "n_labels": len(share)},
    )

"""The channels and units of a layer that depend most on each factor."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.statistics.summary import quantiles


def strongest_channels(indices: xr.Dataset, index: str, n_channels: int) -> xr.Dataset:
    """Maps of the channels whose mean index over space is largest, for each factor.

    Parameters
    ----------
    indices : Dataset
        A node of ``/sobol`` with the dimensions channel, y, x.
    index : str
        ``first_order`` or ``total_order``.

    Returns
    -------
    Dataset
        The index as ``<index>(factor, rank, y, x)``; ``strength(factor, rank)``, its mean over the defined units of the
        map, and ``strength_se``, the mean of their standard errors, which the error of the mean cannot exceed;
        ``high(factor)``, under which 99 % of the values of a factor's maps lie. The coordinate ``channel(factor,
        rank)`` gives the channels' numbers. Channels without a defined unit come last.
    """
    space = (names.Y, names.X)
    maps = indices[index].transpose(names.FACTOR, names.CHANNEL, *space).compute()
    errors = indices[names.se(index)].mean(space, skipna=True).transpose(names.FACTOR, names.CHANNEL).values
    strength = maps.mean(space, skipna=True).values
    chosen = _largest_first(strength)[:, :n_channels]
    ranked = (names.FACTOR, names.RANK)
    shown = np.take_along_axis(maps.values, chosen[:, :, None, None], 1)
    return xr.Dataset(
        {
            index: ((*ranked, *space), shown, maps.attrs),
            names.HIGH: (names.FACTOR, quantiles(shown.reshape(len(shown), -1), [0.99])[:, 0]),
            names.STRENGTH: (ranked, np.take_along_axis(strength, chosen, 1)),
            names.se(names.STRENGTH): (ranked, np.take_along_axis(errors, chosen, 1)),
        },
        {names.FACTOR: indices[names.FACTOR].values, names.CHANNEL: (ranked, _numbers(indices, names.CHANNEL)[chosen])},
    )


def strongest_units(indices: xr.Dataset, index: str, n_units: int) -> xr.Dataset:
    """Units whose index is largest, for each factor, whatever the dimensions of the layer are.

    Returns
    -------
    Dataset
        ``<index>(factor, rank)`` and its standard error; the coordinates ``channel(factor, rank)``, and ``token`` or
        ``y`` and ``x`` where the layer has them, say which unit it is. Undefined units come last, with NaN.
    """
    dims = [dim for dim in indices[index].dims if dim != names.FACTOR]
    shape = [indices.sizes[dim] for dim in dims]
    values, errors = (
        indices[name].transpose(names.FACTOR, *dims).values.reshape(indices.sizes[names.FACTOR], -1)
        for name in (index, names.se(index))
    )
    chosen = _largest_first(values)[:, :n_units]
    ranked = (names.FACTOR, names.RANK)
    places = dict(zip(dims, np.unravel_index(chosen, shape), strict=True))
    return xr.Dataset(
        {
            index: (ranked, np.take_along_axis(values, chosen, 1), indices[index].attrs),
            names.se(index): (ranked, np.take_along_axis(errors, chosen, 1), indices[names.se(index)].attrs),
        },
        {
            names.FACTOR: indices[names.FACTOR].values,
            **{dim: (ranked, _numbers(indices, dim)[place]) for dim, place in places.items()},
            # of animals
            **({names.UNIT_ID: (ranked, indices[names.UNIT_ID].values[chosen])} if names.UNIT_ID in indices else {}),
        },
    )


def _largest_first(values: np.ndarray) -> np.ndarray:
    return np.argsort(-np.where(np.isnan(values), -np.inf, values), axis=1, kind="stable")


def _numbers(indices: xr.Dataset, dim: object) -> np.ndarray:
    """Numbers of the channels, tokens or places of a layer, where only some were recorded."""
    return indices[dim].values

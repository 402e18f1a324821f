"""What the units of each layer have in common in their contrasts: the numbers that pictures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.sensitivity import quantiles_over_units, recorded_order
from neuroprobe.errors import ReaderError, unknown_name

Summary = TypeVar("Summary", xr.DataArray, xr.Dataset)


def contrast_group(result: xr.DataTree) -> xr.DataTree:
    """Return the contrasts of a result: its group ``contrast``, or the tree that `neuroprobe.contrast` gives.

    Raises
    ------
    ReaderError
        If there are none.
    """
    return result if result.name == "contrast" else _child(result, "contrast")


def _child(result: xr.DataTree, group: str) -> xr.DataTree:
    if group not in result.children:
        raise ReaderError(
            f"no group {group!r} in this tree (it has: {', '.join(result.children) or 'none'}); "
            "run a protocol with `analyses: [contrast]`, on images with classes for accuracies"
        )
    return result.children[group]


def _over_layers(result: xr.DataTree, summarise: Callable[[xr.Dataset], Summary]) -> Summary:
    """Summarise the layers one after the other, in the order of recording, along the dimension layer."""
    group = contrast_group(result)
    layers = recorded_order(group)
    summaries = [summarise(group.children[layer].to_dataset()) for layer in layers]
    return xr.concat(summaries, xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def effect_sizes(result: xr.DataTree, quantiles: Sequence[float] = (0.25, 0.5, 0.75)) -> xr.DataArray:
    """Quantiles of the magnitude of Cohen's d_z over the units that an alteration changes.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it, or as `neuroprobe.contrast` returns it.

    Returns
    -------
    DataArray (layer, quantile, factor)
        NaN where an alteration changes no unit.
    """
    return _over_layers(result, lambda node: quantiles_over_units(abs(node[names.EFFECT_SIZE]), quantiles))


def significant_shares(result: xr.DataTree, test: str = "t", level: float = 0.05) -> xr.DataArray:
    """Share of the units of each layer whose adjusted p-value is under a level.

    Parameters
    ----------
    test : str
        ``t``, ``sign``, or ``wilcoxon`` where the ranks of all layers were kept.
    level : float

    Returns
    -------
    DataArray (layer, factor)
        Of all recorded units; one that the alteration does not change counts as not significant.

    Raises
    ------
    ReaderError
        If a layer has no such test.
    """

    def share(node: xr.Dataset) -> xr.DataArray:
        tests = node[names.TEST].values.tolist()
        if test not in tests:
            raise ReaderError(unknown_name("test", test, tests) + "; wilcoxon takes `contrast: {ranks: [layer, …]}`")
        p = node[names.P_ADJUSTED].sel({names.TEST: test}, drop=True)
        units = [dim for dim in p.dims if dim != names.FACTOR]
        return (p < level).mean(units)

    return _over_layers(result, share).rename(names.SHARE)


def contrast_table(result: xr.DataTree, test: str = "t", level: float = 0.05) -> xr.Dataset:
    """Contrasts of each layer in numbers.

    Parameters
    ----------
    test, level
        See `significant_shares`.

    Returns
    -------
    Dataset
        Over (layer, factor): ``effect_size`` and ``effect_size_se``, the medians over the units that an alteration
        changes of the magnitude of Cohen's d_z and of its standard error; ``share`` of all units that is significant;
        ``n_undefined``, the units that the alteration does not change. Over layers: ``n_units``; ``n_silent``, those
        with a mean response of 0 in the control and under every alteration; ``n_unchanged``, those that no alteration
        changes; ``n_with_dropped``, those for which some images were left out. The attribute ``by_chance`` is the
        median magnitude of d_z of units that an alteration does not change on average, which differ by their images
        alone.
    """

    def medians(node: xr.Dataset) -> xr.Dataset:
        names_of = (names.EFFECT_SIZE, names.se(names.EFFECT_SIZE))
        found = {name: quantiles_over_units(abs(node[name]), [0.5]).isel({names.QUANTILE: 0}) for name in names_of}
        defined, dropped = node[names.DEFINED] == 1, node.get(names.N_DROPPED, xr.DataArray(0))
        active = (node[names.TREATMENT_MEAN] != 0).any(names.FACTOR) | (node[names.CONTROL_MEAN] != 0)
        counts = {
            names.N_UNITS: active.size,
            names.N_UNDEFINED: (~defined).sum([dim for dim in defined.dims if dim != names.FACTOR]),
            names.N_SILENT: (~active).sum(),
            names.N_UNCHANGED: (~defined).all(names.FACTOR).sum(),
            names.N_WITH_DROPPED: (dropped > 0).sum(),
        }
        return xr.Dataset({**found, **counts}).drop_vars(names.QUANTILE)

    from scipy import stats

    n_images = next(iter(contrast_group(result).children.values())).attrs["n_images"]
    table = _over_layers(result, medians).assign({names.SHARE: significant_shares(result, test, level)})
    return table.assign_attrs(by_chance=float(stats.t.ppf(0.75, n_images - 1)) / n_images**0.5)


def accuracy_table(result: xr.DataTree) -> xr.Dataset:
    """Return the accuracies of a result.

    Raises
    ------
    ReaderError
        If there are none.
    """
    return _child(result, names.ACCURACY).to_dataset()


def p_text(p: float) -> str:
    """Write a p-value; a dash where there is none.

    Examples
    --------
    >>> p_text(0.0126), p_text(0.0004), p_text(float("nan"))
    ('0.013', '< 0.001', '–')
    """
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"

"""What lesions did, as numbers that pictures and tables show: selections of the groups masking and single_class."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.contrast import ORIGINAL
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics import specialisation as kernels

OWN: Final = "own"  # stands for the input that a map's own factor alters


def masking_places(result: xr.DataTree, group: str = names.MASKING) -> list[str]:
    """Places where lesions were made, in the order of the protocol.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    group : str
        ``masking`` or ``single_class``.

    Raises
    ------
    ReaderError
        If the result has no such group.
    """
    if group not in result.children:
        raise ReaderError(
            f"no group {group!r} in this tree (it has: {', '.join(result.children) or 'none'}); "
            f"open the result of a run with `analyses: [{group}]` by `open_result`"
        )
    return recorded_order(result.children[group])


def place_of(result: xr.DataTree, place: str | None = None, group: str = names.MASKING) -> xr.Dataset:
    """What was found at a place where lesions were made, by default the first.

    Raises
    ------
    ReaderError
        If the result has no such group, or no such place.
    """
    places = masking_places(result, group)
    place = places[0] if place is None else place
    if place not in places:
        raise ReaderError(unknown_name("place", place, places))
    return result.children[group].children[place].to_dataset()


def known(table: xr.Dataset, dim: str, label: str) -> str:
    """Label of a dimension, once it is known to be there.

    Raises
    ------
    ReaderError
        If it is not.
    """
    labels = [str(one) for one in table[dim].values]
    if label not in labels:
        raise ReaderError(unknown_name(dim, label, labels))
    return label


def rule_of(table: xr.Dataset, rule: str | None = None) -> str:
    """Label of a rule, by default that of the headline."""
    return known(table, names.RULE, str(table.attrs["headline"]) if rule is None else rule)


def own_factors(table: xr.Dataset) -> list[str]:
    """Factors of maps that are alterations too, so that there is an input of their own."""
    inputs = set(table[names.INPUT].values.tolist())
    return [str(factor) for factor in table[names.FACTOR].values if factor in inputs]


def factors_on(table: xr.Dataset, which: str) -> list[str]:
    """Factors of maps that a picture of an input shows: for ``own``, those that are alterations too.

    Raises
    ------
    ReaderError
        If there are none.
    """
    factors = own_factors(table) if which == OWN else [str(factor) for factor in table[names.FACTOR].values]
    if not factors:
        maps, inputs = (", ".join(map(str, table[dim].values)) for dim in (names.FACTOR, names.INPUT))
        raise ReaderError(
            f"no map is of a factor that alters an input here (maps of: {maps}; inputs: {inputs}); ask for one of "
            "these inputs, or run maps of the alterations"
        )
    return factors


def input_of(table: xr.Dataset, factor: str, which: str) -> str:
    """Input of a picture about a factor: its own one for ``own``, else the one that is named."""
    return known(table, names.INPUT, factor if which == OWN else which)


def dose_response(
    result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1, multiply: float = 0.0
) -> xr.Dataset:
    """Accuracies by the share of the units that is masked.

    Parameters
    ----------
    place : str, optional
        By default the first.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.
    multiply : float
        What the masked units are multiplied by.

    Returns
    -------
    Dataset
        Over (input, factor, masked_share): ``estimate`` with its interval. Over (input, masked_share): ``random``, the
        mean over random masks, and the ends of the band that holds 95 % of the masks; NaN for rules without random
        masks. The share 0 is the network without a lesion.

    Raises
    ------
    ReaderError
        If no rule multiplies by that, or there is no such place or measure.
    """
    table = place_of(result, place)
    at = table.sel({names.MEASURE: known(table, names.MEASURE, measure)})
    multipliers = sorted({float(one) for one in at[names.MULTIPLY].values if np.isfinite(one)})
    if multiply not in multipliers:
        listed = ", ".join(f"{one:g}" for one in multipliers)
        held = f"rules multiply by: {listed}" if listed else "all rules are soft"
        raise ReaderError(
            f"multiply: no share of the units was multiplied by {multiply:g} here, {held}; "
            "ask for one of these, or add it to `masking: {rules: …}` of the protocol"
        )
    rules = np.flatnonzero(at[names.MULTIPLY].values == multiply)
    rules = rules[np.argsort(at[names.MASKED_SHARE].values[rules], kind="stable")]
    some, whole = at.isel({names.RULE: rules}), at[names.ends(names.UNLESIONED)]
    shares = np.concatenate([[0.0], some[names.MASKED_SHARE].values])
    found = {}
    for name, unlesioned in zip(names.ends(names.ESTIMATE), names.ends(names.UNLESIONED), strict=True):
        start = whole[unlesioned].expand_dims({names.RULE: 1, names.FACTOR: at[names.FACTOR]})
        found[name] = _along_shares([start, some[name]], shares)
    for name, difference in zip(names.ends(names.RANDOM), names.ends(names.RANDOM_MEAN), strict=True):
        start = whole[names.UNLESIONED]
        found[name] = _along_shares([start.expand_dims(names.RULE), start + some[difference]], shares)
    return xr.Dataset(found, attrs={**table.attrs, "multiply": multiply})


def _along_shares(parts: list[xr.DataArray], shares: np.ndarray) -> xr.DataArray:
    """Join parts along the shares that are masked, in the place of rules."""
    plain = [part.drop_vars(set(part.coords) - {names.INPUT, names.FACTOR}) for part in parts]
    joined = xr.concat(plain, names.RULE, coords="minimal", compat="override")
    joined = joined.rename({names.RULE: names.MASKED_SHARE}).assign_coords({names.MASKED_SHARE: shares})
    return joined.transpose(names.INPUT, ..., names.MASKED_SHARE)


def accuracy_differences(
    result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1, rule: str | None = None
) -> xr.Dataset:
    """Differences of the lesioned from the unlesioned network, at one rule.

    Parameters
    ----------
    rule : str, optional
        By default that of the headline.

    Returns
    -------
    Dataset
        Over (input, factor): ``difference`` with its interval; the attribute ``rule`` is the rule.

    Raises
    ------
    ReaderError
        If there is no such place, measure or rule.
    """
    table = place_of(result, place)
    at = {names.MEASURE: known(table, names.MEASURE, measure), names.RULE: rule_of(table, rule)}
    found = table[names.ends(names.DIFFERENCE)].sel(at).transpose(names.INPUT, names.FACTOR)
    return found.assign_attrs(rule=at[names.RULE])


def cross_table(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> xr.Dataset:
    """Correlations over rules between accuracies on altered and on original images.

    Returns
    -------
    Dataset
        Over (input, factor), the original images left out: ``cross`` with its interval.

    Raises
    ------
    ReaderError
        If there is no such place or measure.
    """
    table = place_of(result, place)
    found = table[names.ends(names.CROSS)].sel({names.MEASURE: known(table, names.MEASURE, measure)})
    return found.drop_sel({names.INPUT: ORIGINAL}).transpose(names.INPUT, names.FACTOR)


def headline(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> xr.Dataset:
    """What the map of each factor did to images that the factor alters, beside random masks and other factors' maps.

    Returns
    -------
    Dataset
        Over the factors of maps that are alterations too, at the rule of the headline: ``unlesioned``, the accuracy
        without a lesion, and ``difference``, with intervals; ``random_mean`` with its band, and ``random_difference``
        over masks; ``others``, differences by the maps of other factors, over ``factor_2`` (NaN for the own one);
        ``excess`` and ``against_others`` with their intervals, and the p-values.

    Raises
    ------
    ReaderError
        If there is no such place or measure.
    """
    table = place_of(result, place)
    at = table.sel({names.MEASURE: known(table, names.MEASURE, measure), names.RULE: rule_of(table)})
    own = xr.DataArray(np.array(own_factors(table), dtype=object), dims=names.FACTOR)
    own = own.assign_coords({names.FACTOR: own})
    by_map = [*names.ends(names.EXCESS), *names.ends(names.AGAINST_OTHERS), names.P_VALUE, names.P_ADJUSTED]
    by_map += [names.P_LESS, names.P_LESS_ADJUSTED, names.P_OTHERS]
    found = {name: at[name].sel({names.FACTOR: own}) for name in by_map}
    found |= {name: at[name].sel({names.INPUT: own, names.FACTOR: own}) for name in names.ends(names.DIFFERENCE)}
    by_input = [*names.ends(names.UNLESIONED), names.RANDOM_DIFFERENCE, *names.ends(names.RANDOM_MEAN)]
    found |= {name: at[name].sel({names.INPUT: own}) for name in by_input}
    of_all = at[names.DIFFERENCE].rename({names.FACTOR: names.FACTOR_2}).sel({names.INPUT: own})
    found[names.OTHERS] = of_all.where(of_all[names.FACTOR_2] != own)
    plain = {name: array.drop_vars(names.INPUT, errors="ignore") for name, array in found.items()}
    return xr.Dataset(plain, attrs=table.attrs)


def accuracy_clusters(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> xr.Dataset:
    """Cluster inputs and maps by their accuracies over all rules: distance √(1 − |ρ|), average linkage.

    Returns
    -------
    Dataset
        ``linkage`` (merge, part), as scipy gives it, and ``leaf`` (rank), from one side to the other, number the
        ``vector``, pairs of an ``input`` and the ``factor`` of a map. The attributes count vectors that were left out:
        ``n_constant`` because they do not vary over rules, ``n_undefined`` because an accuracy is undefined. With fewer
        than 3 rules there is no tree, and merges are NaN.

    Raises
    ------
    ReaderError
        If there is no such place or measure.
    """
    table = place_of(result, place)
    estimate = table[names.ESTIMATE].sel({names.MEASURE: known(table, names.MEASURE, measure)})
    vectors = estimate.transpose(names.INPUT, names.FACTOR, names.RULE).values
    pairs = np.array([(i, f) for i in table[names.INPUT].values for f in table[names.FACTOR].values], dtype=object)
    vectors = vectors.reshape(len(pairs), -1)
    undefined = np.isnan(vectors).any(1)
    constant = ~undefined & (vectors == vectors[:, :1]).all(1)
    kept = ~undefined & ~constant
    merges, order = kernels.linkage_tree(kernels.rank_distances(vectors[kept]))
    coords = {names.INPUT: (names.VECTOR, pairs[kept, 0]), names.FACTOR: (names.VECTOR, pairs[kept, 1])}
    counts = {names.N_CONSTANT: int(constant.sum()), names.N_UNDEFINED: int(undefined.sum())}
    found = {names.LINKAGE: ((names.MERGE, names.PART), merges), names.LEAF: (names.RANK, order)}
    return xr.Dataset(found, coords, {**table.attrs, **counts})


def class_shifts(
    result: xr.DataTree, factor: str, which: str = OWN, place: str | None = None, n_classes: int = 20
) -> xr.Dataset:
    """How much oftener or more seldom the lesioned network predicts each class, at the rule of the headline.

    Parameters
    ----------
    factor : str
        Whose map made the mask.
    which : str
        Input: ``original``, an alteration, or ``own`` for that of the factor.
    n_classes : int
        Classes that are returned: those that the output is most sensitive to, then those that shift most.

    Returns
    -------
    Dataset
        Over ``class``, from the largest shift upwards to the largest one downwards: ``class_share_shift`` and its
        standard error, and ``sensitive_class``, whether it is one of the most sensitive ones. The attributes
        ``input``, ``n_classes`` and ``factor`` say of what, and of how many classes.

    Raises
    ------
    ReaderError
        If there is no such factor, input or place.
    """
    table = place_of(result, place, names.SINGLE_CLASS)
    known(table, names.FACTOR, factor)
    at = {names.INPUT: input_of(table, factor, which), names.FACTOR: factor}
    names_of = [names.CLASS_SHARE_SHIFT, names.se(names.CLASS_SHARE_SHIFT)]
    found = table[names_of].sel(at)
    sensitive = found[names.CLASS].isin(table[names.SENSITIVE_CLASS].sel({names.FACTOR: factor}))
    size = np.abs(np.nan_to_num(found[names.CLASS_SHARE_SHIFT].values)) + np.where(sensitive, np.inf, 0)
    chosen = np.argsort(-size, kind="stable")[:n_classes]
    # undefined shifts sort last
    chosen = chosen[np.argsort(-found[names.CLASS_SHARE_SHIFT].values[chosen], kind="stable")]
    found = found.assign({names.SENSITIVE_CLASS: sensitive}).isel({names.CLASS: chosen})
    return found.assign_attrs({**table.attrs, **at, "n_classes": table.sizes[names.CLASS]})


def jaccards(result: xr.DataTree, which: str = OWN, place: str | None = None, rule: str | None = None) -> xr.Dataset:
    """How far the classes that are most sensitive to a factor are those that the network predicts.

    Parameters
    ----------
    which : str
        Input: ``original``, an alteration, or ``own`` for that of each factor; factors without one are left out.
    rule : str, optional
        At which a lesion is tested, by default that of the headline.

    Returns
    -------
    Dataset
        Over ``factor``, with its ``input``: ``unlesioned`` and its interval, ``p_unlesioned`` and the ``fence``; over
        (factor, rule) too ``jaccard``, ``difference`` and their p-values. The attribute ``rule`` is the rule.

    Raises
    ------
    ReaderError
        If there is no such input, place or rule.
    """
    table = place_of(result, place, names.SINGLE_CLASS)
    factors = factors_on(table, which)
    by_factor = np.array(factors, dtype=object), np.array([input_of(table, f, which) for f in factors], dtype=object)
    of, shown = (xr.DataArray(labels, dims=names.FACTOR) for labels in by_factor)
    tests = [names.P_UNLESIONED, names.P_VALUE, names.P_SHIFT]
    adjusted = [names.P_UNLESIONED_ADJUSTED, names.P_ADJUSTED, names.P_SHIFT_ADJUSTED]
    values = [name for one in (names.UNLESIONED, names.JACCARD, names.DIFFERENCE) for name in names.ends(one)]
    found = table[[*values, *tests, *adjusted]].sel({names.INPUT: shown, names.FACTOR: of})
    fence = table[names.FENCE].sel({names.INPUT: shown})
    return found.assign({names.FENCE: fence}).assign_attrs({**table.attrs, "rule": rule_of(table, rule)})

"""Sections about what was found: pictures, and tables of the numbers that they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis import overview
from neuroprobe.analysis.shares import known_shares, mean_shares
from neuroprobe.analysis.strongest import strongest_channels, strongest_units
from neuroprobe.plot.units import unit_names
from neuroprobe.report.page import Part, Picture, Table, Text
from neuroprobe.report.view import View, picture

N_NAMED: Final = 5  # channels, units or pairs that tables name
SHORT: Final = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SHAPLEY_EFFECT: "Sh"}
MOMENTS: Final = {
    names.MEAN: "mean",
    names.VARIANCE: "variance",
    names.COEFFICIENT_OF_VARIATION: "coefficient of variation",
    names.ACTIVITY_RATE: "activity rate",
}


def depth(one: View) -> Iterator[Part]:
    """Medians, quartiles and means of indices, layer after layer."""
    for index in one.values:
        caption = (
            f"{SHORT[index]} of each factor, layer after layer: markers are medians over units, bars go from quartile "
            f"to quartile, dashes are means. {one.units(one.layers)}"
        )
        yield picture(plot.depth_profile(one.tree, index), caption)
    means = overview.index_means(one.tree)
    rows = []
    for layer in one.layers:
        n_units, n_defined = one.numbers([layer])
        for number, factor in enumerate(one.factors):
            place = {names.LAYER: one.layers.index(layer), names.FACTOR: number}
            cells = [
                with_error(*(float(table[name].isel(place)) for name in (index, names.se(index))))
                for index in one.values
                for table in (one.medians, means)
            ]
            rows.append([layer, factor, *cells, f"{n_defined:,}", f"{n_units - n_defined:,}"])
    caption = (
        "Medians and means over the units of a layer; in brackets the median, or the mean, of the standard errors of "
        "single units. The error of a mean is at most the one in its brackets."
    )
    columns = [f"{SHORT[index]} {of}" for index in one.values for of in ("median", "mean")]
    head = ["layer", "factor", *columns, "units", "left out"]
    yield Table(caption, head, rows, (0, 1))


def shares(one: View) -> Iterator[Part]:
    """Mean parts of the variance of the units of each layer."""
    for index in known_shares(one.tree):
        # rarely active units make means of first-order indices uncertain
        by_variance = index == names.FIRST_ORDER
        what = "units count by their variance" if by_variance else "all units count alike"
        caption = (
            f"Mean {SHORT[index]} of each factor over the units of a layer, where {what}"
            f"{', and what is left to interactions (pale)' if by_variance else ''}; the parts sum to 1. Lines reach "
            "one mean standard error of single units to either side; the error of a mean is at most as large. "
            f"{one.units(one.drawn)} {one.left_out()}"
        )
        yield picture(plot.stacked_shares(one.tree, index, one.drawn, by_variance), caption)
        found = mean_shares(one.tree, index, by_variance)
        share, error = found[names.SHARE].values, found[names.se(names.SHARE)].values
        rows = [
            [layer, *(with_error(*cell) for cell in zip(share[i], error[i], strict=True))]
            for i, layer in enumerate(one.layers)
        ]
        head = ["layer", *(str(part) for part in found[names.PART].values)]
        yield Table(f"Mean {SHORT[index]} (in brackets the mean standard error of single units).", head, rows)


def distributions(one: View) -> Iterator[Part]:
    """Histograms of indices."""
    for index in one.values:
        outside = overview.index_distributions(one.tree, index)[names.OUTSIDE]
        caption = (
            f"How {SHORT[index]} is distributed over the units of a layer; each histogram is scaled to its place. The "
            "line is the median, the bar across it the median standard error on either side: a distribution that is "
            f"no wider is mostly noise. {one.units(one.drawn)} At most {float(np.nan_to_num(outside.max())):.1%} of "
            f"the units of a layer lie beyond the histograms. {one.left_out()}"
        )
        yield picture(plot.index_distributions(one.tree, index, one.drawn), caption)


def strongest(one: View) -> Iterator[Part]:
    """Maps of the strongest channels, or the strongest units, of every layer."""
    yield Text(
        f"Channels and units are chosen by their estimates of {SHORT[one.main]}, the largest first; what is chosen in "
        f"this way is too large on average. {one.left_out()}"
    )
    for layer in one.layers:
        indices = one.indices(layer)
        has_maps = indices.sizes.get(names.Y, 1) * indices.sizes.get(names.X, 1) > 1
        yield Text(layer, "heading")
        if not one.numbers([layer])[1]:
            yield Text("No unit of this layer has an index.")
            continue
        if layer in one.drawn:
            yield _maps(one, layer) if has_maps else _points(one, layer)
        yield _channel_table(one, layer) if has_maps else _unit_table(one, layer)


def _maps(one: View, layer: str) -> Picture:
    n = min(8, one.indices(layer).sizes[names.CHANNEL])
    caption = (
        f"{SHORT[one.main]} over space: for each factor the {n} channels with the largest means over their maps, under "
        "their numbers. Every row has its own colour scale, at its end; 1 % of a row may exceed its top. Grey rows: no "
        "mean exceeds 2 standard errors, or nothing exceeds 1 % of the variance. White: units without an "
        f"index. Other channels are left out. Chosen from {one.of(layer)}."
    )
    return picture(plot.index_maps(one.tree, layer, one.main), caption)


def _points(one: View, layer: str) -> Picture:
    n = 8 if len(one.factors) <= 6 else 4
    caption = (
        f"For each factor the {n} units with the largest {SHORT[one.main]}, and one standard error on either side, "
        "under the numbers of their channels (in brackets the token or the place). Other units are left out. "
        f"Chosen from {one.of(layer)}."
    )
    return picture(plot.strongest_units(one.tree, layer, one.main, n), caption)


def _channel_table(one: View, layer: str) -> Table:
    chosen = strongest_channels(one.indices(layer), one.main, N_NAMED)
    caption = (
        f"{layer}: channels with the largest mean of {SHORT[one.main]} over their map (in brackets its units' mean "
        "standard error)."
    )
    return _ranks(
        caption,
        one.factors,
        chosen[names.CHANNEL].values.tolist(),
        chosen[names.STRENGTH].values,
        chosen[names.se(names.STRENGTH)].values,
    )


def _unit_table(one: View, layer: str) -> Table:
    chosen = strongest_units(one.indices(layer), one.main, N_NAMED)
    return _ranks(
        f"{layer}: units with the largest {SHORT[one.main]} (in brackets its standard error).",
        one.factors,
        [unit_names(chosen.isel({names.FACTOR: number})) for number in range(len(one.factors))],
        chosen[one.main].values,
        chosen[names.se(one.main)].values,
    )


def _ranks(
    caption: str, factors: Sequence[str], who: Sequence[Sequence[object]], values: np.ndarray, errors: np.ndarray
) -> Table:
    """A row per factor, a column per rank; ranks that no unit takes are empty."""
    rows = [
        [
            factor,
            *(
                "–" if np.isnan(value) else f"{name}: {with_error(value, error)}"
                for name, value, error in zip(who[number], values[number], errors[number], strict=True)
            ),
        ]
        for number, factor in enumerate(factors)
    ]
    return Table(caption, ["factor", *(f"{rank + 1}." for rank in range(values.shape[1]))], rows)


def interactions(one: View) -> Iterator[Part]:
    """Matrices of S2, and the strongest pairs."""
    if len(one.factors) < 2:
        yield Text("There is one factor, and so there are no pairs.")
        return
    if names.SECOND_ORDER not in one.indices(one.layers[0]):
        yield Text(
            "The design has no indices of pairs (second_order: false). What a factor explains in pairs and larger "
            "groups is the difference of ST and S1."
        )
        return
    caption = (
        "S2, the share of the variance that a pair explains beyond what its factors explain alone: above the diagonal "
        "the median over units, below it the 95th percentile. Numbers are in %; grey ones do not exceed 2 median "
        f"standard errors. {one.units(one.drawn)} {one.left_out()}"
    )
    yield picture(plot.interactions(one.tree, layers=one.drawn), caption)
    profile = overview.interaction_profile(one.tree)
    upper = [(i, j) for i in range(len(one.factors)) for j in range(i + 1, len(one.factors))]
    rows = []
    for number, layer in enumerate(one.layers):
        at = profile.isel({names.LAYER: number})
        median, tail = at[names.SECOND_ORDER].transpose(names.QUANTILE, ...).values
        errors = at[names.se(names.SECOND_ORDER)].values
        for i, j in sorted(upper, key=lambda pair: -np.nan_to_num(median[pair]))[:N_NAMED]:
            pair = f"{one.factors[i]} × {one.factors[j]}"
            rows.append([layer, pair, with_error(median[i, j], errors[i, j]), decimal(tail[i, j])])
    caption = f"Up to {N_NAMED} pairs with the largest median S2 in each layer (in brackets the median standard error)."
    yield Table(caption, ["layer", "pair", "median", "95th percentile"], rows, (0, 1))


def activity(one: View) -> Iterator[Part]:
    """Units without an index, and rarely active ones."""
    index = "an index" if one.values else "variance"
    caption = (
        f"Units without {index}, because their variance is under the noise floor, and units with one that were active "
        "(above 0) in less than 5 % of the presentations; numbers: the former + the latter of all units. Rarely active "
        "units look like pure interactions, as several factors have to fit before they answer; where responses may be "
        f"negative, a low activity means less. No unit is left out. {one.left_out()}"
    )
    yield picture(plot.activity(one.tree, one.drawn), caption)
    counts = one.counts
    columns = {
        "units": counts[names.N_UNITS],
        f"with {index}": counts[names.N_DEFINED],
        "never active": counts[names.N_SILENT],
        "constant": counts[names.N_CONSTANT],
        "no finite response": counts[names.N_LOST],
    }
    for number, threshold in enumerate(counts[names.THRESHOLD].values):
        columns[f"active in < {threshold:.0%}"] = counts[names.N_RARE].isel({names.THRESHOLD: number})
    if one.tree.attrs.get("nan") == "drop":
        columns["with dropped samples"] = counts[names.N_WITH_DROPPED]
    rows = [[layer, *(f"{int(column[i]):,}" for column in columns.values())] for i, layer in enumerate(one.layers)]
    caption = f"Numbers of units. Those without {index} were never active, constant, or without a finite response."
    yield Table(caption, ["layer", *columns], rows)


def convergence(one: View) -> Iterator[Part]:
    """How the standard errors fell with the base samples."""
    for index in one.values:
        caption = (
            f"Median standard error of {SHORT[index]} over units, in each layer from the fewest base samples to all. "
            "Dashed lines fall with the square root of their number; the dotted line is the tolerance of 0.01. Errors "
            "from few blocks are uncertain themselves, and errors under 0.001 lie below the picture. "
            f"{one.units(one.drawn)} {one.left_out()}"
        )
        yield picture(plot.convergence(one.tree, index, one.drawn), caption)
    table = overview.convergence_table(one.tree, one.main).transpose(names.LAYER, names.FACTOR, names.SAMPLES)
    median, p95, share = (table[f"{names.se(one.main)}_{key}"].values for key in ("median", "p95", "share_converged"))
    samples = table[names.SAMPLES].values
    rows = [
        [layer, factor, *(decimal(value, 4) for value in [*median[i, j], p95[i, j, -1]]), percent(share[i, j, -1])]
        for i, layer in enumerate(table[names.LAYER].values)
        for j, factor in enumerate(one.factors)
    ]
    head = ["layer", "factor", *(f"{n:,}" for n in samples), "95th percentile", "under 0.01"]
    caption = (
        f"Standard errors of {SHORT[one.main]} over units: medians by the number of base samples, and with all of "
        "them the 95th percentile and the share of units under 0.01."
    )
    yield Table(caption, head, rows, (0, 1))


def preferences(one: View) -> Iterator[Part]:
    """Which factors units prefer."""
    for index in one.values:
        found = overview.preferences(one.tree, index)
        if index == names.TOTAL_ORDER:
            note = "ST is never negative, so that nearly every unit counts."
        else:
            note = f"Errors alone would make at most {found.attrs['by_chance']:.0%} of units without any effect count."
        caption = (
            f"Shares of units by {found.attrs['rule'].replace('index', SHORT[index])}. Pale: units that do not count. "
            f"{note} {one.units(one.drawn)} {one.left_out()}"
        )
        yield picture(plot.preferences(one.tree, index, one.drawn), caption)
        share, unclear = found[names.SHARE].transpose(names.LAYER, names.FACTOR).values, found[names.UNCLEAR].values
        rows = [
            [layer, f"{one.numbers([layer])[1]:,}", *map(percent, [*share[i], unclear[i]])]
            for i, layer in enumerate(one.layers)
        ]
        yield Table(f"The same for {SHORT[index]} in numbers.", ["layer", "units", *one.factors, "none"], rows)


def moments(one: View) -> Iterator[Part]:
    """Medians of moments over units."""
    rows = []
    for number, layer in enumerate(one.layers):
        at = one.moments.isel({names.LAYER: number})
        n_units, n_defined = int(at[names.N_UNITS]), int(at[names.N_DEFINED])
        cells = [with_error(float(at[name]), float(at[names.se(name)])) for name in MOMENTS]
        rows.append([layer, *cells, f"{n_defined:,}", f"{n_units - n_defined:,}"])
    caption = (
        "Medians over the units of a layer that vary, under all alterations together (in brackets the median of the "
        "standard errors of single units). The coefficient of variation is the standard deviation over the absolute "
        "mean: it grows without bound where the mean is near 0."
    )
    head = ["layer", *MOMENTS.values(), "units", "left out"]
    yield Table(caption, head, rows)


def with_error(value: float, error: float) -> str:
    """Write a number with its standard error in brackets; a dash in the place of what is undefined."""
    return "–" if np.isnan(value) else f"{value:.3f} ({decimal(error)})"


def decimal(value: float, n_decimals: int = 3) -> str:
    """Write a number; a dash where there is none."""
    return "–" if np.isnan(value) else f"{value:.{n_decimals}f}"


def interval(at: xr.Dataset, ends: Sequence[str], n_decimals: int = 3) -> str:
    """Write a number with its interval, of the variables of these names; a dash where there is none."""
    value, low, high = (float(at[name]) for name in ends)
    if np.isnan(value):
        return "–"
    return f"{value:z.{n_decimals}f} [{low:z.{n_decimals}f}, {high:z.{n_decimals}f}]"


def percent(share: float) -> str:
    """Write a share in percent; a dash where there is none."""
    return "–" if np.isnan(share) else f"{share:.1%}"

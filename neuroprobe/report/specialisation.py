"""The section about the specialisation of maps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Final

import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis.specialisation import specialisation
from neuroprobe.report.findings import SHORT, with_error
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture

MIN_FACTORS: Final = 3
MAX_VALUES: Final = 4_000_000  # indices that are compared in a few seconds
MAX_FEATURES: Final = 49  # of maps that are classified


def maps(one: View) -> Iterator[Part]:
    """Whether the maps of factors differ: correlations, classification and trees."""
    if len(one.factors) < MIN_FACTORS:
        yield Text(f"Maps are compared where there are {MIN_FACTORS} factors or more.")
        return
    n_values = one.numbers(one.layers)[0] * len(one.factors) * len(one.values)
    if n_values > MAX_VALUES:
        yield Text(f"{n_values:,} indices are too many to be compared here; neuroprobe.specialisation compares them.")
        return
    found = specialisation(one.tree, n_permutations=0, n_clusters=0, max_features=MAX_FEATURES)
    yield Text(
        "A map is an index of one factor over the units of a channel. Maps are correlated over channels (Spearman, "
        "pixel by pixel, then averaged over pixels; pixels where a map does not vary are left out), and a linear "
        "discriminant is asked which factor a map is of, all maps of a channel being in one fold. Standard errors say "
        "how far the numbers would move with other channels of the kind. The errors of the indices blur maps, which "
        "pulls correlations towards 0 and accuracies towards chance."
    )
    chance = found[names.ACCURACY].attrs["chance"]
    for quantity, said in (
        (
            names.ACCURACY,
            f"Share of the maps whose factor is told; chance is {chance:.0%} (dotted). Dashed: maps divided "
            "by their norm, so that shapes alone count; none for layers without space.",
        ),
        (names.MEAN_CORRELATION, "Correlation between the maps of two factors, mean over pairs; 0 is dotted."),
    ):
        caption = f"{said} Bands are one standard error on either side. {one.units(one.drawn)} {one.left_out()}"
        yield picture(plot.specialisation_profile(found, quantity, one.drawn), caption)
    yield _summary(one, found)
    short, shown = SHORT[one.main], f"{one.units(one.drawn)} {one.left_out()}"
    caption = (
        f"Correlations between maps of {short}. Numbers are in %; grey ones do not exceed 2 standard errors. {shown}"
    )
    yield picture(plot.correlations(found, one.main, one.drawn), caption)
    caption = (
        f"Factors by 1 − correlation of their maps of {short} (average linkage). The dotted line is at 1, where two "
        f"maps have nothing to do with each other. {shown}"
    )
    yield picture(plot.factor_trees(found, one.main, one.drawn), caption)
    caption = (
        f"The factors that maps of {short} are of (rows), and those that they are taken for (columns), in % of a row; "
        f"above, the accuracy and its standard error. Grey numbers are within 2 standard errors of chance. {shown}"
    )
    yield picture(plot.confusions(found, one.main, layers=one.drawn), caption)
    yield _agreement(one, found)


def _summary(one: View, found: xr.DataTree) -> Table:
    rows = []
    for layer in one.layers:
        for value in one.values:
            at = found.to_dataset().sel({names.LAYER: layer, names.VALUE: value})
            cells = [_cell(at, names.MEAN_CORRELATION)]
            cells += [_cell(at.sel({names.NORMALISATION: kind}), names.ACCURACY) for kind in ("none", "unit")]
            n_constant = int(at[f"{names.CORRELATION}_{names.N_CONSTANT}"].max())
            rows.append(
                [
                    layer,
                    SHORT[value],
                    *cells,
                    f"{n_constant:,} of {int(at[names.N_PIXELS]):,}",
                    f"{int(at[names.N_CHANNELS]):,}",
                ]
            )
    head = ["layer", "maps of", "mean correlation", "accuracy", "accuracy of shapes", "pixels left out", "channels"]
    caption = (
        "Means over pairs of factors of the correlations of their maps, and accuracies (in brackets standard errors); "
        "pixels that were left out of the correlation of a pair because a map does not vary, at most; channels that "
        "were classified."
    )
    return Table(caption, head, rows, (0, 1))


def _agreement(one: View, found: xr.DataTree) -> Table:
    pairs = list(combinations(one.values, 2))
    rows = []
    for layer in one.layers:
        for factor in one.factors:
            at = found.to_dataset().sel({names.LAYER: layer, names.FACTOR: factor})
            cells = [_cell(at.sel({names.VALUE: a, names.VALUE_2: b}), names.AGREEMENT) for a, b in pairs]
            cells += [_cell(at.sel({names.VALUE: value}), names.VARIATION_CORRELATION) for value in one.values]
            rows.append([layer, factor, *cells])
    head = [*(f"{SHORT[a]}, {SHORT[b]}" for a, b in pairs), *(f"{SHORT[value]}, variation" for value in one.values)]
    caption = (
        "Correlations between two kinds of maps of a factor, and of its maps with the coefficient of variation of the "
        "responses (in brackets standard errors)."
    )
    return Table(caption, ["layer", "factor", *head], rows, (0, 1))


def _cell(at: xr.Dataset, name: str) -> str:
    return with_error(float(at[name]), float(at[names.se(name)]))

"""The section about contrasts: what each alteration alone changes, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis import effects
from neuroprobe.analysis.contrast import FAMILIES
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture

LEVEL: Final = 0.05


def is_there(one: View) -> bool:
    """Whether a result has contrasts."""
    return "contrast" in one.tree.children


def summary(one: View) -> Iterator[str]:
    """Say in a sentence what was recorded, for a result of contrasts alone."""
    subject, node = one.details["protocol"]["subject"], _first(one)
    weights = "random weights (the random twin)" if subject["random_twin"] else f"weights {subject['weights']}"
    listed = ", ".join(map(str, node[names.FACTOR].values))
    yield (
        f"The network {subject['network']} with {weights}, shown {node.attrs['n_images']:,} images as they are and "
        f"under each of {node.sizes[names.FACTOR]} alterations alone: {listed}. Draws of an alteration for each image: "
        f"{node.attrs['draws']}."
    )


def _first(one: View) -> xr.Dataset:
    return next(iter(effects.contrast_group(one.tree).children.values())).to_dataset()


def contrasts(one: View) -> Iterator[Part]:
    """Effect sizes and shares of units by layer, and accuracies."""
    attrs = _first(one).attrs
    yield Text(
        "Each image is shown as it is and under one alteration at a time. The image is the unit of replication: draws "
        "of an alteration are averaged within it, and all tests are paired over images. d_z is the mean difference in "
        "standard deviations of the differences. p-values are corrected "
        f"({attrs['correction']}; families: {FAMILIES[attrs['family']]}"
        "). A unit that an alteration does not change has no effect size, and does not count as changed."
    )
    caption = "Median (point) and quartiles (bar) of |d_z| over the units that an alteration changes, by layer."
    yield picture(plot.effect_sizes(one.tree), caption)
    caption = f"Share of all units whose adjusted p-value of the paired t-test is under {LEVEL:g}, by layer."
    yield picture(plot.significant_units(one.tree, level=LEVEL), caption)
    yield _table(one)
    if names.ACCURACY in one.tree.children:
        yield from _accuracies(one)


def _table(one: View) -> Table:
    sizes = effects.effect_sizes(one.tree, (0.5,)).isel({names.QUANTILE: 0}, drop=True)
    shares = effects.significant_shares(one.tree, level=LEVEL)
    factors = [str(factor) for factor in sizes[names.FACTOR].values]
    rows = []
    for layer in sizes[names.LAYER].values:
        cells = []
        for factor in factors:
            at = {names.LAYER: layer, names.FACTOR: factor}
            size, share = float(sizes.sel(at)), float(shares.sel(at))
            cells.append(f"{size:.2f} ({share:.0%})" if size == size else "none")
        rows.append([str(layer), *cells])
    meaning = f"share of units with adjusted p < {LEVEL:g}"
    caption = f"Median |d_z| over the units that an alteration changes (in brackets: {meaning})."
    return Table(caption, ["layer", *factors], rows)


def _accuracies(one: View) -> Iterator[Part]:
    table = effects.accuracy_table(one.tree)
    measures = [str(measure) for measure in table[names.MEASURE].values]
    interval = f"{100 * table.attrs['level']:g} % intervals"
    caption = f"Top-1 accuracy on the original images (dashed) and under each alteration alone, with {interval}."
    yield picture(plot.accuracies(one.tree), caption)
    rows = []
    for factor in table[names.FACTOR].values:
        row = [str(factor)]
        for measure in measures:
            at = table.sel({names.FACTOR: factor, names.MEASURE: measure})
            value, low, high, p = (float(at[name]) for name in ("estimate", "lower", "upper", names.P_VALUE))
            row.append(f"{value:.3f} [{low:.3f}, {high:.3f}]" + (f", p {p:.2g}" if p == p else ""))
        rows.append(row)
    caption = f"Measures of the output, with {interval} over images; p: of the difference from the original images."
    yield Table(caption, ["alteration", *measures], rows)

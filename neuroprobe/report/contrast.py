"""The section about contrasts of treatment and control."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from neuroprobe import names, plot
from neuroprobe.analysis.contrast import FAMILIES, MEASURES, TESTS
from neuroprobe.analysis.effects import accuracy_table, p_text, significant_shares
from neuroprobe.report.findings import interval, percent, with_error
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture

LEVEL: Final = 0.05  # of adjusted p-values that count as significant


def contrasts(one: View) -> Iterator[Part]:
    """Accuracies, effect sizes and significant units of each alteration alone."""
    attrs = one.contrast_attrs
    draws = "one draw" if attrs["draws"] == 1 else f"{attrs['draws']} draws"
    yield Text(
        f"Each alteration alone, its switch on, against the control: {attrs['n_images']:,} images, {draws} "
        "of each alteration that has random parameters. The replicate is the image, as a network without noise has no "
        "trials: draws are averaged within an image before anything is tested, and errors say how far the numbers "
        "would move with new images of the same kind."
    )
    yield from _accuracies(one)
    yield Text("Effects on units", "heading")
    yield from _effects(one)


def _accuracies(one: View) -> Iterator[Part]:
    yield Text("Accuracies", "heading")
    if not one.has(names.ACCURACY):
        yield Text("This result holds no accuracies: the images have no classes that the network tells apart.")
        return
    table = accuracy_table(one.tree)
    level, n_images = f"{100 * table.attrs['level']:g} %", int(table["n_images"].min())
    main = str(table[names.MEASURE].values[0])
    caption = (
        f"{main.replace('_', '-').capitalize()}: {MEASURES[main]}, with {level} intervals over {n_images:,} images. "
        "The dashed line is at the original images."
    )
    n_lost = one.contrast_attrs["n_images"] - n_images
    if n_lost:
        caption += f" Left out: {n_lost:,} with an output that is not finite."
    yield picture(plot.accuracies(one.tree, main), caption)
    rows = [
        [
            str(measure),
            str(factor),
            interval(at, (names.ESTIMATE, "lower", "upper")),
            interval(at, names.ends(names.DIFFERENCE)),
            p_text(float(at[names.P_VALUE])),
        ]
        for measure in table[names.MEASURE].values
        for factor in table[names.FACTOR].values
        for at in [table.sel({names.MEASURE: measure, names.FACTOR: factor})]
    ]
    caption = (
        f"The same in numbers, with {level} intervals; differences from the original images are paired over images, "
        "and their p-values (paired t-test) are not corrected."
    )
    yield Table(caption, ["measure", "alteration", "estimate", "difference", "p"], rows, (0, 1))


def _effects(one: View) -> Iterator[Part]:
    attrs, table = one.contrast_attrs, one.contrasts
    n_units = int(table[names.N_UNITS].sum())
    left_out = int(table[names.N_UNDEFINED].sum(names.LAYER).max())
    caption = (
        "Magnitude of Cohen's d_z, the mean difference in standard deviations of the differences between images: "
        "markers are medians over units, bars go from quartile to quartile. Of units that an alteration does not "
        f"change on average, which differ by their images alone, the median would be {table.attrs['by_chance']:.3f}. "
        f"Up to {left_out:,} of {n_units:,} units are left out, as an alteration changes none of their responses."
    )
    yield picture(plot.effect_sizes(one.tree), caption)
    correction = "not corrected" if attrs["correction"] == "none" else f"corrected by {attrs['correction']}"
    family = f"The family of tests is {FAMILIES[attrs['family']]}."
    yield picture(
        plot.significant_units(one.tree, level=LEVEL),
        f"Share of units with a two-sided p-value under {LEVEL:g} (t-test over images), {correction}. {family} With "
        f"many images small effects are significant too. No unit is left out: of {n_units:,} units, those that an "
        "alteration does not change count as not significant.",
    )
    significant = {test: significant_shares(one.tree, test, LEVEL) for test in _tests(one)}
    rows = []
    for number, layer in enumerate(one.layers):
        for place, factor in enumerate(table[names.FACTOR].values):
            where = {names.LAYER: number, names.FACTOR: place}
            at = table.isel(where)
            size = with_error(float(at[names.EFFECT_SIZE]), float(at[names.se(names.EFFECT_SIZE)]))
            shares = [percent(float(share.isel(where))) for share in significant.values()]
            rows.append([layer, str(factor), size, *shares, f"{int(at[names.N_UNDEFINED]):,}"])
    caption = (
        "Median |d_z| over the units that change (in brackets the median of the standard errors of single units), the "
        f"share of all units with p < {LEVEL:g}, {correction}, by test; and the number of units that do not change."
    )
    yield Table(caption, ["layer", "alteration", "|d_z|", *significant, "unchanged"], rows, (0, 1))
    columns = {
        "units": table[names.N_UNITS],
        "never active": table[names.N_SILENT],
        "unchanged by any": table[names.N_UNCHANGED],
    }
    if one.tree.attrs["nan"] == "drop":
        columns["with dropped images"] = table[names.N_WITH_DROPPED]
    rows = [[layer, *(f"{int(column[i]):,}" for column in columns.values())] for i, layer in enumerate(one.layers)]
    caption = (
        "Numbers of units. Those that are never active had a mean response of 0 to the original images and under every "
        "alteration; the differences of those that do not change are under the noise floor, and they have no effect "
        "size and no p-value."
    )
    yield Table(caption, ["layer", *columns], rows)


def _tests(one: View) -> list[str]:
    """Tests that there are in every layer: the ranks may have been kept of some only."""
    layers = [layer.to_dataset() for layer in one.tree.children["contrast"].children.values()]
    return [test for test in TESTS if all(test in layer[names.TEST].values for layer in layers)]

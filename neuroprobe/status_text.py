"""The status of a store in words: tables of what was found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any, Final

from neuroprobe import names
from neuroprobe.analysis.effects import p_text
from neuroprobe.comparison.findings import comparison_lines
from neuroprobe.trial_findings import trial_lines

Row = dict[str, Any]
N_DECIMALS: Final = 3
LEVEL: Final = 0.05  # of adjusted p-values that count as significant
WIDTH: Final = 16  # of a column of names, unless one is longer
SYMBOLS: Final = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SHAPLEY_EFFECT: "Shapley"}
MOMENTS: Final = {names.MEAN: "mean", names.VARIANCE: "variance", names.COEFFICIENT_OF_VARIATION: "variation"}


def table_lines(tables: dict[str, list[Row]]) -> Iterator[str]:
    """Write the tables of a status, those that have rows.

    Parameters
    ----------
    tables : dict of lists of rows
        By the name of the field of `neuroprobe.summary.Status`.
    """
    for name, lines in TEXTS.items():
        if tables[name]:
            yield from lines(tables[name])


def _width(rows: list[Row], key: str, least: int = WIDTH) -> int:
    """Letters that a column of names takes."""
    return max(least, *(len(row[key]) for row in rows))


def _indices(rows: list[Row]) -> Iterator[str]:
    layer, factor = _width(rows, "layer"), _width(rows, "factor")
    yield from ("", "medians over the defined units of a layer (in brackets: median standard error)")
    shown = {name: symbol for name, symbol in SYMBOLS.items() if name in rows[0]}
    yield (
        f"{'layer':<{layer}} {'units':>8} {'undefined':>9}  {'factor':<{factor}}"
        + "".join(f" {symbol:>15}" for symbol in shown.values())
    )
    for row in rows:
        yield (
            f"{row['layer']:<{layer}} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<{factor}}"
            + "".join(f" {_with_error(row, name):>15}" for name in shown)
        )


def _moments(rows: list[Row]) -> Iterator[str]:
    layer = _width(rows, "layer")
    yield from ("", "medians over the units of a layer that vary (in brackets: median standard error)")
    yield f"{'layer':<{layer}} {'units':>8} {'undefined':>9}" + "".join(f" {one:>17}" for one in MOMENTS.values())
    for row in rows:
        yield (
            f"{row['layer']:<{layer}} {row['units']:>8,} {row['undefined']:>9,}"
            + "".join(f" {_with_error(row, name):>17}" for name in MOMENTS)
        )


def _contrasts(rows: list[Row]) -> Iterator[str]:
    layer, factor = _width(rows, "layer"), _width(rows, "factor")
    yield from ("", "contrasts: median |d_z| over the units that change (in brackets: median standard error), and")
    yield f"share of all units with p < {LEVEL:g} (t-test over images, correction {rows[0]['correction']})"
    yield f"{'layer':<{layer}} {'units':>8} {'unchanged':>9}  {'alteration':<{factor}} {'|d_z|':>15} {'share':>7}"
    for row in rows:
        yield (
            f"{row['layer']:<{layer}} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<{factor}} "
            f"{_with_error(row, names.EFFECT_SIZE):>15} {row['share']:>7.1%}"
        )


def _accuracies(rows: list[Row]) -> Iterator[str]:
    factor = _width(rows, "factor")
    yield from ("", f"accuracies with {100 * rows[0]['level']:g} % intervals, and differences from the original")
    yield f"{'measure':<12} {'images':>8}  {'alteration':<{factor}} {'estimate':>22} {'difference':>25}"
    for row in rows:
        yield (
            f"{row['measure']:<12} {row['n_images']:>8,}  {row['factor']:<{factor}} "
            f"{_interval(row, 'estimate', ''):>22} {_interval(row, 'difference', 'difference_'):>25}"
        )


def _lesions(rows: list[Row]) -> Iterator[str]:
    factor = _width(rows, "factor", 20)
    first = rows[0]
    yield ""
    level = f"{100 * first['level']:g} % intervals"
    corrected = "not corrected" if first["correction"] == "none" else f"corrected, {first['correction']}"
    yield f"lesions, {first['rule']}: each factor's map on images that the factor alters ({level})"
    yield f"random: mean over random masks; p: random masks change it as much, in magnitude ({corrected})"
    yield "against others: change by the factor's map less that by the maps of other factors"
    for (place, measure), some in groupby(rows, lambda row: (row["place"], row["measure"])):
        of_one = list(some)
        yield from ("", f"{place}, {measure}, {of_one[0]['n_images']:,} images")
        yield (f"{'factor':<{factor}} {'unlesioned':>20} {'own map':>24} {'random':>8} {'p':>8} {'against others':>24}")
        for row in of_one:
            random = "–" if math.isnan(row[names.RANDOM_MEAN]) else f"{row[names.RANDOM_MEAN]:z.{N_DECIMALS}f}"
            shown = (names.UNLESIONED, names.DIFFERENCE, names.AGAINST_OTHERS)
            whole, change, beyond = (_interval(row, name, f"{name}_") for name in shown)
            yield (
                f"{row['factor']:<{factor}} {whole:>20} {change:>24} {random:>8} {p_text(row[names.P_ADJUSTED]):>8} "
                f"{beyond:>24}"
            )
        diagonal, p = (of_one[0][name] for name in (names.DIAGONAL, names.P_DIAGONAL))
        if not math.isnan(diagonal):
            yield (
                f"all factors: own maps change it by {diagonal:z.{N_DECIMALS}f} more, in magnitude, "
                f"than maps on average (p {p_text(p)}, labels of maps permuted)"
            )


def _single_classes(rows: list[Row]) -> Iterator[str]:
    place, factor, shown = (_width(rows, *of) for of in (("place", 20), ("factor",), ("input",)))
    yield from ("", "classes most sensitive to a factor among those with the largest outputs (mean Jaccard index),")
    first = rows[0]
    yield (
        f"{first['rule']}, with {100 * first['level']:g} % intervals; p: more than of random sets of classes "
        f"(correction {first['correction']})"
    )
    yield (
        f"{'place':<{place}} {'images':>6}  {'factor':<{factor}} {'input':<{shown}} "
        f"{'unlesioned':>20} {'p':>8} {'lesioned':>20} {'p':>8}"
    )
    for row in rows:
        yield (
            f"{row['place']:<{place}} {row['n_images']:>6,}  {row['factor']:<{factor}} {row['input']:<{shown}} "
            f"{_interval(row, names.UNLESIONED, 'unlesioned_'):>20} {p_text(row[names.P_UNLESIONED_ADJUSTED]):>8} "
            f"{_interval(row, names.JACCARD, 'jaccard_'):>20} {p_text(row[names.P_ADJUSTED]):>8}"
        )


def _selectivity(rows: list[Row]) -> Iterator[str]:
    layer, index = _width(rows, "layer"), _width(rows, "index")
    yield from ("", "selectivity: medians over the units of a layer that respond (in brackets: median standard error);")
    yield "by chance: of sham alterations, or of permuted labels; beyond: less sham, or rescaled so that chance is 0;"
    correction = next((row["correction"] for row in rows if row["correction"] != "none"), "none")
    yield f"share of units with p < {LEVEL:g} (correction {correction}; –: no p, or too few draws for one so small)"
    yield (
        f"{'layer':<{layer}} {'units':>8} {'silent':>8}  {'index':<{index}} {'median':>15} {'by chance':>9} "
        f"{'beyond':>15} {'share':>7}"
    )
    for row in rows:
        chance = "–" if math.isnan(row["chance"]) else f"{row['chance']:z.{N_DECIMALS}f}"
        share = "–" if math.isnan(row[names.SHARE]) else f"{row[names.SHARE]:.1%}"
        yield (
            f"{row['layer']:<{layer}} {row['units']:>8,} {row['silent']:>8,}  {row['index']:<{index}} "
            f"{_with_error(row, 'median'):>15} {chance:>9} {_with_error(row, 'corrected'):>15} {share:>7}"
        )


def _with_error(row: Row, name: str) -> str:
    if math.isnan(row[name]):
        return "–"
    error = row[names.se(name)]
    return f"{row[name]:z.{N_DECIMALS}f}" + ("" if math.isnan(error) else f" ({error:.{N_DECIMALS}f})")


def _interval(row: Row, name: str, ends: str) -> str:
    if math.isnan(row[name]):
        return "–"
    value, low, high = (f"{row[key]:z.{N_DECIMALS}f}" for key in (name, f"{ends}lower", f"{ends}upper"))
    return f"{value} [{low}, {high}]"


# field of the status → what writes its rows
TEXTS: Final[dict[str, Callable[[list[Row]], Iterator[str]]]] = {
    "layers": _indices,
    "moments": _moments,
    "contrasts": _contrasts,
    "accuracies": _accuracies,
    "lesions": _lesions,
    "single_classes": _single_classes,
    "selectivity": _selectivity,
    "trials": trial_lines,
    "comparisons": comparison_lines,
}

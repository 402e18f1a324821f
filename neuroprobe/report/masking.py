"""Sections about lesions that sensitivity maps make, and about what they do to single classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis import lesion_effects
from neuroprobe.analysis.effects import p_text
from neuroprobe.report.findings import interval
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture

MAX_PLACES: Final = 4  # that are drawn; tables hold all
MAX_FACTORS: Final = 4  # whose classes are drawn


def lesions(one: View) -> Iterator[Part]:
    """Accuracies of the lesioned network: own maps beside random masks and other factors' maps."""
    places = one.places(names.MASKING)
    first = lesion_effects.place_of(one.tree)
    attrs, measures = first.attrs, [str(measure) for measure in first[names.MEASURE].values]
    yield Text(
        f"Units were multiplied by a number each, and the accuracy was measured again: {attrs['n_images']:,} images, "
        f"as they are and under each alteration alone, {_draws(attrs)}. Which units, the map of a factor says: a rule "
        "such as q0.9 x0 multiplies the tenth of the units that is most sensitive to the factor by 0, x s every unit "
        "by its sensitivity, and x 1-s by 1 minus it. Differences between the lesioned and the unlesioned network are "
        f"paired over images, and their intervals ({_level(attrs)}) say how far they would move with new images of the "
        "same kind."
    )
    n_random = int(first[names.N_RANDOM].sel({names.RULE: lesion_effects.rule_of(first)}))
    if n_random:
        yield Text(
            f"What is tested, at the rule {attrs['headline']}, is whether the map of a factor, on images that the "
            "factor alters (its own input), changes the accuracy more than random masks of equal size. The replicate "
            f"of this test is the mask: the own map is ranked among {n_random:,} random ones, so that p is at least "
            f"{1 / (1 + n_random):.2g}. p-values are {_correction(attrs)}; the family is {attrs['family']}."
        )
    else:
        yield Text(
            f"The rule {attrs['headline']} has no random masks beside it, so that nothing is tested: a difference may "
            "be that of any mask of this size."
        )
    yield Text(
        "A difference that is not larger than that of random masks says that the units are not special: the network "
        "misses any units as much. One that is larger, but not larger than that of other factors' maps, says that "
        "the units matter, though not for this factor more than for others. Only a difference larger than both is "
        "specific. Masks of the same size may still differ in how active their units are."
    )
    for place in places[:MAX_PLACES]:
        yield Text(f"Lesions in {_layers(one, names.MASKING, place)}", "heading")
        yield from _pictures(one, place, measures[0])
        yield from _tables(one, place, measures)
    if len(places) > MAX_PLACES:
        yield Text(f"All {len(places)} places", "heading")
        yield _headlines(
            one, places, measures[:1], f"{len(places) - MAX_PLACES} places are not drawn; here are all of them."
        )


def _pictures(one: View, place: str, measure: str) -> Iterator[Part]:
    """Draw what was found at a place."""
    table = lesion_effects.place_of(one.tree, place)
    n_images = f"{table.attrs['n_images'] - table.attrs['n_dropped']:,} images"
    level = _level(table.attrs)
    has_own = bool(lesion_effects.own_factors(table))
    if has_own:
        yield picture(
            plot.headline(one.tree, place, measure),
            f"Each factor's own map on images that the factor alters, with its {level} interval over {n_images}; in "
            "grey random masks of equal size, in orange the maps of other factors on the same images. p: does the own "
            "map change the accuracy more than random masks, in magnitude; corrected.",
        )
    else:
        yield Text("No factor of a map is an alteration too, so that no map has an input of its own to be tested on.")
    multiply = _multiplier(table)
    if multiply is not None:
        which = lesion_effects.OWN if has_own else lesion_effects.ORIGINAL
        yield picture(
            plot.dose_response(one.tree, which, place, measure, multiply),
            f"Accuracy by the share of the units that is multiplied by {multiply:g}, with {level} intervals over "
            f"{n_images}. Grey: the mean and 95 % of random masks. Orange: maps of other factors. Dotted: no lesion.",
        )
    yield picture(
        plot.accuracy_differences(one.tree, place, measure),
        f"Differences between the lesioned and the unlesioned network on the same {n_images}, in %, by input (rows) "
        f"and the factor of the map (columns); numbers that are not bold have {level} intervals "
        "that include 0. Frames: a map on images that its factor alters.",
    )
    yield picture(
        plot.cross_table(one.tree, place, measure),
        "Does a lesion do the same to altered as to original images? Spearman's correlation over "
        f"{table.sizes[names.RULE]} rules between the two accuracies, in %; numbers that are not bold have {level} "
        f"intervals over {n_images} that include 0.",
    )
    clusters = lesion_effects.accuracy_clusters(one.tree, place, measure)
    left_out = clusters.attrs[names.N_CONSTANT] + clusters.attrs[names.N_UNDEFINED]
    yield picture(
        plot.accuracy_dendrogram(one.tree, place, measure),
        f"Inputs and maps (input · map) by how their accuracies over {n_images} rise and fall from rule to rule. Where "
        "the two cells are of one colour, the map is of the factor that alters the input. Where like maps stand "
        "together, the mask decides; where like inputs do, the images. Left out, as no rule changes them or they are "
        f"undefined: {left_out} of {table.sizes[names.INPUT] * table.sizes[names.FACTOR]}.",
    )


def _multiplier(table: xr.Dataset) -> float | None:
    """What the rule of the headline multiplies units by, or else the first rule that multiplies a share of them."""
    by_rule = table[names.MULTIPLY].values[table[names.RULE].values == lesion_effects.rule_of(table)]
    known = [float(one) for one in (*by_rule, *table[names.MULTIPLY].values) if np.isfinite(one)]
    return known[0] if known else None


def _tables(one: View, place: str, measures: list[str]) -> Iterator[Part]:
    """Tell what was found at a place in numbers."""
    table = lesion_effects.place_of(one.tree, place)
    level = _level(table.attrs)
    own = lesion_effects.own_factors(table)
    if own:
        yield _headlines(one, [place], measures)
    yield from _diagonals(table, measures)
    rows = [
        [str(shown), *(_cell(table.sel({names.INPUT: shown, names.MEASURE: m}), names.UNLESIONED) for m in measures)]
        for shown in table[names.INPUT].values
    ]
    yield Table(f"Accuracies without a lesion, with {level} intervals.", ["input", *measures], rows)
    factors = [str(factor) for factor in table[names.FACTOR].values]
    main = table.sel({names.MEASURE: measures[0]})
    at = main.sel({names.RULE: lesion_effects.rule_of(table)})
    rows = [
        [str(shown), *(_cell(at.sel({names.INPUT: shown, names.FACTOR: f}), names.DIFFERENCE) for f in factors)]
        for shown in table[names.INPUT].values
    ]
    caption = (
        f"{measures[0]}: differences from the unlesioned network at {table.attrs['headline']}, with {level} intervals, "
        "by input (rows) and the factor of the map (columns)."
    )
    yield Table(caption, ["input", *factors], rows)
    if own:
        rows = [
            [
                str(rule),
                *(_cell(main.sel({names.INPUT: f, names.FACTOR: f, names.RULE: rule}), names.DIFFERENCE) for f in own),
            ]
            for rule in table[names.RULE].values
        ]
        caption = f"{measures[0]}: differences by each factor's own map, rule by rule, with {level} intervals."
        yield Table(caption, ["rule", *own], rows)
    yield _units(table)


def _headlines(one: View, places: list[str], measures: list[str], note: str = "") -> Table:
    """Own maps beside random masks and other maps, in numbers."""
    rows = []
    for place in places:
        for measure in measures:
            found = lesion_effects.headline(one.tree, place, measure)
            for factor in found[names.FACTOR].values:
                at = found.sel({names.FACTOR: factor})
                cells = [names.DIFFERENCE, names.RANDOM_MEAN, names.EXCESS]
                ps = [names.P_VALUE, names.P_ADJUSTED, names.P_LESS_ADJUSTED]
                rows.append(
                    [
                        *([place] if len(places) > 1 else []),
                        measure,
                        str(factor),
                        *(_cell(at, name) for name in cells),
                        *(p_text(float(at[name])) for name in ps),
                        _cell(at, names.AGAINST_OTHERS),
                        p_text(float(at[names.P_OTHERS])),
                    ]
                )
    head = [*(["place"] if len(places) > 1 else []), "measure", "factor", "own map", "random masks", "own − random"]
    head += ["p", "p corrected", "p less, corrected", "own − others", "p among maps"]
    attrs = lesion_effects.place_of(one.tree, places[0]).attrs
    caption = (
        f"Differences from the unlesioned network at {attrs['headline']}, on images that the factor alters: by its own "
        f"map, with {_level(attrs)} intervals over images; mean over random masks, with the band that holds 95 % of "
        "the masks; by the own map minus by random masks, and minus by the maps of other factors, with bootstrap "
        "intervals over images. p: the own map changes accuracy more than random masks; p less: less; p among maps: "
        f"rank of the own map among those of all factors. {note}"
    )
    return Table(caption.strip(), head, rows, tuple(range(len(head) - 8)))


def _diagonals(table: xr.Dataset, measures: list[str]) -> Iterator[Part]:
    for measure in measures:
        at = table.sel({names.MEASURE: measure})
        value, p = float(at[names.DIAGONAL]), float(at[names.P_DIAGONAL])
        if np.isfinite(value) and np.isfinite(p):
            yield Text(
                f"{measure}: on average over factors, the own map changes accuracy by {value:z.3f} beyond the maps of "
                f"others (p {p_text(p)}, the labels of the maps permuted)."
            )


def _units(table: xr.Dataset) -> Table:
    at = table.sel({names.RULE: lesion_effects.rule_of(table)})
    rows = [
        [
            str(layer),
            *(f"{int(one[name]):,}" for name in (names.N_UNITS, names.N_CANDIDATES, names.N_MASKED, names.N_UNDEFINED)),
            f"{int(one[names.N_CLIPPED].max()):,}",
        ]
        for layer in table[names.LAYER].values
        for one in [at.sel({names.LAYER: layer})]
    ]
    caption = (
        "Numbers of units: all; those that masks could be made of; those that are masked at "
        f"{table.attrs['headline']}; those without an index, which are never masked; and those, of one map at most, "
        "whose index was clipped to [0, 1]."
    )
    return Table(caption, ["layer", "units", "candidates", "masked", "undefined", "clipped"], rows)


def single_classes(one: View) -> Iterator[Part]:
    """Whether the classes that are sensitive to a factor are predicted more, or less, once its units are lesioned."""
    places = one.places(names.SINGLE_CLASS)
    attrs = lesion_effects.place_of(one.tree, group=names.SINGLE_CLASS).attrs
    yield Text(
        f"The {attrs['k']} outputs that are most sensitive to a factor were compared with the {attrs['k']} largest "
        f"outputs, presentation by presentation: the mean Jaccard index over {attrs['n_images']:,} images, "
        f"{_draws(attrs)}, without a lesion and lesioned by the factor's own map. Intervals ({_level(attrs)}) and "
        "differences, which are paired, are over images."
    )
    yield Text(
        "What is tested is whether the two sets share more classes than sets whose classes were permuted "
        f"({attrs['n_permutations']:,} times): without a lesion (p unlesioned), lesioned (p lesioned, against permuted "
        "sets on the unlesioned network), and whether the lesion raises it (p shift, against the differences of "
        f"permuted sets). p-values are {_correction(attrs)}; the family is {attrs['family']}. The fence is Tukey's, of "
        "the permuted sets. A value above the fence says that the network leans towards these classes; one that is "
        "there without a lesion too is no effect of the lesion."
    )
    for place in places[:MAX_PLACES]:
        yield Text(f"Lesions in {_layers(one, names.SINGLE_CLASS, place)}", "heading")
        yield from _classes(one, place)
    if len(places) > MAX_PLACES:
        yield Text(f"{len(places) - MAX_PLACES} of {len(places)} places are not shown; the result holds all.")


def _classes(one: View, place: str) -> Iterator[Part]:
    table = lesion_effects.place_of(one.tree, place, names.SINGLE_CLASS)
    n_images = f"{table.attrs['n_images'] - table.attrs['n_dropped']:,} images"
    own = lesion_effects.own_factors(table)
    for which in [*([lesion_effects.OWN] if own else []), lesion_effects.ORIGINAL]:
        found = lesion_effects.jaccards(one.tree, which, place)
        fence = found[names.FENCE].attrs
        yield picture(
            plot.jaccards(one.tree, which, place),
            f"Mean Jaccard index over {n_images} of the classes most sensitive to a factor with those that have the "
            f"largest outputs, with {_level(table.attrs)} intervals; grey strokes are all rules. Dashed: the fence of "
            f"permuted sets; dotted: {fence['expected_jaccard']:.5f}, as of sets drawn at random, of which the fence "
            f"would be {fence['hypergeometric_fence']:.5f}. p-values are corrected.",
        )
    yield _jaccard_table(one, place)
    names_of = [
        [str(f), ", ".join(map(str, table[names.SENSITIVE_CLASS].sel({names.FACTOR: f}).values))]
        for f in table[names.FACTOR].values
    ]
    caption = "The classes whose outputs are most sensitive to each factor, the most sensitive first."
    yield Table(caption, ["factor", "classes"], names_of, (0, 1))
    for factor in own[:MAX_FACTORS]:
        yield picture(
            plot.class_shifts(one.tree, factor, place=place),
            f"Change of the share of presentations, of {n_images} altered by {factor}, in which a class is predicted, "
            f"lesioned by the map of {factor} at {table.attrs['headline']}; lines are one standard error on either "
            "side.",
        )
    if len(own) > MAX_FACTORS:
        yield Text(f"{MAX_FACTORS} of {len(own)} factors are drawn; plot.class_shifts draws the others.")


def _jaccard_table(one: View, place: str) -> Table:
    table = lesion_effects.place_of(one.tree, place, names.SINGLE_CLASS)
    own = set(lesion_effects.own_factors(table))
    inputs = [lesion_effects.ORIGINAL, lesion_effects.OWN] if own else [lesion_effects.ORIGINAL]
    rows = []
    for which in inputs:
        found = lesion_effects.jaccards(one.tree, which, place)
        for number, factor in enumerate(found[names.FACTOR].values):
            at = found.isel({names.FACTOR: number}).sel({names.RULE: found.attrs["rule"]})
            ps = (names.P_UNLESIONED_ADJUSTED, names.P_ADJUSTED, names.P_SHIFT_ADJUSTED)
            rows.append(
                [
                    str(factor),
                    str(at[names.INPUT].item()),
                    *(_cell(at, name, 4) for name in (names.UNLESIONED, names.JACCARD, names.DIFFERENCE)),
                    f"{float(at[names.FENCE]):.4f}",
                    *(p_text(float(at[name])) for name in ps),
                ]
            )
    caption = (
        f"Mean Jaccard indices at {table.attrs['headline']}, with {_level(table.attrs)} intervals over images, and "
        "p-values, corrected."
    )
    head = ["factor", "input", "unlesioned", "lesioned", "difference", "fence", "p unlesioned", "p lesioned", "p shift"]
    return Table(caption, head, rows, (0, 1))


def _cell(at: xr.Dataset, name: str, n_decimals: int = 3) -> str:
    return interval(at, names.ends(name), n_decimals)


def _layers(one: View, group: str, place: str) -> str:
    return ", ".join(json.loads(lesion_effects.place_of(one.tree, place, group).attrs["layers"]))


def _draws(attrs: dict[str, Any]) -> str:
    return "one draw of each" if attrs["draws"] == 1 else f"{attrs['draws']} draws of each"


def _level(attrs: dict[str, Any]) -> str:
    return f"{100 * attrs['level']:g} %"


def _correction(attrs: dict[str, Any]) -> str:
    return "not corrected" if attrs["correction"] == "none" else f"corrected by {attrs['correction']}"

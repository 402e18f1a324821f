"""The section about what units are selective for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis import selectivity_overview as overview
from neuroprobe.analysis import selectivity_units
from neuroprobe.errors import ReaderError
from neuroprobe.plot.gallery import title_of
from neuroprobe.report.findings import decimal, percent
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.points import pointed
from neuroprobe.report.view import View, picture

COLOUR: Final = "colour"
ORIENTATION: Final = "orientation"
GAMMA_CORRECTED: Final = "gamma_corrected"
QUARTILES: Final = (0.25, 0.5, 0.75)
MAX_LAYERS: Final = 8  # whose units are drawn; tables hold all
N_DRAWN: Final = 12  # Neuron Features of a layer
MAX_UNITS: Final = 512  # of a map of similarities


def selectivity(one: View) -> Iterator[Part]:
    """What drives units, what they are selective for, and what that is by chance."""
    yield from _what_was_done(one)
    yield from _chance(one)
    yield _layers(one)
    known = [index for index in (COLOUR, names.GAMMA) if overview.has_index(one.tree, index)]
    for index in known:
        yield from _shares(one, index)
    for index in known:
        yield from _gallery(one, index)
    yield from _stability(one, known)
    yield from _relations(one, known)
    yield from _single_units(one, known)
    yield from _alterations(one)


def _what_was_done(one: View) -> Iterator[Part]:
    first, facts = _units(one, overview.selectivity_layers(one.tree)[0]), overview.layer_facts(one.tree)
    yield Text(
        f"Of {first.attrs['n_images']:,} images, the {first.attrs['n_kept']:,} that drive a unit most are its top "
        "stimuli, each by the place of the image where the response is largest. A unit is a channel. Its Neuron "
        "Feature is the mean of what it saw of them, weighted by the responses. Indexes of colour, orientation, shape "
        "and the like are the share of the response to the top stimuli that is lost where the property is taken away: "
        "0 where nothing is lost, 1 where the unit falls silent, negative where it responds more. Indexes of classes "
        "say how few classes the top stimuli are of."
    )
    n_units, n_silent = (int(facts[name].sum()) for name in (names.N_UNITS, names.N_SILENT))
    if n_silent:
        yield Text(
            f"{n_silent:,} of {n_units:,} units respond to no image. They have no top stimuli, and their indexes are "
            "undefined, not 0: they are in no median, share or picture here."
        )
    whole = facts[names.WHOLE_IMAGE].values
    if whole.any():
        layers = ", ".join(map(str, facts[names.LAYER].values[whole]))
        note = "" if whole.all() else " Elsewhere the receptive field alone was: these are not the same alterations."
        yield Text(f"Whole images were altered for {layers}; the table says why.{note}")


def _chance(one: View) -> Iterator[Part]:
    """Say what indexes are where they mean nothing."""
    if overview.has_index(one.tree, names.GAMMA) and overview.has_index(one.tree, "gamma_chance"):
        found = overview.layer_quantiles(one.tree, names.GAMMA, (0.5,))
        chance = found["gamma_chance"].values[:, 0]
        if np.isfinite(chance).any():
            n = max(_n_classes(one))
            yield Text(
                f"Few classes recur by chance. With {n:,} classes, γ of images whose classes mean nothing to the unit "
                f"is {_span(chance)} on average: a raw γ near that means nothing, however high it is. The "
                "chance-corrected γ is 0 there, and 1 where all top stimuli are of one class."
            )
    if overview.has_index(one.tree, f"{COLOUR}_sham"):
        sham = overview.layer_quantiles(one.tree, COLOUR, (0.5,))[f"{COLOUR}_sham"].values[:, 0]
        if np.isfinite(sham).any():
            yield Text(
                "A sham alteration changes as much of an image and leaves its colours: it costs units "
                f"{_span(sham)} of their response (medians of layers). What α exceeds that by is about colour."
            )
    questions = {COLOUR: "sham alterations cost it as much", names.GAMMA: "permuted classes are as concentrated"}
    asked = [said for index, said in questions.items() if overview.has_index(one.tree, overview.p_adjusted(index))]
    if asked:
        yield Text(
            f"p-values ask of each unit whether {', and whether '.join(asked)}. They are corrected for the number of "
            f"units; significant is p < {overview.LEVEL:g}. Images chose the top stimuli and give the indexes too, so "
            "that other images would drive the units less."
        )
    few = [index for index in overview.main_indexes(one.tree) if not overview.can_be_significant(one.tree, index)]
    if few:
        least = max(overview.least_p(one.tree, index) for index in few)
        yield Text(
            f"Of {', '.join(title_of(index) for index in few)} nothing can be significant: with as few draws no "
            f"p-value is under {decimal(least)}. Shares of significant units are left out; read the numbers against "
            "their standard errors, or ask for more draws (sham: 199)."
        )


def _n_classes(one: View) -> list[int]:
    layers = [_units(one, layer) for layer in overview.selectivity_layers(one.tree)]
    return [units.sizes[names.CLASS] for units in layers if names.CLASS in units.sizes] or [0]


def _span(values: np.ndarray) -> str:
    """Write the lowest and the highest of several numbers, or the one that all are."""
    low, high = (decimal(float(of(values))) for of in (np.nanmin, np.nanmax))
    return low if low == high else f"{low} to {high}"


def _layers(one: View) -> Table:
    """Median and quartiles of what was asked of every unit, layer by layer."""
    facts = overview.layer_facts(one.tree)
    columns = {
        COLOUR: "α",
        "colour_corrected": "α − sham",
        names.GAMMA: "γ",
        GAMMA_CORRECTED: "γ, chance-corrected",
        names.ENTROPY: "entropy (bit)",
        names.CLASS_MASS: "class mass",
    }
    columns = {index: head for index, head in columns.items() if overview.has_index(one.tree, index)}
    found = {index: overview.layer_quantiles(one.tree, index, QUARTILES) for index in columns}
    tested = {
        index: head
        for index, head in columns.items()
        if names.SIGNIFICANT in found[index] and overview.can_be_significant(one.tree, index)
    }
    rows = []
    for number, layer in enumerate(facts[names.LAYER].values):
        at = facts.isel({names.LAYER: number})
        whole = bool(at[names.WHOLE_IMAGE])
        shown = "whole images" if whole else f"crops of {at['field'].item()} px"
        why = f": {at['why'].item()}" if whole and at["why"].item() else ""
        medians = [_quartiles(found[index][index].values[number]) for index in columns]
        shares = [percent(float(found[index][names.SIGNIFICANT][number])) for index in tested]
        counts = [f"{int(at[name]):,}" for name in (names.N_UNITS, names.N_SILENT)]
        rows.append([str(layer), *counts, f"{shown}{why}", *medians, *shares])
    caption = (
        "Layers in the order of recording: numbers of units, and of those that respond to no image; what was altered; "
        "medians over the other units, in brackets the quartiles"
        + (f"; shares of units with a corrected p-value under {overview.LEVEL:g}." if tested else ".")
    )
    head = [
        "layer",
        "units",
        "silent",
        "shown",
        *columns.values(),
        *(f"{head}, p < {overview.LEVEL:g}" for head in tested.values()),
    ]
    return Table(caption, head, rows, (0, 3))


def _quartiles(values: np.ndarray) -> str:
    low, middle, high = values.tolist()
    return "–" if np.isnan(middle) else f"{middle:z.2f} [{low:z.2f}, {high:z.2f}]"


def _shares(one: View, index: str) -> Iterator[Part]:
    """Shares of units in bins of an index, and in which layers it is smallest and largest."""
    found = overview.layer_quantiles(one.tree, index, QUARTILES)
    lost = int(found[names.N_UNDEFINED].sum())
    yield picture(
        plot.selectivity_by_layer(one.tree, index),
        f"How {title_of(index)} is distributed over the units of each layer, in steps of 0.1. Left out, as undefined: "
        f"{lost:,} of {int(found[names.N_UNITS].sum()):,} units.",
    )
    middle = found[index].sel({names.QUANTILE: 0.5}).values
    if not np.isfinite(middle).any():
        return
    said = f"The median of {title_of(index)} is {_extremes(found, middle, decimal)}."
    corrected = found.get(f"{index}_corrected")
    if corrected is not None and corrected.notnull().any():
        beyond = corrected.sel({names.QUANTILE: 0.5}).values
        said += f" Beyond chance, its median is {_extremes(found, beyond, decimal)}."
    is_tested = names.SIGNIFICANT in found and overview.can_be_significant(one.tree, index)
    if is_tested and found[names.SIGNIFICANT].notnull().any():
        shares = found[names.SIGNIFICANT].values
        said += f" The share of units in which it is significant is {_extremes(found, shares, percent)}."
    yield Text(said)


def _extremes(found: xr.Dataset, values: np.ndarray, written: Callable[[float], str]) -> str:
    """Say in which layers a number is smallest and largest."""
    layers = found[names.LAYER].values
    low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
    smallest, largest = written(float(values[low])), written(float(values[high]))
    if smallest == largest:
        return f"{smallest} in every layer" if len(layers) > 1 else f"{smallest} in {layers[0]}"
    return f"smallest in {layers[low]} ({smallest}) and largest in {layers[high]} ({largest})"


def _drawn(one: View) -> list[str]:
    """Layers whose units are drawn: all, or some that are spread over the depth."""
    layers = overview.selectivity_layers(one.tree)
    chosen = np.linspace(0, len(layers) - 1, min(MAX_LAYERS, len(layers))).round().astype(int)
    return [layers[i] for i in chosen]


def _left_out(one: View) -> str:
    n_layers, n_drawn = len(overview.selectivity_layers(one.tree)), len(_drawn(one))
    return "" if n_drawn == n_layers else f" {n_drawn} of {n_layers} layers, spread over the depth, are drawn."


def _units(one: View, layer: str) -> xr.Dataset:
    return overview.selectivity_of(one.tree, layer)


def _gallery(one: View, index: str) -> Iterator[Part]:
    """Neuron Features of the units of each layer that are most selective."""
    yield picture(
        plot.neuron_features(one.tree, _drawn(one), index, limit=N_DRAWN),
        f"Neuron Features of up to {N_DRAWN} units of each layer with the largest {title_of(index)}: below each the "
        "channel and the value, with a star where it is significant. Each is stretched to the full range of "
        "brightness, and grey where no top stimulus reaches; beside them stands the side of the receptive field, and "
        f"all are drawn in one size. What is chosen by its estimate is too large on average.{_left_out(one)}",
    )


def _stability(one: View, known: Sequence[str]) -> Iterator[Part]:
    """How far indexes are those of shorter lists."""
    rows, lengths = [], []
    for index in known:
        try:
            found = overview.index_stability(one.tree, index)
        except ReaderError:
            continue
        if not found.sizes[names.N_KEPT]:
            continue
        lengths = [str(n) for n in found[names.N_KEPT].values]
        for number, layer in enumerate(found[names.LAYER].values):
            at = found.isel({names.LAYER: number})
            pairs = zip(at[names.CORRELATION].values, at[names.DIFFERENCE].values, strict=True)
            cells = ["–" if np.isnan(rho) else f"{rho:z.2f} ({shift:+z.2f})" for rho, shift in pairs]
            rows.append([str(layer), title_of(index), *cells])
    if lengths:
        yield Table(
            "Indexes by shorter lists, the beginnings of the whole ones: Spearman's correlation over units with the "
            "index of whole lists, and in brackets the median difference from it.",
            ["layer", "index", *(f"{n} stimuli" for n in lengths)],
            rows,
            (0, 1),
        )


def _relations(one: View, known: Sequence[str]) -> Iterator[Part]:
    """One index against another, and which units respond to the same images."""
    if len(known) > 1:
        yield picture(
            plot.index_scatter(one.tree, known[0], known[1], _drawn(one), images=False),
            "A point per unit. ρ is Spearman's correlation over the units of a layer, with its p-value, which is not "
            f"corrected, and their number.{_left_out(one)}",
        )
        yield from pointed(one.tree, known[0], known[1], _drawn(one))
    similar = [
        layer
        for layer in overview.selectivity_layers(one.tree)
        if names.SIMILARITY in (units := _units(one, layer)) and 1 < units.sizes[names.CHANNEL] <= MAX_UNITS
    ]
    if similar:
        yield picture(
            plot.similarity_map(one.tree, similar[-1]),
            "How much of its own largest response a unit (row) gives to the top stimuli of another (column): 1 on the "
            "diagonal. Like units stand beside each other (average linkage of the mean of both directions). Squares "
            "along the diagonal are units that respond to the same images.",
        )


def _single_units(one: View, known: Sequence[str]) -> Iterator[Part]:
    """Responses by rank of a few units, and what one of them rests on."""
    if not known:
        return
    index = known[0]
    ordered = {layer: _in_order(one, layer, index) for layer in overview.selectivity_layers(one.tree)}
    having = [layer for layer, channels in ordered.items() if channels]
    of_crops = [layer for layer in having if not _units(one, layer).attrs[names.WHOLE_IMAGE]] or having
    for layer in of_crops[-1:]:
        channels = ordered[layer]
        few = dict.fromkeys(channels[at] for at in (0, len(channels) // 2, -1))
        yield picture(
            plot.activation_curve(one.tree, layer, list(few), index),
            f"Responses to the top stimuli, over the largest, by rank: the units of {layer} with the largest, a "
            f"middling and the smallest {title_of(index)}. Where they fall off steeply, the list, and its indexes, are "
            "about few images.",
        )
    for layer in [layer for layer in having if names.RELEVANCE in _units(one, layer)][-1:]:
        yield picture(
            plot.relevance_tree(one.tree, layer, ordered[layer][0]),
            f"What the unit of {layer} with the largest {title_of(index)} rests on: the two channels of the layer "
            "recorded before with the largest share of its response that changes where they are silenced, and its "
            "standard error; the two that each of these rests on; and so on. Lines are as thick as the share, orange "
            "where a channel holds the unit back.",
        )


def _in_order(one: View, layer: str, index: str) -> list[int]:
    """Channels that have an index, the largest first."""
    found: list[int] = selectivity_units.ordered_units(one.tree, layer, index)[names.CHANNEL].values.tolist()
    return found


def _alterations(one: View) -> Iterator[Part]:
    """Indexes of all alterations in numbers, and the profile over angles."""
    layers = overview.selectivity_layers(one.tree)
    each = [_units(one, layer).variables for layer in layers]
    kinds = {
        str(name): str(variable.attrs[names.SELECTIVITY])
        for variables in each
        for name, variable in variables.items()
        if names.SELECTIVITY in variable.attrs
    }
    if not kinds:
        return
    rows = []
    found = {index: overview.layer_quantiles(one.tree, index, QUARTILES) for index in kinds}
    for number, layer in enumerate(layers):
        for index, table in found.items():
            at = table.isel({names.LAYER: number})
            by_chance = [
                _quartiles(at[name].values) if name in at else "–" for name in (f"{index}_sham", f"{index}_corrected")
            ]
            is_tested = names.SIGNIFICANT in at and overview.can_be_significant(one.tree, index)
            share = percent(float(at[names.SIGNIFICANT])) if is_tested else "–"
            rows.append([layer, index.replace("_", " "), kinds[index], _quartiles(at[index].values), *by_chance, share])
    caption = (
        "Indexes of altered stimuli: medians over units, in brackets the quartiles; of sham alterations; and beyond "
        f"these; share of units with a corrected p-value under {overview.LEVEL:g}. High is a large loss, or, where "
        "the table says invariance, that much is left."
    )
    yield Table(
        caption,
        ["layer", "index", "high is", "median", "sham", "beyond sham", f"p < {overview.LEVEL:g}"],
        rows,
        (0, 1, 2),
    )
    drawn = [layer for layer in _drawn(one) if ORIENTATION in selectivity_units.families(_units(one, layer))]
    if drawn:
        yield picture(
            plot.selectivity_profile(one.tree, ORIENTATION, drawn),
            "Share of the response that is lost where the top stimuli are rotated, by angle: median over units and "
            "band from quartile to quartile. Little loss at 180° and much at 90° is a unit of lines and edges without "
            f"a direction; little at all angles is one of spots and textures.{_left_out(one)}",
        )

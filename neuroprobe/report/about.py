"""Sections about how a result came to be, and how to read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
import yaml

from neuroprobe import names, plot
from neuroprobe.analysis import lesion_effects, overview
from neuroprobe.analysis import selectivity_overview as selected
from neuroprobe.analysis.effects import p_text
from neuroprobe.report.findings import interval
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture
from neuroprobe.stopping import told

LESIONED: Final = (names.MASKING, names.SINGLE_CLASS)
MAX_PLACES: Final = 4  # of lesions that are named
IMAGES: Final = {
    "frozen": "All rows of a base sample show one image: indices are shares of the variance within an image, over all "
    "images together.",
    "factor": "The image is a factor beside the alterations: indices are shares of the variance over images and "
    "alterations together.",
    "factors": "Which image it is, and where they are factors its class and its partition, are factors beside the "
    "alterations: indices are shares of the variance over images and alterations together. In another class or "
    "partition the image is that of the same rank there, another one: what differs between classes or partitions is in "
    "their first-order indices, what differs between images of a class in the total index of the image.",
    "frozen rank": "The image's class or its partition is a factor; all rows of a base sample show images of one rank "
    "there: indices are shares of the variance within ranks, over all ranks together.",
    "redrawn": "Every row shows an image of its own: the variance between images is in every total-order index, which "
    "therefore says little about its factor.",
}


def summary(one: View) -> Iterator[str]:
    """Say in a few sentences what was recorded and what stands out."""
    subject = one.details["protocol"]["subject"]
    weights = "random weights (the random twin)" if subject["random_twin"] else f"weights {subject['weights']}"
    if lesion := one.details.get("lesion"):
        weights += " and a lesion of " + ", ".join(f"{n:,} units of {layer}" for layer, n in lesion["n_masked"].items())
    yield (f"The network {subject['network']} with {weights}, recorded{_under(one)}. {_presented(one)}")
    if "interim" in one.tree.attrs:
        done = json.loads(one.tree.attrs["interim"]).items()
        blocks = ", ".join(f"{n:,} of {of:,} blocks of {session}" for session, (n, of) in done)
        yield f"Interim: the run was not at its end, and this is the result of {blocks}."
    if names.UNTIL in one.tree.attrs:
        text = told(json.loads(one.tree.attrs[names.UNTIL]))
        yield f"{text[0].upper()}{text[1:]}."
    if one.values:
        yield _largest_index(one)
    if one.has("contrast"):
        yield _largest_effect(one)
    if one.has(names.MASKING):
        yield _largest_lesion(one)
    if one.has(names.SELECTIVITY):
        yield from _most_selective(one)


def _under(one: View) -> str:
    """Name the factors, where there are any."""
    return f" under {_number_of(len(one.factors), 'factor')}: {', '.join(one.factors)}" if one.factors else ""


def _presented(one: View) -> str:
    """Say how much was shown, and of how many units."""
    attrs, n_images = one.tree.attrs, _number_of(one.details["n_images"], "image")
    if not (one.is_pick_freeze or one.has("contrast") or one.places_of_lesions):
        return _selected(one) if one.has(names.SELECTIVITY) else _repeated(one)
    if not one.is_pick_freeze:
        shown = _number_of(attrs["samples"], "image")
        found = _changed(one) if one.has("contrast") else f"each without and with lesions ({_places(one)})"
        return f"{shown}, each as it is and under one of these at a time, {attrs['rows']} rows each; {found}."
    n_layers = _number_of(len(one.layers), "layer")
    n_units, n_defined = one.numbers(one.layers)
    undefined = "have no index" if one.values else "do not vary"
    samples, rows = attrs["samples"], attrs["rows"]
    return (
        f"{samples:,} base samples × {rows} rows = {samples * rows:,} presentations of {n_images}; "
        f"{n_units:,} units of {n_layers}, of which {n_units - n_defined:,} {undefined}."
    )


def _repeated(one: View) -> str:
    """Say how often images were shown as they are."""
    layers = one.tree.children[names.RESPONSES].children if names.RESPONSES in one.tree.children else ()
    return (
        f"{_number_of(one.tree.attrs['samples'], 'presentation')} of {_number_of(one.details['n_images'], 'image')}, "
        f"as they are; responses of {_number_of(len(layers), 'layer')} are stored."
    )


def _selected(one: View) -> str:
    """Say how many images the top stimuli were chosen from, and for how many units."""
    facts = selected.layer_facts(one.tree)
    n_units, n_silent = (int(facts[name].sum()) for name in (names.N_UNITS, names.N_SILENT))
    n_layers = _number_of(facts.sizes[names.LAYER], "layer")
    return (
        f"{_number_of(one.selectivity_attrs['n_images'], 'image')}, each as it is; {n_units:,} units of {n_layers}, of "
        f"which {n_silent:,} respond to none."
    )


def _changed(one: View) -> str:
    n_units, n_layers = int(one.contrasts[names.N_UNITS].sum()), _number_of(len(one.layers), "layer")
    n_unchanged = int(one.contrasts[names.N_UNCHANGED].sum())
    return f"{n_units:,} units of {n_layers}, of which {n_unchanged:,} are changed by none"


def _places(one: View, groups: Sequence[str] = LESIONED) -> str:
    """Name the places of lesions; of many, say how many there are."""
    places = list(dict.fromkeys(place for group in groups for place in one.places(group)))
    return ", ".join(places) if len(places) <= MAX_PLACES else f"at {len(places)} places"


def _largest_index(one: View) -> str:
    if not one.numbers(one.layers)[1]:
        return "No unit varied, so that no index is defined."
    index = names.TOTAL_ORDER if names.TOTAL_ORDER in one.values else one.values[0]
    said = {names.TOTAL_ORDER: "total-order index", names.SHAPLEY_EFFECT: "Shapley effect"}[index]
    return f"The largest median {said} is that of {_largest(one.medians, index)}."


def _largest_effect(one: View) -> str:
    if not one.contrasts[names.EFFECT_SIZE].notnull().any():
        return "No alteration, alone, changes any unit."
    return (
        "Of alterations alone, the largest median effect size |d_z| is that of "
        f"{_largest(one.contrasts, names.EFFECT_SIZE)}."
    )


def _largest_lesion(one: View) -> str:
    """Name the factor whose own map differs most from random masks, at the first place."""
    place = one.places(names.MASKING)[0]
    measure = str(lesion_effects.place_of(one.tree, place)[names.MEASURE].values[0])
    found = lesion_effects.headline(one.tree, place, measure)
    if not found[names.EXCESS].notnull().any():
        return "No map could be compared with random masks on images that its own factor alters."
    at = found.isel({names.FACTOR: abs(found[names.EXCESS]).argmax(names.FACTOR)})
    return (
        f"Of lesions by the map of the factor that alters the images ({place}, {found.attrs['headline']}), that of "
        f"{at[names.FACTOR].item()} differs most from random masks: {measure} changes by "
        f"{interval(at, names.ends(names.EXCESS))} beyond theirs (corrected p {p_text(float(at[names.P_ADJUSTED]))})."
    )


def _most_selective(one: View) -> Iterator[str]:
    """Name the layer whose units are most selective for colour, and for classes beyond chance."""
    for index, said in (
        ("colour_corrected", "colour, beyond sham alterations"),
        ("gamma_corrected", "classes, beyond chance"),
    ):
        if not selected.has_index(one.tree, index):
            continue
        found = selected.layer_quantiles(one.tree, index, (0.5,))[index][:, 0]
        if found.notnull().any():
            at = found[int(np.nanargmax(found.values))]
            most = f"largest in {at[names.LAYER].item()}, {float(at):z.2f}"
            if float(at) > 0:
                yield f"Units are most selective for {said}, in {at[names.LAYER].item()}: median {float(at):z.2f}."
            else:
                yield f"In no layer is the median unit selective for {said} (the median is {most})."


def _largest(table: xr.Dataset, name: str) -> str:
    """Name the place of the largest of several medians (layer, factor), with its size."""
    place = table[name].argmax(...)
    at = table.isel(place)
    return (
        f"{at[names.FACTOR].item()} in {at[names.LAYER].item()}: {float(at[name]):.2f} (median standard error "
        f"{float(at[names.se(name)]):.2f})"
    )


def _number_of(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def protocol(one: View) -> Iterator[Part]:
    """The protocol, short, and the laws of the alterations in full."""
    given = one.details.get("protocol_as_given", one.details["protocol"])
    yield Text(yaml.safe_dump(given, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100), "code")
    treatment = one.details["protocol"].get("treatment") or {}
    if not treatment.get("alterations"):
        return
    rows = []
    for item in treatment["alterations"]:
        laws = [f"{name}: {_law(law)}" for name, law in item.items() if name not in ("name", "as", "switch")]
        switch = item["switch"]
        applied = "always" if switch == "always" else f"with probability {switch:g}"
        rows.append([item["as"], item["name"], applied, "; ".join(laws)])
    side = treatment["reference_side"]
    lengths = "in px of the images" if side == "image" else f"for images of {side} px, and scale with the image"
    caption = f"The alterations with the laws of their parameters. Lengths are {lengths}."
    yield Table(caption, ["factor", "alteration", "applied", "parameters"], rows, (0, 1, 2, 3))


def _law(law: Any) -> str:
    """Write a law, or a part of one, in words."""
    if isinstance(law, dict):
        return ", ".join(f"{kind} {_law(values)}" for kind, values in law.items())
    if isinstance(law, list):
        return ", ".join(map(_law, law))
    return f"{law:g}" if isinstance(law, float) else str(law)


def provenance(one: View) -> Iterator[Part]:
    """Where the result comes from."""
    attrs, details = one.tree.attrs, one.details
    scramble = f"of {attrs['scramble']} base samples" if attrs["scramble"] else "one for the whole sequence"
    segment, lesion = details["protocol"]["subject"].get("segment"), details.get("lesion")
    rows = {
        "history": attrs["history"],
        **({"segment": ", ".join(f"{key} {value}" for key, value in segment.items())} if segment else {}),
        **({"lesion": "; ".join(map(_lesion, lesion["lesions"]))} if lesion else {}),
        "seed": attrs["seed"],
        "base samples × rows": f"{attrs['samples']:,} × {attrs['rows']}",
        **({"scrambles": scramble} if one.is_pick_freeze else {}),
        "blocks": f"of {attrs['block']}",
        **({"contrast": _shown(one.contrast_attrs)} if one.has("contrast") else {}),
        **{
            group: f"{_shown(lesion_effects.place_of(one.tree, group=group).attrs)}; {_places(one, [group])}"
            for group in LESIONED
            if one.has(group)
        },
        **({names.SELECTIVITY: _top(one.selectivity_attrs)} if one.has(names.SELECTIVITY) else {}),
        "images": f"{details['n_images']:,}, {' × '.join(map(str, details['image_shape']))} (colours, height, width)",
        "device, precision": f"{details['device']}, {details['dtype']}",
        "batch": ", ".join(
            f"{layout['batch']}{' with compiled statistics' if layout['compiled'] else ''}"
            for layout in details["layouts"].values()
        ),
        "hash of the protocol": details["protocol_hash"],
        "hash of the weights": details["weights_hash"],
        "hash of the images": details["stimulus_hash"],
        **({"hash of the masks": lesion["hash"]} if lesion else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in details["versions"].items()),
        "python, platform": f"{details['python']}, {details['platform']}",
    }
    yield Table("Where the result comes from.", ["what", "value"], [[k, str(v)] for k, v in rows.items()], (0, 1))


def _lesion(origin: dict[str, Any]) -> str:
    """Say where masks come from, and how many units of each layer they concern."""
    words = [f"{key} {_law(value)}" for key, value in origin.items() if key not in ("layers", "result_hash")]
    counts = (
        f"{layer}: {n['n_masked']:,} of {n['n_units']:,} units"
        + (f", {n['n_undefined']:,} undefined" if n.get("n_undefined") else "")
        + (f", {n['n_clipped']:,} clipped to [0, 1]" if n.get("n_clipped") else "")
        for layer, n in origin["layers"].items()
    )
    return f"{', '.join(words)} ({'; '.join(counts)})"


def _shown(attrs: dict[str, Any]) -> str:
    return f"{_number_of(attrs['n_images'], 'image')}, {_number_of(attrs['draws'], 'draw')}"


def _top(attrs: dict[str, Any]) -> str:
    return f"{_number_of(attrs['n_images'], 'image')}, {attrs['n_kept']:,} top stimuli of each unit"


def stimuli(one: View) -> Iterator[Part]:
    """Examples of the stimuli."""
    if not one.has(names.STIMULI) or names.EXAMPLES not in one.tree.children[names.STIMULI].children:
        yield Text("This result holds no examples of its stimuli.")
        return
    examples = overview.stored_examples(one.tree)
    sizes = examples.sizes
    if names.SETTINGS in examples.coords and sizes[names.TREATMENT] == 1:
        yield picture(
            plot.stimulus_sheet(one.tree),
            f"{sizes[names.IMAGE]} of {one.details['n_images']:,} generated stimuli, spread evenly over "
            "the set, as they are shown. Below each stands what was varied.",
        )
        return
    caption = f"{_number_of(sizes[names.IMAGE], 'image')} of {one.details['n_images']:,}, spread over the set"
    if sizes[names.TREATMENT] == 1:
        caption += ", as they are shown."
    else:
        caption += (
            ": as they are (control), under each alteration alone, and under all of them. Below the control stands the "
            "image, below the others the values of the parameters: those of row A of the first base samples, with "
            "every switch turned on."
        )
    if one.is_pick_freeze:
        caption += " In the run, each row turns its switches on with the probabilities of the protocol."
    yield picture(plot.stimulus_examples(one.tree), caption)


def reading(one: View) -> Iterator[Part]:
    """Say in words what the numbers mean and how far they can be trusted."""
    if one.is_pick_freeze:
        yield from _reading_of_variance(one)
    if one.has("contrast"):
        yield Text(
            "d_z is Cohen's effect size for pairs: the mean over images of the difference between treated and control, "
            "in standard deviations of these differences. It does not grow with the number of images; p-values fall "
            "with it. An alteration that raises a unit's response to some images and lowers it to others has a small "
            "d_z, and can still explain much of its variance."
        )
    if one.has(names.MASKING):
        yield Text(
            "A lesion is a mask of units while the network sees an image; it stays as trained. Which units a map "
            "chooses rests on the map's own errors: of a map that is mostly noise, the units are chosen nearly at "
            "random, and do no more than random masks."
        )
    if one.has(names.SELECTIVITY):
        yield Text(
            "Selectivity is asked of the images that drive a unit most, and so depends on which were shown: a unit is "
            "selective among them. Standard errors of its indexes are over the top stimuli of a unit. A unit that is "
            "selective for a class need not tell it from others: it may respond to few images of the class."
        )
    if one.tree.attrs.get("nan") == "drop":
        yield Text("Base samples with a response that is not finite were left out, unit by unit (nan: drop).")


def _reading_of_variance(one: View) -> Iterator[Part]:
    """Say what indices and moments mean."""
    index = one.values[0] if one.values else names.COEFFICIENT_OF_VARIATION
    attrs, error = one.tree.attrs, overview.error_attrs(one.tree, index)
    if names.FIRST_ORDER in one.values:
        yield Text(
            "S1 is the share of a unit's variance that a factor explains alone; ST the share that it takes part in, "
            "with all interactions; S2 the share of the interaction of a pair."
        )
    if names.SHAPLEY_EFFECT in one.values:
        yield Text(
            "Sh, the Shapley effect of a factor, is its share of the variance with an equal part of each of its "
            "interactions; those of all factors sum to 1."
        )
    if one.values:
        yield Text("Indices are stored as estimated: small ones may be negative.")
        yield Text(IMAGES[attrs["image"]])
    scope = (
        "They tell how far the numbers would move with other draws of the alterations and the same images; with other "
        "images they would move further."
        if error["se_scope"] == "these images"
        else "They tell how far the numbers would move with other images of the set and other draws of the alterations."
    )
    yield Text(f"Standard errors are those of single units, and are about {error['se_scope']}. {scope}")
    blocks = f"{error['df'] + 1} blocks of {attrs['block']} base samples"
    kind = (
        f"They are upper bounds: the base samples are one scrambled sequence, and its {blocks} are taken for "
        "independent although each fills the gaps of the others; the true errors are smaller nearly always."
        if error["se_kind"] == "upper bound"
        else f"They come from {blocks}, each with a scramble of its own, by the delta method."
    )
    yield Text(
        f"{kind} With {_number_of(error['df'], 'degree')} of freedom, a 95 % interval is the estimate ± "
        f"{error['interval']:.2f} standard errors."
    )
    yield Text(
        "Units whose variance is under the noise floor have no index and no coefficient of variation: they are "
        "undefined, not 0, and in no median, mean or picture of these. Units that are rarely active look like pure "
        "interactions."
    )

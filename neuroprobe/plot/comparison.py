"""Pictures of comparisons: scores of layers under the ceiling of noise, dissimilarities beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import BAND, COLOURS, RANDOM, chosen_layers, frame, layer_axis, texts

AREA: Final = "area"
LEVEL: Final = 0.05
CLOUD: Final = 2.5  # side of a plane of profiles, in inches
LEAST_LINE: Final = 0.3  # of a factor's line, over the longest
SQUARE: Final = 2.4  # side of a matrix, in inches


def layer_scores(found: xr.Dataset, area: str | None = None, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Scores of the layers of a model, with intervals, under the ceiling of noise.

    Parameters
    ----------
    found : Dataset
        Of `neuroprobe.compare`, by any metric with a score.
    area : str, optional
        Of a brain of several.
    layers : sequence of str, optional

    Returns
    -------
    holoviews.Overlay
        Points with intervals; a band from the lower to the upper bound of the ceiling, or a line where there is one
        number; a star above layers with an adjusted p-value under 0.05.

    Raises
    ------
    ReaderError
        If there are no scores, or there is no such area.
    """
    if "score" not in found:
        raise ReaderError(
            f"no scores here: {found.attrs.get('metric', 'this')} gives distances; take `compare` by another"
        )
    table = chosen_layers(_of_area(found, area), layers)
    labels = [str(layer) for layer in table[names.LAYER].values]
    place = np.arange(len(labels), dtype=float)
    score, low, high = (table[name].values for name in ("score", "score_lower", "score_upper"))
    whiskers = hv.ErrorBars((place, score, score - low, high - score), "layer", ["score", "below", "above"])
    points = hv.Scatter((place, score), "layer", "score").opts(color=COLOURS[0], s=36, backend="matplotlib")
    parts: list[Any] = [*_ceiling(table), hv.HLine(0).opts(color="black", linewidth=0.6, backend="matplotlib")]
    parts += [whiskers.opts(color=COLOURS[0], backend="matplotlib"), points]
    top = np.nanmax(np.concatenate([high, [0.0]]))
    stars = [(x, float(h), "*") for x, h, p in zip(place, high, table["p_adjusted"].values, strict=True) if p < LEVEL]
    if stars:
        parts.append(texts(stars, size=12))
    title = f"{found.attrs.get('metric', '')}: {found.attrs.get('version', '')}"
    bounds = (min(0.0, float(np.nanmin(low))) - 0.03, max(float(top), *_ends(table)) + 0.08)
    options = layer_axis(labels) | {"ylabel": "score", "ylim": bounds, "title": title}
    return hv.Overlay(parts).opts(**options)


def lesion_drops(found: xr.Dataset, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Scores that are lost with the units that are nearest to a brain's, beside those lost with units at random.

    Parameters
    ----------
    found : Dataset
        ``lesion`` of a comparison in a result; of one area.
    layers : sequence of str, optional

    Returns
    -------
    holoviews.Overlay
        Large points for the nearest units, small ones for every set at random; a star above layers with an adjusted
        p-value under 0.05. Layers before the lesion lose nothing.

    Raises
    ------
    ReaderError
        If these are no lesions, or of several areas.
    """
    if "drop_random" not in found or found["drop_random"].ndim != 2:
        raise ReaderError(
            "expected the lesions of one comparison, such as result['compare/it/lesion']; of several areas, one of them"
        )
    table = chosen_layers(found, layers)
    labels = [str(layer) for layer in table[names.LAYER].values]
    place, drop = np.arange(len(labels), dtype=float), table["drop"].values
    at_random = table["drop_random"].transpose(names.LAYER, ...).values
    every = hv.Scatter((np.repeat(place, at_random.shape[1]), at_random.ravel()), "layer", "drop", label="at random")
    nearest = hv.Scatter((place, drop), "layer", "drop", label="nearest units")
    parts: list[Any] = [
        hv.HLine(0).opts(color="black", linewidth=0.6, backend="matplotlib"),
        every.opts(color=COLOURS[7], s=14, alpha=0.6, backend="matplotlib"),
        nearest.opts(color=COLOURS[0], s=44, backend="matplotlib"),
    ]
    low, high = min(0.0, float(at_random.min()), float(drop.min())), max(float(at_random.max()), float(drop.max()))
    room = 0.12 * max(high - low, 1e-3)
    stars = [(x, high, "*") for x, p in zip(place, table["p_adjusted"].values, strict=True) if p < LEVEL]
    if stars:
        parts.append(texts(stars, size=12))
    options = layer_axis(labels) | {"ylabel": "score that is lost", "ylim": (low - room, high + room)}
    return hv.Overlay(parts).opts(**options, title="Lesions of the units that are nearest", show_legend=True)


def _of_area(found: xr.Dataset, area: str | None) -> xr.Dataset:
    if AREA not in found.dims:
        return found
    known = [str(name) for name in found[AREA].values]
    if area is None and len(known) > 1:
        raise ReaderError(f"which area? Say `area`: {', '.join(known)}")
    if area is not None and area not in known:
        raise ReaderError(f"no area {area!r}; there are {', '.join(known)}")
    return found.isel({AREA: known.index(area) if area is not None else 0})


def _ends(table: xr.Dataset) -> list[float]:
    held = [float(table[name]) for name in ("ceiling_lower", "ceiling_upper", "ceiling") if name in table]
    return [value for value in held if np.isfinite(value)] or [0.0]


def _ceiling(table: xr.Dataset) -> list[Any]:
    """Band or line of the ceiling; nothing where none is known."""
    ends = _ends(table)
    if ends == [0.0]:
        return []
    if len(ends) == 1:
        return [hv.HLine(ends[0]).opts(color="black", linestyle="--", backend="matplotlib")]
    return [hv.HSpan(*ends).opts(facecolor=BAND, edgecolor="none", backend="matplotlib")]


def dissimilarities(rdms: xr.Dataset, subjects: Sequence[str] | None = None, n_columns: int = 4) -> hv.Layout:
    """Dissimilarity matrices beside each other, each from its least to its largest.

    Parameters
    ----------
    rdms : Dataset
        As `neuroprobe.recordings.read_rdms`, or `neuroprobe.comparison.representations.dissimilarities`, gives them.
    subjects : sequence of str, optional
        Names of those that are drawn; by default all.
    n_columns : int

    Returns
    -------
    holoviews.Layout
        Rows and columns are stimuli in their order; blue is alike, yellow is unlike.

    Raises
    ------
    ReaderError
        If there is no such matrix.
    """
    known = [str(name) for name in rdms[names.SUBJECT].values]
    chosen = known if subjects is None else [str(name) for name in subjects]
    if missing := [name for name in chosen if name not in known]:
        raise ReaderError(f"no matrix {missing[0]!r}; there are {', '.join(known)}")
    panels = [_matrix(rdms, known.index(name), name) for name in chosen]
    return hv.Layout(panels).cols(n_columns).opts(sublabel_format="", tight=True, aspect_weight=1, backend="matplotlib")


def _matrix(rdms: xr.Dataset, number: int, name: str) -> hv.Image:
    pairs = rdms[names.RDM].isel({names.SUBJECT: number}).values
    n = round((1 + np.sqrt(1 + 8 * len(pairs))) / 2)
    square = np.zeros((n, n))
    first, second = np.triu_indices(n, 1)
    square[first, second] = square[second, first] = pairs
    np.fill_diagonal(square, pairs.min())
    image = hv.Image(square, ["column", "row"], "dissimilarity", bounds=(0, 0, n, n))
    options = {
        "cmap": "cividis",
        "clim": (float(pairs.min()), float(pairs.max())),
        "xaxis": None,
        "yaxis": None,
        "title": name,
    }
    return image.opts(**options, **{**frame(SQUARE, SQUARE), "aspect": "square"})


def profile_clouds(
    clouds: xr.Dataset, area: str | None = None, layers: Sequence[str] | None = None, n_columns: int = 3
) -> hv.Layout:
    """Units as points in the plane in which profiles of sensitivity differ most: layers in colour over a brain's area.

    Parameters
    ----------
    clouds : Dataset
        Of `neuroprobe.comparison.sensitivities.profile_clouds`.
    area : str, optional
        Of a brain of several.
    layers : sequence of str, optional
        One panel each; by default all.
    n_columns : int

    Returns
    -------
    holoviews.Layout
        Grey points are units of the area, blue ones those of a layer; crosses are the means, black and orange. Lines
        lead to where units lie that owe more of their variance to a factor than the mean does; factors that the plane
        hardly tells have none. All panels show one plane.

    Raises
    ------
    ReaderError
        If there is no such layer or area.
    """
    side, population = clouds["side"].values, clouds["population"].values
    areas, known = (list(dict.fromkeys(population[side == one].tolist())) for one in ("brain", "model"))
    if area is None and len(areas) > 1:
        raise ReaderError(f"which area? Say `area`: {', '.join(areas)}")
    area = areas[0] if area is None else area
    chosen = known if layers is None else list(layers)
    for name, of in ((area, areas), *((layer, known) for layer in chosen)):
        if name not in of:
            raise ReaderError(f"no {'area' if of is areas else 'layer'} {name!r}; there are {', '.join(of)}")
    behind = (side == "brain") & (population == area)
    panels = [_cloud(clouds, (side == "model") & (population == layer), behind, layer) for layer in chosen]
    return (
        hv.Layout(panels)
        .cols(n_columns)
        .opts(
            title=f"Profiles of layers (colour) and of {area} (grey): {clouds.attrs['variable'].replace('_', ' ')}",
            sublabel_format="",
            fig_inches=(CLOUD * min(n_columns, len(panels)) + 0.5, CLOUD * -(-len(panels) // n_columns) + 0.5),
            aspect_weight=0,
            hspace=0.35,
            vspace=0.4,
            fontsize={"title": 10},
            backend="matplotlib",
        )
    )


def _cloud(clouds: xr.Dataset, inside: np.ndarray, behind: np.ndarray, name: str) -> hv.Overlay:
    places = clouds["place"].values
    reach = 1.15 * max(float(np.abs(places).max(initial=0.0)), 1e-6)
    parts: list[Any] = []
    for units, colour in ((behind, RANDOM), (inside, COLOURS[0])):
        some = places[units]
        points = hv.Points((some[:, 0], some[:, 1]), ["first", "second"])
        parts.append(points.opts(color=colour, s=7, alpha=0.6, backend="matplotlib"))
    loading = clouds["loading"].values
    length = np.hypot(*loading.T)
    told = length > LEAST_LINE * length.max()
    tips = loading[told] * (0.72 * reach / length.max())
    lines = hv.Segments((np.zeros(len(tips)), np.zeros(len(tips)), tips[:, 0], tips[:, 1]), ["x", "y", "x_2", "y_2"])
    parts.append(lines.opts(color="black", linewidth=0.8, backend="matplotlib"))
    said = [
        (1.13 * x, 1.13 * y, str(factor))
        for (x, y), factor in zip(tips, clouds[names.FACTOR].values[told], strict=True)
    ]
    parts.append(texts(said, size=7, verticalalignment="center"))
    for units, colour in ((behind, "black"), (inside, COLOURS[1])):
        middle = hv.Points(places[units].mean(0)[None] if units.any() else np.empty((0, 2)), ["first", "second"])
        parts.append(middle.opts(color=colour, marker="X", s=60, edgecolor="white", backend="matplotlib"))
    first, second = (f"axis {number} ({share:.0%})" for number, share in enumerate(clouds["explained"].values, 1))
    return hv.Overlay(parts).opts(
        title=f"{name}: n {int(inside.sum()):,}",
        xlabel=first,
        ylabel=second,
        xlim=(-reach, reach),
        ylim=(-reach, reach),
        aspect="square",
        fontsize={"title": 8, "labels": 8, "ticks": 7},
        backend="matplotlib",
    )

"""Pictures of what lesions do to single classes: what `neuroprobe.open_result` finds in the group single_class."""

from __future__ import annotations

from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import lesion_effects
from neuroprobe.analysis.effects import p_text
from neuroprobe.analysis.lesion_effects import OWN
from neuroprobe.plot.masking import titled
from neuroprobe.plot.style import BAND, COLOURS, RANDOM, inner_ticks, row_axis, rows, strokes, texts

DOT: Final = "●"  # before the names of sensitive classes


def class_shifts(
    result: xr.DataTree,
    factor: str | None = None,
    which: str = OWN,
    place: str | None = None,
    n_classes: int = 20,
) -> hv.Overlay:
    """How much oftener, or more seldom, each class is predicted once the map of a factor has made a lesion.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    factor : str, optional
        Whose map made the mask, by default the first that there is such an input for.
    which : str
        Input: ``original``, an alteration, or ``own`` for that of the factor.
    place : str, optional
        Where the lesion was made, by default the first place.
    n_classes : int
        Classes that are drawn: those most sensitive to the factor, then those that shift most.

    Returns
    -------
    holoviews.Overlay
        A bar per class, and a line of one standard error on either side, at the rule of the headline. Names of the
        classes that are most sensitive to the factor have a dot.

    Raises
    ------
    ReaderError
        If there is no such factor, input or place.
    """
    if factor is None:
        factor = lesion_effects.factors_on(lesion_effects.place_of(result, place, names.SINGLE_CLASS), which)[0]
    found = lesion_effects.class_shifts(result, factor, which, place, n_classes)
    classes = [str(name) for name in found[names.CLASS].values]
    shift, error = (found[name].values for name in (names.CLASS_SHARE_SHIFT, names.se(names.CLASS_SHARE_SHIFT)))
    y = rows(len(classes))
    elements: list[hv.Element] = [hv.VLine(0.0).opts(color=RANDOM, linewidth=1, backend="matplotlib")]
    sensitive = found[names.SENSITIVE_CLASS].values
    for some, label, colour in (
        (sensitive, f"{DOT} most sensitive to {factor}", COLOURS[1]),
        (~sensitive, "others", BAND),
    ):
        some = some & np.isfinite(shift)
        low, high = np.minimum(shift, 0)[some], np.maximum(shift, 0)[some]
        boxes = hv.Rectangles((low, y[some] - 0.36, high, y[some] + 0.36), label=label)
        elements.append(boxes.opts(facecolor=colour, edgecolor="none", backend="matplotlib"))
    lines = hv.Segments((shift - error, y, shift + error, y), ["shift", "row", "shift_2", "row_2"])
    elements.append(lines.opts(color="black", linewidth=0.8, backend="matplotlib"))
    few = (
        "" if len(classes) == found.attrs["n_classes"] else f", {len(classes)} of {found.attrs['n_classes']:,} classes"
    )
    title = f"Lesion by the map of {factor}, {found.attrs['headline']}, {found.attrs['input']} images{few} (± 1 se)"
    # a shift of 0 has no bar to be coloured
    labels = [f"{DOT} {name}" if one else name for name, one in zip(classes, sensitive, strict=True)]
    return hv.Overlay(elements).opts(
        title=titled(title, result, place, names.SINGLE_CLASS),
        xlabel="change of the share of presentations in which the class is predicted",
        **row_axis(labels, 0.2),
    )


def jaccards(result: xr.DataTree, which: str = OWN, place: str | None = None, rule: str | None = None) -> hv.Overlay:
    """How far the classes most sensitive to a factor are those that the network predicts, with and without a lesion.

    Parameters
    ----------
    which : str
        Input: ``original``, an alteration, or ``own`` for that of each factor; factors without one are left out.
    place : str, optional
        Where the lesion was made, by default the first place.
    rule : str, optional
        Such as ``q0.9 x0``, by default that of the headline.

    Returns
    -------
    holoviews.Overlay
        A row per factor: mean Jaccard of its sensitive classes with those that have the largest outputs, without a
        lesion and lesioned by the factor's own map, with intervals; strokes for all rules. The dashed line is the
        fence of permuted sets of classes, the dotted one what sets that are drawn at random agree by on average.
        Beside it the corrected p-values of both.

    Raises
    ------
    ReaderError
        If there is no such input, place or rule.
    """
    found = lesion_effects.jaccards(result, which, place, rule)
    rule, factors = found.attrs["rule"], [str(factor) for factor in found[names.FACTOR].values]
    y = rows(len(factors))
    at, all_rules = found.sel({names.RULE: rule}), found[names.JACCARD].transpose(names.FACTOR, names.RULE).values
    expected = found[names.FENCE].attrs["expected_jaccard"]
    fence = found[names.FENCE].values
    drawn = np.concatenate([all_rules.ravel(), fence, [expected]])
    ends = [at[name(of)].values for of in (names.UNLESIONED, names.JACCARD) for name in (names.lower, names.upper)]
    left, right = (float(of(np.concatenate([drawn, *ends]))) for of in (np.nanmin, np.nanmax))
    span = max(right - left, 1e-4)
    columns = {"p, unlesioned": names.P_UNLESIONED_ADJUSTED, "p, lesioned": names.P_ADJUSTED}
    said: list[tuple[float, float, str]] = []
    for number, (head, name) in enumerate(columns.items()):
        x = right + (0.08 + 0.42 * number) * span
        said.append((x, len(factors) - 0.2, head))
        said += [(x, row, p_text(p)) for row, p in zip(y.tolist(), at[name].values, strict=True)]
    elements: list[hv.Element] = [
        strokes(
            np.full(len(y), expected), y, 0.5, "mean of sets drawn at random", color=RANDOM, linestyle=":", linewidth=1
        ),
        strokes(fence, y, 0.45, "fence of permuted sets", color=COLOURS[3], linestyle="--", linewidth=1),
        strokes(all_rules.ravel(), np.repeat(y, all_rules.shape[1]), 0.3, "all rules", color=RANDOM, linewidth=0.7),
    ]
    for name, label, colour, above in (
        (names.UNLESIONED, "unlesioned", "black", 0.12),
        (names.JACCARD, f"lesioned, {rule}", COLOURS[0], -0.12),
    ):
        low, high = (at[end(name)].values for end in (names.lower, names.upper))
        interval = hv.Segments((low, y + above, high, y + above), ["jaccard", "row", "jaccard_2", "row_2"])
        points = hv.Scatter((at[name].values, y + above), "jaccard", "row", label=label)
        elements += [
            interval.opts(color=colour, linewidth=1.2, backend="matplotlib"),
            points.opts(color=colour, s=20, backend="matplotlib"),
        ]
    where = "images that the factor alters" if which == OWN else f"{which} images"
    title = f"Jaccard of the {found.attrs['k']} classes most sensitive to a factor with those predicted, {where}"
    return hv.Overlay([*elements, texts(said, horizontalalignment="left", verticalalignment="center")]).opts(
        title=titled(title, result, place, names.SINGLE_CLASS),
        xlim=(left - 0.05 * span, right + 0.95 * span),
        xticks=inner_ticks(left, right),
        xlabel="mean Jaccard",
        **{**row_axis(factors, 0.3), "ylim": (-0.6, len(factors) + 0.1)},
    )

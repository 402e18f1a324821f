"""What comparisons of a protocol found, as rows for the status and for reports: one per layer of each brain."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.comparison.lesions import LESION
from neuroprobe.comparison.responses import AREA

GROUP: Final = "compare"
OF_SCORES: Final = ("score", "score_lower", "score_upper", "p_adjusted")
OF_LESIONS: Final = ("drop", "drop_random_mean", "drop_random_sd", "p_adjusted")
DIGITS: Final = 3


def comparisons_of(result: xr.DataTree) -> Iterator[tuple[str, xr.Dataset, xr.Dataset | None]]:
    """Each brain, or area of one, with what was compared, and what lesions do, over ``layer``."""
    for name, node in result.children[GROUP].children.items() if GROUP in result.children else ():
        found = node.to_dataset(inherit=False)
        lesion = node.children[LESION].to_dataset() if LESION in node.children else None
        if AREA not in found.dims:
            yield name, found, lesion
            continue
        for area in found[AREA].values.tolist():
            of_area = None if lesion is None else lesion.sel({AREA: area}) if AREA in lesion.dims else lesion
            yield (f"{name}, {area}" if found.sizes[AREA] > 1 else name), found.sel({AREA: area}), of_area


def comparison_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per brain, or area of one, and layer.

    Returns
    -------
    list of dict
        ``brain``, ``metric``, ``layer``, ``score`` with the ends of its interval and its adjusted p-value; ``ceiling``
        (the lower bound where there are two); where units were lesioned, ``drop``, ``drop_random_mean``,
        ``drop_random_sd`` and ``drop_p_adjusted``, else NaN.
    """
    rows = []
    for name, found, lesion in comparisons_of(result):
        ceiling = next((float(found[one]) for one in ("ceiling_lower", "ceiling") if one in found), math.nan)
        for layer in found[names.LAYER].values.tolist():
            of_layer = found.sel({names.LAYER: layer})
            row = {"brain": name, "metric": found.attrs["metric"], "layer": layer, "ceiling": ceiling}
            row |= {key: float(of_layer[key]) for key in OF_SCORES}
            for key in OF_LESIONS:
                value = math.nan if lesion is None else float(lesion[key].sel({names.LAYER: layer}))
                row["drop_p_adjusted" if key == "p_adjusted" else key] = value
            rows.append(row)
    return rows


def comparison_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    r"""Write rows as a table.

    Examples
    --------
    >>> row = {"brain": "IT", "metric": "rsa", "layer": "layer3", "ceiling": 0.45, "score": 0.16, "score_lower": 0.1}
    >>> row |= {"score_upper": 0.22, "p_adjusted": 0.001, "drop": 0.02, "drop_random_mean": 0.01}
    >>> row |= {"drop_random_sd": 0.002, "drop_p_adjusted": 0.05}
    >>> print(*comparison_lines([row]), sep="\n")
    <BLANKLINE>
    compared                 score        interval   ceiling     p adj    drop  at random (sd)   p adj
    rsa with IT
      layer3                 0.160  [0.100, 0.220]     0.450     0.001   0.020   0.010 (0.002)   0.050
    """
    yield ""
    width = max(20, *(2 + len(row["layer"]) for row in rows))
    yield (
        f"{'compared':<{width}} {'score':>9} {'interval':>15} {'ceiling':>9} {'p adj':>9} {'drop':>7} "
        f"{'at random (sd)':>15} {'p adj':>7}"
    )
    before = ""
    for row in rows:
        title = f"{row['metric']} with {row['brain']}"
        if title != before:
            yield title
        before = title
        score, low, high, ceiling, p, drop, mean, sd, p_drop = (
            _number(row[key]) for key in (*OF_SCORES[:3], "ceiling", *OF_SCORES[3:], *OF_LESIONS[:3], "drop_p_adjusted")
        )
        interval = "–" if low == "–" else f"[{low}, {high}]"
        at_random = "–" if mean == "–" else f"{mean} ({sd})"
        yield (
            f"{'  ' + row['layer']:<{width}} {score:>9} {interval:>15} {ceiling:>9} {p:>9} {drop:>7} {at_random:>15} "
            f"{p_drop:>7}"
        )


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:z.{DIGITS}f}"

"""What analyses of trials found, as rows for the status and for reports: one per analysis and factor, or term."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.anova import TERM
from neuroprobe.analysis.nodes import ANALYSIS
from neuroprobe.analysis.spike_trains import condition_names
from neuroprobe.analysis.unit_results import CONDITION

MOST_TOLD: Final = 12  # conditions that lines tell of one by one
LEVEL: Final = 0.01  # of adjusted p-values that count as found
SHORT: Final = {"fdr_bh": "BH", "fdr_by": "BY", "none": "not corrected"}
R_SQUARED: Final = "_r_squared"
# analysis → p-value that it is about, and medians that are told: variable → what they are called
FOUND: Final[dict[str, tuple[str, Mapping[str, str]]]] = {
    "responsiveness": ("p_adjusted", {"rank_biserial": "r", "epsilon_squared": "ε²"}),
    "anova": ("p_adjusted", {"omega_squared": "ω²"}),
    "discrimination": ("p_adjusted", {"auc": "AUC", "d_prime": "d′"}),
    "reliability": (
        "",
        {"reliability": "reliability", "explainable_variance": "explainable variance", "noise_ceiling": "ceiling"},
    ),
    "correlations": (
        "noise_p_adjusted",
        {"signal_correlation": "signal correlation", "noise_correlation": "noise correlation"},
    ),
    "information": ("p_adjusted", {"information": "bits"}),
    "latency": ("", {"latency": "s"}),
    "psth": ("", {}),
    "tuning": ("p_adjusted", {"osi": "OSI", "dsi": "DSI"}),
    "variance_decomposition": (
        "shapley_p_adjusted",
        {"first_order": "first-order index", "shapley_effect": "Shapley effect"},
    ),
}


def trial_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per analysis and factor.

    Returns
    -------
    list of dict
        ``analysis``, ``of`` (factors, or a term), ``counted`` (units or pairs), ``n``, ``defined``, ``significant``
        (those with an adjusted p-value under ``level``; NaN where there is no test), ``correction``, and ``medians``
        over the defined ones, by what they are called, and ``medians_of``, over how many.
    """
    nodes = [node.to_dataset(inherit=False) for node in result.subtree if node.attrs.get(ANALYSIS) in FOUND]
    in_order = sorted(nodes, key=lambda dataset: list(FOUND).index(str(dataset.attrs[ANALYSIS])))
    return [row for dataset in in_order for row in _rows(dataset)]


def _rows(dataset: xr.Dataset) -> Iterator[dict[str, Any]]:
    analysis = str(dataset.attrs[ANALYSIS])
    p_name, medians = FOUND[analysis]
    factors = ", ".join(json.loads(dataset.attrs.get(names.FACTORS, "[]")))
    if analysis == "tuning":
        fits = [str(name) for name in dataset.data_vars if str(name).endswith(R_SQUARED)]
        medians = {**{name: f"R² of {name.removesuffix(R_SQUARED).replace('_', ' ')}" for name in fits}, **medians}
    if analysis == "correlations":
        yield _row(analysis, factors, _pairs(dataset), p_name, medians, "pairs")
        return
    if analysis == "discrimination":
        conditions = condition_names(dataset) if dataset.sizes[CONDITION] <= MOST_TOLD else []
        for place, label in enumerate(conditions):
            of = dataset.isel({CONDITION: place})
            defined = np.isfinite(of["auc"].values).astype(np.int8)
            told = f"{factors} {label} against {dataset.attrs['against']}"
            yield _row(analysis, told, of.assign({names.DEFINED: (names.UNIT, defined)}), p_name, medians, "units")
        return
    along = {"anova": TERM, "variance_decomposition": names.FACTOR}.get(analysis, "")
    if along not in dataset.dims:
        yield _row(analysis, factors, dataset, p_name, medians, "units")
        return
    for place, label in enumerate(dataset[along].values.tolist()):
        yield _row(analysis, str(label), dataset.isel({along: place}), p_name, medians, "units")


def _pairs(dataset: xr.Dataset) -> xr.Dataset:
    """Each pair once, along ``unit``; those that were recorded together are defined."""
    first, second = np.triu_indices(dataset.sizes[names.UNIT], 1)
    once = {
        str(name): (names.UNIT, array.values[first, second], array.attrs)
        for name, array in dataset.data_vars.items()
        if array.ndim == 2
    }
    defined = np.isfinite(once["noise_correlation"][1]).astype(np.int8)
    return xr.Dataset({**once, names.DEFINED: (names.UNIT, defined)})


def _row(
    analysis: str, of: str, dataset: xr.Dataset, p_name: str, medians: Mapping[str, str], counted: str
) -> dict[str, Any]:
    defined = dataset[names.DEFINED].values == 1
    tested = p_name in dataset and bool(np.isfinite(dataset[p_name].values).any())
    shown = {called: _median(dataset[name].values[defined]) for name, called in medians.items() if name in dataset}
    return {
        "analysis": analysis,
        "of": of,
        "counted": counted,
        "n": int(defined.size),
        "defined": int(defined.sum()),
        "significant": int((dataset[p_name].values < LEVEL).sum()) if tested else math.nan,
        "level": LEVEL,
        "correction": str(dataset[p_name].attrs.get("method", "none")) if tested else "none",
        "medians": {called: value for called, (value, _) in shown.items() if not math.isnan(value)},
        "medians_of": {called: n for called, (value, n) in shown.items() if not math.isnan(value)},
    }


def _median(values: Any) -> tuple[float, int]:
    """Median of what is defined, and of how many."""
    known = values[np.isfinite(values)]
    return (float(np.median(known)) if known.size else math.nan), int(known.size)


def trial_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Write each row as a sentence.

    Examples
    --------
    >>> row = {"analysis": "tuning", "of": "disparity", "counted": "units", "n": 501, "defined": 501}
    >>> row |= {"significant": 380, "level": 0.01, "correction": "fdr_bh", "medians": {"R² of gabor": 0.96}}
    >>> print(*trial_lines([row]), sep="")
    tuning for disparity: 380 of 501 units, p < 0.01 BH; median R² of gabor 0.960
    """
    yield ""
    for row in rows:
        of = "" if row["analysis"] == "latency" or not row["of"] else f" for {row['of']}"
        name = row["analysis"].replace("_", " ")
        n, defined, counted = row["n"], row["defined"], row["counted"]
        if math.isnan(row["significant"]):
            found = f"defined for {defined:,} of {n:,} {counted}"
        else:
            level = f"p < {row['level']:g} {SHORT.get(row['correction'], row['correction'])}"
            found = f"{row['significant']:,} of {n:,} {counted}, {level}"
            if defined < n:
                found += f" ({n - defined:,} undefined)"
        counts = row.get("medians_of", {})
        medians = ", ".join(
            f"{called} {value:.3f}"
            # where some are not defined, the others are no random sample
            + (f" (of the {counts[called]:,} with one)" if counts.get(called, defined) < defined else "")
            for called, value in row["medians"].items()
        )
        yield f"{name}{of}: {found}" + (f"; median {medians}" if medians else "")

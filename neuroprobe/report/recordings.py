"""Sections about what was found of the units of a recording by statistics on single trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names, plot
from neuroprobe.analysis.spike_trains import RATE, condition_names, factors_of
from neuroprobe.analysis.unit_distributions import ANGLES, GROUP, groups_of
from neuroprobe.analysis.unit_results import CONDITION
from neuroprobe.plot.spike_trains import unit_names
from neuroprobe.plot.tuning import measures_of
from neuroprobe.report.findings import decimal, percent
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture

LEVEL: Final = 0.05
TUNING: Final = "tuning"
# node → what its p-values say of a unit; of variables in the order in which they are looked for
QUESTIONS: Final = {
    "responsiveness": (("p_value", "responds at all"),),
    "anova": (("p_value", "responds differently to conditions"), ("rank_p_value", "the same, of ranks")),
    "information": (("p_value", "tells conditions apart, in bits"),),
}
OF_TUNING: Final = (
    ("p_value", "responds differently to conditions"),
    ("orientation_p_value", "is tuned for orientation"),
    ("direction_p_value", "is tuned for direction"),
)
NODES: Final = ("responsiveness", "anova", "reliability", "correlations", "information", "latency")
MEASURES: Final = {
    "reliability": ("split_half_correlation", "reliability", "explainable_variance", "noise_ceiling", "fano_factor"),
    "information": ("information", "plug_in", "bits_per_spike"),
    "latency": ("latency", "share_found"),
}
QUARTILES: Final = (0.25, 0.5, 0.75)
N_DRAWN: Final = 8
SHARES: Final = ("sobol", "shapley")
VARIANCE_OF: Final = "variance_of"  # attribute of indices of a design that an animal was shown
EXPLAINABLE: Final = "explainable_variance"
PSTH: Final = "psth"
DISCRIMINATION: Final = "discrimination"
N_COURSES: Final = 4  # units whose rates over time are shown
MOST_LINES: Final = 8  # conditions of such a picture


def is_recorded(one: View) -> bool:
    """Whether the result holds statistics on single trials."""
    return any(one.has(name) for name in (*NODES, TUNING, "variance_decomposition", PSTH, DISCRIMINATION))


def summary(one: View) -> Iterator[str]:
    """Say in a sentence or two what was recorded, and how it was analysed."""
    held, source = one.details["summary"], one.details["recording"]
    where = ", ".join(f"{region or 'unknown'} {n:,}" for region, n in held["regions"].items())
    means = "means of conditions" if held["condition_means"] else "single trials"
    yield (
        f"The recording {source.get('source', 'of another program')}: {held['units']:,} units"
        f"{f' ({where})' if where else ''}, {held['presentations']:,} presentations, {means}."
    )
    if held["factors"]:
        levels = ", ".join(
            f"{name} ({len(shown):,} values)" if shown else name for name, shown in held["factors"].items()
        )
        yield f"What was varied: {levels}."


def provenance(one: View) -> Iterator[Part]:
    """Where the recording is from, and by what it was analysed."""
    details, source = one.details, one.details["recording"]
    known = {
        "recording": source.get("source"),
        "format": source.get("format"),
        "sha256 of the file": source.get("sha256"),
        "hash of the responses": details.get("recording_hash"),
        "hash of the protocol": details.get("protocol_hash"),
        "seed": one.tree.attrs.get("seed"),
        "versions": ", ".join(f"{name} {version}" for name, version in details.get("versions", {}).items()),
        "python, platform": ", ".join(str(details[key]) for key in ("python", "platform") if key in details),
    }
    rows = [[name, str(value)] for name, value in known.items() if value not in (None, "")]
    yield Table("Where the numbers are from.", ["what", "value"], rows, (0, 1))


def tables_of(one: View) -> dict[str, xr.Dataset]:
    """What was found: node → Dataset over units."""
    found = {name: one.tree.children[name].to_dataset() for name in NODES if one.has(name)}
    curves = one.tree.children[TUNING].children.items() if one.has(TUNING) else ()
    if one.has(DISCRIMINATION):
        found[DISCRIMINATION] = one.tree.children[DISCRIMINATION].to_dataset()
    return found | {f"{TUNING}/{factor}": node.to_dataset() for factor, node in curves}


def units(one: View) -> Iterator[Part]:
    """How many units there are, and how many of them each test calls significant."""
    tables = tables_of(one)
    if not tables:
        yield Text("No statistic of single units.")
        return
    first = next(iter(tables.values()))
    groups, index = groups_of(first, names.REGION)
    n = np.bincount(index, minlength=len(groups))
    where = f": {', '.join(f'{group} {k:,}' for group, k in zip(groups, n, strict=True))}" if len(groups) > 1 else ""
    yield Text(f"{first.sizes[names.UNIT]:,} units{where}.{_trials(tables)}")
    rows = [row for name, found in tables.items() for row in _significant(name, found)]
    if rows:
        caption = (
            f"Shares of units with p < {LEVEL:g}, of those that can be tested: without a correction, of which one unit "
            "in twenty passes by chance, and corrected for the number of units, which counts. Undefined are units that "
            "do not vary, or have no repeated condition."
        )
        yield Table(caption, ["analysis", "a unit …", "tested", "undefined", "p < .05", "corrected"], rows, (0, 1))


def is_shown(one: View) -> bool:
    """Whether indices are of a design that an animal was shown."""
    return any(VARIANCE_OF in node.attrs for node in _designs(one))


def _designs(one: View) -> list[xr.DataTree]:
    return [node for name in SHARES if one.has(name) for node in one.tree.children[name].children.values()]


def signal(one: View) -> Iterator[Part]:
    """Of which variance indices are shares, and how much of the variance repeats."""
    rows = []
    for node in _designs(one):
        found = node.to_dataset()
        share = found[EXPLAINABLE].values if EXPLAINABLE in found else np.full(0, np.nan)
        known = share[np.isfinite(share)]
        middle = decimal(float(np.median(known))) if len(known) else decimal(float("nan"))
        samples = f"{found.attrs['samples']:,} ({found.attrs['samples_left_out']:,} left out)"
        rows.append([node.path.strip("/"), samples, str(found.attrs["repetitions"]), middle])
    told: dict[str, list[str]] = {}
    for node in _designs(one):
        told.setdefault(str(node.attrs[VARIANCE_OF]), []).append(node.path.strip("/"))
    for variance, nodes in told.items():
        yield Text(f"Indices of {', '.join(nodes)} are shares of the {variance}.")
    caption = (
        "Base samples of which all rows were shown, how often each row was, and the median over units of the share of "
        "the variance of single trials that is no noise."
    )
    yield Table(caption, ["indices", "base samples", "repetitions", "explainable variance"], rows)


def time_course(one: View) -> Iterator[Part]:
    """Mean rates over time of the units that respond most."""
    found = one.tree.children[PSTH].to_dataset()
    n_conditions = found.sizes[CONDITION]
    if n_conditions > MOST_LINES:
        yield Text(f"Mean rates over time are there for {n_conditions:,} conditions, too many for lines of a picture.")
        return
    places = _responding(found)
    for place in places:
        of_unit = found.isel({names.UNIT: [place]})
        yield picture(
            plot.psth(of_unit, unit_names(of_unit)[0]),
            "Mean rate over trials with its standard error (band), a line for each condition.",
        )
    yield Text(
        f"{len(places)} of {found.sizes[names.UNIT]:,} units are shown: those whose rates change most over time beside "
        "their errors, no typical ones."
    )


def _responding(found: xr.Dataset) -> list[int]:
    """Places of the units whose rates are furthest from their means over time, in standard errors."""
    rate = found[RATE].transpose(names.UNIT, CONDITION, ...).values
    error = found[names.se(RATE)].transpose(names.UNIT, CONDITION, ...).values
    # a rate of 0 has no error of its own: that of all times counts
    middle, typical = (_over_time(values) for values in (rate, error))
    away = np.nan_to_num(np.abs(rate - middle) / np.where(typical > 0, typical, np.nan)).max((1, 2), initial=0)
    return [int(place) for place in np.argsort(-away, kind="stable")[:N_COURSES]]


def _over_time(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis, which is kept; NaN is left out."""
    known = np.isfinite(values)
    n = known.sum(-1, keepdims=True)
    return np.where(known, values, 0).sum(-1, keepdims=True) / np.where(n > 0, n, np.nan)


def _trials(tables: dict[str, xr.Dataset]) -> str:
    """Say how many trials units have, where curves tell."""
    found = next((table for name, table in tables.items() if name.startswith(TUNING)), None)
    if found is None or names.N_TRIALS not in found:
        return ""
    n = found[names.N_TRIALS].sum("condition").values
    least, most = int(n.min(initial=n.max(initial=0))), int(n.max(initial=0))
    return f" Trials of a unit: {least:,}." if least == most else f" Trials of a unit: {least:,} to {most:,}."


def _significant(name: str, found: xr.Dataset) -> Iterator[list[str]]:
    if name == DISCRIMINATION:
        for place, label in enumerate(condition_names(found)):
            question = f"tells {label} from {found.attrs['against']}"
            yield from _tested(
                f"{name} ({', '.join(factors_of(found))})", question, found.isel({CONDITION: place}), "p_value"
            )
    for variable, question in OF_TUNING if name.startswith(TUNING) else QUESTIONS.get(name, ()):
        if variable not in found or found[variable].dims != (names.UNIT,) or found[variable].isnull().all():
            continue
        what = f"{name} ({', '.join(factors_of(found))})" if factors_of(found) and "/" not in name else name
        yield from _tested(what, question, found, variable)


def _tested(what: str, question: str, found: xr.Dataset, variable: str) -> Iterator[list[str]]:
    """Row of a test, where any unit can be tested."""
    p = found[variable].values
    tested = np.isfinite(p)
    if not tested.any():
        return
    adjusted = found[variable.removesuffix(names.P_VALUE) + names.P_ADJUSTED].values[tested]
    shares = [percent(float((values < LEVEL).mean())) for values in (p[tested], adjusted)]
    yield [what, question, f"{tested.sum():,}", f"{(~tested).sum():,}", *shares]


def tuning(one: View) -> Iterator[Part]:
    """Curves of the best units with what was fitted, and distributions of measures."""
    for factor, node in one.tree.children[TUNING].children.items():
        found = node.to_dataset()
        yield Text(factor, "heading")
        n_defined = int(found[names.DEFINED].sum())
        if not n_defined:
            yield Text("The curve of no unit varies.")
            continue
        drawn = min(N_DRAWN, n_defined)
        yield picture(
            plot.tuning_curves(found, n_units=drawn),
            f"Mean responses with their standard errors over trials, and fitted functions, of {drawn} of {n_defined:,} "
            "units: those whose tuning is least in doubt. They were chosen for it, and are no typical units.",
        )
        known = measures_of(found)
        if known:
            yield picture(
                plot.unit_distributions(found, known),
                "Distributions over units. Indexes of selectivity are biased upwards by noise, so that those of units "
                "that are not significant (pale) say little. R² is the share of the variance of mean responses that "
                "the fitted function explains; with few conditions it is high by itself.",
            )
            yield _quartiles(found, [name for name in known if name not in ANGLES])


def _quartiles(found: xr.Dataset, measures: list[str]) -> Table:
    """Quartiles over the defined units of each group."""
    groups, index = groups_of(found, names.REGION)
    rows = []
    for name in measures:
        values = found[name].values.astype(np.float64)
        for number, group in enumerate(groups):
            own = values[index == number]
            known = own[np.isfinite(own)]
            low, middle, high = np.quantile(known, QUARTILES) if len(known) else np.full(3, np.nan)
            cells = [decimal(float(value)) for value in (middle, low, high)]
            said = str(found[name].attrs.get("long_name", name))
            rows.append([name, group, said, f"{len(known):,}", f"{len(own) - len(known):,}", *cells])
    caption = "Medians and quartiles over the units that have the measure."
    head = ["measure", GROUP, "what it is", "units", "undefined", "median", "lower quartile", "upper quartile"]
    return Table(caption, head, rows, (0, 1, 2))


def reliability(one: View) -> Iterator[Part]:
    """How much of the responses is signal."""
    found = one.tree.children["reliability"].to_dataset()
    yield Text(
        "Explainable variance is the share of the variance of single trials that conditions explain; the rest is noise "
        "that no model of the stimulus predicts. The noise ceiling is the largest correlation of a model with mean "
        "responses. A Fano factor of 1 is that of Poisson spikes."
    )
    yield picture(plot.reliability(found), "Distributions over units; undefined ones are left out, and counted.")
    yield _quartiles(found, _known(found, "reliability"))


def timing(one: View) -> Iterator[Part]:
    """When responses begin, and how much they tell."""
    for name in ("latency", "information"):
        if not one.has(name):
            continue
        found = one.tree.children[name].to_dataset()
        n, n_defined = found.sizes[names.UNIT], int(found[names.DEFINED].sum())
        if name == "latency":
            yield Text(
                f"{n_defined:,} of {n:,} units have a latency: the first of several bins in a row that are above the "
                "baseline. The others do not rise above it, or not for long enough; theirs is undefined."
            )
        else:
            yield Text(
                "Information is that of single trials about the condition, less what permuted trials have, which is "
                "bias of few trials; it may be slightly below 0 where there is none."
            )
        if n_defined:
            yield picture(plot.unit_distributions(found, [name]), f"Distribution over units of {name}.")
        yield _quartiles(found, _known(found, name))


def _known(found: xr.Dataset, name: str) -> list[str]:
    return [measure for measure in MEASURES[name] if measure in found]

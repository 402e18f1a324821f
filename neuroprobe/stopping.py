"""Runs that stop before they have all base samples: when they are looked at, and what decides.

A session with ``design: {until: {se: …, share: …}}`` is recorded in stages of 8, 16, 32, … blocks and, at last, of all.
At the end of each, the errors of all units are looked at; each stage extends the one before, so that the numbers of a
run that stops are those of a run of that many base samples with the same scrambles, to the last bit. What is decided
depends on the numbers alone: workers, interruptions and the order of shards do not change where a run stops.

Which units count: in every recorded layer, those whose variance is above the noise floor. One has reached the standard
error when all its shares that the analyses ask for have: first- and total-order indices, second-order ones and total
interactions where they are computed, Shapley effects. Units that are undefined so far count neither way; units whose
error is unknown, as they vary in one block alone, have not reached it. Other analyses of the protocol, as moments and
contrasts, decide nothing.

Errors that are looked at several times are a little small where a run stops because of them, and intervals at the stop
then cover less than they should. Measured (``benchmarks/bench_stopping.py``: 95 % intervals, t, looked at after 8 to
128 scrambles of 64 base samples): where a share of many units decides, as here, coverage is that of runs of a fixed
length (.943 to .955 beside .944 to .950). In the worst case, where one index of one unit decides alone, it falls by up
to .004 for smooth functions, and by .008 to .026 for rarely active units (to .911 from .937), whose errors are small
before they have responded often. So a recording of one unit is better given a fixed length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from neuroprobe.statistics.precision import Precision, needed

KEPT: Final = ("se", "share", "quantities")  # of what was asked for


@dataclass(frozen=True)
class Stopping:
    """When a session stops before it has all base samples.

    Attributes
    ----------
    se : float
        Standard error that is wanted.
    share : float
        Of the defined units of every layer, that have to have it.
    quantities : tuple of str
        Shares of the variance that it is wanted of.
    checks : tuple of int
        Base samples after which the run is looked at; the last are all.
    """

    se: float
    share: float
    quantities: tuple[str, ...]
    checks: tuple[int, ...]

    def __str__(self) -> str:
        asked = f"{100 * self.share:g} % of the defined units of every layer"
        *before, last = (f"{n:,}" for n in self.checks)
        looked = f"looked at after {', '.join(before)}; " if before else ""
        errors = f"standard errors of at most {self.se:g} in {', '.join(self.quantities)}"
        return f"{looked}stops when {asked} have {errors}; at most {last} base samples"


@dataclass(frozen=True)
class Decision:
    """What was found when a session was looked at.

    Attributes
    ----------
    rule : Stopping
    samples : int
        Base samples that were there.
    layers : dict of Precision
    """

    rule: Stopping
    samples: int
    layers: Mapping[str, Precision]

    @property
    def is_reached(self) -> bool:
        """Whether enough units of every layer have reached the standard error, and any unit at all is defined."""
        counted = [one for one in self.layers.values() if one.n_defined]
        return bool(counted) and all(one.n_reached >= needed(one.n_defined, self.rule.share) for one in counted)

    def __str__(self) -> str:
        shares = [one.share for one in self.layers.values() if one.n_defined]
        share = f"{100 * min(shares):.1f} %" if shares else "none"
        what = "enough" if self.is_reached else f"{100 * self.rule.share:g} % are wanted"
        errors = f"standard errors of at most {self.rule.se:g}"
        return f"{self.samples:,} base samples: {share} of the units, in the layer with fewest, have {errors}; {what}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as the result holds them; what is infinite or undefined is None."""
        layers = {
            layer: asdict(one) | {"error": one.error if math.isfinite(one.error) else None}
            for layer, one in self.layers.items()
        }
        rule = {key: value for key, value in asdict(self.rule).items() if key in KEPT}
        return {
            **rule,
            "reached": self.is_reached,
            "samples": self.samples,
            "at_most": self.rule.checks[-1],
            "layers": layers,
        }


def told(found: Mapping[str, Any]) -> str:
    """Say in a sentence where a run stopped and why, or how far it was.

    Parameters
    ----------
    found : dict
        As `Decision.as_dict` returns it.

    Examples
    --------
    >>> layer = {"n_defined": 200, "n_reached": 120, "error": 0.02}
    >>> found = {"se": 0.01, "share": 0.95, "quantities": ["first_order"], "reached": False, "samples": 1024}
    >>> print(told({**found, "at_most": 1024, "layers": {"conv": layer}}))
    all 1,024 base samples were taken: standard errors of at most 0.01 (first_order) were wanted for 95 % of the units \
of every layer, and in conv 60.0 % have them, 95 % have 0.02; about 4,096 base samples would do
    """
    counted = {layer: one for layer, one in found["layers"].items() if one["n_defined"]}
    wanted = (
        f"standard errors of at most {found['se']:g} ({', '.join(found['quantities'])}) were wanted for "
        f"{100 * found['share']:g} % of the units of every layer"
    )
    everything = f"all {found['samples']:,} base samples were taken"
    if not counted:
        return f"{everything}: {wanted}, and no unit varies"
    worst = min(counted, key=lambda layer: counted[layer]["n_reached"] / counted[layer]["n_defined"])
    one = counted[worst]
    share = f"{100 * one['n_reached'] / one['n_defined']:.1f} %"
    if found["reached"]:
        early = f"stopped at {found['samples']:,} of at most {found['at_most']:,} base samples"
        start = early if found["samples"] < found["at_most"] else everything
        return f"{start}: {wanted}, and {share} or more have them ({worst} has fewest)"
    errors = [one["error"] for one in counted.values()]
    text = f"{everything}: {wanted}, and in {worst} {share} have them"
    if None in errors:
        return f"{text}; the errors of more units are unknown, as they vary in one block alone"
    most = found["samples"] * (max(errors) / found["se"]) ** 2
    slowest = max(counted, key=lambda layer: counted[layer]["error"])
    where = "" if slowest == worst else f" of {slowest}"
    kept = f"{100 * found['share']:g} %{where} have {counted[slowest]['error']:.2g}"
    return f"{text}, {kept}; about {round(most):,} base samples would do"

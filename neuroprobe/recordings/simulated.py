"""A simulated animal: spikes of units of which everything is known, and what every estimator should find in them.

Counts of a presentation are Poisson around rate × gain. The gain is 1 on average and differs between trials: by itself
in each unit, in all units alike (noise correlations), and slowly over the session (drift). With it counts are more
variable than Poisson ones, as those of animals are (Goris, Movshon & Simoncelli 2014, doi:10.1038/nn.3711).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroprobe import names
from neuroprobe.design.randomness import generator
from neuroprobe.errors import unknown_name
from neuroprobe.recordings.build import safe
from neuroprobe.recordings.columns import Table, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.simulated_units import Population
from neuroprobe.recordings.spiking import SPIKE_CHOICES, Spikes, described_units, responses_of, trial_table
from neuroprobe.statistics.spikes import ragged_by_unit

Array = NDArray[np.float64]
NODE: Final = "simulated"
STIMULUS: Final = "stimulus"
BLANK: Final = "blank"
LARGEST_DRIFT: Final = 0.7  # of the gain: a larger one would take rates below 0
POINTS: Final = 4097  # of the time within a presentation, between which it is interpolated
# columns of a table that say which row of a design a stimulus is, and not what was varied
NOT_FACTORS: Final = {names.DESIGN, names.SAMPLE, names.ROLE, names.PAIR, names.STIMULUS_ID, names.IMAGE_ID}


@dataclass(frozen=True)
class Noise:
    """What differs between trials of one stimulus, besides that counts are Poisson.

    Parameters
    ----------
    gain_variance : float
        Of the gain of each unit, drawn anew for every trial (gamma): counts are negative binomial.
    shared_gain_variance : float
        Of a gain that all units have in common in a trial.
    drift : float
        Standard deviation of a gain that goes up and down once in a session, at a phase of each unit's own.

    Raises
    ------
    ValueError
        If they are negative, or the drift is above 0.7.
    """

    gain_variance: float = 0.0
    shared_gain_variance: float = 0.0
    drift: float = 0.0

    def __post_init__(self) -> None:
        if min(self.gain_variance, self.shared_gain_variance, self.drift) < 0 or self.drift > LARGEST_DRIFT:
            raise ValueError(f"variances are 0 or more, and a drift at most {LARGEST_DRIFT}; received {self}")

    @property
    def variance(self) -> float:
        """Variance of the whole gain over trials."""
        return (1 + self.gain_variance) * (1 + self.shared_gain_variance) * (1 + self.drift**2) - 1


@dataclass(frozen=True)
class Timing:
    """When stimuli are shown and how rates follow them, in s.

    Parameters
    ----------
    duration, gap : float
        Of a presentation, and between two.
    latency : (float, float)
        Shortest and longest; each unit's own is drawn uniformly between them.
    transient : float
        How much higher a rate is at its beginning than later, in parts of it.
    time_constant : float
        Of the fall from there.

    Raises
    ------
    ValueError
        If they do not go together.
    """

    duration: float = 0.5
    gap: float = 0.5
    latency: tuple[float, float] = (0.04, 0.08)
    transient: float = 0.0
    time_constant: float = 0.05

    def __post_init__(self) -> None:
        low, high = self.latency
        if not (0 <= low <= high < min(self.gap, self.duration) and self.transient >= 0 < self.time_constant):
            raise ValueError(f"latencies are from 0 to below gap and duration, a transient 0 or more: received {self}")

    @property
    def window(self) -> tuple[float, float]:
        """From the longest latency until the first unit's response ends: where all units respond."""
        return self.latency[1], self.duration + self.latency[0]

    def driven(self, time: ArrayLike) -> Array:
        """Rate integrated from the latency to `time` s after it, in parts of the rate after the transient."""
        t = np.clip(time, 0, self.duration)
        fallen = 1 - np.exp(-t / self.time_constant)
        return np.asarray(t + self.transient * self.time_constant * fallen)

    def reached(self, share: Array) -> Array:
        """Time after the latency by which a share of a response's spikes is expected: the inverse of `driven`."""
        at = np.linspace(0, self.duration, POINTS)
        done = self.driven(at)
        return np.interp(share * done[-1], done, at)


@dataclass(frozen=True)
class Simulated:
    """A simulated recording; `neuroprobe.recordings.read_recording` reads it too, with any window.

    Attributes
    ----------
    tree : DataTree
        Counts in `Timing.window`, as a reader gives them.
    spikes : Spikes
    trials : Table
        One row per presentation, in the order of time.
    condition : int array (trials,)
        Stimulus of each trial, a row of the table that was given; −1 of blanks.
    truth : Dataset
        Over ``unit``: the population's parameters, ``latency``, and of counts in the window ``signal_power``,
        ``noise_power``, ``explainable``, ``ceiling``, ``fano_factor``; over ``stimulus`` and ``unit`` ``expected`` and
        ``variance``. See `expected_counts`.
    """

    tree: xr.DataTree
    spikes: Spikes
    trials: Table
    condition: NDArray[np.int64]
    truth: xr.Dataset

    @property
    def counts(self) -> Array:
        """Counts in the window (trials, units)."""
        return np.asarray(self.tree[f"{names.RESPONSES}/{NODE}"][names.RESPONSE].values, dtype=np.float64)


def simulate_animal(
    population: Population,
    table: Mapping[str, ArrayLike],
    *,
    n_repeats: int = 10,
    n_blanks: int = 0,
    noise: Noise | None = None,
    timing: Timing | None = None,
    factors: Sequence[str] | None = None,
    region: str | Sequence[str] = "V1",
    seed: int = 0,
) -> Simulated:
    """Show stimuli to units of which everything is known, in random order, and record their spikes.

    Parameters
    ----------
    population : Population
        See `tuned_units`, `gabor_units` and `planted_units`; or of any function.
    table : dict of array_like (stimuli,)
        What each stimulus is: the columns that the population's rate is a function of, and any others.
    n_repeats : int
        Trials of each stimulus.
    n_blanks : int
        Trials without a stimulus: factors are NaN (or empty), ``control_kind`` is ``blank``.
    noise : Noise, optional
        By default counts are Poisson.
    timing : Timing, optional
    factors : sequence of str, optional
        Columns that were varied; by default all but those that say which row of a design a stimulus is.
    region : str or sequence of str
        Of all units, or of each.
    seed : int
        Everything random is a function of it.

    Raises
    ------
    ValueError
        If columns differ in length, there is no trial, or a rate is negative or not a number.

    Examples
    --------
    >>> from neuroprobe.recordings.simulated_units import tuned_units
    >>> units = tuned_units(3, {"orientation": "von_mises"})
    >>> animal = simulate_animal(units, {"orientation": [0.0, 45, 90, 135]}, n_repeats=5, n_blanks=2)
    >>> animal.tree["responses/simulated"].response.shape, animal.truth.expected.shape
    ((22, 3), (4, 3))
    """
    noise, timing = noise or Noise(), timing or Timing()
    shown = {str(name): plain(column) for name, column in table.items()}
    n_stimuli = _n_rows(shown)
    rates = np.asarray(population.rate(shown), dtype=np.float64)
    if rates.shape != (n_stimuli, population.n_units) or not (rates >= 0).all():
        raise ValueError(
            f"rates are 0 or more for each of {n_stimuli} stimuli and {population.n_units} units; received an array "
            f"{rates.shape} with a smallest value of {rates.min(initial=np.inf):g}"
        )
    varied = [name for name in shown if name not in NOT_FACTORS] if factors is None else list(factors)
    for name in varied:
        if name not in shown:
            raise ValueError(unknown_name("factor", name, shown))
    condition = np.concatenate([np.tile(np.arange(n_stimuli), n_repeats), np.full(n_blanks, -1)])
    if not len(condition):
        raise ValueError("there is no trial: a stimulus, and one repeat or more, or blanks")
    condition = generator(seed, "order of trials").permutation(condition)
    latency = generator(seed, "latencies").uniform(*timing.latency, population.n_units)
    trials = _trials(shown, condition, timing, has_blanks=n_blanks > 0)
    onsets = np.asarray(trials.columns[names.START_TIME], dtype=np.float64)
    is_blank = condition < 0
    rate_of = np.where(is_blank[:, None], population.spontaneous, rates[condition] if n_stimuli else 0)
    gain = _gains(len(condition), population.n_units, noise, seed)
    times, unit = _evoked(rate_of * gain, is_blank, onsets, latency, timing, seed)
    quiet, its_unit = _quiet(population.spontaneous, onsets, latency, timing, seed)
    times, offsets = ragged_by_unit(
        np.concatenate([times, quiet]), np.concatenate([unit, its_unit]), population.n_units
    )
    spikes = Spikes(times, np.stack([offsets[:-1], offsets[1:]], axis=1), _units(population.n_units, region))
    choices = Choices(window=timing.window, factors=varied)
    tree = responses_of(spikes, trials, choices, NODE, "a simulated animal")
    tree.attrs |= _attrs(seed, n_repeats, n_blanks, noise, timing)
    truth = _truth(population, rates, latency, timing, noise, n_repeats, spikes.units)
    return Simulated(tree, spikes, trials, condition, truth)


def expected_counts(
    rates: Array, spontaneous: Array, latency: Array, window: tuple[float, float], timing: Timing, noise: Noise
) -> tuple[Array, Array]:
    """Mean and variance over trials of counts in a window: float arrays (stimuli, units).

    A count with gain g is Poisson around g m + q, of driven and spontaneous spikes: its variance is m + q + m² Var g.

    Parameters
    ----------
    rates : float array (stimuli, units)
    spontaneous, latency : float arrays (units,)
    window : (float, float)
        s after the start of a presentation; not beyond the next one's response.
    timing : Timing
    noise : Noise
    """
    start, stop = (np.clip(end - latency, 0, timing.duration) for end in window)
    driven = rates * (timing.driven(stop) - timing.driven(start))
    mean = driven + spontaneous * (window[1] - window[0] - (stop - start))
    return mean, mean + driven**2 * noise.variance


def _n_rows(shown: Mapping[str, NDArray[Any]]) -> int:
    lengths = {name: len(column) for name, column in shown.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns of a table of stimuli have one length, received {lengths}")
    return next(iter(lengths.values()))


def _trials(shown: Mapping[str, NDArray[Any]], condition: NDArray[np.int64], timing: Timing, has_blanks: bool) -> Table:
    n = len(condition)
    start = timing.gap + np.arange(n) * (timing.duration + timing.gap)
    is_blank = condition < 0
    order = np.argsort(condition, kind="stable")
    ordered = condition[order]
    repetition = np.empty(n, dtype=np.int64)
    repetition[order] = np.arange(n) - np.searchsorted(ordered, ordered)
    columns: dict[str, NDArray[Any]] = {
        names.START_TIME: start,
        names.STOP_TIME: start + timing.duration,
        names.STIMULUS_ID: plain([BLANK if one < 0 else str(one) for one in condition]),
        names.REPETITION: repetition,
        names.ID: np.arange(n),
    }
    for name, column in shown.items():
        taken = column[condition]
        if has_blanks:
            nothing: Any = "" if column.dtype == object else np.nan
            taken = np.where(is_blank, nothing, taken).astype(object if column.dtype == object else np.float64)
        columns[name] = taken
    if has_blanks:
        columns[names.CONTROL_KIND] = plain(np.where(is_blank, BLANK, ""))
        columns[names.ARM] = plain(np.where(is_blank, names.CONTROL, names.TREATMENT))
    return Table(columns, {names.START_TIME: "s", names.STOP_TIME: "s"})


def _units(n_units: int, region: str | Sequence[str]) -> Table:
    regions = [region] * n_units if isinstance(region, str) else [str(one) for one in region]
    if len(regions) != n_units:
        raise ValueError(f"there are {n_units} units and {len(regions)} regions")
    ids, subject = [str(number) for number in range(n_units)], [NODE] * n_units
    return Table({names.UNIT_ID: plain(ids), names.REGION: plain(regions), names.SUBJECT_ID: plain(subject)})


def _gains(n_trials: int, n_units: int, noise: Noise, seed: int) -> Array:
    """Gain of each trial and unit."""
    phase = generator(seed, "phases of drift").uniform(0, 2 * np.pi, n_units)
    turn = 2 * np.pi * (np.arange(n_trials) + 0.5) / max(n_trials, 1)
    gain = 1 + noise.drift * np.sqrt(2) * np.sin(turn[:, None] + phase)
    for variance, purpose, width in (
        (noise.gain_variance, "gains", n_units),
        (noise.shared_gain_variance, "shared gains", 1),
    ):
        if variance > 0:
            gain = gain * generator(seed, purpose).gamma(1 / variance, variance, (n_trials, width))
    return gain


def _evoked(
    rate: Array, is_blank: NDArray[np.bool_], onsets: Array, latency: Array, timing: Timing, seed: int
) -> tuple[Array, NDArray[np.int64]]:
    """Spikes while units respond, and the unit of each; of blanks at a constant rate."""
    random = generator(seed, "spikes of presentations")
    length = np.where(is_blank, timing.duration, timing.driven(timing.duration))
    n_spikes = random.poisson(rate * length[:, None]).ravel()
    at = np.repeat(np.arange(rate.size), n_spikes)
    trial, unit = np.divmod(at, max(rate.shape[1], 1))
    share = random.random(len(at))
    within = np.where(is_blank[trial], share * timing.duration, timing.reached(share))
    return onsets[trial] + latency[unit] + within, unit


def _quiet(
    spontaneous: Array, onsets: Array, latency: Array, timing: Timing, seed: int
) -> tuple[Array, NDArray[np.int64]]:
    """Spikes before the first response, between responses and after the last one, and the unit of each."""
    random = generator(seed, "spikes between presentations")
    starts = np.concatenate([[-np.inf], onsets + timing.duration])[:, None] + latency
    stops = np.concatenate([onsets, [onsets[-1] + timing.duration + timing.gap]])[:, None] + latency
    starts[0] = 0
    n_spikes = random.poisson(spontaneous * (stops - starts)).ravel()
    at = np.repeat(np.arange(starts.size), n_spikes)
    first, last = starts.ravel()[at], stops.ravel()[at]
    return first + random.random(len(at)) * (last - first), at % max(len(spontaneous), 1)


def _truth(
    population: Population,
    rates: Array,
    latency: Array,
    timing: Timing,
    noise: Noise,
    n_repeats: int,
    units: Table,
) -> xr.Dataset:
    mean, variance = expected_counts(rates, population.spontaneous, latency, timing.window, timing, noise)
    n = len(mean)
    signal = mean.var(axis=0, ddof=1) if n > 1 else np.full(mean.shape[1], np.nan)
    around = variance.mean(0)
    ratio = variance / np.where(mean > 0, mean, np.nan)
    whole = np.where(signal + around > 0, signal + around, np.nan)
    best = np.where(signal > 0, signal + around / n_repeats, np.nan)
    by_unit = {
        "latency": (latency, "s", "time from the start of a presentation to that of the response"),
        "signal_power": (signal, "spikes2", "variance of expected counts over the stimuli shown, of n − 1"),
        "noise_power": (around, "spikes2", "mean over stimuli of the variance of counts over trials"),
        "explainable": (signal / whole, "", "share of the variance of single trials that is signal"),
        "ceiling": (np.sqrt(signal / best), "", "largest correlation of a model with the mean over repetitions"),
        "fano_factor": (np.where(np.isnan(ratio).all(0), np.nan, _mean(ratio)), "", "variance over mean of counts"),
    }
    told = {
        name: (names.UNIT, value, {"units": unit, "long_name": long} if unit else {"long_name": long})
        for name, (value, unit, long) in by_unit.items()
    }
    over = (STIMULUS, names.UNIT)
    return population.truth.assign(
        told | {"expected": (over, mean, {"units": "spikes"}), "variance": (over, variance, {"units": "spikes2"})}
    ).assign_coords({name: (names.UNIT, column) for name, column in units.columns.items()})


def _mean(ratio: Array) -> Array:
    known = ~np.isnan(ratio)
    return np.asarray(np.where(known, ratio, 0).sum(0) / np.maximum(known.sum(0), 1))


def _attrs(seed: int, n_repeats: int, n_blanks: int, noise: Noise, timing: Timing) -> dict[str, Any]:
    details = {
        "source": "a simulated animal",
        "format": NODE,
        "seed": seed,
        "n_repeats": n_repeats,
        "n_blanks": n_blanks,
        "noise": asdict(noise),
        "timing": asdict(timing),
    }
    return {"Conventions": names.CONVENTIONS, names.PROVENANCE: json.dumps(details)}


def read_simulated(animal: Simulated, choices: Choices) -> xr.DataTree:
    """Count the spikes of a simulated animal: ``window`` and the other choices of spikes, see `responses_of`."""
    table = animal.trials if choices.trials is None else trial_table(choices.trials)
    if choices.factors is None and names.FACTORS in animal.tree.attrs:
        choices = replace(choices, factors=tuple(json.loads(animal.tree.attrs[names.FACTORS])))
    held = f"a simulated animal holds {described_units(animal.spikes.units)}; trials: {table.listed()}"
    return responses_of(animal.spikes, table, choices, safe(NODE), held)


READERS.add(
    "simulated",
    Reader("a simulated animal", lambda thing: isinstance(thing, Simulated), read_simulated, SPIKE_CHOICES),
)

"""Bias and coverage of estimators on a simulated animal of 500 units, of which the truth is known.

Coverage is the share of 95 % intervals that hold the truth. The error of a bias is that over units as if they were
independent; they share stimuli, whose choice is a part of the bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neuroprobe.recordings.simulated import Noise, Simulated, Timing, simulate_animal
from neuroprobe.recordings.simulated_design import exact_effects, pick_freeze_experiment, planted_units
from neuroprobe.recordings.simulated_units import factorial_table, gabor_units, tuned_units
from neuroprobe.statistics.conditions import curves_of, repetitions
from neuroprobe.statistics.cross_repeat import explainable_indices, explainable_shapley
from neuroprobe.statistics.factorial import factorial_anova
from neuroprobe.statistics.given_data import binned_first_order, half_sample_se
from neuroprobe.statistics.given_shapley import neighbours_of, shapley_effects
from neuroprobe.statistics.reliability import signal_power, signal_power_of, split_half
from neuroprobe.statistics.tuning_bootstrap import bootstrap_means, interval, refit
from neuroprobe.statistics.tuning_fits import fit_tuning

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
N_UNITS = 500
SHORT = Timing(duration=0.25, gap=0.1, latency=(0.04, 0.06), transient=1.0)
NOISE = Noise(gain_variance=0.1, shared_gain_variance=0.02)
ANGLES = np.arange(0, 180, 15.0)
N_DRAWS = 200
FACTORS = ["hue", "blur", "noise"]
HEAD = f"{'':34}{'truth':>9}{'bias':>9}{'± se':>8}{'rms':>9}{'coverage':>10}{'undefined':>11}"


def row(name: str, found: Array, truth: Array, inside: Flags | None = None, period: float = 0.0) -> None:
    """Print one line: mean truth, bias with its error over units, root mean square error, coverage, share undefined."""
    truth = np.broadcast_to(truth, found.shape)
    away = found - truth
    if period:
        away = np.mod(away + period / 2, period) - period / 2
    known = np.isfinite(away)
    error = away[known].std() / np.sqrt(N_UNITS)
    covered = "" if inside is None else f"{np.mean(inside[known]):.3f}"
    print(
        f"{name:34}{np.nanmean(truth):9.3f}{away[known].mean():9.3f}{error:8.3f}"
        f"{np.sqrt((away[known] ** 2).mean()):9.3f}{covered:>10}{1 - known.mean():11.3f}"
    )


def within(found: Array, se: Array, truth: Array, n: int = 0) -> Flags:
    """Whether the truth is within the 95 % interval, of errors over `n` blocks where they are few."""
    return np.asarray(np.abs(found - truth) < (stats.t.ppf(0.975, n - 1) if n else 1.96) * se)


def tuning() -> None:
    """Preferred orientation and half width at half height, from fits of von Mises curves."""
    units = tuned_units(N_UNITS, {"orientation": "von_mises"}, seed=1)
    print(f"\nTuning: {len(ANGLES)} orientations, intervals from {N_DRAWS} bootstrap draws\n{HEAD}")
    for repeats, noise, told in ((5, NOISE, ""), (20, NOISE, ""), (20, Noise(0.1, 0.02, drift=0.3), ", drift")):
        animal = simulate_animal(units, {"orientation": ANGLES}, n_repeats=repeats, noise=noise, timing=SHORT)
        curves = curves_of(animal.counts, animal.condition, len(ANGLES))
        fit = fit_tuning("von_mises", ANGLES, curves.mean, curves.n, curves.variance)
        random = np.random.default_rng(0)
        drawn = bootstrap_means(animal.counts, animal.condition, len(ANGLES), N_DRAWS, random)
        draws = refit(fit, ANGLES, drawn, curves.n)
        for name, period in (("preferred", 180.0), ("hwhm", 0.0)):
            value, truth = (fit.parameters | fit.derived)[name], units.truth[f"orientation_{name}"].values
            ends = interval(value, draws[name], period=period)
            near = value + np.mod(truth - value + 90, 180) - 90 if period else truth
            row(f"{name} (deg), {repeats} trials{told}", value, truth, (ends.low < near) & (near < ends.high), period)


def images(n: int, size: int = 24) -> Array:
    """Noise with the spectrum of natural images."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=(n, size, size)))
    return np.asarray(np.fft.ifft2(spectrum / np.maximum(frequency, 1 / size)).real)


def powers() -> None:
    """Signal power and what is made of it, over images that are a sample of many."""
    pool, n_shown, repeats, n_experiments = 4000, 100, 6, 6
    units = gabor_units(images(pool), N_UNITS, seed=2)
    ids = np.arange(pool).astype(str)
    everything = simulate_animal(units, {"image_id": ids}, n_repeats=1, noise=NOISE, timing=SHORT).truth
    truth = {name: everything[name].values for name in ("signal_power", "noise_power", "explainable")}
    truth["ceiling"] = np.sqrt(truth["signal_power"] / (truth["signal_power"] + truth["noise_power"] / repeats))
    found: dict[str, list[Array]] = {name: [] for name in (*truth, "split half")}
    errors: dict[str, list[Array]] = {name: [] for name in truth}
    for number in range(n_experiments):
        some = np.random.default_rng(number).choice(ids, n_shown, replace=False)
        animal = simulate_animal(units, {"image_id": some}, n_repeats=repeats, noise=NOISE, timing=SHORT, seed=number)
        one = signal_power(repetitions(animal.counts, animal.condition, n_shown))
        halves = split_half(animal.counts, animal.condition, n_shown, 20, np.random.default_rng(number))
        for name, value, se in (
            ("signal_power", one.signal, one.signal_se),
            ("noise_power", one.noise, one.noise_se),
            ("explainable", one.explainable, one.explainable_se),
        ):
            found[name].append(value)
            errors[name].append(se)
        found["ceiling"].append(one.ceiling)
        found["split half"].append(halves.ceiling)
    print(f"\nReliability: {n_shown} images of {pool}, {repeats} trials, {n_experiments} experiments\n{HEAD}")
    for name in ("signal_power", "noise_power", "explainable"):
        value, se = np.stack(found[name]), np.stack(errors[name])
        row(name, value, truth[name], within(value, se, truth[name]))
    row("ceiling, of signal power", np.stack(found["ceiling"]), truth["ceiling"])
    row("ceiling, of split halves", np.stack(found["split half"]), truth["ceiling"])


def indices() -> None:
    """Indices of the explainable variance from a complete design, and what they would be without the correction."""
    n_samples, repeats, batch = 256, 4, 50
    made = pick_freeze_experiment(FACTORS, n_samples, seed=3)
    parts: dict[str, list[tuple[Array, Array, Array]]] = {}
    plain: dict[str, list[tuple[Array, Array]]] = {"total_order": [], "shapley_effect": []}
    explainable, true_explainable = [], []
    for number in range(N_UNITS // batch):
        units = planted_units(batch, FACTORS, seed=number, rate=(20, 100))
        animal = simulate_animal(
            units, made.table, n_repeats=repeats, noise=Noise(0.02, 0.01), timing=SHORT, seed=number
        )
        rows = made.rows(animal)
        sobol = explainable_indices(*made.of_sobol(rows), block=made.block)
        walks, permutation = made.of_walks(rows)
        shapley = explainable_shapley(walks, permutation, block=made.block)
        for name, estimate in (
            ("first_order", sobol.first_order),
            ("second_order", sobol.second_order),
            ("total_order", sobol.total_order),
            ("shapley_effect", shapley.shapley_effect),
        ):
            parts.setdefault(name, []).append((estimate.value, estimate.se, units.truth[name].values))
        # the mean over repetitions taken for a response without noise
        taken = np.repeat(rows.mean(0, keepdims=True), 2, axis=0)
        naive = explainable_indices(*made.of_sobol(taken)).total_order.value
        plain["total_order"].append((naive, units.truth.total_order.values))
        walked, _ = made.of_walks(taken)
        naive = explainable_shapley(walked, permutation).shapley_effect.value
        plain["shapley_effect"].append((naive, units.truth.shapley_effect.values))
        explainable.append(sobol.explainable)
        true_explainable.append(_explainable(animal))
    n_blocks = len(np.unique(made.block))
    share = np.concatenate(true_explainable)
    print(f"\nComplete design: {n_samples} base samples × {repeats} repetitions, {len(FACTORS)} factors")
    for told, kept in (("all units", share > 0), ("more than 40 % explainable", share > 0.4)):
        print(f"{f'{told}: {kept.sum()}':34}{HEAD[34:]}")
        for name, listed in parts.items():
            value, se, truth = (np.concatenate([one[at] for one in listed], axis=-1)[..., kept] for at in range(3))
            inside, there = within(value, se, truth, n_blocks), np.isfinite(truth)
            row(name, value[there], truth[there], inside[there])
    row("explainable", np.concatenate(explainable), share)
    for name, pairs in plain.items():
        value, truth = (np.concatenate([one[at] for one in pairs], axis=-1) for at in range(2))
        row(f"{name}, not corrected", value, truth)
    # what noise adds is shared equally: it takes from the largest
    corrected = np.concatenate([one[0] for one in parts["shapley_effect"]], axis=-1)
    largest = truth.argmax(0)[None]
    for told, effects in (("", corrected), (", not corrected", value)):
        at_largest = np.take_along_axis(effects, largest, axis=0)
        row(f"largest effect{told}", at_largest, np.take_along_axis(truth, largest, axis=0))


def _explainable(animal: Simulated) -> Array:
    return np.asarray(animal.truth.explainable.values)


def given_data() -> None:
    """Indices of a factorial experiment that knows nothing of our designs, as shares of the explainable variance."""
    levels = {"orientation": np.arange(0, 180, 22.5), "contrast": np.array([0.08, 0.2, 0.4, 1.0])}
    table, repeats = factorial_table(levels), 15
    units = tuned_units(N_UNITS, {"orientation": "von_mises", "contrast": "naka_rushton"}, seed=4)
    animal = simulate_animal(units, table, n_repeats=repeats, noise=NOISE, timing=SHORT)
    exact = exact_effects(animal.truth.expected.values.reshape(8, 4, N_UNITS))
    share = exact.variance / (exact.variance + animal.truth.noise_power.values)
    factors = np.stack([animal.trials.columns[name] for name in levels], axis=1)
    counts = animal.counts
    n = len(table["contrast"])

    def corrected(estimator: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        def of(factors: Array, values: Array) -> Array:
            _, number = np.unique(factors, axis=0, return_inverse=True)
            powers = signal_power_of(curves_of(values, number.ravel(), n))
            signal = powers.signal * (n - 1) / n
            whole = np.where(signal > 0, signal / (signal + powers.noise), np.nan)
            return estimator(factors, values) / whole

        return of

    def omega(factors: Array, values: Array) -> Array:
        codes = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
        return np.asarray(factorial_anova(values, codes).omega_squared[:2])

    def neighbours(factors: Array, values: Array) -> Array:
        return shapley_effects(neighbours_of(factors, 4, np.random.default_rng(0)), values).effect

    listed: list[tuple[str, Callable[[Array, Array], Array], Array]] = [
        ("S, by bins", binned_first_order, exact.first_order),
        ("S, ω²", omega, exact.first_order),
        ("Shapley, neighbours", neighbours, exact.shapley_effect),
    ]
    print(f"\nGiven data: {n} conditions × {repeats} trials, orientation and contrast\n{HEAD}")
    for name, estimator, truth in listed:
        for told, one, expected in (
            ("", estimator, truth * share),
            (", of explainable", corrected(estimator), truth),
        ):
            value = one(factors, counts)
            se = half_sample_se(one, factors, counts, 40, np.random.default_rng(1))
            row(f"{name}{told}", value, expected, within(value, se, expected))


def main() -> None:
    for part in (tuning, powers, indices, given_data):
        started = time.perf_counter()
        part()
        print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()

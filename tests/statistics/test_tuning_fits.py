"""Fits of tuning curves: simulated curves recovered, SciPy's minima, closed forms of what is derived, flags."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scipy import integrate, optimize

from neuroprobe.statistics.conditions import curves_of
from neuroprobe.statistics.trials import one_way_of
from neuroprobe.statistics.tuning_bootstrap import bootstrap_means, interval, refit
from neuroprobe.statistics.tuning_fits import fit_tuning, predict
from neuroprobe.statistics.tuning_models import MODELS, TuningModel
from neuroprobe.statistics.tuning_problems import problem_of

SIZES = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8])
CONTRASTS = np.array([0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.24, 0.32, 0.48, 0.64, 0.8, 1])
STIMULI = {
    "von_mises": np.arange(0, 360, 22.5),
    "double_gaussian": np.arange(0, 360, 22.5),
    "log_gaussian": 2.0 ** np.arange(-2, 4.1, 0.5),
    "naka_rushton": CONTRASTS,
    "super_saturating": CONTRASTS,
    "difference_of_gaussians": SIZES,
    "ratio_of_gaussians": SIZES,
    "gabor": np.arange(-1.6, 1.61, 0.2),
}


def simulated(model: TuningModel, x: np.ndarray, n_units: int, rng: np.random.Generator) -> tuple[dict, np.ndarray]:
    """True parameters well within their bounds, and the curves (conditions, units)."""
    of_all = np.broadcast_to(x[:, None], (len(x), n_units))
    problem, _ = problem_of(model, of_all, rng.normal(size=of_all.shape), None, None)
    n = len(model.coefficients)
    low, high = problem.lower[:, n:], problem.upper[:, n:]
    low, high = np.where(np.isfinite(low), low, 0), np.where(np.isfinite(high), high, model.period)
    shape = low + (high - low) * rng.uniform(0.2, 0.8, low.shape)
    size = {"baseline": (5, 10), "null_amplitude": (2, 8), "inhibition": (2, 6)}
    coefficients = np.stack([rng.uniform(*size.get(name, (10, 20)), n_units) for name in model.coefficients], axis=1)
    return model.report(coefficients, shape), model.curve(of_all.T, coefficients, shape).T


def apart(model: TuningModel, name: str, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    period = model.periods.get(name, 0.0)
    away = found - truth
    return np.abs(np.mod(away + period / 2, period) - period / 2) if period else np.abs(away / truth)


@pytest.mark.parametrize("name", MODELS)
def test_curves_without_noise_are_recovered(name: str, rng: np.random.Generator) -> None:
    model, x = MODELS[name], STIMULI[name]
    truth, mean = simulated(model, x, 300, rng)
    found = fit_tuning(name, x, mean)
    assert found.converged.mean() > 0.99
    assert (found.r_squared > 1 - 1e-9).mean() > 0.98
    assert np.array_equal(found.defined, ~np.isnan(found.r_squared))
    for key, value in truth.items():
        error = apart(model, key, found.parameters[key], value)
        assert np.nanmedian(error) < 1e-6
        assert np.nanquantile(error, 0.95) < 1e-3, key
    known = found.defined
    assert np.allclose(predict(found, x)[:, known], found.curve[:, known])
    again = fit_tuning(name, x, mean)
    assert all(np.array_equal(again.parameters[key], found.parameters[key], equal_nan=True) for key in truth)


@pytest.mark.parametrize("name", MODELS)
def test_minima_are_those_of_scipy_or_below(name: str, rng: np.random.Generator) -> None:
    """From the true parameters, which is the best start that there can be."""
    model, x = MODELS[name], STIMULI[name]
    _, mean = simulated(model, x, 12, rng)
    noisy = mean + rng.normal(0, 0.05, mean.shape) * np.ptp(mean, axis=0)
    weights = rng.uniform(0.5, 2, mean.shape)
    found = fit_tuning(name, x, noisy, weights=weights)
    problem, _ = problem_of(model, np.broadcast_to(x[:, None], mean.shape), noisy, None, weights)
    start = fit_tuning(name, x, mean).solution.T
    for unit in np.flatnonzero(found.defined & ~np.isnan(start[:, 0])):
        low, high = problem.lower[unit], problem.upper[unit]
        theirs = optimize.least_squares(
            lambda p, unit=unit: problem.residuals(np.array([unit]), p[None])[0][0],
            np.clip(start[unit], low + 1e-9, high - 1e-9),
            bounds=(low, high),
            x_scale="jac",
        )
        ours = (weights[:, unit] * (noisy - found.curve)[:, unit] ** 2).sum()
        assert ours <= 2 * theirs.cost * (1 + 1e-6)
    assert found.defined.sum() >= 11


def test_widths_are_where_curves_fall_to_half() -> None:
    x = np.arange(0, 360, 15.0)
    radians = np.deg2rad(2 * (x - 50))
    found = fit_tuning("von_mises", x, (4 + 6 * np.exp(3 * (np.cos(radians) - 1)))[:, None])
    half = predict(found, np.array([50 + found.derived["hwhm"].item()]))
    assert half == pytest.approx(4 + 3)
    broad = fit_tuning("von_mises", x, (4 + 6 * np.exp(0.3 * (np.cos(radians) - 1)))[:, None])
    assert broad.parameters["kappa"] == pytest.approx(0.3)
    assert np.isnan(broad.derived["hwhm"])  # κ ≤ ln 2 / 2: nowhere down to half

    distance = np.mod(x - 100 + 180, 360) - 180
    other = np.mod(x - 280 + 180, 360) - 180
    curve = 2 + 5 * np.exp(-(distance**2) / 800) + 9 * np.exp(-(other**2) / 800)
    both = fit_tuning("double_gaussian", x, curve[:, None])
    assert both.parameters["preferred"] == pytest.approx(280)
    assert both.parameters["null_amplitude"] == pytest.approx(5)
    assert both.derived["hwhm"] == pytest.approx(20 * np.sqrt(2 * np.log(2)))

    f = 2.0 ** np.arange(-3, 4.0)
    tuned = fit_tuning("log_gaussian", f, (1 + 8 * np.exp(-((np.log2(f) - 0.4) ** 2) / 2))[:, None])
    width = tuned.derived["bandwidth"].item()
    assert width == pytest.approx(2 * np.sqrt(2 * np.log(2)))
    assert predict(tuned, 2 ** (0.4 + width / 2 * np.array([-1, 1]))) == pytest.approx(5)
    assert (tuned.derived["low_pass"], tuned.derived["high_pass"]) == (0, 0)
    low = fit_tuning("log_gaussian", f, np.exp(-((np.log2(f) + 2.5) ** 2) / 2)[:, None])
    assert (low.derived["low_pass"], low.derived["high_pass"]) == (1, 0)


def test_size_tuning_is_of_integrated_gaussians() -> None:
    """Coefficients are those of the formulas: ∫ exp(-(2y/a)²) over the diameter, and (2/√π ∫ exp(-(y/w)²))²."""
    excitation, a, inhibition, b = 12.0, 1.3, 3.0, 3.9
    integral = [
        [integrate.quad(lambda y, w=w: np.exp(-((2 * y / w) ** 2)), -d / 2, d / 2)[0] for d in SIZES] for w in (a, b)
    ]
    curve = 2 + excitation * np.array(integral[0]) - inhibition * np.array(integral[1])
    found = fit_tuning("difference_of_gaussians", SIZES, curve[:, None])
    values = [found.parameters[name].item() for name in ("excitation", "inhibition", "centre_width", "surround_width")]
    assert values == pytest.approx([excitation, inhibition, a, b], rel=1e-5)
    best = optimize.minimize_scalar(lambda d: -predict(found, np.array([d])).item(), bounds=(0, 8), method="bounded")
    assert found.derived["preferred_size"].item() == pytest.approx(best.x, abs=8 / 400)
    assert found.derived["suppression"].item() == pytest.approx(1 + curve[-1] / best.fun, abs=1e-4)

    def squared(d: float, w: float) -> float:
        return (2 / np.sqrt(np.pi) * integrate.quad(lambda y: np.exp(-((y / w) ** 2)), 0, d)[0]) ** 2

    centre, surround = (np.array([squared(d, w) for d in SIZES]) for w in (1.2, 3.0))
    ratio = fit_tuning("ratio_of_gaussians", SIZES, (20 * centre / (1 + 0.5 * surround))[:, None])
    values = [
        ratio.parameters[name].item() for name in ("centre_gain", "surround_gain", "centre_width", "surround_width")
    ]
    assert values == pytest.approx([20, 0.5, 1.2, 3.0], rel=1e-4)


def test_contrast_and_disparity_formulas() -> None:
    c = CONTRASTS
    plain = fit_tuning("naka_rushton", c, (3 + 40 * c**2.4 / (c**2.4 + 0.18**2.4))[:, None]).parameters
    assert [plain[name].item() for name in plain] == pytest.approx([3, 40, 0.18, 2.4])
    power = fit_tuning("super_saturating", c, (3 + 12 * c**1.8 / (0.2**2.7 + c**2.7))[:, None]).parameters
    assert [power[name].item() for name in power] == pytest.approx([3, 12, 0.2, 1.8, 1.5], rel=1e-5)
    x = STIMULI["gabor"]
    curve = 20 + 15 * np.exp(-((x - 0.2) ** 2) / (2 * 0.5**2)) * np.cos(2 * np.pi * 0.7 * (x - 0.2) + np.deg2rad(60))
    gabor = fit_tuning("gabor", x, curve[:, None])
    expected = {"baseline": 20, "amplitude": 15, "phase": 60, "frequency": 0.7, "centre": 0.2, "width": 0.5}
    assert {key: value.item() for key, value in gabor.parameters.items()} == pytest.approx(expected)


def test_units_without_a_fit_are_flagged_and_nan(rng: np.random.Generator) -> None:
    x = STIMULI["von_mises"]
    good = 3 + 8 * np.exp(2 * (np.cos(2 * np.deg2rad(x - 40)) - 1))
    mean = np.stack([good, np.full(16, 5.0), np.zeros(16), np.full(16, np.nan), good, good], axis=1)
    mean[[0, 1, 2, 3, 8, 9, 10, 11], 4] = np.nan  # 4 orientations of 8, each twice
    mean[[3, 11], 5] = np.nan
    found = fit_tuning("von_mises", x, mean)
    assert found.defined.tolist() == [True, False, False, False, False, True]
    bad = ~found.defined
    for values in (*found.parameters.values(), *found.derived.values(), found.r_squared, found.aic_difference):
        assert np.isnan(values[bad]).all()
        assert np.isfinite(values[~bad]).all()
    assert np.isnan(found.curve[:, bad]).all()
    assert found.parameters["preferred"][[0, 5]] == pytest.approx(40)
    none = fit_tuning("von_mises", x, mean[:, :0])
    assert none.r_squared.shape == none.parameters["kappa"].shape == (0,)


def test_a_parameter_beyond_what_was_shown_is_at_its_bound() -> None:
    c = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4])
    found = fit_tuning("naka_rushton", c, (40 * c**2 / (c**2 + 0.9**2))[:, None])
    assert found.at_bound["c50"].item()
    assert found.parameters["c50"] == pytest.approx(0.4)


@pytest.mark.parametrize(("name", "x"), [("log_gaussian", 0.0), ("naka_rushton", -0.1), ("gauss", 1.0)])
def test_stimuli_and_names_that_do_not_fit_are_refused(name: str, x: float) -> None:
    with pytest.raises(ValueError, match=r"received|unknown function"):
        fit_tuning(name, np.array([x, 1.0, 2, 3, 4, 5, 6]), np.arange(7.0)[:, None])


def test_stimuli_of_each_unit_are_its_own(rng: np.random.Generator) -> None:
    """Ragged tables give what units alone give."""
    _, mean = simulated(MODELS["log_gaussian"], STIMULI["log_gaussian"], 3, rng)
    mean = mean + rng.normal(0, 0.3, mean.shape)
    x = np.stack([STIMULI["log_gaussian"] * factor for factor in (1, 2, 0.7)], axis=1)
    n = rng.integers(1, 6, mean.shape)
    x[-3:, 1] = np.nan
    n[0, 2] = 0
    found = fit_tuning("log_gaussian", x, mean, n)
    for unit in range(3):
        kept = ~np.isnan(x[:, unit]) & (n[:, unit] > 0)
        alone = fit_tuning("log_gaussian", x[kept, unit], mean[kept, unit : unit + 1], n[kept, unit : unit + 1])
        for key, value in alone.parameters.items():
            assert found.parameters[key][unit] == pytest.approx(value.item(), rel=1e-6)
        assert found.r_squared[unit] == pytest.approx(alone.r_squared.item())


def test_fits_of_means_are_those_of_all_trials(rng: np.random.Generator) -> None:
    """Weighted by their numbers, means give the parameters of the trials themselves, and their criterion."""
    angle = np.arange(0, 180, 15.0)
    condition = rng.permutation(np.repeat(np.arange(12), rng.integers(2, 8, 12)))
    rate = 5 + 10 * np.exp(1.5 * (np.cos(2 * np.deg2rad(angle - 70)) - 1))
    trials = rng.poisson(rate[condition])[:, None].astype(float)
    curves = curves_of(trials, condition, 12)
    found = fit_tuning("von_mises", angle, curves.mean, curves.n, curves.variance)
    each = fit_tuning("von_mises", angle[condition], trials)
    for key, value in each.parameters.items():
        assert found.parameters[key] == pytest.approx(value, rel=1e-4)
    n, left = len(trials), ((trials - each.curve) ** 2).sum()
    flat = ((trials - trials.mean()) ** 2).sum()

    def criterion(squares: float, k: int) -> float:
        return n * np.log(squares / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)

    assert found.aic_difference == pytest.approx(criterion(flat, 2) - criterion(left, 5))
    assert each.aic_difference == pytest.approx(found.aic_difference)
    between = (curves.n * (curves.mean - trials.mean()) ** 2).sum()
    assert found.r_squared == pytest.approx(1 - (curves.n * (curves.mean - found.curve) ** 2).sum() / between)


def test_criterion_tells_tuned_from_flat(rng: np.random.Generator) -> None:
    angle, condition = np.arange(0, 180, 22.5), np.repeat(np.arange(8), 10)
    rate = np.where(
        np.arange(400) < 200, 8.0, (5 + 6 * np.exp(np.cos(2 * np.deg2rad(angle - 70)) - 1))[condition, None]
    )
    curves = curves_of(rng.poisson(rate), condition, 8)
    found = fit_tuning("von_mises", angle, curves.mean, curves.n, curves.variance)
    assert (found.aic_difference[:200] > 0).mean() < 0.25
    assert (found.aic_difference[200:] > 0).mean() > 0.9
    assert np.nanmedian(found.r_squared[:200]) > 0.3  # which is why R² alone says little


def test_intervals_cover_and_errors_are_the_spread(rng: np.random.Generator) -> None:
    angle, condition = np.arange(0, 180, 15.0), np.repeat(np.arange(12), 12)
    rate = 5 + 15 * np.exp(2 * (np.cos(2 * np.deg2rad(angle - 3)) - 1))
    trials = rng.poisson(rate[condition][:, None], (144, 200)).astype(float)
    curves = curves_of(trials, condition, 12)
    found = fit_tuning("von_mises", angle, curves.mean, curves.n)
    draws = refit(found, angle, bootstrap_means(trials, condition, 12, 100, rng), curves.n)
    truth = {"preferred": 3.0, "hwhm": np.rad2deg(0.5 * np.arccos(1 - np.log(2) / 2)), "baseline": 5.0}
    for name, true in truth.items():
        period = 180.0 if name == "preferred" else 0.0
        estimate = (found.parameters | found.derived)[name]
        limits = interval(estimate, draws[name], period=period)
        centre = np.mod(estimate + 90, 180) - 90 if period else estimate
        shift = centre - estimate
        covered = (limits.low + shift <= true) & (true <= limits.high + shift)
        assert covered.mean() > 0.88, name
        assert np.median(limits.se) == pytest.approx(np.std(centre), rel=0.25)
        assert limits.share_failed.mean() < 0.02
        assert np.mean(centre) == pytest.approx(true, abs=0.5)


def test_draws_without_a_fit_are_counted() -> None:
    angle = np.arange(0, 180, 15.0)
    mean = (5 + 15 * np.exp(2 * (np.cos(2 * np.deg2rad(angle - 3)) - 1)))[:, None]
    found = fit_tuning("von_mises", angle, mean)
    draws = refit(found, angle, np.stack([mean, np.full(mean.shape, 3.0)]))
    limits = interval(found.parameters["kappa"], draws["kappa"])
    assert limits.share_failed == 0.5
    assert limits.low == limits.high == pytest.approx(2)
    nothing = interval(np.array([np.nan]), np.full((3, 1), np.nan))
    assert np.isnan([nothing.low, nothing.high, nothing.se]).all()
    assert nothing.share_failed == 1


def test_disparity_of_v1_and_mt_like_curves_with_noise(rng: np.random.Generator) -> None:
    """Noisy curves at nine disparities: no fit is worse than the truth."""
    x = np.arange(-1.6, 1.61, 0.4)
    _, mean = simulated(MODELS["gabor"], x, 200, rng)
    noisy = mean + rng.normal(0, 1, mean.shape)
    found = fit_tuning("gabor", x, noisy)
    assert found.defined.mean() > 0.97
    squares = ((noisy - found.curve) ** 2).sum(0)
    assert (squares[found.defined] <= ((noisy - mean) ** 2).sum(0)[found.defined] * (1 + 1e-9)).mean() > 0.985


def test_disparity_of_mt_neurons(data: Path) -> None:
    """Of the tuned ones among the first hundred; ragged tables of disparities, fitted at once."""
    x, mean, variance = np.full((3, 16, 100), np.nan)
    n, tuned = np.zeros((16, 100), int), np.zeros(100, bool)
    for unit, file in enumerate(sorted((data / "recordings" / "manning2024" / "MT").glob("*.mat"))[:100]):
        table = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)["ddat"]
        disparity = np.asarray(table.disparity, float)
        kept = (np.abs(disparity) < 90) & (np.asarray(table.speed) != -9999)
        shown, condition = np.unique(disparity[kept], return_inverse=True)
        curves = curves_of(np.asarray(table.firing_rate, float)[kept, None], condition, len(shown))
        rows = (slice(len(shown)), unit)
        x[rows], mean[rows], variance[rows] = shown, curves.mean[:, 0], curves.variance[:, 0]
        n[rows], tuned[unit] = curves.n[:, 0], one_way_of(curves).p_value.item() < 0.01
    found = fit_tuning("gabor", x, mean, n, variance)
    assert found.defined[tuned].mean() > 0.97
    assert np.nanmedian(found.r_squared[tuned]) > 0.93
    assert (found.aic_difference[tuned] > 0).mean() > 0.95


def test_v1_neurons_of_berens(data: Path) -> None:
    table = np.loadtxt(data / "recordings" / "berens2009" / "circular.csv", delimiter=",", skiprows=1)
    found = fit_tuning("von_mises", table[:, 0], table[:, 1:])
    assert found.defined.all()
    assert (found.r_squared > 0.85).all()
    assert found.parameters["preferred"] == pytest.approx([67.5, 155, 157], abs=5)

"""Statistics of recordings: the same for animals and networks, equal to those of scipy, and what they refuse."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neuroprobe as npr
from made_animals import UNITS, animal, apart, network, trials
from neuroprobe.analysis import populations as populations_module
from neuroprobe.analysis.anova import anova
from neuroprobe.analysis.correlations import correlations
from neuroprobe.analysis.information import information
from neuroprobe.analysis.latency import latency
from neuroprobe.analysis.variance_decomposition import variance_decomposition
from neuroprobe.errors import NeuroprobeError, QueryError, ReaderError
from neuroprobe.recordings import write_recording

Function = Callable[..., xr.Dataset]
SHAPE = (3, 2, 2)
OF_TRIALS: dict[str, Function] = {
    "anova": anova,
    "reliability": npr.reliability,
    "correlations": correlations,
    "information": information,
}
ALL: dict[str, Function] = {
    **OF_TRIALS,
    "responsiveness": npr.responsiveness,
    "tuning": lambda tree, factor, **more: npr.tuning(tree, factor, model="von_mises", n_draws=20, **more),
    "variance_decomposition": lambda tree, factors, **more: variance_decomposition(
        tree, factors, n_permutations=20, n_draws=10, **more
    ),
}


def columns(condition: Any) -> dict[str, Any]:
    return {"orientation": condition * 22.5}


@pytest.mark.parametrize("name", ALL)
def test_animals_and_networks_with_the_same_numbers_have_the_same_results(name: str) -> None:
    values, condition, _, _ = trials()
    before = np.random.default_rng(0).poisson(2, values.shape)
    table = columns(condition)
    of_animal = ALL[name](animal(values, table, baseline=before), "orientation")
    of_network = ALL[name](network(values, table, SHAPE, baseline=before), "orientation")
    assert set(of_animal.data_vars) == set(of_network.data_vars)
    for variable, array in of_animal.data_vars.items():
        assert array.dims == of_network[variable].dims
        np.testing.assert_array_equal(array.values, of_network[variable].values, err_msg=str(variable))
        assert array.attrs == of_network[variable].attrs
    assert of_network["channel"].values.tolist() == np.repeat(np.arange(3), 4).tolist()
    assert of_network["x"].values.tolist() == [0, 1] * 6
    assert of_animal["unit_id"].values.tolist() == [f"u{unit}" for unit in range(UNITS)]
    assert (of_animal["defined"] == 1).all()


@pytest.mark.parametrize("name", ALL)
def test_results_do_not_depend_on_how_responses_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, condition, _, _ = trials()
    tree = animal(values, columns(condition), baseline=np.random.default_rng(0).poisson(2, values.shape))
    expected = ALL[name](tree, "orientation")
    write_recording(tree, tmp_path / "r.zarr")
    monkeypatch.setattr(populations_module, "PIECE_BYTES", 5 * 8 * len(values))
    found = ALL[name](npr.open_recording(tmp_path / "r.zarr"), "orientation")
    for variable in expected.variables:
        one, other = found[variable].values, expected[variable].values
        if other.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, err_msg=str(variable))
        else:
            assert one.tolist() == other.tolist()


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("responsiveness", "correlations")])
def test_sessions_are_put_together_along_units(name: str) -> None:
    values, condition, _, _ = trials()
    rng = np.random.default_rng(1)
    sessions = [rng.permutation(len(values)) for _ in range(UNITS)]
    # without random numbers of a session
    whole = ALL[name](animal(values, columns(condition)), "orientation")
    parts = ALL[name](apart(values, columns(condition), sessions), "orientation")
    assert parts["layer"].values.tolist() == [f"s{unit}" for unit in range(UNITS)]
    for variable in ("f_statistic", "omega_squared", "explainable_variance", "tuning_curve", "plug_in", "first_order"):
        if variable in whole:
            np.testing.assert_allclose(parts[variable], whole[variable], rtol=1e-9)


@pytest.mark.parametrize("name", ALL)
def test_every_number_says_what_it_is(name: str) -> None:
    values, condition, _, _ = trials()
    tree = animal(values, columns(condition), baseline=np.ones(values.shape))
    found = ALL[name](tree, "orientation")
    assert found["defined"].dtype == np.int8
    for variable, array in found.data_vars.items():
        assert array.attrs["long_name"], variable
        assert array.attrs["method"], variable
        if str(variable).endswith("p_adjusted"):
            assert array.attrs["method"] == "fdr_bh"
            assert array.attrs["family"]
            p = found[str(variable).replace("p_adjusted", "p_value")].values
            assert (np.nan_to_num(array.values) >= np.nan_to_num(p)).all()
        if str(variable).endswith("_se"):
            assert array.attrs["long_name"].startswith(("standard error", "standard deviation"))
    assert isinstance(xr.DataTree.from_dict({"/": found}).to_dataset(), xr.Dataset)


@pytest.mark.parametrize("name", ALL)
def test_dead_units_and_those_with_lost_trials_do_no_harm(name: str) -> None:
    values, condition, _, _ = trials()
    before = np.random.default_rng(0).poisson(2, values.shape).astype(float)
    spoiled, early = values.astype(float), before.copy()
    spoiled[:, 2], early[:, 2] = 0, 0
    spoiled[:, 5], early[:, 5] = np.nan, np.nan
    expected = ALL[name](animal(values.astype(float), columns(condition), baseline=before), "orientation")
    found = ALL[name](animal(spoiled, columns(condition), baseline=early), "orientation")
    whole = [unit for unit in range(UNITS) if unit not in (2, 5)]
    assert found["defined"].values.tolist() == [int(unit in whole) for unit in range(UNITS)]
    for variable, array in expected.data_vars.items():
        # a family is smaller without them
        if array.dtype.kind == "f" and not str(variable).endswith("p_adjusted"):
            one, other = found[variable], array
            if "unit_2" in array.dims:
                one, other = one.isel(unit_2=whole), other.isel(unit_2=whole)
            np.testing.assert_allclose(
                one.isel(unit=whole), other.isel(unit=whole), rtol=1e-7, atol=1e-9, err_msg=str(variable)
            )


def test_anova_is_that_of_scipy() -> None:
    values, condition, _, _ = trials(n_repeats=4)
    values, condition = values[:-3], condition[:-3]
    found = anova(animal(values, columns(condition)), "orientation", n_permutations=99)
    for unit in range(UNITS):
        groups = [values[condition == k, unit] for k in range(8)]
        f, p = stats.f_oneway(*groups)
        h, p_rank = stats.kruskal(*groups)
        one = found.isel(unit=unit)
        expected = {"f_statistic": f, "p_value": p, "rank_statistic": h, "rank_p_value": p_rank}
        for variable, value in expected.items():
            np.testing.assert_allclose(one[variable], value, rtol=1e-9)
    np.testing.assert_allclose(found["p_adjusted"], stats.false_discovery_control(found["p_value"]), rtol=1e-9)
    assert (found["p_maximum"] >= found["permutation_p_value"]).all()


def test_factorial_terms_are_named_and_tested() -> None:
    rng = np.random.default_rng(2)
    contrast, size = (column.ravel() for column in np.meshgrid([0.1, 0.5], ["small", "large"], indexing="ij"))
    contrast, size = np.tile(contrast, 30), np.tile(size, 30).astype(object)
    values = rng.normal(0, 1, (120, 3))
    values[:, 0] += 2 * (contrast == 0.5)
    values[:, 1] += 2 * ((contrast == 0.5) == (size == "large"))
    tree = animal(values, {"contrast": contrast, "size": size})
    found = anova(tree, ["contrast", "size"])
    assert found["term"].values.tolist() == ["contrast", "size", "contrast:size"]
    assert (found["p_adjusted"] < 0.01).values.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert (found["df_error"] == 116).all()
    given = variance_decomposition(tree, ["contrast", "size"], n_permutations=50, n_draws=10)
    np.testing.assert_allclose(given["omega_squared"], found["omega_squared"])
    np.testing.assert_allclose(given["first_order"][0, 0], found["omega_squared"][0, 0], atol=0.05)


def test_responsive_units_are_those_that_are_driven_or_suppressed() -> None:
    rng = np.random.default_rng(5)
    before = rng.poisson(5, (60, 6))
    values = rng.poisson([5, 5, 5, 5, 12, 1], (60, 6))
    tree = animal(values, {"image_id": np.arange(60)}, baseline=before)
    found = npr.responsiveness(tree, n_permutations=199)
    assert (found["p_adjusted"] < 0.01).values.tolist() == [False] * 4 + [True] * 2
    assert (found["p_maximum"] < 0.01).values.tolist() == [False] * 4 + [True] * 2
    assert np.sign(found["rank_biserial"].values[4:]).tolist() == [1, -1]
    for unit in range(6):
        expected = stats.wilcoxon(
            values[:, unit] - before[:, unit], zero_method="zsplit", method="asymptotic", correction=False
        )
        np.testing.assert_allclose(found["p_value"][unit], expected.pvalue, rtol=1e-9)
    np.testing.assert_allclose(found["stimulus_mean"], values.mean(0))


def test_responses_are_compared_with_blank_trials() -> None:
    values, condition, _, _ = trials()
    kind = np.array([""] * len(values), dtype=object)
    blanks = np.random.default_rng(4).poisson(2, (20, UNITS))
    table = {
        "orientation": np.concatenate([condition * 22.5, np.full(20, np.nan)]),
        "control_kind": np.concatenate([kind, np.full(20, "null", dtype=object)]),
    }
    tree = animal(np.concatenate([values, blanks]), table)
    found = npr.responsiveness(tree, "orientation", blank="null")
    assert found["d_prime"].dims == ("condition", "unit")
    for unit in range(3):
        expected = stats.mannwhitneyu(values[:, unit], blanks[:, unit], method="asymptotic", use_continuity=False)
        np.testing.assert_allclose(found["p_value"][unit], expected.pvalue, rtol=1e-9)
        auc = stats.mannwhitneyu(values[condition == 3, unit], blanks[:, unit]).statistic / (10 * 20)
        np.testing.assert_allclose(found["auc"][3, unit], auc)
    np.testing.assert_allclose(found["blank_mean"], blanks.mean(0))
    with pytest.raises(ReaderError, match="no trial is a blank 'nul'; control_kind has null"):
        npr.responsiveness(tree, "orientation", blank="nul")


def test_tuning_finds_preferred_orientations_and_says_how_sure_it_is() -> None:
    values, condition, mean, preferred = trials(n_repeats=60)
    found = npr.tuning(animal(values, columns(condition)), "orientation", model="von_mises", n_draws=100)
    np.testing.assert_allclose(found["tuning_curve"], mean, atol=2.5)
    z = (found["tuning_curve"] - mean) / found["tuning_curve_se"]
    assert 0.7 < float((z**2).mean()) < 1.5

    def away(angle: Any) -> Any:
        return np.abs((angle - preferred + 90) % 180 - 90)

    assert (away(found["von_mises_preferred"]) < 5).all()
    assert (away(found["preferred_orientation"]) < 6).all()
    assert (found["von_mises_defined"] == 1).all()
    assert (found["von_mises_r_squared"] > 0.95).all()
    assert (found["orientation_p_adjusted"] < 1e-6).all()
    low, high = found["von_mises_kappa_lower"], found["von_mises_kappa_upper"]
    assert ((low < 2) & (high > 2)).mean() > 0.7
    assert (found["von_mises_share_failed"] < 0.1).all()
    assert found["orientation"].values.tolist() == [22.5 * k for k in range(8)]
    assert found.attrs["period"] == 180


def test_means_have_curves_and_fits_but_no_tests() -> None:
    values, condition, _, _ = trials()
    means = np.stack([values[condition == k].mean(0) for k in range(8)])
    table = {"orientation": np.arange(8) * 22.5, "n_trials": np.full(8, 10)}
    of_means = npr.tuning(animal(means, table), "orientation", model="von_mises", n_draws=10)
    of_trials = npr.tuning(animal(values, columns(condition)), "orientation", model="von_mises", n_draws=10)
    for variable in ("tuning_curve", "n_trials", "osi", "orientation_length", "von_mises_preferred", "preferred"):
        np.testing.assert_allclose(of_means[variable], of_trials[variable], rtol=1e-6)
    for variable in ("tuning_curve_se", "p_value", "p_adjusted", "orientation_p_value", "von_mises_preferred_lower"):
        assert of_means[variable].isnull().all()
    assert (of_means["defined"] == 1).all()


def test_preferred_categories_are_text() -> None:
    values, condition, mean, _ = trials(n_conditions=3, n_repeats=40)
    labels = np.array(["face", "house", "tool"], dtype=object)
    values = np.concatenate([values, np.zeros((len(values), 1), int)], axis=1)
    found = npr.tuning(animal(values, {"category": labels[condition]}), "category")
    assert found["preferred"].values.tolist() == [*labels[mean.argmax(0)], ""]
    assert found["defined"].values.tolist() == [1] * UNITS + [0]
    assert found["category"].values.tolist() == labels.tolist()
    with pytest.raises(ReaderError, match="category is text, and functions are fitted to numbers"):
        npr.tuning(animal(values, {"category": labels[condition]}), "category", model="gabor")


def test_sessions_with_other_conditions_share_one_axis() -> None:
    values, condition, _, _ = trials()
    sessions = [np.flatnonzero(condition != unit % 3) for unit in range(UNITS)]
    found = npr.tuning(apart(values, {"size": condition * 1.0}, sessions), "size")
    missing = found["n_trials"].values == 0
    assert np.argwhere(missing.T).tolist() == [[unit, unit % 3] for unit in range(UNITS)]
    assert (np.isnan(found["tuning_curve"].values) == missing).all()
    np.testing.assert_allclose(found["tuning_curve"].values[7], values[condition == 7].mean(0))


def test_noise_is_told_from_signal() -> None:
    rng = np.random.default_rng(8)
    shared, tuning = rng.normal(0, 1, (2000, 1)), rng.normal(0, 1, (20, 2))
    condition = np.arange(2000) % 20
    values = rng.normal(0, 1, (2000, 4))
    values[:, :2] += shared  # noise that two units share
    values[:, 2:] += np.repeat(tuning[:, :1], 2, axis=1)[condition] * 2  # tuning that two others do
    tree = animal(values, {"stimulus_id": np.array([f"s{k}" for k in condition], dtype=object)})
    found = correlations(tree)
    assert abs(float(found["noise_correlation"][0, 1]) - 0.5) < 0.06
    assert abs(float(found["noise_correlation"][2, 3])) < 0.08
    assert float(found["signal_correlation"][2, 3]) > 0.9
    assert float(found["noise_p_adjusted"][0, 1]) < 1e-6
    assert float(found["noise_p_adjusted"][2, 3]) > 0.01
    assert found["noise_correlation"].isnull().values[np.eye(4, dtype=bool)].all()
    assert found["unit_id_2"].values.tolist() == ["u0", "u1", "u2", "u3"]
    reliable = npr.reliability(tree)
    share = 4 * tuning[:, 0].var(ddof=1) / (4 * tuning[:, 0].var(ddof=1) + 1)
    np.testing.assert_allclose(reliable["explainable_variance"][2:], share, atol=0.05)
    np.testing.assert_allclose(reliable["explainable_variance"][:2], 0, atol=0.02)


def test_pairs_of_other_sessions_have_no_correlation() -> None:
    values, condition, _, _ = trials(n_units=4)
    found = correlations(apart(values, columns(condition), [np.arange(len(values))] * 4), "orientation")
    assert found["noise_correlation"].isnull().all()
    assert (found["defined"] == 0).all()


def test_poisson_counts_have_fano_factors_of_one_and_rates_have_none() -> None:
    values, condition, _, _ = trials(n_repeats=200)
    tree = animal(values, columns(condition))
    found = npr.reliability(tree, "orientation")
    np.testing.assert_allclose(found["fano_factor"], 1, atol=0.15)
    node = tree["responses/v1"].to_dataset()
    node["response"].attrs["units"] = "spikes/s"
    rates = xr.DataTree.from_dict({"/responses/v1": node})
    assert "fano_factor" not in npr.reliability(rates, "orientation")


def test_information_is_in_bits_and_without_bias() -> None:
    condition = np.repeat(np.arange(4), 40)
    values = np.stack([condition, condition // 2, np.random.default_rng(0).integers(0, 4, 160)], axis=1)
    noisy = values.copy()
    noisy[0, :] = [3, 1, 2]  # a trace of noise
    found = information(animal(noisy, {"category": condition}), "category", n_shuffles=200)
    np.testing.assert_allclose(found["plug_in"][:2], [2, 1], atol=0.05)
    np.testing.assert_allclose(found["information"][:2], [2, 1], atol=0.1)
    assert abs(float(found["information"][2])) < 3 * float(found["information_se"][2])
    assert (found["p_adjusted"] < 0.05).values.tolist() == [True, True, False]


def test_latencies_of_responses_in_bins_of_time() -> None:
    rng = np.random.default_rng(3)
    start = np.arange(-20, 30) * 0.01
    rate = np.where(start[:, None] >= np.array([0.05, 0.12, 9.0]), 3.0, 0.5)
    counts = rng.poisson(rate, (60, *rate.shape)).transpose(0, 2, 1)
    node = xr.Dataset(
        {"response": (("presentation", "unit", "time_bin"), counts, {"units": "spikes"})},
        coords={
            "unit_id": ("unit", ["a", "b", "c"]),
            "image": ("presentation", np.arange(60) % 4),
            "time_bin_start": ("time_bin", start),
            "time_bin_end": ("time_bin", start + 0.01),
        },
    )
    tree = xr.DataTree.from_dict({"/responses/v1": node})
    found = latency(tree, n_draws=50)
    np.testing.assert_allclose(found["latency"][:2], [0.05, 0.12], atol=0.011)
    assert found["defined"].values.tolist() == [1, 1, 0]
    assert found["share_found"][2] < 0.3
    # other statistics take the sum over bins of counts
    whole = animal(counts.sum(2), {"image": np.arange(60) % 4})
    np.testing.assert_allclose(anova(tree, "image")["f_statistic"], anova(whole, "image")["f_statistic"])


def test_dependent_factors_are_warned_of_and_parted() -> None:
    rng = np.random.default_rng(6)
    cause = rng.normal(0, 1, 600)
    along = cause + rng.normal(0, 0.5, 600)
    values = np.stack([cause + rng.normal(0, 0.3, 600), rng.normal(0, 1, 600)], axis=1)
    tree = animal(values, {"cause": cause, "along": along})
    with pytest.warns(UserWarning, match="factors depend on each other, most of all cause and along"):
        found = variance_decomposition(tree, ["cause", "along"], n_permutations=50, n_draws=20)
    assert float(found["first_order"].sel(factor="along")[0]) > 0.5
    assert float(found["shapley_effect"].sel(factor="along")[0]) < float(found["first_order"].sel(factor="along")[0])
    assert (found["shapley_p_adjusted"][:, 0] < 0.05).all()
    np.testing.assert_allclose(found["shapley_effect"].sum("factor"), found["explained"], atol=1e-9)
    assert float(found["spearman"][0, 0, 1]) > 0.8
    assert "omega_squared" not in found
    independent = animal(values, {"cause": cause, "other": rng.permutation(along)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        variance_decomposition(independent, ["cause", "other"], n_permutations=50, n_draws=5)


def test_networks_without_noise_are_explained_wholly() -> None:
    rng = np.random.default_rng(7)
    x = rng.random((400, 2))
    x = np.concatenate([x, x])
    y = (x[:, :1] + 2 * x[:, 1:]) @ np.ones((1, 8))
    tree = network(y, {"a": x[:, 0], "b": x[:, 1]}, (2, 2, 2))
    found = variance_decomposition(tree, ["a", "b"], n_permutations=20, n_draws=5)
    np.testing.assert_allclose(found["explained"], 1)
    np.testing.assert_allclose(found["shapley_effect"].values, [[0.2] * 8, [0.8] * 8], atol=0.06)


@pytest.mark.parametrize("name", OF_TRIALS)
def test_statistics_of_trials_say_why_they_refuse(name: str) -> None:
    values, condition, mean, _ = trials()
    function = OF_TRIALS[name]
    means = animal(mean, {"orientation": np.arange(8), "n_trials": np.full(8, 10)})
    with pytest.raises(ReaderError, match="needs single trials, and 'v1' holds the means of conditions"):
        function(means, "orientation")
    with pytest.raises(ReaderError, match="none of the 8 of orientation was"):
        function(animal(mean, {"orientation": np.arange(8)}), "orientation")
    deterministic = network(mean[condition], columns(condition), SHAPE)
    with pytest.raises(ReaderError, match="every repetition of a condition has the same response"):
        function(deterministic, "orientation")
    with pytest.raises(ReaderError, match=r"unknown factor 'orientatoin' \(did you mean 'orientation'\?\)"):
        function(animal(values, columns(condition)), "orientatoin")
    with pytest.raises(ReaderError, match="Say `factors`: orientation"):
        function(animal(values, columns(condition)))
    with pytest.raises(ReaderError, match="none of the 12 recorded units is chosen"):
        function(animal(values, columns(condition)), "orientation", units="unit_id == 'v7'")
    with pytest.raises(QueryError):
        function(animal(values, columns(condition)), "orientation", units="unit_id ==")
    with pytest.raises(ReaderError, match="no group 'responses'"):
        function(xr.DataTree(), "orientation")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tree: npr.responsiveness(tree), "needs baselines, and 'v1' has none"),
        (lambda tree: npr.tuning(tree, "orientation", model="gauss"), "unknown function 'gauss'"),
        (lambda tree: npr.tuning(tree, "orientation", period=90), "period is 360"),
        (lambda tree: npr.tuning(tree, "orientation", period=360), "equally spaced around 360"),
        (lambda tree: npr.tuning(tree, "orientation", model="log_gaussian"), "orientation: "),
        (lambda tree: anova(tree, "orientation", correction="fdr"), "unknown correction 'fdr'"),
        (lambda tree: latency(tree), "latency needs bins of time, and 'v1' has none"),
        (lambda tree: variance_decomposition(tree, "orientation", estimator="rank"), "unknown estimator 'rank'"),
        (lambda tree: information(tree, "orientation", n_shuffles=0), "n_shuffles is 1 or more"),
    ],
)
def test_wrong_choices_are_said(call: Callable[[xr.DataTree], Any], message: str) -> None:
    values, condition, _, _ = trials()
    with pytest.raises(NeuroprobeError, match=message):
        call(animal(values, columns(condition)))


def test_chosen_units_have_the_same_results() -> None:
    values, condition, _, _ = trials()
    tree = network(values, columns(condition), SHAPE)
    whole = npr.reliability(tree, "orientation").isel(unit=[0, 1, 2, 3])
    chosen = npr.reliability(tree, "orientation", units="channel == 0")
    np.testing.assert_allclose(chosen["reliability"], whole["reliability"])
    assert chosen["channel"].values.tolist() == [0] * 4


def test_first_order_indices_of_repeated_levels_are_omega_squared() -> None:
    """Whatever the number of levels: bins would lose what changes within them."""
    rng = np.random.default_rng(5)
    for n_levels, n_repeats in ((9, 5), (25, 4), (60, 2)):
        level = np.repeat(np.arange(n_levels), n_repeats) * 0.4
        values = np.sin(level)[:, None] * 3 + rng.normal(size=(len(level), 4))
        found = variance_decomposition(animal(values, {"x": level}), "x", n_permutations=2, n_draws=2)
        expected = anova(animal(values, {"x": level}), "x").omega_squared
        np.testing.assert_allclose(found.first_order.sel(factor="x"), expected, atol=0.02)

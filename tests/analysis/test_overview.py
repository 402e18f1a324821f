"""Summaries of the layers of a result, against brute force over the units."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neuroprobe as npr
from made_results import make_result
from neuroprobe.analysis import overview
from neuroprobe.analysis.sensitivity import SobolAnalysis, depth_profiles
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.estimators import DifferenceTerms

CASES = {
    "plain": {},
    "some dead": {"dead": 0.3},
    "all dead": {"dead": 1.0},
    "NaN dropped": {"nan": 0.4},
    "nothing but NaN": {"nan": 1.0},
    "no pairs": {"second_order": False},
    "one factor": {"factors": ["hue"]},
    "tokens": {"layers": {"late": (4, 3), "early": (2, 5)}},
}


@pytest.fixture(params=CASES, scope="module")
def result(request: pytest.FixtureRequest) -> xr.DataTree:
    return make_result(**CASES[request.param])


def flat(result: xr.DataTree, layer: str, name: str) -> np.ndarray:
    """Values (factor, unit) of the units that have an index; errors are NaN of those that vary in one block alone."""
    node = result[f"sobol/{layer}"]
    values = node[name].values.reshape(node.sizes["factor"], -1)
    return values[:, node["defined"].values.ravel() == 1]


def layers_of(table: xr.Dataset) -> list[str]:
    return table["layer"].values.tolist()


def test_layers_come_in_the_order_of_recording() -> None:
    result = make_result({"z": (3,), "a": (2,), "m": (4,)})
    for table in (overview.unit_counts(result), overview.index_means(result), overview.preferences(result)):
        assert layers_of(table) == ["z", "a", "m"]


@pytest.mark.parametrize("name", ["first_order", "first_order_se", "total_order", "total_order_se"])
def test_means_and_quantiles(result: xr.DataTree, name: str) -> None:
    means, profile = overview.index_means(result), depth_profiles(result["sobol"])
    for i, layer in enumerate(layers_of(means)):
        values = flat(result, layer, name)
        if values.size:
            np.testing.assert_allclose(means[name][i], np.nanmean(values, 1))
            np.testing.assert_allclose(profile[name][i], np.nanquantile(values, [0.25, 0.5, 0.75], axis=1))
        else:
            assert bool(means[name][i].isnull().all())
            assert bool(profile[name][i].isnull().all())


@pytest.mark.parametrize("index", overview.INDICES)
def test_distributions_count_every_unit_once(result: xr.DataTree, index: str) -> None:
    found = overview.index_distributions(result, index, n_bins=7)
    edges = np.append(found["bin_start"], found["bin_end"][-1])
    assert np.all(np.diff(edges) > 0)
    assert edges[0] <= 0
    for i, layer in enumerate(layers_of(found)):
        values = flat(result, layer, index)
        assert found["n_defined"][i] == values.shape[1]
        if not values.size:
            assert bool(found["share"][i].isnull().all())
            continue
        for j, row in enumerate(values):
            inside = [((row >= a) & (row < b)).mean() for a, b in pairwise(edges)]
            inside[-1] += (row == edges[-1]).mean()
            np.testing.assert_allclose(found["share"][i, j], inside, atol=1e-12)
        np.testing.assert_allclose(found["share"][i].sum("bin") + found["outside"][i], 1)
        np.testing.assert_allclose(found[f"{index}_median"][i], np.median(values, 1))
        np.testing.assert_allclose(found[f"{index}_se_median"][i], np.nanmedian(flat(result, layer, f"{index}_se"), 1))


def test_distributions_leave_out_no_more_than_the_tails() -> None:
    found = overview.index_distributions(make_result({"early": (8, 9, 9), "late": (400,)}))
    assert float(found["outside"].max()) <= 2 * overview.TAIL + 1 / 400


def test_interactions(result: xr.DataTree) -> None:
    if "second_order" not in result["sobol/early"]:
        with pytest.raises(ReaderError, match="has no index 'second_order'; it has: first_order, total_order"):
            overview.interaction_profile(result)
        return
    found = overview.interaction_profile(result)
    for i, layer in enumerate(layers_of(found)):
        node = result[f"sobol/{layer}"]
        d, defined = node.sizes["factor"], node["defined"].values.ravel() == 1
        assert found["n_defined"][i] == defined.sum()
        for a in range(d):
            for b in range(d):
                units, errors = (
                    node[name].values.reshape(d, d, -1)[a, b, defined] for name in ("second_order", "second_order_se")
                )
                got = found["second_order"][i, :, a, b].values, float(found["second_order_se"][i, a, b])
                if a == b or not units.size:
                    assert np.isnan([*got[0], got[1]]).all()
                else:
                    np.testing.assert_allclose(got[0], np.quantile(units, [0.5, 0.95]))
                    np.testing.assert_allclose(got[1], np.nanmedian(errors))


def test_unit_counts(result: xr.DataTree) -> None:
    thresholds = (0.02, 0.3)
    counts = overview.unit_counts(result, thresholds)
    for layer in layers_of(counts):
        one, node = counts.sel(layer=layer), result[f"sobol/{layer}"]
        units = list(zip(node["defined"].values.ravel(), node["activity_rate"].values.ravel(), strict=True))
        assert one["n_units"] == len(units)
        assert one["n_defined"] == sum(defined for defined, _ in units)
        assert one["n_silent"] == sum(not defined and rate == 0 for defined, rate in units)
        assert one["n_constant"] == sum(not defined and rate > 0 for defined, rate in units)
        assert one["n_lost"] == sum(bool(not defined and np.isnan(rate)) for defined, rate in units)
        undefined = sum(one[name] for name in ("n_silent", "n_constant", "n_lost"))
        assert undefined == one["n_units"] - one["n_defined"] == node.attrs["n_undefined"]
        for i, threshold in enumerate(thresholds):
            assert one["n_rare"][i] == sum(bool(defined and rate < threshold) for defined, rate in units)
        assert one["n_with_dropped"] == (int((node["n_dropped"] > 0).sum()) if "n_dropped" in node else 0)


@pytest.mark.parametrize("index", overview.INDICES)
@pytest.mark.parametrize("n_errors", [0.0, 2.0, 50.0])
def test_preferences(result: xr.DataTree, index: str, n_errors: float) -> None:
    shares = overview.preferences(result, index, n_errors)
    for i, layer in enumerate(layers_of(shares)):
        node = result[f"sobol/{layer}"]
        factors = node["factor"].values.tolist()
        values, errors = (node[name].values.reshape(len(factors), -1) for name in (index, f"{index}_se"))
        expected = []
        for unit in range(values.shape[1]):
            value, error, factor = max(
                zip(np.nan_to_num(values[:, unit], nan=-9), errors[:, unit], factors, strict=True), key=lambda t: t[0]
            )
            expected.append(factor if value > n_errors * error else "")
        preferred = overview.preferred_factor(node.to_dataset(), index, n_errors)
        assert preferred.dims == node["defined"].dims
        assert preferred.values.ravel().tolist() == expected
        defined = node["defined"].values.ravel() == 1
        if not defined.any():
            assert bool(shares["share"][i].isnull().all())
            continue
        chosen = np.array(expected, dtype=object)[defined]
        np.testing.assert_allclose(shares["share"][i], [(chosen == factor).mean() for factor in factors])
        np.testing.assert_allclose(shares["unclear"][i], (chosen == "").mean(), atol=1e-12)


def test_preferences_say_what_chance_would_give() -> None:
    attrs = overview.preferences(make_result(factors=["a", "b", "c"]), "first_order", 1.5).attrs
    assert attrs["by_chance"] == pytest.approx(3 * stats.t.sf(1.5, 7))
    assert "exceeds 1.5 of its standard errors" in attrs["rule"]


def test_preferences_of_noise_are_rarer_than_chance() -> None:
    """Units that only a factor outside of the analysis moves: their indices are noise around 0."""
    rng = np.random.default_rng(5)
    d, n = 4, 20_000
    errors = np.abs(rng.normal(1, 0.1, (d, n)))
    values = errors * rng.standard_t(7, (d, n))
    dims = ("factor", "channel")
    node = xr.Dataset(
        {
            "first_order": (dims, values),
            "first_order_se": (dims, errors, {"df": 7}),
            "defined": ("channel", np.ones(n, dtype=np.int8)),
        },
        {"factor": list("abcd")},
    )
    found = overview.preferences(xr.DataTree.from_dict({"sobol/noise": node}), "first_order")
    assert 0.5 * found.attrs["by_chance"] < float(found["share"].sum()) < found.attrs["by_chance"]


def test_errors_are_described() -> None:
    attrs = overview.error_attrs(make_result(image="factor"))
    assert (attrs["se_scope"], attrs["df"]) == ("images drawn from this set", 7)
    assert attrs["interval"] == pytest.approx(2.365, abs=1e-3)
    assert overview.error_attrs(make_result(scramble=None))["se_kind"] == "upper bound"


def test_convergence_table() -> None:
    result = make_result()
    table = overview.convergence_table(result, "total_order")
    assert set(table) == {f"total_order_se_{key}" for key in ("median", "p95", "share_converged")}
    for layer in layers_of(table):
        errors = flat(result, layer, "total_order_se")
        np.testing.assert_allclose(
            table["total_order_se_p95"].sel(layer=layer).isel(samples=-1), np.quantile(errors, 0.95, axis=1)
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tree: overview.layer_indices(tree, "erly"), r"unknown layer 'erly' \(did you mean 'early'\?\)"),
        (
            lambda tree: overview.layer_indices(tree, "early", "S1"),
            "no index 'S1'; it has: first_order, total_order, second_order",
        ),
        (
            lambda tree: overview.interaction_profile(tree, "first_order"),
            "unknown index 'first_order'.*; known: second_",
        ),
        (lambda tree: overview.preferences(tree, "variance"), "unknown index 'variance'; known: first_order, total"),
        (lambda tree: overview.index_means(tree["stimuli"]), "no indices in this tree"),
        (lambda tree: overview.convergence_table(tree["sobol"]), "no group 'convergence'"),
        (lambda tree: overview.convergence_table(tree, "second_order"), "unknown index 'second_order'"),
        (lambda tree: overview.stored_examples(tree["sobol"]), "no group 'stimuli'"),
    ],
)
def test_what_is_missing_is_named(call, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        call(make_result())


def test_indices_of_stored_responses_are_taken_too() -> None:
    result = make_result()
    tree = xr.DataTree.from_dict(
        {name: node.to_dataset() for name, node in result["sobol"].children.items()}, name="sobol"
    )
    xr.testing.assert_identical(overview.index_means(tree), overview.index_means(result))
    assert npr.plot.depth_profile(tree)


def test_analysis_knows_its_terms() -> None:
    assert SobolAnalysis(factors=("a", "b"), second_order=False).terms == DifferenceTerms(2, second_order=False)

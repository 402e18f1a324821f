"""Contrasts with labels: every number beside its meaning, corrections over layers, accuracies as a table."""

import numpy as np
import pytest
import xarray as xr
from statsmodels.stats.multitest import multipletests

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.analysis.contrast import ContrastAnalysis, LayerLayout
from neuroprobe.statistics.contrast import difference
from neuroprobe.statistics.paired import signed_ranks
from oracles import sums_of_rows

FACTORS, N = ("hue", "rotation"), 40
LAYOUTS = {
    "layer1": LayerLayout(("channel", "y", "x"), (3, 2, 4), {}, 0),
    "fc": LayerLayout(("channel",), (5,), {"channel": [1, 2, 4, 8, 16]}, 1),
}
ANALYSIS = ContrastAnalysis(FACTORS, draws=2, ranks=("fc",))


def responses(layer: str) -> np.ndarray:
    """Responses (images, rows, units); the first unit is dead."""
    rng = np.random.default_rng(len(layer))
    n_units = int(np.prod(LAYOUTS[layer].shape))
    y = rng.normal(0, 1, (N, 1, n_units)) + rng.normal(0, 0.5, (N, 5, n_units))
    y[:, 1:] += 0.3
    y[..., 0] = 0
    return y


def arrays(layer: str, analysis: ContrastAnalysis = ANALYSIS) -> dict[str, np.ndarray]:
    y = responses(layer)
    sums = sums_of_rows(y, analysis.terms, block=16)
    if layer not in analysis.ranks:
        return analysis.finalize(sums)
    d = [difference(y[:, 0], [y[:, 1 + 2 * a], y[:, 2 + 2 * a]]) for a in range(2)]
    ranked = [signed_ranks(one) for one in d]
    return analysis.finalize(sums, {name: np.stack([one[name] for one in ranked]) for name in ranked[0]})


def labelled(analysis: ContrastAnalysis = ANALYSIS) -> dict[str, xr.Dataset]:
    return dict(analysis.label_layers(LAYOUTS, lambda layer: arrays(layer, analysis), N))


def test_every_variable_has_its_dimensions_and_says_what_it_is() -> None:
    found = labelled()
    assert list(found) == ["layer1", "fc"]
    layer1, fc = found.values()
    by_factor = ("factor", "channel", "y", "x")
    for name in ("mean_difference", "effect_size", "treatment_mean", "defined", "n_positive", "n_negative"):
        assert layer1[name].dims == by_factor, name
    assert layer1["p_value"].dims == layer1["p_adjusted"].dims == ("test", *by_factor)
    assert layer1["control_mean"].dims == ("channel", "y", "x")
    assert "rank_biserial" not in layer1
    assert layer1["test"].values.tolist() == ["t", "sign"]
    assert fc["test"].values.tolist() == ["t", "sign", "wilcoxon"]
    assert fc["rank_biserial"].dims == fc["rank_biserial_se"].dims == ("factor", "channel")
    assert fc["channel"].values.tolist() == [1, 2, 4, 8, 16]
    for node in found.values():
        assert node.attrs["replicate"] == "image"
        assert (node.attrs["n_images"], node.attrs["draws"], node.attrs["correction"]) == (N, 2, "fdr_by")
        for name, variable in node.data_vars.items():
            assert variable.attrs["long_name"], name
            assert variable.attrs["units"], name
            if str(name).endswith("_se"):
                assert variable.attrs["se_scope"] == "new images of the same kind"
                assert variable.attrs["df"] == N - 1
        estimates = {"mean_difference", "effect_size", "control_mean", "treatment_mean", "rank_biserial"} & set(node)
        assert {f"{name}_se" for name in estimates} <= set(node)
    assert fc.attrs["n_undefined"] == 2
    assert (layer1.attrs["depth"], fc.attrs["depth"]) == (0, 1)


def test_numbers_are_those_of_the_kernel() -> None:
    fc, expected = labelled()["fc"], arrays("fc")
    for name, values in expected.items():
        np.testing.assert_array_equal(fc[name], values)
    y = responses("fc")
    d = y[:, 3:].mean(1) - y[:, 0]
    np.testing.assert_allclose(fc["mean_difference"].sel(factor="rotation"), d.mean(0), atol=1e-12)
    for name in ("p_value", "p_adjusted", "effect_size", "rank_biserial", "rank_biserial_se"):
        dead = fc[name].isel(channel=0)
        assert dead.isnull().all(), name
        assert fc[name].isel(channel=slice(1, None)).notnull().all(), name


@pytest.mark.parametrize("correction", ["fdr_by", "fdr_bh", "holm"])
@pytest.mark.parametrize("family", ["alteration", "all"])
def test_families_are_over_all_layers(family: str, correction: str) -> None:
    found = labelled(ContrastAnalysis(FACTORS, 2, ("fc",), correction, family))
    for test, layers in (("t", ["layer1", "fc"]), ("sign", ["layer1", "fc"]), ("wilcoxon", ["fc"])):
        for group in [[factor] for factor in FACTORS] if family == "alteration" else [list(FACTORS)]:
            p, adjusted = (
                np.concatenate([found[layer][name].sel(test=test, factor=group).values.ravel() for layer in layers])
                for name in ("p_value", "p_adjusted")
            )
            tested = ~np.isnan(p)
            assert (~tested).sum() == len(layers) * len(group)
            np.testing.assert_array_equal(adjusted[tested], multipletests(p[tested], method=correction)[1])
            assert np.isnan(adjusted[~tested]).all()


def test_a_layer_without_any_effect_leaves_the_others_as_they_are() -> None:
    p = {"dead": np.full((2, 2, 3), np.nan), "alive": np.array([[[0.01], [0.5]], [[0.02], [np.nan]]])}
    adjusted = ANALYSIS.adjust(p)
    assert np.isnan(adjusted["dead"]).all()
    np.testing.assert_array_equal(adjusted["alive"], p["alive"])


def test_units_are_chosen_by_their_contrasts() -> None:
    result = xr.DataTree.from_dict({f"/contrast/{layer}": node for layer, node in labelled().items()})
    chosen = npr.select_units(result, "p_adjusted_t_hue < 1 and effect_size_hue > 0")
    columns = {"effect_size_hue", "effect_size_se_hue", "p_adjusted_t_hue"}
    assert columns <= set(chosen)
    expected = sum(
        int(((node["effect_size"] > 0) & (node["p_adjusted"].sel(test="t") < 1)).sel(factor="hue").sum())
        for node in result["contrast"].children.values()
    )
    assert 0 < len(chosen["effect_size_hue"]) == expected


def test_accuracies_are_a_table() -> None:
    measures = [names.TOP_1, names.TOP_5, names.PROBABILITY]
    rng = np.random.default_rng(1)
    y = (rng.random((N, 5, 3)) < [0.6, 0.9, 0.5]).astype(float)
    y[..., 2] = rng.random((N, 5))
    table = ANALYSIS.label_accuracy(sums_of_rows(y, ANALYSIS.terms), measures)
    assert dict(table.sizes) == {"factor": 3, "measure": 3}
    assert table["factor"].values.tolist() == ["original", *FACTORS]
    np.testing.assert_allclose(table["estimate"].sel(factor="original"), y[:, 0].mean(0))
    np.testing.assert_allclose(table["estimate"].sel(factor="rotation"), y[:, 3:].mean((0, 1)))
    assert (table["lower"] < table["estimate"]).all()
    assert (table["upper"] > table["estimate"]).all()
    assert table["difference"].sel(factor="original").isnull().all()
    assert table["n_images"].values.tolist() == [N] * 3
    assert table.attrs["replicate"] == "image"

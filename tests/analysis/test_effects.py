"""Tables of contrasts and of moments over layers: the numbers of plain arrays, undefined units left out and counted."""

import numpy as np
import pytest
import xarray as xr

from made_results import make_result, with_contrasts, with_moments
from neuroprobe.analysis.effects import contrast_table, effect_sizes
from neuroprobe.analysis.moments import moments_table
from neuroprobe.errors import ReaderError

LAYERS = {"zeta": (3, 4, 5), "alpha": (8,), "dead": (1, 1, 2)}


@pytest.fixture(scope="module")
def made() -> xr.DataTree:
    return make_result(LAYERS, ["hue", "blur"], dead=0.4)


def test_contrasts_of_each_layer_in_numbers(made: xr.DataTree) -> None:
    result = with_contrasts(made)
    table = contrast_table(result, level=0.01)
    assert table["layer"].values.tolist() == list(LAYERS)
    for layer, shape in LAYERS.items():
        node, at = result["contrast"][layer], table.sel(layer=layer)
        assert int(at["n_units"]) == np.prod(shape)
        for number, factor in enumerate(("hue", "blur")):
            sizes = abs(node["effect_size"].values[number].ravel())
            changed = node["defined"].values[number].ravel() == 1
            one = at.sel(factor=factor)
            assert int(one["n_undefined"]) == (~changed).sum() == np.isnan(sizes).sum()
            median = np.median(sizes[changed]) if changed.any() else np.nan
            np.testing.assert_allclose(one["effect_size"], median)
            errors = node["effect_size_se"].values[number].ravel()[changed]
            np.testing.assert_allclose(one["effect_size_se"], np.median(errors) if changed.any() else np.nan)
            significant = node["p_adjusted"].sel(test="t").values[number].ravel() < 0.01
            assert float(one["share"]) == significant.sum() / np.prod(shape)
    assert int(table["n_undefined"].sum()) > 0
    xr.testing.assert_allclose(
        table["effect_size"], effect_sizes(result, [0.5]).isel(quantile=0).drop_vars("quantile"), check_dim_order=False
    )


def test_silent_units_and_dropped_images_are_counted(made: xr.DataTree) -> None:
    result = with_contrasts(made)
    assert contrast_table(result)["n_silent"].values.tolist() == [0, 0, 0]
    assert contrast_table(result)["n_with_dropped"].values.tolist() == [0, 0, 0]
    alpha = result["contrast/alpha"].to_dataset()
    for name in ("control_mean", "treatment_mean"):
        alpha[name][..., 2:5] = 0
    # only the response to the control is there: not silent
    alpha["control_mean"][2] = 1
    alpha["n_dropped"] = ("channel", [0, 0, 3, 1, 0, 0, 0, 0])
    result["contrast/alpha"] = xr.DataTree(alpha)
    table = contrast_table(result)
    assert table["n_silent"].values.tolist() == [0, 2, 0]
    assert table["n_with_dropped"].values.tolist() == [0, 2, 0]


def test_moments_of_each_layer_in_numbers(made: xr.DataTree) -> None:
    result = with_moments(made)
    table = moments_table(result)
    assert table["layer"].values.tolist() == list(LAYERS)
    for layer, shape in LAYERS.items():
        node, at = result["moments"][layer], table.sel(layer=layer)
        varies = node["defined"].values == 1
        assert (int(at["n_units"]), int(at["n_defined"])) == (np.prod(shape), varies.sum())
        for name in ("mean", "variance", "coefficient_of_variation", "activity_rate"):
            for key in (name, f"{name}_se"):
                expected = np.median(node[key].values[varies]) if varies.any() else np.nan
                np.testing.assert_allclose(at[key], expected)


@pytest.mark.parametrize("table", [contrast_table, moments_table])
def test_what_is_not_there_is_refused(made: xr.DataTree, table) -> None:
    with pytest.raises(ReaderError, match=r"no group '(contrast|moments)' in this tree \(it has: sobol"):
        table(made)

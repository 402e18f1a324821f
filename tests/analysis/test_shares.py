"""Parts of the variance: they sum to 1, and are the means of the units."""

import numpy as np
import pytest

from made_results import make_result
from neuroprobe.analysis.shares import known_shares, mean_shares


def test_known_shares() -> None:
    assert known_shares(make_result()) == ["first_order"]
    assert known_shares(make_result(shapley=True)) == ["shapley_effect", "first_order"]


@pytest.mark.parametrize("by_variance", [False, True])
@pytest.mark.parametrize("index", ["shapley_effect", "first_order"])
def test_shares_are_means_over_units(index: str, by_variance: bool) -> None:
    # more units than a small integer counts
    made = make_result({"early": (6, 8, 9), "late": (9,)}, dead=0.3, shapley=True)
    found = mean_shares(made, index, by_variance)
    np.testing.assert_allclose(found["share"].sum("part"), 1)
    assert found["part"].values.tolist() == ["hue", "rotation", "interactions"][: 2 + (index == "first_order")]
    for layer in ("early", "late"):
        node = made["sobol" if index == "first_order" else "shapley"][layer]
        values, errors = (node[name].values.reshape(2, -1) for name in (index, f"{index}_se"))
        there = np.isfinite(values[0])
        weights = node["variance"].values.ravel()[there] if by_variance else None
        expected = np.average(values[:, there], 1, weights)
        np.testing.assert_allclose(found["share"].sel(layer=layer)[:2], expected)
        known = np.isfinite(errors[0])  # a unit that varies in one block has no error
        weights = node["variance"].values.ravel()[known] if by_variance else None
        error = np.average(errors[:, known], 1, weights)
        np.testing.assert_allclose(found["share_se"].sel(layer=layer)[:2], error)
        if index == "first_order":
            assert float(found["share_se"].sel(layer=layer)[2]) == pytest.approx(error.sum())


def test_without_any_defined_unit_there_is_no_share() -> None:
    for by_variance in (False, True):
        assert np.isnan(mean_shares(make_result(dead=1.0), by_variance=by_variance)["share"]).all()

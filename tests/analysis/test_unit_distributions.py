"""Distributions over units: every defined unit is in one bin, and undefined ones are counted."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.analysis.unit_distributions import best_units, significance_of, unit_distribution
from neuroprobe.errors import ReaderError


@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-5, 5)), min_size=1, max_size=30),
    st.integers(1, 12),
    st.integers(0, 100),
)
def test_every_unit_is_counted_once(values: list[float], bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    region = rng.choice(["V1", "V2", ""], len(values)).astype(object)
    p = np.where(np.isnan(values), np.nan, rng.random(len(values)) / 5)
    made = xr.Dataset({"m": ("unit", values), "p_adjusted": ("unit", p)}, coords={"region": ("unit", region)})
    found = unit_distribution(made, "m", bins=bins)
    for number, group in enumerate(found["group"].values):
        own = np.array(values)[region == ("" if group == "unknown" else group)]
        known = own[~np.isnan(own)]
        at = found.isel(group=number)
        assert int(at["n_units"].sum()) == int(at["n_defined"]) == len(known)
        assert int(at["n_undefined"]) == len(own) - len(known)
        if len(known):
            assert float(at["median"]) == np.median(known)
        else:
            assert np.isnan(float(at["median"]))
    assert (found["n_significant"] <= found["n_units"]).all()
    assert int(found["n_significant"].sum()) == int((p < 0.05).sum())


def test_bins_hold_what_lies_in_them() -> None:
    made = xr.Dataset({"osi": ("unit", [0.0, 0.05, 0.1, 0.95, 1.0])})
    found = unit_distribution(made, "osi", bins=10)
    assert found["n_units"].values.tolist() == [[2, 1, 0, 0, 0, 0, 0, 0, 0, 2]]
    assert found["group"].values.tolist() == ["all units"]
    outside = unit_distribution(made, "osi", bins=2, between=(0.2, 0.6))
    assert outside["n_units"].values.tolist() == [[3, 2]]


def test_angles_have_no_median() -> None:
    made = xr.Dataset({"preferred_direction": ("unit", [10.0, 350.0])})
    found = unit_distribution(made, "preferred_direction")
    assert found["median"].isnull().all()
    assert float(found["bin_end"][-1]) == 360


def test_p_values_go_with_their_measures() -> None:
    p = ("unit", [0.01, 0.2])
    made = xr.Dataset({"osi": p, "dsi": p, "m": p, "p_adjusted": p, "orientation_p_adjusted": p})
    assert significance_of(made, "osi") == "orientation_p_adjusted"
    assert significance_of(made, "dsi") is None
    assert significance_of(made, "m") == "p_adjusted"
    # means of conditions are not tested
    assert significance_of(made.assign(p_adjusted=("unit", [np.nan, np.nan])), "m") is None


def test_what_is_no_measure() -> None:
    made = xr.Dataset({"osi": ("unit", [0.1]), "curve": (("condition", "unit"), [[1.0]]), "name": ("unit", ["a"])})
    with pytest.raises(ReaderError, match="did you mean 'osi'"):
        unit_distribution(made, "os")
    for name in ("curve", "name"):
        with pytest.raises(ReaderError, match=f"{name} is over"):
            unit_distribution(made, name)
    with pytest.raises(ReaderError, match="p-value"):
        unit_distribution(made, "osi", p_value="q")


def test_best_units_are_in_no_doubt() -> None:
    made = xr.Dataset(
        {
            "p_value": ("unit", [0.5, np.nan, 0.01, 0.01]),
            "omega_squared": ("unit", [0.9, np.nan, 0.2, 0.3]),
            "defined": ("unit", [1, 0, 1, 1]),
        }
    )
    assert best_units(made, 4).tolist() == [3, 2, 0, 1]
    assert best_units(made.assign(p_value=("unit", np.full(4, np.nan))), 2).tolist() == [0, 3]

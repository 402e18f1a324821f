"""Statistics of real recordings: human medial temporal lobe, macaque MT, V1 and V2; and of a network that was run."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neuroprobe as npr
from neuroprobe.analysis.anova import anova
from neuroprobe.analysis.correlations import correlations
from neuroprobe.analysis.information import information
from neuroprobe.errors import ReaderError


@pytest.fixture(scope="module")
def mt(data: Path) -> xr.DataTree:
    folder = data / "recordings" / "manning2024" / "MT"
    if not folder.is_dir():
        pytest.skip("no recordings of macaque MT")
    return npr.read_recording(folder, layout="manning2024_mt", factors=["disparity"])


def test_three_quarters_of_mt_neurons_are_tuned_for_disparity(mt: xr.DataTree) -> None:
    found = anova(mt)
    assert found.sizes["unit"] == 501
    assert round(float((found["p_value"] < 0.01).mean()), 2) == 0.76
    assert int((found["p_adjusted"] < 0.01).sum()) == 377
    node = mt["responses/m1c102r1"].to_dataset()
    groups = [
        node["response"].values[node["disparity"].values == x, 0]
        for x in np.unique(node["disparity"].dropna("presentation"))
    ]
    np.testing.assert_allclose(found["p_value"][found["unit_id"] == "m1c102r1"], stats.f_oneway(*groups).pvalue)


def test_mt_neurons_are_reliable_and_their_curves_are_gabor_functions(mt: xr.DataTree) -> None:
    sample = "unit_id in ['m1c100r3', 'm1c102r1', 'm1c104r3', 'm1c105r3', 'm2c100r4', 'm3c726r11', 'm3c853r5']"
    found = npr.tuning(mt, model="gabor", n_draws=20, units=sample)
    tuned = found["p_value"].values < 0.01
    assert tuned.sum() >= 4
    assert (found["gabor_defined"] == 1).all()
    assert (found["gabor_r_squared"].values[tuned] > 0.8).all()
    assert (found["gabor_aic_difference"].values[tuned] > 0).all()
    low, high = found["gabor_preferred_lower"], found["gabor_preferred_upper"]
    assert ((low <= found["gabor_preferred"]) & (found["gabor_preferred"] <= high)).all()
    shown = ~np.isnan(found["tuning_curve"].values)
    assert (shown == ~np.isnan(found["gabor_curve"].values)).all()
    reliable = npr.reliability(mt, units=sample)
    np.testing.assert_allclose(reliable["explainable_variance"], found["omega_squared"], atol=0.12)
    assert (information(mt, units=sample)["p_adjusted"].values[tuned] < 0.05).sum() >= 4
    blank = npr.responsiveness(mt, blank="null", units=sample)
    assert (blank["p_adjusted"] < 0.05).sum() >= 5


def test_means_of_v1_and_v2_have_curves_and_fits_but_no_tests(data: Path) -> None:
    file = data / "recordings" / "manning2024" / "V1V2" / "AllDTData.mat"
    if not file.is_file():
        pytest.skip("no recordings of macaque V1 and V2")
    means = npr.read_recording(file, layout="manning2024_v1v2", factors=["dx"])
    sample = [*means["responses"].children][::80]
    query = f"layer in {sample!r}"
    found = npr.tuning(means, model="gabor", n_draws=0, units=query)
    assert found.sizes["unit"] == len(sample)
    assert found["p_value"].isnull().all()
    assert float(found["gabor_r_squared"].median()) > 0.8
    with pytest.raises(ReaderError, match="holds the means of conditions"):
        anova(means)
    single = npr.read_recording(file, layout="manning2024_v1v2", factors=["dx"], trials="counts")
    of_trials = npr.tuning(single, model="gabor", n_draws=0, units=query)
    np.testing.assert_allclose(of_trials["tuning_curve"], found["tuning_curve"], rtol=1e-6)
    np.testing.assert_allclose(of_trials["gabor_r_squared"], found["gabor_r_squared"], rtol=1e-4)
    np.testing.assert_array_equal(of_trials["n_trials"], found["n_trials"])


# window (s after the first boundary of a clip) → responsive units, those selective for the category of clips; each
# at p < .05, and so after correction
MTL = {(0.2, 1.0): (3, 0, 3, 0), (0.0, 0.8): (3, 1, 4, 1)}


@pytest.mark.parametrize("window", MTL)
def test_few_human_units_respond_to_boundaries_or_tell_categories(window: tuple[float, float], data: Path) -> None:
    pytest.importorskip("h5py")
    file = data / "recordings" / "nwb" / "zheng2022_sub-4_mtl.nwb"
    if not file.is_file():
        pytest.skip("no recording of the human medial temporal lobe")
    choices: dict[str, Any] = {"trials": "encoding_table", "factors": ["stimCategory"], "align": "boundary1_time"}
    recording = npr.read_recording(file, window=window, baseline=(-0.8, 0), **choices)
    responsive, selective = npr.responsiveness(recording), anova(recording)
    counts = [int((one[p] < 0.05).sum()) for one in (responsive, selective) for p in ("p_value", "p_adjusted")]
    assert tuple(counts) == MTL[window]
    assert responsive.sizes["unit"] == 35
    found = correlations(recording)
    assert found.sizes == {"unit": 35, "unit_2": 35}
    assert abs(float(found["noise_correlation"].mean())) < 0.1


def test_a_network_that_was_run_is_analysed_too(small_protocol: dict[str, Any], tmp_path: Path) -> None:
    small_protocol["record"]["store"] = {"responses": ["linear"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a run this small
        npr.run(small_protocol, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    found = anova(recording, "class_label")
    assert (found["layer"] == "linear").all()
    assert (found["channel"].values == np.arange(found.sizes["unit"])).all()
    curves = npr.tuning(recording, "class_label")
    assert curves["class_label"].values.tolist() == ["cat", "dog", "ship"]
    assert set(curves["preferred"].values.tolist()) <= {"cat", "dog", "ship"}
    # rows of the design that are the same stimulus have the same response
    with pytest.raises(ReaderError, match="every repetition of a condition has the same response"):
        npr.reliability(recording)

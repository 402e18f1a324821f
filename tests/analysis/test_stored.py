"""Sobol indices of stored responses: of all units and of chosen ones, by our estimators and by SALib."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from SALib.analyze import sobol as salib

import neuroprobe as npr
from neuroprobe.errors import NeuroprobeError, QueryError, ReaderError

pytestmark = pytest.mark.filterwarnings(
    "ignore:standard errors rest:UserWarning", "ignore:contrast. accuracies are left out:UserWarning"
)
FACTORS = ("erasing", "hue", "image")


def protocol(**changes: object) -> dict:
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": [{"name": "conv6", "channels": [3, 5]}, "linear"]},
        "stimuli": {"images": {"photographs": {"per_image": 2}, "size": 16}, "image": "factor"},
        "treatment": {"reference_side": "image", "alterations": [{"name": "erasing", "row": 5, "column": 8}, "hue"]},
        "design": {"samples": 128},
        "analyses": [{"sobol": {"estimator": "salib"}}],
        "record": {"batch": 64, "store": "responses"},
        **changes,
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "out.zarr"
    with pytest.warns(UserWarning, match="standard errors rest"):
        npr.run(protocol(), path)
    return path


@pytest.fixture
def recording(store: Path) -> xr.DataTree:
    return npr.open_recording(store)


@pytest.mark.parametrize("second_order", [True, False])
def test_streamed_salib_equals_salib_on_the_stored_responses(tmp_path: Path, second_order: bool) -> None:
    path = tmp_path / "out.zarr"
    result = npr.run(protocol(design={"samples": 128, "second_order": second_order}), path)
    recording = npr.open_recording(path)
    called = npr.sobol(recording, estimator="salib")
    for layer in ("conv6", "linear"):
        node = result[f"sobol/{layer}"]
        assert node.attrs["estimator"] == called[layer].attrs["estimator"] == "salib"
        assert ("second_order" in node) == second_order
        for name in ("first_order", "total_order", *(["second_order"] if second_order else [])):
            np.testing.assert_allclose(called[layer][name], node[name], atol=1e-12)
            assert "SALib's bootstrap" in called[layer][f"{name}_se"].attrs["se_kind"]


def test_salib_by_hand_for_one_unit(recording: xr.DataTree) -> None:
    found = npr.sobol(recording, estimator="salib", units="layer == 'linear' and channel == 7")["linear"]
    y = recording["responses/linear"]["response"].values[:, 7].astype(float).reshape(128, 8)
    rows = np.concatenate([y[:, :1], y[:, 2:], y[:, 1:2]], axis=1).ravel()
    problem = {"num_vars": 3, "names": list(FACTORS), "bounds": [[0, 1]] * 3}
    theirs = salib.analyze(problem, rows, num_resamples=2, seed=1)
    assert dict(found.sizes) == {"factor": 3, "factor_2": 3, "unit": 1}
    np.testing.assert_array_equal(found["factor"], FACTORS)
    np.testing.assert_allclose(found["first_order"][:, 0], theirs["S1"], atol=1e-13)
    np.testing.assert_allclose(found["total_order"][:, 0], theirs["ST"], atol=1e-13)
    np.testing.assert_allclose(np.triu(found["second_order"][..., 0], 1), np.nan_to_num(theirs["S2"]), atol=1e-13)


@pytest.mark.parametrize("estimator", ["differences", "salib"])
def test_chosen_units_are_those_of_all_units(recording: xr.DataTree, estimator: str) -> None:
    query = "layer == 'linear' and channel in [2, 4] or layer == 'conv6' and channel == 5 and y == x"
    chosen, whole = (npr.sobol(recording, estimator=estimator, units=units) for units in (query, None))
    assert list(chosen.children) == ["conv6", "linear"]
    assert chosen["linear"]["channel"].values.tolist() == [2, 4]
    side = whole["conv6"].sizes["y"]
    diagonal = list(range(side))
    assert chosen["conv6"]["channel"].values.tolist() == [5] * side
    assert chosen["conv6"]["y"].values.tolist() == chosen["conv6"]["x"].values.tolist() == diagonal
    for name in ("first_order", "total_order_se"):
        np.testing.assert_allclose(chosen["linear"][name], whole["linear"][name].isel(channel=[2, 4]), rtol=1e-6)
        expected = whole["conv6"][name].sel(channel=5).values[:, diagonal, diagonal]
        np.testing.assert_allclose(chosen["conv6"][name], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": "layer == 'conv9'"}, ReaderError, r"none of the \d+ recorded units is chosen by .*conv9"),
        ({"units": "first_order_hue > 0.1"}, QueryError, "unknown column 'first_order_hue'"),
        ({"units": "__import__('os')"}, QueryError, "query:1:"),
        ({"estimator": "salip"}, ReaderError, r"unknown estimator 'salip' \(did you mean 'salib'\?\)"),
        ({"estimator": "salib", "total_interaction": True}, ReaderError, "total_interaction: SALib does not compute"),
    ],
)
def test_bad_requests(recording: xr.DataTree, options: dict, error: type[NeuroprobeError], message: str) -> None:
    with pytest.raises(error, match=message):
        npr.sobol(recording, **options)


def test_salib_refuses_frozen_images(tmp_path: Path) -> None:
    frozen = protocol(stimuli={**protocol()["stimuli"], "image": "frozen"}, analyses=["sobol"])
    with pytest.warns(UserWarning, match="for these images"):
        npr.run(frozen, tmp_path / "out.zarr")
    with pytest.raises(ReaderError, match="variance between images"):
        npr.sobol(npr.open_recording(tmp_path / "out.zarr"), estimator="salib")


def test_salib_refuses_responses_that_are_not_finite(recording: xr.DataTree) -> None:
    linear = recording["responses/linear"]
    linear["response"] = linear["response"].where(linear["response"]["sample"] > 3)
    with pytest.raises(ReaderError, match="10 units hold NaN"):
        npr.sobol(recording, estimator="salib", units="layer == 'linear'")


@pytest.mark.parametrize("analyses", [["sobol", "shapley"], ["shapley"]])
@pytest.mark.parametrize("n_alterations", [3, 6])
def test_shapley_effects_of_stored_responses_are_those_of_the_run(
    n_alterations: int, analyses: list[str], tmp_path: Path
) -> None:
    kinds = ("erasing", "grayscale", "hue", "brightness", "hflip", "contrast")[:n_alterations]
    given = protocol(
        treatment={"alterations": [{"name": kind, "switch": 0.5} for kind in kinds], "order": "factor"},
        design={"samples": 128},
        analyses=analyses,
    )
    result = npr.run(given, tmp_path / "out.zarr")
    found = npr.shapley(npr.open_recording(tmp_path / "out.zarr"))
    for layer, node in result["shapley"].children.items():
        xr.testing.assert_allclose(found[layer].to_dataset(), node.to_dataset(), rtol=1e-5, atol=1e-7)
    some = npr.shapley(npr.open_recording(tmp_path / "out.zarr"), units="channel == 3")
    layer = next(iter(some.children))
    assert some[layer]["shapley_effect"].dims == ("factor", "unit")


def test_shapley_effects_need_their_rows(tmp_path: Path) -> None:
    kinds = ("erasing", "grayscale", "hue", "brightness", "hflip")
    given = protocol(treatment={"alterations": [{"name": kind, "switch": 0.5} for kind in kinds]}, analyses=["moments"])
    npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    with pytest.raises(ReaderError, match=r"Shapley effects need walks .* record with `analyses: \[shapley\]`"):
        npr.shapley(recording)
    with pytest.raises(ReaderError, match=r"has the rows A, B: record with `analyses: \[sobol\]`$"):
        npr.sobol(recording)


@pytest.mark.parametrize("ask", [npr.sobol, npr.shapley])
def test_shares_of_a_contrast_are_refused(ask: Callable[[xr.DataTree], xr.DataTree], tmp_path: Path) -> None:
    npr.run(protocol(analyses=[{"contrast": {"accuracy": False}}]), tmp_path / "out.zarr")
    with pytest.raises(ReaderError, match=r"have the design 'treatment-control'.*take npr\.contrast"):
        ask(npr.open_recording(tmp_path / "out.zarr"))


def test_layers_know_their_place_in_the_protocol(tmp_path: Path) -> None:
    for analysis, ask in (("sobol", npr.sobol), ("contrast", npr.contrast)):
        record = {"batch": 64, "store": {"responses": ["linear"]}}
        given = protocol(analyses=[analysis], record=record)
        result = npr.run(given, tmp_path / f"{analysis}.zarr")
        found = ask(npr.open_recording(tmp_path / f"{analysis}.zarr"))
        assert found["linear"].attrs["depth"] == result[f"{analysis}/linear"].attrs["depth"] == 1

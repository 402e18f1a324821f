"""Contrasts of stored responses: of all units and of chosen ones, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neuroprobe as npr
from neuroprobe.errors import NeuroprobeError, QueryError, ReaderError

N, DRAWS, FACTORS = 70, 2, ("hue", "blur_2")
ROLES = ["control", "hue_0", "hue_1", "blur_2_0", "blur_2_1"]


def made(dtype: type = np.float32, **attrs: object) -> xr.DataTree:
    """A recording of 70 images, 5 rows each."""
    rng = np.random.default_rng(4)
    table = {
        "design": ("presentation", np.full(N * 5, "treatment-control", dtype=object)),
        "role": ("presentation", np.tile(np.array(ROLES, dtype=object), N)),
        "sample": ("presentation", np.repeat(np.arange(N), 5)),
    }
    responses = {}
    for layer, dims, shape in (("conv", ("channel", "y", "x"), (2, 3, 3)), ("fc", ("channel",), (4,))):
        y = np.maximum(rng.normal(0, 1, (N, 1, *shape)) + rng.normal(0.2, 0.5, (N, 5, *shape)), 0)
        variable = (("presentation", *dims), y.reshape(N * 5, *shape).astype(dtype))
        responses[f"responses/{layer}"] = xr.Dataset({"response": variable})
    tree = xr.DataTree.from_dict({"/": xr.Dataset(coords=table), **responses})
    tree.attrs = {"block": 16, **attrs}
    return tree


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_are_those_of_scipy(dtype: type) -> None:
    recording = made(dtype)
    found = npr.contrast(recording)
    assert list(found.children) == ["conv", "fc"]
    for layer in ("conv", "fc"):
        y = recording[f"responses/{layer}/response"].values.astype(float).reshape(N, 5, -1)
        node = found[layer]
        assert node["test"].values.tolist() == ["t", "sign", "wilcoxon"]
        assert node.attrs["n_images"] == N
        for a, factor in enumerate(FACTORS):
            d = y[:, 1 + 2 * a : 3 + 2 * a].mean(1) - y[:, 0]
            one = node.to_dataset().sel(factor=factor)
            np.testing.assert_allclose(one["mean_difference"].values.ravel(), d.mean(0), rtol=1e-9)
            p = stats.ttest_1samp(d, 0).pvalue
            np.testing.assert_allclose(one["p_value"].sel(test="t").values.ravel(), p, rtol=1e-8)
            p = stats.wilcoxon(
                d.astype(np.float32).astype(float), zero_method="zsplit", method="asymptotic", axis=0
            ).pvalue
            np.testing.assert_allclose(one["p_value"].sel(test="wilcoxon").values.ravel(), p, rtol=1e-8)


def test_chosen_units_and_layers_that_are_ranked() -> None:
    recording = made()
    whole = npr.contrast(recording)
    chosen = npr.contrast(recording, units="layer == 'fc' and channel in [1, 3] or y == x", ranks=["fc"])
    assert dict(chosen["fc"].sizes) == {"factor": 2, "test": 3, "unit": 2}
    assert chosen["conv"]["test"].values.tolist() == ["t", "sign"]
    assert "rank_biserial" not in chosen["conv"]
    for name in ("effect_size", "effect_size_se", "rank_biserial", "p_value"):
        np.testing.assert_allclose(chosen["fc"][name], whole["fc"][name].isel(channel=[1, 3]))
    expected = whole["conv"]["effect_size"].values[..., range(3), range(3)].reshape(2, -1)
    np.testing.assert_allclose(chosen["conv"]["effect_size"], expected)
    # of fewer units there are fewer tests to correct for
    assert (chosen["fc"]["p_adjusted"] <= whole["fc"]["p_adjusted"].isel(channel=[1, 3]) + 1e-12).all()


def test_presentations_of_another_design_are_left_out() -> None:
    recording, found = made(), npr.contrast(made())
    table = recording.to_dataset()
    other = table.isel(presentation=slice(0, 7)).assign_coords(
        design=("presentation", np.full(7, "pick-freeze", object))
    )
    layers = {
        f"responses/{layer}": xr.concat(
            [node.to_dataset(inherit=False).isel(presentation=slice(0, 7)), node.to_dataset(inherit=False)],
            "presentation",
        )
        for layer, node in recording["responses"].children.items()
    }
    both = xr.DataTree.from_dict({"/": xr.concat([other, table], "presentation"), **layers})
    xr.testing.assert_allclose(npr.contrast(both)["fc"].to_dataset(), found["fc"].to_dataset())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": "layer == 'conv9'"}, ReaderError, "none of the 22 recorded units"),
        ({"units": "effect_size_hue > 1"}, QueryError, "unknown column"),
        ({"ranks": ["fcc"]}, ReaderError, r"ranks: unknown layer 'fcc' \(did you mean 'fc'\?\)"),
        ({"ranks": "fcc"}, ReaderError, r"ranks: unknown layer 'fcc' \(did you mean 'fc'\?\)"),
        ({"correction": "fdr"}, ReaderError, "unknown correction 'fdr'"),
        ({"family": "both"}, ReaderError, "unknown family 'both'; known: alteration, all"),
    ],
)
def test_bad_requests(options: dict, error: type[NeuroprobeError], message: str) -> None:
    with pytest.raises(error, match=message):
        npr.contrast(made(), **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.isel(presentation=slice(3, None)), "not whole images in order"),
        (lambda table: table.isel(presentation=slice(None, None, -1)), "not whole images in order"),
        (lambda table: table.isel(presentation=slice(0, None, 5)), "not whole images in order"),
        (lambda table: table.assign_coords(design=("presentation", ["pick-freeze"] * N * 5)), "no presentation has"),
        (lambda table: table.drop_vars("role"), "no presentation has the design"),
    ],
)
def test_recordings_without_the_design(change: Callable[[xr.Dataset], xr.Dataset], message: str) -> None:
    recording = xr.DataTree.from_dict({"/": change(made().to_dataset()), "/responses": xr.Dataset()})
    with pytest.raises(ReaderError, match=message):
        npr.contrast(recording)


def test_trees_without_responses() -> None:
    with pytest.raises(ReaderError, match="no group 'responses'"):
        npr.contrast(made()["responses"])


def test_responses_that_are_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({}, {"nan": "drop"}):
        recording = made(**options)
        recording["responses/fc/response"].values[12, 1] = np.nan
        if not options:
            with pytest.raises(ReaderError, match="base samples 0 to 15 hold NaN"):
                npr.contrast(recording)
        else:
            node = npr.contrast(recording)["fc"]
            assert node["n_dropped"].values.tolist() == [0, 1, 0, 0]
            assert node["rank_biserial"].notnull().all()
            recording["responses/fc/response"].values[12, 1] = np.inf
            xr.testing.assert_equal(npr.contrast(recording)["fc"].to_dataset(), node.to_dataset())

"""Pictures of Sobol indices: what is drawn where."""

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from neuroprobe.analysis.sensitivity import SobolAnalysis, depth_profiles, strongest_channels
from neuroprobe.statistics.estimators import DifferenceTerms


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    """Two layers of made-up indices: `deep` has a larger index of the second factor, and one undefined unit."""
    rng = np.random.default_rng(0)
    nodes = {}
    for depth, (layer, shift) in enumerate({"early": 0.0, "deep": 0.4}.items()):
        first = rng.uniform(0, 0.2, (2, 5, 3, 4))
        first[1] += shift
        first[1, 3] += 0.3
        first[:, 0, 0, 0] = np.nan
        error = np.full_like(first, 0.01)
        dims = ("factor", "channel", "y", "x")
        nodes[f"sobol/{layer}"] = xr.Dataset(
            {
                "first_order": (dims, first),
                "first_order_se": (dims, error),
                "total_order": (dims, first + 0.1),
                "total_order_se": (dims, error),
            },
            {"factor": ["hue", "rotation"]},
            {"depth": depth},
        )
    return xr.DataTree.from_dict(nodes)


def test_depth_profile_draws_medians_in_the_order_of_recording(result: xr.DataTree) -> None:
    picture = npr.plot.depth_profile(result, "first_order")
    curves = [element for element in picture if isinstance(element, hv.Curve)]
    assert [curve.label for curve in curves] == ["hue", "rotation"]
    expected = [np.nanmedian(result[f"sobol/{layer}"]["first_order"][1]) for layer in ("early", "deep")]
    np.testing.assert_allclose(curves[1].dimension_values(1), expected)
    assert depth_profiles(result["sobol"])["layer"].values.tolist() == ["early", "deep"]


def test_strongest_channels_are_sorted_and_numbered(result: xr.DataTree) -> None:
    chosen = strongest_channels(result["sobol/deep"].to_dataset(), "first_order", 2)
    assert chosen.dims == ("factor", "rank", "y", "x")
    assert int(chosen["channel"].sel(factor="rotation", rank=0)) == 3
    strength = chosen.mean(("y", "x"))
    assert bool((strength.isel(rank=0) >= strength.isel(rank=1)).all())


def test_maps_lie_in_rows_of_factors(result: xr.DataTree) -> None:
    picture = npr.plot.index_maps(result, "deep", n_channels=3)
    data = picture.dimension_values(2, flat=False)
    assert data.shape == (2 * (3 + 1), 3 * (4 + 1))
    # holoviews gives the lowest row first: the last factor is below
    flipped = data[::-1]
    expected = strongest_channels(result["sobol/deep"].to_dataset(), "first_order", 3)
    np.testing.assert_allclose(flipped[:3, :4], expected[0, 0])
    np.testing.assert_allclose(flipped[4:7, 5:9], expected[1, 1])


def test_pictures_render_without_a_browser(result: xr.DataTree, tmp_path) -> None:
    for number, picture in enumerate((npr.plot.depth_profile(result), npr.plot.index_maps(result, "early"))):
        for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml")):
            path = tmp_path / f"{number}.{kind}"
            hv.save(picture, path, backend="matplotlib")
            assert path.read_bytes().startswith(start)


def test_analysis_knows_its_terms() -> None:
    assert SobolAnalysis(("a", "b"), second_order=False).terms == DifferenceTerms(2, second_order=False)

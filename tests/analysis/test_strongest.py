"""The strongest channels and units, against sorting by hand."""

import numpy as np
import pytest

from made_results import make_result
from neuroprobe.analysis.strongest import strongest_channels, strongest_units


@pytest.mark.parametrize("dead", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("index", ["first_order", "total_order"])
def test_channels_are_those_with_the_largest_means(dead: float, index: str) -> None:
    node = make_result({"early": (7, 2, 3)}, dead=dead)["sobol/early"].to_dataset()
    node = node.assign_coords(channel=np.arange(7) * 10)
    chosen = strongest_channels(node, index, 4)
    for i in range(2):
        maps, errors = node[index].values[i], node[f"{index}_se"].values[i]
        defined = [channel for channel in range(7) if np.isfinite(maps[channel]).any()]
        order = sorted(defined, key=lambda channel: -np.nanmean(maps[channel]))[:4]
        assert chosen["channel"].values[i, : len(order)].tolist() == [10 * channel for channel in order]
        for rank, channel in enumerate(order):
            np.testing.assert_array_equal(chosen[index][i, rank], maps[channel])
            np.testing.assert_allclose(chosen["strength"][i, rank], np.nanmean(maps[channel]))
            np.testing.assert_allclose(chosen["strength_se"][i, rank], np.nanmean(errors[channel]))
        assert bool(chosen["strength"][i, len(order) :].isnull().all())
        shown = maps[order][np.isfinite(maps[order])]
        if shown.size:
            np.testing.assert_allclose(chosen["high"][i], np.quantile(shown, 0.99))


def test_fewer_channels_than_asked_for() -> None:
    node = make_result({"early": (2, 3, 3)})["sobol/early"].to_dataset()
    assert strongest_channels(node, "first_order", 8).sizes["rank"] == 2


@pytest.mark.parametrize("shape", [(9,), (4, 5), (3, 2, 2)])
def test_units_are_found_where_they_lie(shape: tuple[int, ...]) -> None:
    node = make_result({"late": shape}, dead=0.2)["sobol/late"].to_dataset()
    chosen = strongest_units(node, "total_order", 5)
    dims = node["defined"].dims
    for i in range(2):
        values = node["total_order"].values[i].ravel()
        expected = np.sort(values[np.isfinite(values)])[::-1][:5]
        np.testing.assert_array_equal(chosen["total_order"].values[i, : len(expected)], expected)
        for rank in range(len(expected)):
            place = {dim: int(chosen[dim][i, rank]) for dim in dims}
            for name in ("total_order", "total_order_se"):
                np.testing.assert_equal(float(node[name].isel(factor=i, **place)), float(chosen[name][i, rank]))

"""Pictures of comparisons show what was found."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pytest
import xarray as xr

from neuroprobe import plot
from neuroprobe.comparison.metrics import compare
from neuroprobe.comparison.representations import dissimilarities
from neuroprobe.comparison.sensitivities import profile_clouds
from neuroprobe.errors import ReaderError

N = 10


def recording(**layers: np.ndarray) -> xr.DataTree:
    ids = {"stimulus_id": ("presentation", np.array([f"s{n}" for n in range(N)], dtype=object))}
    nodes = {
        f"/responses/{name}": xr.Dataset({"response": (("presentation", "channel"), values)}, coords=ids)
        for name, values in layers.items()
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=ids), **nodes})


@pytest.fixture
def sides(rng: np.random.Generator) -> tuple[xr.DataTree, xr.Dataset]:
    values = rng.normal(size=(N, 8))
    several = {f"brain {n}": values + rng.normal(0, 0.5, (N, 8)) for n in range(4)}
    return recording(far=rng.normal(size=(N, 8)), near=values), dissimilarities(recording(**several))


def test_scores_under_the_ceiling(sides: tuple[xr.DataTree, xr.Dataset]) -> None:
    found = compare(*sides, "rsa", n_draws=50)
    drawn = plot.layer_scores(found)
    points = next(one for one in drawn if isinstance(one, hv.Scatter))
    np.testing.assert_allclose(points.dimension_values("score"), found["score"])
    span = next(one for one in drawn if isinstance(one, hv.HSpan))
    assert list(span.data) == [found["ceiling_lower"].item(), found["ceiling_upper"].item()]
    stars = [one for one in drawn if isinstance(one, hv.Labels)]
    assert [list(one.dimension_values("x")) for one in stars] == [[1.0]]
    hv.render(drawn, backend="matplotlib")
    assert len(next(one for one in plot.layer_scores(found, layers=["near"]) if isinstance(one, hv.Scatter))) == 1


def test_areas_are_chosen(sides: tuple[xr.DataTree, xr.Dataset], rng: np.random.Generator) -> None:
    found = compare(
        sides[0], recording(v1=rng.normal(size=(N, 3)), it=rng.normal(size=(N, 3))), "cka", n_permutations=9
    )
    with pytest.raises(ReaderError, match="which area"):
        plot.layer_scores(found)
    with pytest.raises(ReaderError, match="no area 'mt'; there are v1, it"):
        plot.layer_scores(found, "mt")
    hv.render(plot.layer_scores(found, "it"), backend="matplotlib")
    with pytest.raises(ReaderError, match="profiles gives distances"):
        plot.layer_scores(xr.Dataset(attrs={"metric": "profiles"}))


def test_matrices(sides: tuple[xr.DataTree, xr.Dataset]) -> None:
    drawn = plot.dissimilarities(sides[1], ["brain 1", "brain 0"])
    assert [one.opts.get("plot", backend="matplotlib").kwargs["title"] for one in drawn] == ["brain 1", "brain 0"]
    square = next(iter(drawn)).dimension_values(2, flat=False)
    assert square.shape == (N, N)
    assert (np.flipud(square) == np.flipud(square).T).all() or (square == square.T).all()
    hv.render(drawn, backend="matplotlib")
    with pytest.raises(ReaderError, match="no matrix 'it'"):
        plot.dissimilarities(sides[1], ["it"])


def test_lesions_beside_units_at_random(rng: np.random.Generator) -> None:
    drops = rng.normal(0, 0.01, (3, 9))
    found = xr.Dataset(
        {
            "drop": ("layer", np.array([0.0, 0.1, 0.02])),
            "drop_random": (("layer", "random_set"), drops),
            "p_adjusted": ("layer", np.array([np.nan, 0.03, 0.5])),
        },
        coords={"layer": ["a", "b", "c"]},
    )
    drawn = plot.lesion_drops(found)
    every, nearest = (one for one in drawn if isinstance(one, hv.Scatter))
    np.testing.assert_allclose(nearest.dimension_values("drop"), found["drop"])
    np.testing.assert_allclose(every.dimension_values("drop"), drops.ravel())
    assert [list(one.dimension_values("x")) for one in drawn if isinstance(one, hv.Labels)] == [[1.0]]
    hv.render(drawn, backend="matplotlib")
    with pytest.raises(ReaderError, match="expected the lesions of one comparison"):
        plot.lesion_drops(found.drop_vars("drop_random"))


def shares(rng: np.random.Generator, n: int = 40, **alphas: list[float]) -> xr.DataTree:
    nodes = {}
    for name, alpha in alphas.items():
        values = rng.dirichlet(alpha, n).T
        values[:, -1] = np.nan
        coords = {"factor": ["hue", "blur", "noise"]}
        nodes[f"/shapley/{name}"] = xr.Dataset({"shapley_effect": (("factor", "channel"), values)}, coords=coords)
    return xr.DataTree.from_dict(nodes)


def test_clouds_of_profiles(rng: np.random.Generator) -> None:
    model, brain = shares(rng, early=[1, 8, 1], late=[8, 1, 1]), shares(rng, v4=[8, 1, 1], it=[4, 4, 1])
    clouds = profile_clouds(model, brain, most=30)
    assert clouds.sizes["unit"] == 4 * 30
    assert clouds["n_units"].values.tolist() == [39] * 4
    # the plane holds each profile, as three shares that sum to 1 have two dimensions
    back = clouds["place"].values @ clouds["loading"].values.T + clouds["centre"].values
    np.testing.assert_allclose(back, clouds["share"], atol=1e-12)
    np.testing.assert_allclose(clouds["explained"].sum(), 1)
    drawn = plot.profile_clouds(clouds, "v4")
    assert [one.opts.get("plot", backend="matplotlib").kwargs["title"] for one in drawn] == [
        "early: n 30",
        "late: n 30",
    ]
    for panel, layer in zip(drawn, ("early", "late"), strict=True):
        behind, inside, *middles = (one for one in panel if isinstance(one, hv.Points))
        for points, middle, side, name in zip(
            (behind, inside), middles, ("brain", "model"), ("v4", layer), strict=True
        ):
            own = clouds["place"].values[(clouds["side"] == side) & (clouds["population"] == name)]
            np.testing.assert_array_equal(points.array(), own)
            np.testing.assert_allclose(middle.array(), own.mean(0)[None])
    # units that owe more to hue lie where its line leads
    first = clouds["loading"].sel(factor="hue", axis=1).item() * np.ptp(clouds["place"].values[:, 0])
    late, early = (clouds["place"].values[clouds["population"] == name, 0].mean() for name in ("late", "early"))
    assert (late - early) * first > 0
    (said,) = (one for one in next(iter(drawn)) if isinstance(one, hv.Labels))
    assert {"hue", "blur"} <= set(said.dimension_values("text"))
    hv.render(drawn, backend="matplotlib")
    assert len(plot.profile_clouds(clouds, "it", ["late"])) == 1
    for given, message in (
        ((None,), "which area"),
        (("mt",), "no area 'mt'; there are v4, it"),
        (("it", ["x"]), "no layer 'x'"),
    ):
        with pytest.raises(ReaderError, match=message):
            plot.profile_clouds(clouds, *given)
    with pytest.raises(ReaderError, match="one factor is on both sides, hue: a cloud has two or more"):
        profile_clouds(
            model, xr.DataTree.from_dict({"/shapley/it": brain["shapley/it"].to_dataset().sel(factor=["hue"])})
        )

"""Lesions as protocols describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from neuroprobe.errors import NeuroprobeError, ProtocolError, QueryError, ReaderError, SubjectError, UnknownNameError
from neuroprobe.probe.lesion import Lesion
from neuroprobe.subjects.weights import weights_hash

IMAGE = torch.zeros(1, 3, 8, 8)
SHAPES = {"conv": (10, 6, 6), "tokens": (36, 10), "linear": (5,)}


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.tokens, self.linear = nn.Conv2d(3, 10, 3), Tokens(), nn.Linear(10, 5)
        self.deep = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.deep(self.tokens(self.conv(x))[:, None, None]).mean((1, 2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Network().eval()


@pytest.fixture(scope="module")
def maps() -> dict[str, np.ndarray]:
    """Values of two factors, some of them undefined or outside of [0, 1]."""
    rng = np.random.default_rng(2)
    found = {layer: rng.normal(0.4, 0.4, (2, *shape)) for layer, shape in SHAPES.items()}
    found["conv"][:, rng.random(SHAPES["conv"]) < 0.2] = np.nan
    return found


def layer_node(values: np.ndarray, value: str, **coords: list[int]) -> xr.Dataset:
    dims = {2: ("channel",), 3: ("token", "channel"), 4: ("channel", "y", "x")}[values.ndim]
    return xr.Dataset({value: (("factor", *dims), values)}, {"factor": ["hue", "blur"], **coords})


@pytest.fixture(scope="module")
def result(network: nn.Module, maps: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A netCDF export with Shapley effects of three layers, and maps over channels only."""
    nodes = {f"shapley/{layer}": layer_node(values, "shapley_effect") for layer, values in maps.items()}
    nodes |= {"other/deep": layer_node(np.zeros((2, 3)), "first_order")}
    nodes["sobol/conv"] = layer_node(maps["conv"][..., 0, 0], "total_order")
    return export(nodes, network, tmp_path_factory.mktemp("result") / "out.nc")


def export(nodes: dict[str, xr.Dataset], network: nn.Module, path: Path, lesion: str = "") -> Path:
    """Write a result of a network, or of one with a lesion of some hash."""
    tree = xr.DataTree.from_dict(nodes)
    details: dict[str, Any] = {"protocol": {"subject": {"network": "mine:net"}}, "weights_hash": weights_hash(network)}
    details["lesion"] = {"hash": lesion} if lesion else None
    tree.attrs["neuroprobe_provenance"] = json.dumps(details)
    tree.to_netcdf(path)
    return path


def shapley(result: Path, **rule: Any) -> dict[str, Any]:
    return {"from": str(result), "analysis": "shapley", "factor": "hue", "rule": rule}


@pytest.mark.parametrize("quantile", [0.5, 0.9])
@pytest.mark.parametrize("multiply", [0, 0.5, 1.5])
def test_the_most_sensitive_units_of_each_layer_are_masked(
    network: nn.Module, result: Path, maps: dict[str, np.ndarray], quantile: float, multiply: float
) -> None:
    lesion = Lesion.from_spec(shapley(result, quantile=quantile, multiply=multiply), network, IMAGE)
    assert list(lesion.masks) == list(SHAPES)
    (origin,) = lesion.origin
    assert (origin["factor"], origin["from"], len(origin["result_hash"])) == ("hue", str(result), 64)
    for layer, values in maps.items():
        map_, mask = values[0], lesion.masks[layer]
        defined, clipped = ~np.isnan(map_), np.clip(map_, 0, 1)
        n = int(np.floor(round((1 - quantile) * defined.sum(), 6) + 0.5))
        assert (mask == multiply).sum() == n == lesion.n_masked[layer]
        assert (mask[~defined] == 1).all()
        assert clipped[mask == multiply].min() >= np.nanmax(clipped[mask == 1])
        assert np.array_equal(lesion.candidates[layer], defined)
        outside = int((clipped != map_)[defined].sum())
        counts = {"n_units": map_.size, "n_masked": n, "n_undefined": int((~defined).sum()), "n_clipped": outside}
        assert origin["layers"][layer] == counts
    assert lesion.random_twin(5).n_masked == lesion.n_masked


@pytest.mark.parametrize(("word", "of"), [("s", lambda s: s), ("1 - s", lambda s: 1 - s), ("1-s", lambda s: 1 - s)])
def test_soft_rules(network: nn.Module, result: Path, maps: dict[str, np.ndarray], word: str, of: Any) -> None:
    spec = shapley(result, multiply=word) | {"factor": "blur", "layers": ["linear", "conv"]}
    lesion = Lesion.from_spec(spec, network, IMAGE)
    assert list(lesion.masks) == ["linear", "conv"]
    for layer, mask in lesion.masks.items():
        expected = np.nan_to_num(of(np.clip(maps[layer][1], 0, 1)), nan=1)
        np.testing.assert_allclose(mask, expected, atol=1e-7)


def test_channels_that_were_not_recorded_are_left_as_they_are(
    network: nn.Module, maps: dict[str, np.ndarray], tmp_path: Path
) -> None:
    some = layer_node(maps["conv"][:, [7, 2, 4]], "total_order", channel=[7, 2, 4])
    result = export({"sobol/conv": some}, network, tmp_path / "some.nc")
    spec = shapley(result, quantile=0.8) | {"analysis": "sobol", "value": "total_order"}
    lesion = Lesion.from_spec(spec, network, IMAGE)
    recorded = np.isin(np.arange(10), [2, 4, 7])
    assert (lesion.masks["conv"][~recorded] == 1).all()
    assert lesion.origin[0]["layers"]["conv"]["n_undefined"] == np.isnan(maps["conv"][0, recorded]).sum()
    assert np.array_equal(lesion.candidates["conv"], recorded[:, None, None] & ~np.isnan(maps["conv"][0]))
    assert lesion.n_masked["conv"] == round(0.2 * lesion.candidates["conv"].sum())
    by_query = {"units": "layer == 'conv' and total_order_hue > 0.4 and channel == 7", "from": str(result)}
    mask = Lesion.from_spec(by_query, network, IMAGE).masks["conv"]
    assert np.array_equal(mask[7] == 0, maps["conv"][0, 7] > 0.4)
    assert (np.delete(mask, 7, 0) == 1).all()


PLACES: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "channels": ("layer == 'conv' and channel in [3, 7]", {"conv": ([3, 7],)}),
    "places": ("layer == 'conv' and y == x and channel > 7", {"conv": (slice(8, 10), range(6), range(6))}),
    "tokens": ("layer == 'tokens' and token < 2", {"tokens": (slice(0, 2),)}),
    "several layers": (
        "layer in ['conv', 'linear'] and channel == 2",
        {"conv": (2,), "linear": (2,)},
    ),
}


@pytest.mark.parametrize("case", PLACES)
@pytest.mark.parametrize("multiply", [0, 2.5])
def test_units_by_their_places(network: nn.Module, case: str, multiply: float) -> None:
    query, expected = PLACES[case]
    lesion = Lesion.from_spec({"units": query, "multiply": multiply}, network, IMAGE)
    assert set(lesion.masks) == set(expected)
    for layer, index in expected.items():
        mask = np.ones(SHAPES[layer])
        mask[index] = multiply
        assert np.array_equal(lesion.masks[layer], mask)
        assert lesion.candidates[layer].all()


def test_units_by_the_columns_of_a_result(network: nn.Module, result: Path, maps: dict[str, np.ndarray]) -> None:
    spec = {"units": "shapley_hue > 0.2", "from": str(result), "multiply": 0.5}
    for layers in (None, ["conv", "tokens"]):
        lesion = Lesion.from_spec(spec if layers is None else {**spec, "layers": layers}, network, IMAGE)
        assert list(lesion.masks) == (layers or list(SHAPES))
        for layer, mask in lesion.masks.items():
            hue = maps[layer][0]
            assert np.array_equal(mask == 0.5, hue > 0.2)
            assert np.array_equal(lesion.candidates[layer], ~np.isnan(hue))
            assert lesion.origin[0]["layers"][layer]["n_undefined"] == np.isnan(hue).sum()


def test_columns_of_channels_mask_all_their_places(
    network: nn.Module, result: Path, maps: dict[str, np.ndarray]
) -> None:
    spec = {"units": "total_order_hue > 0.4", "from": str(result)}
    lesion = Lesion.from_spec(spec, network, IMAGE)
    means = maps["conv"][0, :, 0, 0]
    assert np.array_equal(lesion.masks["conv"], np.where((means > 0.4)[:, None, None], 0, np.ones(SHAPES["conv"])))
    assert np.array_equal(lesion.candidates["conv"].all((1, 2)), ~np.isnan(means))


NEAR: dict[str, tuple[str, dict[str, list[int]]]] = {
    "its own layer": ("near('conv/3', 0.5)", {"conv": [3, 5]}),
    "not of another layer": ("not near('conv/3', 0.5) and layer == 'linear' and channel < 2", {"linear": [0, 1]}),
    "either": ("near('conv/3', 0.5) or (layer == 'linear' and channel == 4)", {"conv": [3, 5], "linear": [4]}),
}


@pytest.mark.parametrize("case", NEAR)
def test_units_that_are_near_another(network: nn.Module, tmp_path: Path, case: str) -> None:
    """The layer of that other unit need not be one whose units are masked; units without a similarity count."""
    similarity = np.eye(10)
    similarity[5, 3], similarity[2, 3], similarity[7] = 0.6, 0.4, np.nan
    conv = xr.Dataset({"similarity": (("channel", "channel_2"), similarity)}, {"channel_2": np.arange(10)})
    linear = xr.Dataset({"gamma": ("channel", np.linspace(0, 1, 5))})
    path = export({"selectivity/conv": conv, "selectivity/linear": linear}, network, tmp_path / "out.nc")
    query, expected = NEAR[case]
    lesion = Lesion.from_spec({"units": query, "from": str(path)}, network, IMAGE)
    assert set(lesion.masks) == set(expected)
    for layer, channels in expected.items():
        silenced = (lesion.masks[layer] == 0).reshape(len(lesion.masks[layer]), -1)
        assert np.flatnonzero(silenced.all(1)).tolist() == np.flatnonzero(silenced.any(1)).tolist() == channels
        undefined = 1 if layer == "conv" else 0
        assert lesion.origin[0]["layers"][layer]["n_undefined"] == undefined


def test_arrays_of_a_file(network: nn.Module, tmp_path: Path) -> None:
    masks = {layer: np.random.default_rng(1).random(shape) for layer, shape in SHAPES.items()}
    np.savez(tmp_path / "masks.npz", **masks)
    lesion = Lesion.from_spec({"array": str(tmp_path / "masks.npz")}, network, IMAGE)
    assert lesion.digest == Lesion(masks).digest  # type: ignore[arg-type]


def test_random_lesions_have_one_size_and_can_be_made_again(network: nn.Module) -> None:
    spec = {"random": {"share": 0.1, "seed": 3}, "layers": ["conv", "tokens"], "multiply": 0.5}
    lesion, again, other = (
        Lesion.from_spec({**spec, "random": {"share": 0.1, "seed": seed}}, network, IMAGE) for seed in (3, 3, 4)
    )
    assert lesion.n_masked == other.n_masked == {"conv": 36, "tokens": 36}
    assert lesion.digest == again.digest != other.digest
    # one draw per layer: equal sizes do not mean equal places
    assert not np.array_equal(lesion.masks["conv"].ravel(), lesion.masks["tokens"].ravel())


def test_several_lesions_are_multiplied(network: nn.Module) -> None:
    one = {"units": "layer == 'conv' and channel < 5", "multiply": 0.5}
    other = {"units": "channel in [4, 9]", "multiply": 0.5, "layers": ["conv", "linear"]}
    lesion = Lesion.from_spec([one, other], network, IMAGE)
    assert lesion.masks["conv"][:, 0, 0].tolist() == [0.5, 0.5, 0.5, 0.5, 0.25, 1, 1, 1, 1, 0.5]
    assert lesion.masks["linear"].tolist() == [1, 1, 1, 1, 0.5]
    assert [origin["units"] for origin in lesion.origin] == [one["units"], other["units"]]
    assert not Lesion.from_spec([], network, IMAGE).masks


def test_maps_of_other_networks(network: nn.Module, result: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        other = Network().eval()
    spec = shapley(result, quantile=0.5)
    expected = Lesion.from_spec(spec, network, IMAGE).digest
    for given in (spec, {"units": "shapley_hue > 0.5", "from": str(result)}):
        with pytest.raises(SubjectError, match=r"network 'mine:net' with the weights .* write `any_network: true`"):
            Lesion.from_spec(given, other, IMAGE)
        assert Lesion.from_spec({**given, "any_network": True}, other, IMAGE).masks
    assert Lesion.from_spec({**spec, "any_network": True}, other, IMAGE).digest == expected
    # shapes have to agree all the same
    with pytest.raises(
        SubjectError, match=r"layer 'conv' with the units \(channel: 10, y: 6, x: 6\), .* \(10, 10, 10\)"
    ):
        Lesion.from_spec({**spec, "any_network": True}, other, torch.zeros(1, 3, 12, 12))


WRONG: dict[str, tuple[Any, type[NeuroprobeError], str]] = {
    "no such factor": ({"factor": "hu"}, UnknownNameError, r"unknown factor 'hu' \(did you mean 'hue'\?\)"),
    "no such layer": ({"layers": ["conf"]}, UnknownNameError, r"unknown layer 'conf' \(did you mean 'conv'\?\)"),
    "a reduced map": (
        {"units": "first_order_hue == 0"},
        SubjectError,
        "'deep' gives .1, 1, 36, 10. per image",
    ),
    "a reduced map to be ranked": ({"analysis": "sobol", "value": "total_order"}, SubjectError, "without `reduce`"),
    "nothing selected": ({"units": "shapley_hue > 1e9"}, SubjectError, "'shapley_hue > 1e9' is true of no unit"),
    "nothing at random": ({"random": {"share": 0.01}, "layers": ["linear"]}, SubjectError, "no unit of linear: take a"),
    "an unknown column": ({"units": "first_order_hue > 0", "from": None}, QueryError, "first_order_hue"),
    "an unknown layer": ({"random": {"share": 0.1}, "layers": ["conv", "lin"]}, UnknownNameError, "nearest: linear"),
    "layers of a query": ({"units": "channel == 1", "layers": ["lin"]}, UnknownNameError, "nearest: linear"),
    "no units": ({"random": {"share": 0.1}, "layers": ["deep"]}, SubjectError, r"gives \(1, 1, 36, 10\) per image"),
    "no file": ({"array": "nowhere.npz"}, ReaderError, "no such file; expected .npz"),
}
OF_RESULTS = list(WRONG)[:5]


@pytest.mark.parametrize("case", OF_RESULTS)
def test_what_does_not_fit_a_result(network: nn.Module, result: Path, case: str) -> None:
    changes, error, said = WRONG[case]
    given = {"from": str(result), **changes} if "units" in changes else {**shapley(result, quantile=0.5), **changes}
    with pytest.raises(error, match=said):
        Lesion.from_spec(given, network, IMAGE)


@pytest.mark.parametrize("case", [case for case in WRONG if case not in OF_RESULTS])
def test_what_does_not_fit_the_network(network: nn.Module, case: str) -> None:
    changes, error, said = WRONG[case]
    with pytest.raises(error, match=said):
        Lesion.from_spec({key: value for key, value in changes.items() if value is not None}, network, IMAGE)


def test_an_analysis_that_a_result_does_not_hold(network: nn.Module, tmp_path: Path) -> None:
    path = export({"sobol/linear": layer_node(np.zeros((2, 5)), "total_order")}, network, tmp_path / "out.nc")
    with pytest.raises(ReaderError, match="unknown analysis 'shapley'; known: sobol"):
        Lesion.from_spec(shapley(path, quantile=0.5), network, IMAGE)


@pytest.mark.parametrize(
    ("masks", "error", "said"),
    [
        ({"conv": np.ones((10, 6))}, SubjectError, r"is \(10, 6\), expected \(10, 6, 6\)"),
        ({"conf": np.ones(3)}, UnknownNameError, "nearest: conv"),
        ({"linear": np.array([1, 1, np.nan, 1, 1])}, SubjectError, "NaN or infinity at 1 of 5 units"),
        ({"linear": np.array([None] * 5)}, ReaderError, "cannot be read .* Object arrays"),
        ({}, ReaderError, "hold no array"),
    ],
)
def test_arrays_that_do_not_fit(
    network: nn.Module, tmp_path: Path, masks: dict[str, np.ndarray], error: type[Exception], said: str
) -> None:
    np.savez(tmp_path / "masks.npz", **masks)  # type: ignore[arg-type]
    with pytest.raises(error, match=said):
        Lesion.from_spec({"array": str(tmp_path / "masks.npz")}, network, IMAGE)


WRITTEN_WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "given {}, expected a block with one of the keys: units, array, random, from"),
    "a number": (3, "given 3, expected a block"),
    "a key that is near": ({"unit": "channel == 1"}, "given 'unit' .did you mean 'units'"),
    "quantile of 1": (shapley(Path("r"), quantile=1.0), "quantile: given 1.0, expected a number less than 1"),
    "quantile of 0": (shapley(Path("r"), quantile=0), "quantile: given 0, expected a number greater than 0"),
    "no rule": (shapley(Path("r")), "expected {quantile: 0.9, multiply: 0}"),
    "a number for all": (shapley(Path("r"), multiply=0.5), "expected {quantile: 0.9, multiply: 0}"),
    "both rules": (shapley(Path("r"), quantile=0.5, multiply="s"), "does not go with `multiply: s`"),
    "a word": (shapley(Path("r"), quantile=0.5, multiply="none"), "given 'none', expected a number, s for"),
    "nothing to do": (shapley(Path("r"), quantile=0.5, multiply=1), "given 1, which leaves responses as they are"),
    "which index": (shapley(Path("r"), quantile=0.5) | {"analysis": "sobol"}, "say which by `value: first_order`"),
    "an index": (shapley(Path("r"), quantile=0.5) | {"value": "first_order"}, "goes with `analysis: sobol` only"),
    "a query": ({"units": "channel = 1"}, "query:1:9: '=' is not part of a query: write =="),
    "no archive": ({"array": "masks.npy"}, "given 'masks.npy', expected a path that ends in .npz"),
    "random everywhere": ({"random": {"share": 0.1}}, "missing key 'layers'"),
    "a large share": ({"random": {"share": 1.5}, "layers": ["conv"]}, "expected a number less than or equal to 1"),
    "an unknown key": (
        {"random": {"share": 0.1}, "layers": ["conv"], "multipy": 0},
        "unknown key 'multipy' .did you mean 'multiply'.*expected: random, layers, multiply",
    ),
}


@pytest.mark.parametrize("case", WRITTEN_WRONG)
def test_what_is_written_wrong(network: nn.Module, case: str) -> None:
    given, said = WRITTEN_WRONG[case]
    with pytest.raises(ProtocolError, match=said):
        Lesion.from_spec(given, network, IMAGE)


def test_a_query_of_a_layer_and_of_one_within_it_is_refused() -> None:
    """Of a container and its last child the response is the same tensor, which would be multiplied twice."""
    nested = nn.Sequential(nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU()), nn.Flatten(), nn.Linear(360, 5)).eval()
    with pytest.raises(SubjectError, match=r"units of '0' and of '0.0' within it, 5 layers in all: name the layers"):
        Lesion.from_spec({"units": "channel == 3"}, nested, IMAGE)
    for spec in ({"units": "channel == 3", "layers": ["0"]}, {"units": "channel == 3 and layer == '0'"}):
        assert Lesion.from_spec(spec, nested, IMAGE).n_masked == {"0": 36}


def test_maps_of_a_lesioned_network_are_not_those_of_the_intact_one(
    network: nn.Module, maps: dict[str, np.ndarray], tmp_path: Path
) -> None:
    path = export({"shapley/conv": layer_node(maps["conv"], "shapley_effect")}, network, tmp_path / "out.nc", "ab" * 32)
    spec = shapley(path, quantile=0.5, multiply=0)
    with pytest.raises(SubjectError, match=r"a result of this network with a lesion \(masks abababab"):
        Lesion.from_spec(spec, network, IMAGE)
    assert Lesion.from_spec({**spec, "any_network": True}, network, IMAGE).n_masked["conv"] > 0

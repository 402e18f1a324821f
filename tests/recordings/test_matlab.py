"""Structs and matrices of MATLAB files: layouts, ragged fields, and the numbers of the real recordings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.io import savemat

from neuroprobe.errors import ReaderError, RegistryError
from neuroprobe.recordings import read_recording
from neuroprobe.recordings.matlab import MatLayout


def structs(*elements: dict[str, Any]) -> np.ndarray:
    fields = list(elements[0])
    array = np.empty((1, len(elements)), dtype=[(name, object) for name in fields])
    for place, element in enumerate(elements):
        for name in fields:
            array[0, place][name] = element[name]
    return array


def cells(*values: Any) -> np.ndarray:
    array = np.empty((len(values), 1), dtype=object)
    for place, value in enumerate(values):
        array[place, 0] = np.asarray(value)
    return array


UNITS = structs(
    {"name": "a1", "area": 1, "dx": [[-1.0], [0.0], [9.0]], "mean": [[2.0], [4.0], [1.0]], "rf": [[3.0, 4.0]],
     "counts": cells([1, 2, 3], [4], [0, 2])},
    {"name": "b1", "area": 2, "dx": [[0.0], [1.0]], "mean": [[5.0], [6.0]], "rf": [[np.nan, 1.0]],
     "counts": cells([5, 5], [6, 6])},
)  # fmt: skip
LAYOUT = MatLayout(
    variable="D",
    response="mean",
    factors=("dx",),
    repeats="counts",
    unit_id="name",
    region="area",
    region_names={1: "V1", 2: "V2"},
    subject="name",
    subject_pattern="^([a-z])",
    unit_fields=("rf",),
    controls={"dx": {9: "noise"}},
    units={"dx": "degree", "mean": "spikes"},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    savemat(tmp_path / "d.mat", {"D": UNITS, "other": np.zeros((2, 3))})
    return tmp_path / "d.mat"


def test_means_carry_their_numbers_of_trials(file: Path) -> None:
    tree = read_recording(file, layout=LAYOUT, factors=["dx"])
    assert list(tree["responses"].children) == ["a1", "b1"]
    a = tree["responses/a1"].to_dataset()
    np.testing.assert_array_equal(a.response[:, 0], [2, 4, 1])
    np.testing.assert_array_equal(a.n_trials, [3, 1, 2])
    assert a.response.attrs["responses"] == "means"
    assert a.response.attrs["units"] == "spikes"
    np.testing.assert_array_equal(a.dx, [-1, 0, np.nan])
    assert a.dx.attrs["units"] == "degree"
    assert a.control_kind.values.tolist() == ["", "", "noise"]
    assert (a.region.item(), a.subject_id.item(), a.rf_1.item(), a.rf_2.item()) == ("V1", "a", 3.0, 4.0)
    assert json.loads(tree.attrs["factors"]) == ["dx"]


def test_single_trials_where_they_are_asked_for(file: Path) -> None:
    tree = read_recording(file, layout=LAYOUT, trials="counts")
    a = tree["responses/a1"].to_dataset()
    assert a.response.values.ravel().tolist() == [1, 2, 3, 4, 0, 2]
    assert a.repetition.values.tolist() == [0, 1, 2, 0, 0, 1]
    np.testing.assert_array_equal(a.dx, [-1, -1, -1, 0, np.nan, np.nan])
    assert "n_trials" not in a
    assert a.response.attrs["responses"] == "trials"
    with pytest.raises(ReaderError, match="unknown field of single trials 'spikes'; known: counts"):
        read_recording(file, layout=LAYOUT, trials="spikes")


def test_units_and_regions_are_chosen(file: Path) -> None:
    assert list(read_recording(file, layout=LAYOUT, region="V2")["responses"].children) == ["b1"]
    assert list(read_recording(file, layout=LAYOUT, units="a*")["responses"].children) == ["a1"]
    with pytest.raises(ReaderError, match="unknown region 'V4'; known: V1, V2"):
        read_recording(file, layout=LAYOUT, region="V4")
    with pytest.raises(ReaderError, match="no unit of a1 is in a region of V2"):
        read_recording(file, layout=LAYOUT, region="V2", units="a1")


def test_without_a_layout_the_file_is_described(file: Path) -> None:
    with pytest.raises(ReaderError) as caught:
        read_recording(file)
    assert "D: 1×2 struct with fields name, area, dx, mean, rf, counts" in str(caught.value)
    assert "other: 2×3 float64" in str(caught.value)
    assert "manning2024_mt" in str(caught.value)
    with pytest.raises(RegistryError, match="did you mean 'manning2024_mt'"):
        read_recording(file, layout="manning2024_m")
    with pytest.raises(ReaderError, match=r"unknown key of a layout 'respons' \(did you mean 'response'"):
        read_recording(file, layout={"respons": "x"})
    with pytest.raises(ReaderError, match="which field is the `response`"):
        read_recording(file, layout={"factors": "x"})


@pytest.mark.parametrize(
    ("element", "layout", "message"),
    [
        ({"dx": [[0.0], [1.0]], "r": [[1.0], [2.0], [3.0]]}, {}, r"D\(1\): dx has 2 values, r has 3 presentations"),
        ({"dx": [[0.0]], "r": [["x"]]}, {}, "expected numbers"),
        ({"dx": [[0.0]], "q": [[1.0]]}, {}, r"D\(1\): unknown field 'r'; known: dx, q"),
        ({"dx": [[0.0]], "r": [[1.0]]}, {"variable": "E"}, r"no struct 'E'; it holds D: 1×1 struct with fields dx, r"),
        ({"dx": [[0.0], [1.0]], "r": [[1.0], [-9999.0]]}, {}, r"D\(1\): presentation 2: r is -9999, far outside"),
        ({"dx": [[0.0], [1.0]], "r": [[1.0], [2.0]], "n": [[3]]}, {"n_trials": "n"}, "n has 1 values, r has 2"),
        ({"dx": [[0.0], [1.0]], "r": [[1.0], [2.0]], "n": cells([1, 2], [2])}, {"repeats": "n", "trials": "n"},
         r"presentation 1: the mean of n is 1.5, r says 1: these are not its single trials"),
        ({"dx": cells([0.0, 1.0], [1.0]), "r": [[1.0], [2.0]]}, {}, "dx has several values per presentation"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_layout(tmp_path: Path, element: Any, layout: Any, message: str) -> None:
    savemat(tmp_path / "d.mat", {"D": structs(element)})
    layout = {"variable": "D", "response": "r", "factors": "dx", **layout}
    trials = layout.pop("trials", None)
    with pytest.raises(ReaderError, match=message):
        read_recording(tmp_path / "d.mat", layout=layout, trials=trials)


def test_matrices_without_structs(tmp_path: Path) -> None:
    rates = np.arange(12.0).reshape(4, 3)
    variables = {"R": rates, "angle": np.arange(4) * 45.0, "id": cells("x", "y", "z"), "side": cells(*"lrlr")}
    savemat(tmp_path / "m.mat", variables)
    layout = {"response": "R", "factors": ["angle", "side"], "unit_id": "id", "region": "V4"}
    found = read_recording(tmp_path / "m.mat", layout=layout)["responses/m"].to_dataset()
    np.testing.assert_array_equal(found.response, rates)
    assert found.unit_id.values.tolist() == ["x", "y", "z"]
    assert found.side.values.tolist() == ["l", "r", "l", "r"]
    assert found.region.values.tolist() == ["V4"] * 3
    savemat(tmp_path / "m.mat", {**variables, "R": rates.T})
    with pytest.raises(ReaderError, match="angle has 4 values, R has 3 presentations"):
        read_recording(tmp_path / "m.mat", layout=layout)


def test_values_that_stand_for_none(tmp_path: Path) -> None:
    savemat(tmp_path / "m.mat", {"R": np.array([[1.0, 2.0], [-9999.0, 3.0], [2.0, 2.0]]), "a": np.arange(3.0)})
    layout = {"response": "R", "factors": "a", "missing": {"R": [-9999]}}
    found = read_recording(tmp_path / "m.mat", layout=layout)["responses/m"].to_dataset()
    np.testing.assert_array_equal(found.response[:, 0], [1, np.nan, 2])


def test_files_that_are_damaged(tmp_path: Path, file: Path) -> None:
    (tmp_path / "short.mat").write_bytes(file.read_bytes()[:300])
    (tmp_path / "other.mat").write_bytes(b"nothing of the kind")
    for name in ("short.mat", "other.mat"):
        with pytest.raises(ReaderError, match=f"{name}': not a MATLAB file that can be read"):
            read_recording(tmp_path / name, layout=LAYOUT)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ReaderError, match=r"is of MATLAB 7\.3: save it with `-v7`"):
        read_recording(tmp_path / "new.mat", layout=LAYOUT)


@pytest.fixture(scope="module")
def mt(data: Path) -> xr.DataTree:
    return read_recording(data / "recordings" / "manning2024" / "MT", layout="manning2024_mt", factors=["disparity"])


@pytest.fixture(scope="module")
def v1v2(data: Path) -> Path:
    return data / "recordings" / "manning2024" / "V1V2" / "AllDTData.mat"


def significant(nodes: list[xr.Dataset], transform: Any, factor: str) -> float:
    """Share of neurons with p < .01 in a one-way ANOVA over a factor, controls left out."""
    p = []
    for node in nodes:
        response, given = transform(node.response.values[:, 0].astype(float)), node[factor].values
        groups = [response[given == value] for value in np.unique(given[np.isfinite(given)])]
        p.append(stats.f_oneway(*[group for group in groups if len(group)]).pvalue)
    return float(np.mean(np.array(p) < 0.01))


def test_mt_neurons_trials_and_controls(mt: xr.DataTree) -> None:
    nodes = [node.to_dataset() for node in mt["responses"].children.values()]
    assert len(nodes) == 501
    assert sum(node.sizes["presentation"] for node in nodes) == 29_295
    kinds = np.concatenate([node.control_kind.values for node in nodes]).astype(str)
    assert (kinds != "").sum() == 8_881
    found = dict(zip(*np.unique(kinds, return_counts=True), strict=True))
    assert {name: int(n) for name, n in found.items() if name} == {
        "null": 2144,
        "left_eye": 2242,
        "right_eye": 2247,
        "uncorrelated": 2248,
    }
    shown = [node.isel(presentation=node.arm.values == "treatment") for node in nodes]
    assert all(np.isfinite(node.disparity).all() and abs(node.disparity).max() <= 5 for node in shown)
    assert sum(len(np.unique(node.speed)) > 1 for node in shown) == 25
    assert {node.region.item() for node in nodes} == {"MT"}
    assert {node.subject_id.item() for node in nodes} >= {"m1", "m3"}
    assert significant(shown, lambda x: x, "disparity") == pytest.approx(0.76, abs=0.005)


def test_v1_and_v2_means(v1v2: Path) -> None:
    tree = read_recording(v1v2, layout="manning2024_v1v2")
    nodes = [node.to_dataset() for node in tree["responses"].children.values()]
    regions = [node.region.item() for node in nodes]
    assert (regions.count("V1"), regions.count("V2")) == (994, 581)
    assert all((node.n_trials >= 1).all() and np.isfinite(node.response).all() for node in nodes)
    assert max(node.pval.item() for node in nodes) < 0.01
    assert max(float(abs(node.dx).max()) for node in nodes) < 2.5


def test_v1_and_v2_trials_give_the_authors_p_values(v1v2: Path) -> None:
    """What the data's README calls the number of trials is the trials: means and p-values follow from them."""
    tree = read_recording(v1v2, layout="manning2024_v1v2", region="V2", trials="counts")
    agree = []
    for child in tree["responses"].children.values():
        node = child.to_dataset()
        count, dx = np.sqrt(node.response.values[:, 0]), node.dx.values
        p = stats.f_oneway(*[count[dx == value] for value in np.unique(dx[np.isfinite(dx)])]).pvalue
        agree.append(np.isclose(p, node.pval.item(), rtol=1e-6, atol=0))
    assert len(agree) == 581
    # the authors took some disparities together that differ by rounding
    assert np.mean(agree) > 0.9

"""Tables of responses, wide and long, and the line of whatever is wrong in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_recording

WIDE = "orientation (deg),eye,n1,n2\n0,left,3,4.5\n45,right,5,6\n90,left,0,1\n"


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(text: str, name: str = "trials.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def node(tree: xr.DataTree) -> xr.Dataset:
    (only,) = tree["responses"].children.values()
    return only.to_dataset()


def test_wide(file: Any) -> None:
    tree = read_recording(file(WIDE), factors=["orientation", "eye"])
    found = node(tree)
    np.testing.assert_array_equal(found.response, [[3, 4.5], [5, 6], [0, 1]])
    assert found.unit_id.values.tolist() == ["n1", "n2"]
    assert found.orientation.attrs == {"units": "deg"}
    assert tree.eye.values.tolist() == ["left", "right", "left"]
    assert json.loads(tree.attrs["factors"]) == ["orientation", "eye"]
    told = json.loads(tree.attrs["neuroprobe_provenance"])
    assert told["format"] == "table"
    assert told["choices"] == {"factors": ["orientation", "eye"]}
    assert len(told["sha256"]) == 64


def test_units_may_be_named_in_place_of_factors(file: Any) -> None:
    tree = read_recording(file(WIDE), units="n*", factors="orientation")
    assert set(tree.to_dataset().coords) == {"orientation", "eye"}
    assert node(tree).sizes == {"presentation": 3, "unit": 2}


def test_tabs_and_quotes_and_byte_order_mark(file: Any) -> None:
    path = file('\ufeffname\tn1\n"a, ""b"""\t1\nc\t2\n', "t.tsv")
    assert read_recording(path, factors=["name"])["name"].values.tolist() == ['a, "b"', "c"]


def test_two_files(file: Any, tmp_path: Path) -> None:
    trials = file("contrast\n0.1\n0.2\n")
    np.save(tmp_path / "r.npy", np.arange(6).reshape(2, 3))
    found = node(read_recording(trials, responses=str(tmp_path / "r.npy"), units=["unit_0", "unit_2"]))
    np.testing.assert_array_equal(found.response, [[0, 2], [3, 5]])
    file("a,b\n1,2\n3,4\n", "r.csv")
    units = file("unit_id,region,depth (um)\nb,V2,20\na,V1,10\n", "units.csv")
    found = node(read_recording(trials, responses=tmp_path / "r.csv", unit_table=units))
    assert found.region.values.tolist() == ["V1", "V2"]
    assert found.depth.attrs["units"] == "um"
    found = node(read_recording(trials, responses=tmp_path / "r.csv", unit_table=units, region="V2"))
    assert found.unit_id.values.tolist() == ["b"]
    file("a\n1\n", "short.csv")
    with pytest.raises(ReaderError, match="presentation table has 2 rows, the responses have 1"):
        read_recording(trials, responses=tmp_path / "short.csv")
    file("unit_id,region\na,V1\n", "few.csv")
    with pytest.raises(ReaderError, match="nothing about units b"):
        read_recording(trials, responses=tmp_path / "r.csv", unit_table=tmp_path / "few.csv")


@given(st.integers(1, 6), st.integers(1, 4), st.randoms(use_true_random=False))
def test_long_is_wide(n: int, n_units: int, random: Any) -> None:
    import tempfile

    values = np.round(np.random.default_rng(random.randint(0, 99)).normal(size=(n, n_units)), 3)
    rows = [f"t{p},{p * 10},u{u},{'V1' if u else 'V2'},{values[p, u]}" for p in range(n) for u in range(n_units)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.csv"
        path.write_text("trial,angle,cell,region,rate (Hz)\n" + "\n".join(rows))
        columns = {"presentation": "trial", "unit": "cell", "response": "rate"}
        found = node(read_recording(path, long=columns, factors=["angle"]))
    np.testing.assert_allclose(found.response, values)
    np.testing.assert_array_equal(found.angle, 10 * np.arange(n))
    assert found.unit_id.values.tolist() == [f"u{u}" for u in range(n_units)]
    assert found.region.values.tolist() == ["V2", "V1", "V1", "V1"][:n_units]
    assert found.response.attrs["units"] == "Hz"


LONG = "s,t,u,o,r\na,1,x,0,5\na,2,x,90,6\nb,1,y,45,7\n"


def test_long_with_sessions(file: Any) -> None:
    columns = {"presentation": "t", "unit": "u", "response": "r", "session": "s"}
    tree = read_recording(file(LONG), long=columns)
    assert not tree.to_dataset().variables
    assert tree["responses/a"].sizes == {"presentation": 2, "unit": 1}
    assert tree["responses/b"]["o"].values.tolist() == [45]


def test_long_that_is_not_complete_has_gaps(file: Any) -> None:
    path = file("t,u,r\n1,x,5\n2,x,6\n1,y,7\n")
    found = node(read_recording(path, long={"presentation": "t", "unit": "u", "response": "r"}))
    np.testing.assert_array_equal(found.response, [[5, 7], [6, np.nan]])


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("t,u,r\n1,x,5\n\n1,x,6\n", {}, r"line 4: presentation 1 and unit x came before"),
        ("t,u,r\n1,x,5\n", {"response": "q"}, "long: response: unknown column 'q'"),
        ("t,u,r\n1,x,5\n", {"sesion": "t"}, r"unknown key of long 'sesion' \(did you mean 'session'"),
        ("t,u,w,r\n1,x,1,5\n1,y,2,6\n2,x,3,1\n", {}, r"line 3: w varies within presentation 1 and within units"),
    ],
)
def test_long_that_cannot_be_read(file: Any, text: str, columns: Any, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_recording(file(text), long={"presentation": "t", "unit": "u", "response": "r", **columns})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("o,n1\n0,1\n45,2,3\n", r"line 3: 3 cells, the header has 2: '45,2,3'"),
        ("o,n1\n0,1\n\n45\n", r"line 4: 1 cells, the header has 2"),
        ('o,n1\n"0\n",1\n45\n', r"line 4: 1 cells"),
        ("o,n1\n0,1\n45,\n", r"line 3: n1 is empty \(1 of 2 cells\); .* `missing=\[''\]`"),
        ("o,n1\n0,1\n45,x\n", r"line 3: n1 is 'x', expected the number of a response"),
        ("o,n1\n0,1\n45,-9999\n", r"line 3: n1 is -9999, far outside the other values \(up to 1\)"),
        ("o,n1\n0,1\n0.4,1\n-99,7\n98,3\n", r"line 4: o is -99, far outside .* -99.0, 98.0"),
        ("o,n1,n1\n0,1,1\n", "line 1: columns share a name"),
        ("o,,n1\n0,1,1\n", "line 1: column 2 has no name"),
        ("o (a),o (b),n1\n0,1,1\n", "two columns are named 'o'"),
        ("o,n1\n", "no rows under o, n1"),
        ("", "no rows under none"),
        ("o;n1\n0;1\n", "one column, 'o;n1'; say which `delimiter` it is"),
        ('o,n1\n0,"1\n', "unexpected end of data"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(file: Any, text: str, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_recording(file(text), factors=["o"])


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"o,n1\n0,\xff\n")
    with pytest.raises(ReaderError, match="expected text in UTF-8"):
        read_recording(tmp_path / "a.csv", factors=["o"])


def test_special_values_with_a_meaning(file: Any) -> None:
    path = file("o,n1\n0,1\n0.4,-9999\n-99,7\n98,\n")
    choices = {"missing": {"n1": [-9999, ""]}, "controls": {"o": {-99: "left", 98: "noise"}}}
    found = node(read_recording(path, factors=["o"], **choices))
    np.testing.assert_array_equal(found.response[:, 0], [1, np.nan, 7, np.nan])
    np.testing.assert_array_equal(found.o, [0, 0.4, np.nan, np.nan])
    assert found.control_kind.values.tolist() == ["", "", "left", "noise"]
    kept = node(read_recording(file("o,n1\n0,1\n0.4,9999\n"), factors=["o"], missing={}))
    np.testing.assert_array_equal(kept.response[:, 0], [1, 9999])


def test_counts_of_99_are_counts(file: Any) -> None:
    found = node(read_recording(file("o,n1\n0,99\n45,98\n90,70\n"), factors=["o"]))
    assert found.response.values.ravel().tolist() == [99, 98, 70]


def test_means_say_of_how_many_trials(file: Any) -> None:
    path = file("o,n,n1\n0,5,1\n45,6,2\n")
    found = node(read_recording(path, factors=["o"], n_trials="n"))
    assert found.n_trials.values.tolist() == [5, 6]
    assert found.response.attrs["responses"] == "means"
    assert found.unit_id.values.tolist() == ["n1"]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pandas as pd

    frame = pd.DataFrame({"o": [0.0, 45.0], "side": ["l", "r"], "n1": [1, 2]})
    frame.to_parquet(tmp_path / "a.parquet")
    found = node(read_recording(tmp_path / "a.parquet", factors=["o", "side"]))
    assert found.response.values.tolist() == [[1], [2]]
    assert found.side.values.tolist() == ["l", "r"]
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(ReaderError, match="not a Parquet file that can be read"):
        read_recording(tmp_path / "b.parquet", factors=["o"])


def test_berens(data: Path) -> None:
    tree = read_recording(data / "recordings" / "berens2009" / "circular.csv", factors=["Orientation"])
    found = node(tree)
    assert found.response.shape == (8, 3)
    assert found.Orientation.values.tolist() == [0, 22.5, 45, 67.5, 90, 112.5, 135, 157.5]
    assert found.response.sum("presentation").values.tolist() == [643, 353, 141]

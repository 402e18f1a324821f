"""Matrices of dissimilarities from files of every kind, against what was put into them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_rdms, read_recording


def made(n_subjects: int = 3, n: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([squareform(pdist(rng.normal(size=(n, 4)))) for _ in range(n_subjects)])


def as_struct(matrices: Any, **fields: Any) -> np.ndarray:
    array = np.empty((1, len(matrices)), dtype=[("RDM", object), *((name, object) for name in fields)])
    for place, matrix in enumerate(matrices):
        array[0, place]["RDM"] = matrix
        for name, values in fields.items():
            array[0, place][name] = values[place]
    return array


@given(st.integers(1, 3), st.integers(2, 8), st.integers(0, 99))
def test_pairs_are_those_of_the_matrix(n_subjects: int, n: int, seed: int) -> None:
    import tempfile

    matrices = made(n_subjects, n, seed)
    labels = [f"im{number}" for number in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "r.npz", rdms=matrices)
        found = read_rdms(Path(folder) / "r.npz", labels=labels)
    assert found.rdm.dims == ("subject", "pair")
    for pair in range(found.sizes["pair"]):
        i, j = labels.index(found.stimulus_1.values[pair]), labels.index(found.stimulus_2.values[pair])
        assert i < j
        np.testing.assert_array_equal(found.rdm[:, pair], matrices[:, i, j])
    assert found.sizes["pair"] == n * (n - 1) // 2


def test_files_of_every_kind_give_the_same(tmp_path: Path) -> None:
    matrices = made()
    pairs = np.array([squareform(matrix, checks=False) for matrix in matrices])
    np.save(tmp_path / "square.npy", matrices)
    np.save(tmp_path / "pairs.npy", pairs)
    np.savez(tmp_path / "a.npz", other=np.zeros(3), all_rdms=matrices)
    savemat(tmp_path / "array.mat", {"rdms": np.moveaxis(matrices, 0, -1)})
    savemat(tmp_path / "struct.mat", {"R": as_struct(matrices, name=["a", "b", "c"]), "more": np.ones(3)})
    savemat(tmp_path / "vectors.mat", {"R": as_struct(pairs)})
    names = ("square.npy", "pairs.npy", "a.npz", "array.mat", "struct.mat", "vectors.mat")
    for name in names:
        np.testing.assert_allclose(read_rdms(tmp_path / name).rdm, pairs, err_msg=name)
    assert read_rdms(tmp_path / "struct.mat").subject.values.tolist() == ["a", "b", "c"]
    assert read_rdms(tmp_path / "array.mat").subject.values.tolist() == ["1", "2", "3"]


def test_rsatoolbox(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="HDF5 needs h5py: pip install 'neuroprobe[nwb]'")
    pairs = np.array([squareform(matrix, checks=False) for matrix in made()])
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file.attrs["rsatoolbox_version"] = "0.3.2"
        file.attrs["dissimilarity_measure"] = "euclidean"
        file["dissimilarities"] = pairs
        file["rdm_descriptors/index"] = np.arange(3)
        file["rdm_descriptors/subject"] = np.array([b"s1", b"s2", b"s3"])
        file["pattern_descriptors/index"] = np.arange(5)
        file["pattern_descriptors/conds"] = np.array([b"c%d" % number for number in range(5)])
    found = read_rdms(tmp_path / "r.h5")
    np.testing.assert_array_equal(found.rdm, pairs)
    assert found.subject.values.tolist() == ["s1", "s2", "s3"]
    assert found.stimulus_2.values.tolist()[:4] == ["c1", "c2", "c3", "c4"]
    (tmp_path / "short.h5").write_bytes((tmp_path / "r.h5").read_bytes()[:500])
    with pytest.raises(ReaderError, match="not an HDF5 file that can be read"):
        read_rdms(tmp_path / "short.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(ReaderError, match="no 'dissimilarities', as rsatoolbox writes; it holds x"):
        read_rdms(tmp_path / "other.h5")


def test_similarities_are_turned_round(tmp_path: Path) -> None:
    similar = np.array([[1.0, 0.3], [0.3, 1.0]])
    np.save(tmp_path / "s.npy", similar)
    assert read_rdms(tmp_path / "s.npy").rdm.item() == pytest.approx(0.7)
    assert read_rdms(tmp_path / "s.npy", kind="dissimilarity").rdm.item() == pytest.approx(0.3)
    np.save(tmp_path / "p.npy", np.array([[0.3]]))
    assert read_rdms(tmp_path / "p.npy").rdm.item() == pytest.approx(0.3)
    assert read_rdms(tmp_path / "p.npy", kind="similarity").rdm.item() == pytest.approx(0.7)


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    matrix = made(1)[0]
    matrix[0, 1] = matrix[1, 0] = np.nan
    np.save(tmp_path / "g.npy", matrix)
    assert np.isnan(read_rdms(tmp_path / "g.npy").rdm.values).ravel().tolist() == [True] + [False] * 9


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[0.0, 1.0], [2.0, 0.0]], {}, "matrix 1 is not symmetric"),
        ([[0.5, 1.0], [1.0, 0.0]], {}, "the diagonal is from 0 to 0.5: neither 0"),
        ([[1.0, 2.0]], {}, "2 numbers are not the pairs of any number of conditions"),
        ([[0.0, 1.0], [1.0, 0.0]], {"labels": ["a"]}, "1 labels of conditions, the matrices have 2"),
        (
            [[0.0, 1.0], [1.0, 0.0]],
            {"kind": "similar"},
            r"unknown kind of matrix 'similar' \(did you mean 'similarity'",
        ),
        ([["a"]], {}, "expected numbers|which variable"),
    ],
)
def test_what_is_no_matrix(tmp_path: Path, values: Any, options: Any, message: str) -> None:
    np.save(tmp_path / "r.npy", np.array(values))
    with pytest.raises(ReaderError, match=message):
        read_rdms(tmp_path / "r.npy", **options)


def test_which_variable(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", a=made(1), b=made(1))
    with pytest.raises(ReaderError, match=r"which variable\? Say `variable`; it holds a \(1, 5, 5\), b"):
        read_rdms(tmp_path / "r.npz")
    with pytest.raises(ReaderError, match="unknown variable 'c'; known: a, b"):
        read_rdms(tmp_path / "r.npz", variable="c")
    assert read_rdms(tmp_path / "r.npz", variable="b").sizes["pair"] == 10
    (tmp_path / "p.npz").write_bytes(b"no")
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("p.npz", "o.npy"):
        with pytest.raises(ReaderError, match="not arrays that can be read"):
            read_rdms(tmp_path / name)
    with pytest.raises(ReaderError, match="no such file"):
        read_rdms(tmp_path / "none.npz")
    (tmp_path / "r.txt").write_text("")
    with pytest.raises(ReaderError, match=r"matrices are read from .npz"):
        read_rdms(tmp_path / "r.txt")


def test_real_matrices(data: Path) -> None:
    folder = data / "it92"
    human = read_rdms(folder / "92_brainRDMs.mat")
    assert human.rdm.shape == (8, 4186)
    assert human.subject.values[1] == "hIT | BE | Session: 2"
    both = read_rdms(folder / "Kriegeskorte_Neuron2008_supplementalData.mat")
    assert both.subject.values.tolist() == ["mIT_674neurons", "hITvisStim_316vx"]
    # the one file has the monkey's pairs, the other its matrix: so pairs come in the same order from both
    models = read_rdms(folder / "92_modelRDMs.mat")
    monkey = models.rdm.sel(subject="monkeyIT")
    assert np.corrcoef(monkey, both.rdm.sel(subject="mIT_674neurons"))[0, 1] > 0.999
    # and the human mean correlates with the same people's matrices
    assert np.corrcoef(human.rdm.mean("subject"), both.rdm.sel(subject="hITvisStim_316vx"))[0, 1] > 0.9
    for name in ("fmri_IT_RDMs_15subjects.npz", "fmri_EVC_RDMs_15subjects.npz"):
        assert read_rdms(folder / name).rdm.shape == (15, 4186)


def test_dissimilarities_are_no_responses(tmp_path: Path) -> None:
    np.savez(tmp_path / "rdms.npz", rdm=np.zeros((3, 3)))
    with pytest.raises(ReaderError, match=r"dissimilarities alone are read by `neuroprobe\.recordings\.read_rdms`"):
        read_recording(tmp_path / "rdms.npz")

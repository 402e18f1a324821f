"""Differences on disk: written image by image, in any order and again, and ranked some units at a time."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprobe import differences
from neuroprobe.differences import DifferenceFile
from neuroprobe.errors import StoreError
from neuroprobe.statistics.paired import signed_ranks


def made(n: int = 30) -> np.ndarray:
    return np.random.default_rng(1).normal(0.1, 1, (n, 2, 11)).astype(np.float32)


@settings(max_examples=15)
@given(st.lists(st.integers(1, 29), max_size=5, unique=True), st.randoms())
def test_ranks_do_not_depend_on_how_images_were_written(tmp_path_factory, cuts: list[int], random) -> None:
    file = DifferenceFile(tmp_path_factory.mktemp("ranks") / "made" / "layer", 2, 11)
    spans = list(itertools.pairwise((0, *sorted(cuts), 30)))
    random.shuffle(spans)
    for start, stop in [*spans, spans[0]]:
        file.write(start, made()[start:stop])
    file.sync()
    assert file.path.stat().st_size == 30 * file.bytes_per_image
    for factor in range(2):
        for name, values in signed_ranks(made()[:, factor]).items():
            np.testing.assert_array_equal(file.ranked(30)[name][factor], values)


def test_few_units_at_a_time_and_more_images_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DifferenceFile(tmp_path / "layer", 2, 11)
    file.write(0, made()[:20])
    first = file.ranked(20)
    np.testing.assert_array_equal(first["rank_biserial"][1], signed_ranks(made()[:20, 1])["rank_biserial"])
    file.write(20, made()[20:])
    whole = file.ranked(30)
    monkeypatch.setattr(differences, "PIECE_BYTES", 4 * 30 * 3)
    for name, values in file.ranked(30).items():
        np.testing.assert_array_equal(values, whole[name])
    assert (whole["p_value"] != first["p_value"]).all()


def test_a_file_that_lacks_images_is_refused(tmp_path: Path) -> None:
    file = DifferenceFile(tmp_path / "layer", 2, 11)
    with pytest.raises(StoreError, match="holds 0 bytes"):
        file.ranked(1)
    file.write(0, made()[:3])
    with pytest.raises(StoreError, match="differences of 4 images in 352"):
        file.ranked(4)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuroprobe.differences.os.open", full)
    with pytest.raises(StoreError, match="disk is full"):
        DifferenceFile(tmp_path / "layer", 2, 11).write(0, made())

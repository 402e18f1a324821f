from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.photographs import PHOTOGRAPHS, open_photographs


def test_labels_and_size() -> None:
    crops = ImageSet(open_photographs(crop=40, per_image=3))
    stems = [name.split(".")[0] for name in PHOTOGRAPHS]
    assert crops.shape == (3, 40, 40)
    assert crops.labels == stems * 3
    assert [name.split("/")[0] for name in crops.ids] == crops.labels
    assert len(crops) == len(set(crops.ids)) == 18


def test_a_crop_is_that_part_of_the_photograph() -> None:
    from skimage import data

    crops = ImageSet(open_photographs(crop=40, per_image=1))
    _, left, top, side = map(int, crops.ids[0].removeprefix("astronaut/").split("_"))
    expected = data.astronaut()[top : top + side, left : left + side]
    torch.testing.assert_close(crops.load([0])[0], torch.from_numpy(expected).permute(2, 0, 1) / 255)


def test_the_seed_decides() -> None:
    first, again, other = (ImageSet(open_photographs(crop=32, per_image=2, seed=seed)) for seed in (1, 1, 2))
    assert first.ids == again.ids
    assert first.digest == again.digest
    assert torch.equal(first.load(range(12)), again.load(range(12)))
    assert first.ids != other.ids
    assert first.digest != other.digest


def test_more_crops_keep_the_first() -> None:
    few, many = (open_photographs(crop=32, per_image=n).ids for n in (2, 5))
    assert many[: len(few)] == few


def test_a_limit_is_spread() -> None:
    crops = ImageSet(replace(open_photographs(crop=32, per_image=5), limit=6))
    assert crops.labels is not None
    assert set(Counter(crops.labels).values()) == {1}
    assert crops.ids == open_photographs(crop=32, per_image=5).ids[:6]


def test_a_limit_above_what_there_is() -> None:
    # as of a folder: fewer images than were asked for would go unnoticed
    message = r"limit: 13 images asked for, 12 are in the photographs \(per_image: 2\); lower the limit"
    with pytest.raises(ReaderError, match=message):
        ImageSet(replace(open_photographs(crop=32, per_image=2), limit=13))


def test_framed() -> None:
    assert ImageSet(open_photographs(crop=64, per_image=1), framing=Framing((32, 32))).shape == (3, 32, 32)


def test_a_crop_that_is_too_large() -> None:
    with pytest.raises(ReaderError, match=r"crop: 301 px asked for, chelsea.png has 451×300; lower the crop"):
        open_photographs(crop=301)


def test_crops_are_told_apart_even_where_there_are_few_places() -> None:
    # chelsea is 300 px high: its crops lie in one row, and the same place is drawn more than once
    crops = open_photographs(crop=300, per_image=20)
    assert len(set(crops.ids)) == len(crops.ids) == 120

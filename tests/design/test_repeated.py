"""Presentations of images as they are: every image and blank once a repetition, in an order of chance."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.design.repeated import BLANK, Repeated, presentations_per_block


@given(
    n_images=st.integers(1, 12),
    repeats=st.integers(1, 4),
    blanks=st.integers(0, 3),
    shuffled=st.booleans(),
    cut=st.integers(0, 60),
)
def test_each_repetition_shows_everything_once(
    n_images: int, repeats: int, blanks: int, shuffled: bool, cut: int
) -> None:
    design = Repeated(3, n_images, repeats, blanks, shuffled)
    n = design.n_presentations
    whole = design.presentations(0, n + 5)
    assert whole.sample.tolist() == list(range(n))
    assert whole.is_run.all()
    by_repetition = whole.image.reshape(repeats, -1)
    for number, images in enumerate(by_repetition):
        assert sorted(images) == [BLANK] * blanks + list(range(n_images))
        assert (whole.values["repetition"].reshape(repeats, -1)[number] == number).all()
    if not shuffled:
        assert (by_repetition == [*range(n_images), *[BLANK] * blanks]).all()
    # any range by itself, and more repetitions, give the same
    parts = [design.presentations(*span) for span in ((0, cut), (cut, n))]
    np.testing.assert_array_equal(np.concatenate([part.image for part in parts]), whole.image)
    np.testing.assert_array_equal(np.concatenate([part.key for part in parts]), whole.key)
    more = Repeated(3, n_images, repeats + 1, blanks, shuffled).presentations(0, n)
    np.testing.assert_array_equal(more.image, whole.image)


def test_orders_are_of_chance() -> None:
    n, repeats = 6, 3000
    order = Repeated(0, n, repeats).presentations(0, n * repeats).image.reshape(repeats, n)
    counts = np.stack([(order == image).sum(0) for image in range(n)])
    expected = repeats / n
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 25 + 5 * 50**0.5  # 25 degrees of freedom
    one, other = (Repeated(seed, n, repeats).presentations(0, n).image for seed in (1, 2))
    assert (one != other).any()


def test_blocks_are_powers_of_two_of_which_there_are_eight() -> None:
    for n in range(1, 3000, 7):
        block = presentations_per_block(n)
        assert block & (block - 1) == 0
        assert n < 8 or n // block >= 8
        assert block == 1024 or n < 16 * block

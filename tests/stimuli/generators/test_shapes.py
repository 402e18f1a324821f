"""Areas, places and edges of spots, annuli, bars and edges; hues against colorsys and scikit-image."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from neuroprobe.stimuli.generated import draw_all
from neuroprobe.stimuli.generators import Screen

SCREEN = Screen(64, 80)


def drawn(name: str, screen: Screen = SCREEN, **settings) -> np.ndarray:
    one = draw_all(name, {key: [value] for key, value in settings.items()}, screen)
    return one.draw([0])[0].numpy().astype(np.float64)


def covered(image: np.ndarray) -> np.ndarray:
    """Share of each pixel that is white."""
    return (image[0] - 0.5) * 2


@pytest.mark.parametrize("size", [5.0, 11.3, 24, 40.7])
@pytest.mark.parametrize(("x", "y"), [(0, 0), (7.25, -5.5)])
def test_spots_have_the_area_of_their_disc(size: float, x: float, y: float) -> None:
    share = covered(drawn("spot", size=size, position_x=x, position_y=y))
    assert share.sum() == pytest.approx(math.pi * size**2 / 4, rel=4 / size**2)
    rows, columns = np.mgrid[:64, :80]
    assert (share * (columns + 0.5 - 40)).sum() / share.sum() == pytest.approx(x, abs=0.02)
    assert (share * (32 - rows - 0.5)).sum() / share.sum() == pytest.approx(y, abs=0.02)
    assert share.min() == 0
    assert share.max() == 1


def test_annuli_are_discs_without_their_hole() -> None:
    disc, hole = (covered(drawn("spot", size=size)) for size in (30, 14))
    np.testing.assert_allclose(covered(drawn("annulus", size=30, inner=14)), disc - hole, atol=1e-6)
    np.testing.assert_allclose(covered(drawn("annulus", size=30, inner=0)), disc, atol=1e-6)
    assert not covered(drawn("annulus", size=14, inner=30)).any()


@pytest.mark.parametrize("orientation", [0, 30, 45, 90, 135])
def test_bars_have_their_area_and_orientation(orientation: float) -> None:
    share = covered(drawn("bar", orientation=orientation, length=30, width=6.5))
    assert share.sum() == pytest.approx(30 * 6.5, rel=0.01)
    rows, columns = np.nonzero(share > 0.5)
    x, y = columns + 0.5 - 40, 32 - rows - 0.5
    long = np.linalg.eigh(np.cov(x, y))[1][:, 1]
    away = (math.degrees(math.atan2(long[1], long[0])) - orientation + 90) % 180 - 90
    assert away == pytest.approx(0, abs=1.5)


def test_bars_along_the_pixels_cover_exactly_their_area() -> None:
    share = covered(drawn("bar", orientation=0, length=20, width=3.5))
    np.testing.assert_allclose(share[:, 40], [0] * 30 + [0.75, 1, 1, 0.75] + [0] * 30, atol=1e-6)


def test_edges_are_lighter_towards_orientation_plus_90() -> None:
    above = drawn("edge", orientation=0, position_y=4)[0]
    assert (above[:28] == 1).all()
    assert not above[28:].any()
    left = drawn("edge", orientation=90)[0]
    assert (left[:, :40] == 1).all()
    np.testing.assert_allclose(drawn("edge", orientation=90, contrast=-0.5)[0][0, [0, -1]], [0.25, 0.75])


def test_contrast_below_0_is_darker() -> None:
    light, dark = (drawn("spot", size=10, contrast=sign * 0.4) for sign in (1, -1))
    np.testing.assert_allclose(light + dark, 1, atol=1e-6)
    assert light.max() == pytest.approx(0.7)


def test_hues_are_those_of_colorsys() -> None:
    for hue in np.linspace(0, 345, 24):
        image = drawn("hue", Screen(3, 4), hue=hue, saturation=0.7, value=0.8)
        expected = colorsys.hsv_to_rgb(hue / 360, 0.7, 0.8)
        np.testing.assert_allclose(image, np.array(expected)[:, None, None] * np.ones((3, 4)), atol=1e-6)


def test_hues_of_lab_have_one_lightness_and_chroma() -> None:
    for hue in np.linspace(0, 345, 24):
        turn = math.radians(hue)
        rgb = drawn("lab_hue", Screen(2, 2), hue=hue)[:, 0, 0]
        expected = [60, 30 * math.cos(turn), 30 * math.sin(turn)]
        np.testing.assert_allclose(rgb2lab(rgb[None, None])[0, 0], expected, atol=0.02)
        np.testing.assert_allclose(rgb, lab2rgb(np.array([[expected]]))[0, 0], atol=2e-4)

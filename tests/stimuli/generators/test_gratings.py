"""Gratings measured back from their images by Fourier transform: orientation, frequency, phase and contrast."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.recordings.simulated_units import gabor_filters
from neuroprobe.stimuli.generated import draw_all
from neuroprobe.stimuli.generators import Screen
from neuroprobe.stimuli.generators.painting import AXES

SIDE = 64
ROUNDING = 2e-6  # of float32 images


def drawn(name: str, screen: Screen, **settings) -> np.ndarray:
    """Images (n, 3, height, width)."""
    levels = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    one = draw_all(name, levels, screen)
    return one.draw(range(len(one))).numpy()


def component(image: np.ndarray, column: int, row: int) -> complex:
    """Amplitude and phase of the wave of so many cycles to the right and up, from the centre of the image."""
    height, width = image.shape
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5) / width - 0.5, 0.5 - (y + 0.5) / height
    return complex(2 * (image * np.exp(-2j * math.pi * (column * x + row * y))).mean())


@given(
    column=st.integers(-31, 31),
    row=st.integers(0, 31),
    phase=st.floats(0, 359.9),
    contrast=st.floats(0.05, 1),
    degrees=st.sampled_from([None, 8.0, 3.5]),
)
def test_settings_are_measured_back(
    column: int, row: int, phase: float, contrast: float, degrees: float | None
) -> None:
    if row == 0 and column <= 0:
        column = 1 - column
    # waves go across the bars, towards orientation + 90
    turn = math.degrees(math.atan2(row, column))
    cycles = math.hypot(column, row)
    if cycles >= SIDE / 2:
        column, row = column // 2, row // 2 or 1
        turn, cycles = math.degrees(math.atan2(row, column)), math.hypot(column, row)
    screen = Screen(SIDE, SIDE, degrees)
    frequency = cycles / screen.side
    image = drawn(
        "grating", screen, orientation=turn - 90, spatial_frequency=frequency, phase=phase, contrast=contrast
    )[0]
    assert (image == image[:1]).all()  # grey
    spectrum = np.fft.fft2(image[0].astype(np.float64) - 0.5)
    strongest = np.unravel_index(np.abs(spectrum).argmax(), spectrum.shape)
    found_row, found_column = (np.fft.fftfreq(SIDE, 1 / SIDE)[at] for at in strongest)
    # rows go down; a wave and its opposite are one
    assert {(found_column, -found_row), (-found_column, found_row)} == {(column, row), (-column, -row)}
    wave = component(image[0].astype(np.float64), column, row)
    assert abs(wave) == pytest.approx(contrast / 2, abs=ROUNDING)
    lag = (-math.degrees(np.angle(wave)) - phase + 180) % 360 - 180
    assert lag == pytest.approx(0, abs=math.degrees(ROUNDING / abs(wave)))
    left = np.abs(spectrum)
    left[strongest] = left[-strongest[0], -strongest[1]] = 0
    assert left.max() / SIDE**2 < ROUNDING  # nothing else
    assert image.mean() == pytest.approx(0.5, abs=ROUNDING)


def test_bars_of_0_are_horizontal_and_of_45_rise_to_the_right() -> None:
    flat, rising, upright = drawn("grating", Screen(16, 16), orientation=[0, 45, 90], spatial_frequency=0.1)[:, 0]
    assert np.ptp(flat, axis=1).max() < ROUNDING
    assert np.ptp(upright, axis=0).max() < ROUNDING
    # along a line that rises to the right, rows fall as columns grow
    assert np.ptp(np.fliplr(rising).diagonal()) < ROUNDING < np.ptp(rising.diagonal())


def test_phase_moves_bars_towards_orientation_plus_90() -> None:
    screen = Screen(32, 32)
    still, moved = drawn("grating", screen, orientation=0, spatial_frequency=1 / 8, phase=[0, 90])[:, 0, :, 0]
    # a quarter of 8 px upward
    np.testing.assert_allclose(moved, np.roll(still, -2), atol=ROUNDING)
    still, moved = drawn("grating", screen, orientation=90, spatial_frequency=1 / 8, phase=[0, 90])[:, 0, 0]
    np.testing.assert_allclose(moved, np.roll(still, -2), atol=ROUNDING)  # to the left


def test_gabors_are_those_of_simulated_units() -> None:
    field = {
        "field_y": np.array([13.5]),  # 2 px above the centre
        "field_x": np.array([18.5]),
        "field_width": np.array([3.0]),
        "orientation": np.array([30.0]),
        "phase": np.array([50.0]),
        "frequency": np.array([0.15]),
    }
    (theirs,) = gabor_filters(field, (32, 32))
    settings = {"orientation": 30, "phase": 50, "spatial_frequency": 0.15, "sigma": 3}
    ours = drawn("gabor", Screen(32, 32), **settings, position_x=3, position_y=2)[0, 0].astype(np.float64) - 0.5
    # a filter has no mean
    y, x = np.mgrid[:32, :32]
    envelope = np.exp(-((y - 13.5) ** 2 + (x - 18.5) ** 2) / 18)
    ours -= envelope * ours.sum() / envelope.sum()
    np.testing.assert_allclose(ours / np.linalg.norm(ours), theirs, atol=1e-5)


@pytest.mark.parametrize("colour", AXES)
def test_colours_go_along_their_axis(colour: str) -> None:
    image = drawn("grating", Screen(32, 32), spatial_frequency=1 / 32, contrast=0.6, colour=colour)[0].astype(
        np.float64
    )
    axis = np.array(AXES[colour])
    wave = (image[np.flatnonzero(axis)[0]] - 0.5) * axis[np.flatnonzero(axis)[0]]
    np.testing.assert_allclose(image - 0.5, axis[:, None, None] * wave, atol=ROUNDING)
    assert np.abs(wave).max() == pytest.approx(0.3, abs=0.02)


def test_degrees_and_pixels_say_the_same() -> None:
    in_pixels = drawn("grating", Screen(40, 48), orientation=20, spatial_frequency=0.1, size=20, position_x=5)
    in_degrees = drawn("grating", Screen(40, 48, 10.0), orientation=20, spatial_frequency=0.4, size=5, position_x=1.25)
    np.testing.assert_allclose(in_pixels, in_degrees, atol=ROUNDING)


def test_plaids_are_half_the_sum_of_two_gratings() -> None:
    screen, own = Screen(24, 24), {"spatial_frequency": 0.1, "contrast": 0.8}
    first = drawn("grating", screen, orientation=10, phase=30, **own).astype(np.float64)
    second = drawn("grating", screen, orientation=70, phase=80, **own).astype(np.float64)
    plaid = drawn("plaid", screen, orientation=10, angle=60, phase=30, phase_2=80, **own)
    np.testing.assert_allclose(plaid, (first + second) / 2, atol=ROUNDING)


@pytest.mark.parametrize("aperture", ["circle", "square", "gaussian"])
def test_apertures_show_the_grating_within(aperture: str) -> None:
    screen, size = Screen(64, 64), 24
    own = {"orientation": 35, "spatial_frequency": 0.11, "position_x": 4, "position_y": -6}
    whole = drawn("grating", screen, **own)[0, 0].astype(np.float64) - 0.5
    seen = drawn("grating", screen, **own, size=size, aperture=aperture)[0, 0].astype(np.float64) - 0.5
    y, x = np.mgrid[:64, :64]
    dx, dy = x + 0.5 - 32 - 4, 32 - y - 0.5 + 6
    if aperture == "gaussian":
        np.testing.assert_allclose(seen, whole * np.exp(-(dx**2 + dy**2) / (2 * 6**2)), atol=ROUNDING)
        return
    distance = np.hypot(dx, dy) if aperture == "circle" else np.maximum(abs(dx), abs(dy))
    inside, outside = distance < size / 2 - 0.5, distance > size / 2 + 0.5
    np.testing.assert_allclose(seen[inside], whole[inside], atol=ROUNDING)
    assert not seen[outside].any()


def test_batches_are_as_single_stimuli() -> None:
    one = draw_all(
        "grating", {"orientation": [0, 20, 40], "size": [5, 9], "colour": ["luminance", "blue"]}, Screen(12, 10)
    )
    together = one.draw(range(len(one)))
    assert torch.equal(together, torch.cat([one.draw([at]) for at in range(len(one))]))

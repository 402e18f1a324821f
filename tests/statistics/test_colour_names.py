"""Names of colours: those that everybody would give, and the survey that the model rests on."""

import numpy as np
import pytest
from matplotlib.colors import CSS4_COLORS, XKCD_COLORS, to_rgb
from skimage.color import rgb2lab

from neuroprobe.statistics.colour_names import (
    COLOUR_NAMES,
    N_LEVELS,
    ColourModel,
    lab_of,
    memberships,
    model_of_table,
    name_pixels,
)
from neuroprobe.statistics.colour_survey import SURVEY

PRIMARIES = {
    "red": [(1, 0, 0), (0.8, 0, 0), (0.9, 0.1, 0.1)],
    "orange": [(1, 0.5, 0), (0.95, 0.55, 0.1)],
    "brown": [(0.4, 0.2, 0), (0.5, 0.3, 0.15)],
    "yellow": [(1, 1, 0), (1, 0.95, 0.3)],
    "green": [(0, 1, 0), (0, 0.5, 0), (0.2, 0.4, 0.1)],
    "blue": [(0, 0, 1), (0, 0, 0.5), (0.5, 0.75, 1)],
    "purple": [(0.5, 0, 0.5), (0.4, 0.1, 0.6)],
    "pink": [(1, 0.75, 0.8), (1, 0.4, 0.7)],
    "black": [(0, 0, 0), (0.08, 0.08, 0.08)],
    "grey": [(0.5, 0.5, 0.5), (127 / 255,) * 3, (0.35, 0.35, 0.35), (0.7, 0.7, 0.7)],
    "white": [(1, 1, 1), (0.95, 0.95, 0.95)],
}


def survey() -> dict[str, set[str]]:
    """The rule of the table, applied to the list that matplotlib ships."""
    found: dict[str, set[str]] = {name: set() for name in COLOUR_NAMES}
    for key, colour in XKCD_COLORS.items():
        words = key.removeprefix("xkcd:").replace("gray", "grey").replace("/", " ").split()
        if words[-1] in found and sum(word in found for word in words) == 1:
            found[words[-1]].add(colour[1:])
    return found


def test_the_table_is_that_of_the_survey() -> None:
    assert {name: set(digits.split()) for name, digits in SURVEY.items()} == survey()
    assert sum(len(digits.split()) for digits in SURVEY.values()) == 509


@pytest.mark.parametrize("name", COLOUR_NAMES)
def test_colours_that_everybody_names_alike(name: str) -> None:
    colours = np.array(PRIMARIES[name], dtype=np.float64)
    assert [COLOUR_NAMES[index] for index in name_pixels(colours)] == [name] * len(colours)
    found = memberships(colours)
    assert [COLOUR_NAMES[index] for index in found.argmax(-1)] == [name] * len(colours)
    np.testing.assert_allclose(found.sum(-1), 1)


def test_names_of_css() -> None:
    """Colours that were named by others, on other screens: those of CSS that end with a basic name."""
    names, colours = [], []
    for key, colour in CSS4_COLORS.items():
        own = [name for name in COLOUR_NAMES if name in key.replace("gray", "grey")]
        if len(own) == 1 and key.replace("gray", "grey").endswith(own[0]):
            names.append(own[0])
            colours.append(to_rgb(colour))
    found = [COLOUR_NAMES[index] for index in name_pixels(np.array(colours))]
    agree = np.mean([a == b for a, b in zip(names, found, strict=True)])
    assert len(names) > 60
    assert agree > 0.8  # CSS calls a02828 brown, and light yellow what is nearly white


def test_names_that_are_left_out_are_found_again() -> None:
    """As the documentation says, each exemplar judged by all others."""
    named = np.repeat(np.arange(11), [len(SURVEY[name].split()) for name in COLOUR_NAMES])
    digits = " ".join(SURVEY[name] for name in COLOUR_NAMES).split()
    colours = np.array([to_rgb(f"#{one}") for one in digits])
    lab = rgb2lab(colours[None])[0]
    light = np.arange(2.5, 100, 5)
    every = np.concatenate([lab, np.stack([light, 0 * light, 0 * light], 1)])
    every_named = np.concatenate([named, np.where(light < 25, 8, np.where(light < 85, 9, 10))])
    near = np.exp(-((lab[:, None] - every) ** 2).sum(-1) / (2 * 7**2))
    own = memberships(colours)
    oracle = np.stack([near[:, every_named == name].sum(1) for name in range(11)], 1)
    np.testing.assert_allclose(own, oracle / oracle.sum(1, keepdims=True), atol=2e-3)  # another matrix of sRGB
    near[np.arange(len(lab)), np.arange(len(lab))] = 0
    left_out = np.stack([near[:, every_named == name].sum(1) for name in range(11)], 1)
    assert np.mean(left_out.argmax(1) == named) == pytest.approx(0.92, abs=0.005)


def test_greys_are_black_grey_or_white() -> None:
    level = np.linspace(0, 1, 256)
    found = name_pixels(np.repeat(level[:, None], 3, 1))
    assert {COLOUR_NAMES[index] for index in found} == {"black", "grey", "white"}
    assert (np.diff(found) >= 0).all()
    # other exemplars, of dark greys for instance, move the borders of ISCC-NBS
    light = lab_of(np.repeat(level[:, None], 3, 1))[:, 0]
    assert light[found == COLOUR_NAMES.index("black")].max() == pytest.approx(21, abs=1)
    assert light[found == COLOUR_NAMES.index("white")].min() == pytest.approx(86, abs=2)


def test_lab() -> None:
    rgb = np.random.default_rng(0).random((500, 3))
    rgb[:2] = [0.02, 0.0, 0.04], [1, 1, 1]
    # skimage has the matrix with six digits
    np.testing.assert_allclose(lab_of(rgb), rgb2lab(rgb[None])[0], atol=0.03)
    np.testing.assert_allclose(lab_of(np.repeat(rgb[:, :1], 3, 1))[:, 1:], 0, atol=1e-10)


def test_images_are_named_by_a_table_that_is_nearly_right() -> None:
    rgb = np.random.default_rng(1).random((40, 50, 3)).astype(np.float32)
    found = name_pixels(rgb)
    assert found.shape == (40, 50)
    assert found.dtype == np.int8
    exact = memberships(rgb)
    wrong = found != exact.argmax(-1)
    assert wrong.mean() < 0.025
    best = np.sort(exact[wrong], axis=-1)[:, ::-1]
    assert (best[:, 0] - best[:, 1]).max() < 0.35  # a step of 1/128 from where the two are equal
    # the middles of cells are exact
    middle = (np.floor(rgb * N_LEVELS) + 0.5) / N_LEVELS
    np.testing.assert_array_equal(found, memberships(middle).argmax(-1))


def test_other_models() -> None:
    rng = np.random.default_rng(2)
    table = rng.random((4, 4, 4, 11))
    model = model_of_table("made", "random numbers", table)
    rgb = np.array([[0.1, 0.3, 0.6], [1.0, 1.0, 0.99], [0.25, 0.5, 0.75]])
    expected = table[[0, 3, 1], [1, 3, 2], [2, 3, 3]]
    np.testing.assert_allclose(memberships(rgb, model), expected / expected.sum(1, keepdims=True))
    np.testing.assert_array_equal(name_pixels(rgb, model), expected.argmax(1))
    by_rule = ColourModel("rule", "a test", lambda colours: np.eye(11)[np.where(colours[:, 0] > 0.5, 0, 5)])
    assert name_pixels(rgb, by_rule).tolist() == [5, 0, 5]
    with pytest.raises(ValueError, match=r"received \(4, 4, 4, 10\)"):
        model_of_table("made", "", table[..., :10])
    table[0, 0, 0] = 0
    with pytest.raises(ValueError, match="not 0 for all names"):
        model_of_table("made", "", table)

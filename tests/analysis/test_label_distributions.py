"""Labels of lists with names: what chance is, and images that have no class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuroprobe.analysis.label_distributions import LabelOptions, class_variables, pixel_variables
from neuroprobe.statistics.label_selectivity import chance_gamma, expected_labels_of

CLASSES = ("cat", "dog", "ship")
OPTIONS = LabelOptions(permutations=499, seed=2)


def values(*arguments: object) -> dict[str, np.ndarray]:
    found = class_variables(*arguments)  # type: ignore[arg-type]
    return {name: array for name, (_, array, _) in found.items()}


def lists(rng: np.random.Generator, n_images: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Four channels with lists of six images each, of which the last never responds."""
    images = np.stack([rng.permutation(n_images)[:6] for _ in range(4)])
    weights = -np.sort(-rng.uniform(0.3, 1, images.shape), axis=1)
    weights[3] = np.nan
    return weights / weights[:, :1], images, rng.integers(0, 3, n_images)


def test_images_without_a_class_say_nothing(rng: np.random.Generator) -> None:
    """Neither of a list nor of chance: 200 more of them leave every number as it is."""
    weights, images, target = lists(rng)
    alone = values(weights, images, target, CLASSES, OPTIONS)
    more = np.concatenate([np.full(100, 3), target, np.full(100, 3)])
    beside = values(weights, images + 100, more, CLASSES, OPTIONS)
    for name, array in alone.items():
        np.testing.assert_array_equal(beside[name], array, err_msg=name)
    assert set(alone) == set(beside)


@pytest.mark.parametrize("permutations", [0, 19])
def test_lists_with_images_without_a_class(rng: np.random.Generator, permutations: int) -> None:
    weights, images, target = lists(rng)
    target[images[0, :3]] = 3
    found = values(weights, images, target, CLASSES, replace(OPTIONS, permutations=permutations))
    kept = weights[0, 3:] / weights[0, 3:].sum()
    expected = [kept[target[images[0, 3:]] == label].sum() for label in range(3)]
    np.testing.assert_allclose(found["class_frequency"][:, 0], expected)
    assert np.isnan(found["class_frequency"][:, 3]).all()
    none = values(weights, images, np.full_like(target, 3), CLASSES, replace(OPTIONS, permutations=permutations))
    assert np.isnan(none["gamma"]).all()
    assert "gamma_p_value" not in none


def test_permutations_agree_with_the_closed_form(rng: np.random.Generator) -> None:
    weights, images, target = lists(rng)
    permuted = values(weights, images, target, CLASSES, OPTIONS)
    closed = values(weights, images, target, CLASSES, replace(OPTIONS, permutations=0))
    expected = chance_gamma(6, expected_labels_of(6, np.bincount(target)))
    np.testing.assert_allclose(closed["gamma_chance"], [expected] * 3 + [np.nan])
    np.testing.assert_allclose(permuted["gamma_chance"], closed["gamma_chance"], atol=0.02)
    assert "gamma_p_value" not in closed


def test_labels_of_pixels_are_shares_of_activity() -> None:
    sums = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = pixel_variables("part", sums, ("leg", "ear", "tail"), np.ones(3) / 3, OPTIONS, plural="parts")
    np.testing.assert_allclose(found["part_frequency"][1], [[0.75, np.nan], [0.25, np.nan], [0, np.nan]])
    assert found["part_frequency"][0] == ("part_label", "channel")
    assert found["part_frequency"][2]["labels"] == "parts"
    # of three labels, two have a share
    np.testing.assert_allclose(found["part_gamma"][1], [0.5, np.nan])
    np.testing.assert_allclose(found["part_population_code"][1], [2, np.nan])

"""Similarity, removal and relevance of units against loops, and against a convolution that is run again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.top_stimuli import TopStimuli, first_argmax
from neuroprobe.statistics.unit_relations import (
    convolution_parts,
    low_norm_order,
    random_orders,
    relevance_of,
    removal_order,
    similarity_of,
    symmetric,
    without_channels,
)


def toy_total(rng: np.random.Generator, n_units: int, n: int) -> np.ndarray:
    """Sums of rectified responses of maps to each other's top stimuli."""
    maps = np.maximum(rng.normal(size=(40, n_units, 3, 3)), 0)
    maps[:, 0] = 0
    top = TopStimuli(n_units, n)
    values, rows, columns = first_argmax(maps)
    top.update(values, np.arange(40), rows, columns)
    return maps[top.images, :, top.rows, top.columns].sum(1).T


def test_similarity_of_top_lists_is_at_most_1(rng: np.random.Generator) -> None:
    total = toy_total(rng, 6, 9)
    found = similarity_of(total)
    assert np.isnan(found[0]).all()
    assert np.isnan(found[:, 0]).all()
    known = found[1:, 1:]
    assert ((known >= 0) & (known <= 1)).all()
    assert (np.diagonal(known) == 1).all()
    for n, m in np.ndindex(5, 5):
        assert known[n, m] == pytest.approx(total[n + 1, m + 1] / total[n + 1, n + 1])
    assert (known != known.T).any()
    both = symmetric(found)[1:, 1:]
    np.testing.assert_array_equal(both, both.T)
    np.testing.assert_allclose(both, (known + known.T) / 2)


def test_a_list_that_is_not_the_top_is_found_out() -> None:
    total = np.array([[4.0, 1.0], [3.0, 2.0]])
    with pytest.raises(ValueError, match=r"unit 1 responds to the top stimuli of unit 0 1\.5 times as much"):
        similarity_of(total)
    total[1, 0] = 2 * (1 + 1e-6)  # rounding
    assert similarity_of(total)[1, 0] == 1
    assert np.isnan(similarity_of(np.zeros((2, 2)))).all()


def slow_order(similarity: np.ndarray) -> tuple[list[int], list[int]]:
    """As the authors do it: look through all pairs at each step."""
    left = [unit for unit in range(len(similarity)) if not np.isnan(similarity[unit, unit])]
    rest = [unit for unit in range(len(similarity)) if unit not in left]
    order, partner = [], []
    while len(left) > 1:
        pairs = [(-similarity[i, j], i, j) for i in left for j in left if i != j]
        _, i, j = min(pairs)
        sums = {unit: sum(similarity[unit, other] for other in left if other != unit) for unit in (i, j)}
        equal = abs(sums[i] - sums[j]) < 1e-12
        gone = max(i, j) if equal else max((i, j), key=sums.__getitem__)
        order.append(gone)
        partner.append(i + j - gone)
        left.remove(gone)
    return [*order, *left, *rest], [*partner, *[-1] * len(left + rest)]


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans(), st.booleans())
def test_the_order_of_removal_is_that_of_all_pairs(seed: int, n: int, is_symmetric: bool, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    # quarters and their sums are exact
    similarity = rng.integers(0, 5, (n, n)) / 4 if tied else rng.random((n, n))
    if is_symmetric:
        similarity = symmetric(similarity)
    np.fill_diagonal(similarity, 1)
    dead = rng.random(n) < 0.2
    similarity[dead], similarity[:, dead] = np.nan, np.nan
    order, partner = removal_order(similarity)
    assert (order.tolist(), partner.tolist()) == slow_order(similarity)
    assert sorted(order.tolist()) == list(range(n))


def test_a_copy_is_removed_first() -> None:
    similarity = np.full((4, 4), 0.2)
    np.fill_diagonal(similarity, 1)
    similarity[1, 3] = similarity[3, 1] = 0.95
    similarity[3, 0] = 0.3
    order, partner = removal_order(similarity)
    assert (order[0], partner[0]) == (3, 1)


def test_orders_to_compare_with() -> None:
    orders = random_orders(7, 30, seed=2)
    assert (np.sort(orders) == np.arange(7)).all()
    assert len({*map(tuple, orders.tolist())}) > 20
    np.testing.assert_array_equal(random_orders(7, 5, seed=2), orders[:5])
    assert (random_orders(7, 5, seed=3) != orders[:5]).any()
    assert random_orders(3, 0, seed=0).shape == (0, 3)
    assert low_norm_order(np.array([2.0, 0.0, np.nan, 1.0, 0.0])).tolist() == [1, 4, 3, 0, 2]


def test_closed_form_of_ablation_is_a_convolution_that_is_run_again(rng: np.random.Generator) -> None:
    """A strided one with padding, at the largest response of each unit to each image."""
    n_images, channels, units = 5, 4, 3
    seen = torch.from_numpy(np.maximum(rng.normal(size=(n_images, channels, 7, 7)), 0))
    weights, bias = torch.from_numpy(rng.normal(size=(units, channels, 3, 3))), torch.from_numpy(rng.normal(size=units))

    def run(maps: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(maps, weights, bias, stride=2, padding=1)

    total = run(seen).numpy()
    values, rows, columns = first_argmax(total)
    padded = np.pad(seen.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.empty((units, n_images, channels, 3, 3))
    ablated = np.empty((channels, units, n_images))
    for unit, image in np.ndindex(units, n_images):
        row, column = int(rows[image, unit]), int(columns[image, unit])
        patches[unit, image] = padded[image, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        for channel in range(channels):
            maps = seen.clone()
            maps[:, channel] = 0
            ablated[channel, unit, image] = run(maps).relu()[image, unit, row, column]
    parts = convolution_parts(weights.numpy(), patches)
    np.testing.assert_allclose(parts.sum(0) + bias.numpy()[:, None], values.T, atol=1e-12)
    np.testing.assert_allclose(without_channels(values.T, parts), ablated, atol=1e-12)
    # relevance, with loops
    original = np.maximum(values.T, 0)
    original[0] = 0
    found = relevance_of(original, ablated)
    for channel, unit in np.ndindex(channels, units):
        change = original[unit] - ablated[channel, unit]
        if unit == 0:
            assert np.isnan([found.absolute[channel, unit], found.signed_se[channel, unit]]).all()
            continue
        assert found.absolute[channel, unit] == pytest.approx(sum(map(abs, change)) / original[unit].sum())
        assert found.signed[channel, unit] == pytest.approx(sum(change) / original[unit].sum())
        without = [np.delete(change, j).sum() / np.delete(original[unit], j).sum() for j in range(n_images)]
        error = np.sqrt((n_images - 1) * np.var(without))
        assert found.signed_se[channel, unit] == pytest.approx(error)
    assert (found.absolute[:, 1:] >= np.abs(found.signed[:, 1:]) - 1e-12).all()

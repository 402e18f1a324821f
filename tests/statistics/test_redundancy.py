"""Removal of channels: where maps go against a walk through the order, and sums over batches against all at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from neuroprobe.statistics.redundancy import OutcomeSums, closest_partners, destinations, removal_counts
from neuroprobe.statistics.unit_relations import removal_order


def walked(order: list[int], partner: list[int], n_removed: int) -> list[int]:
    """Which channel holds each map, once one after the other has been handed over."""
    held = {channel: [channel] for channel in order}
    for gone, to in zip(order[:n_removed], partner[:n_removed], strict=True):
        maps = held.pop(gone)
        if to >= 0:
            held[to] += maps
    where = {one: channel for channel, maps in held.items() for one in maps}
    return [where.get(channel, -1) for channel in range(len(order))]


@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_maps_go_where_a_walk_leads(seed: int, n: int, by_similarity: bool) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.random((n, n))
    dead = rng.random(n) < 0.2
    similarity[dead], similarity[:, dead] = np.nan, np.nan
    if by_similarity:
        order, partner = removal_order(similarity)
    else:
        order = rng.permutation(n)
        partner = closest_partners(similarity, order)
        for place, channel in enumerate(order):
            left = [one for one in order[place + 1 :] if not (dead[one] or dead[channel])]
            pairs = [(-max(similarity[one, channel], similarity[channel, one]), one) for one in left]
            assert partner[place] == (min(pairs)[1] if pairs else -1)
    found = destinations(order, partner, np.arange(n + 1))
    assert found.tolist() == [walked(order.tolist(), partner.tolist(), count) for count in range(n + 1)]
    zeroed = destinations(order, np.full(n, -1), np.arange(n + 1))
    for count, row in enumerate(zeroed):
        assert set(np.flatnonzero(row == -1)) == set(order[:count].tolist())
        assert (row[order[count:]] == order[count:]).all()


def test_counts() -> None:
    assert removal_counts(64, np.arange(11) / 10).tolist() == [0, 6, 13, 19, 26, 32, 38, 45, 51, 58, 64]
    with pytest.raises(ValueError, match=r"shares of removed channels are in \[0, 1\], received \[0\.5, 1\.1\]"):
        removal_counts(8, [0.5, 1.1])
    with pytest.raises(ValueError, match="received"):
        removal_counts(8, [np.nan])


def test_sums_over_batches_are_those_of_all_images(rng: np.random.Generator) -> None:
    right, loss = (rng.random(50) < 0.8).astype(float), rng.random(50) + 100
    variant_right = (rng.random((3, 50)) < [[0.5], [0.0], [0.8]]).astype(float)
    variant_loss = np.stack([loss + rng.random(50), loss * 2, loss])
    sums = OutcomeSums(3)
    for part in np.split(np.arange(50), [1, 20, 33]):
        sums.update(right[part], loss[part], variant_right[:, part], variant_loss[:, part])
    found = sums.finalize()
    assert found.n == 50
    for row in range(3):
        assert found.accuracy[row] == pytest.approx(variant_right[row].mean())
        ends = proportion_confint(variant_right[row].sum(), 50, method="wilson")
        assert (found.accuracy_lower[row], found.accuracy_upper[row]) == pytest.approx(ends)
        for name, values in {
            "loss": variant_loss[row],
            "loss_change": variant_loss[row] - loss,
            "accuracy_change": variant_right[row] - right,
        }.items():
            assert vars(found)[name][row] == pytest.approx(values.mean())
            assert vars(found)[f"{name}_se"][row] == pytest.approx(stats.sem(values), abs=1e-12)
            if values.std() > 1e-9:
                ends = stats.t.interval(0.95, 49, values.mean(), stats.sem(values))
                assert (vars(found)[f"{name}_lower"][row], vars(found)[f"{name}_upper"][row]) == pytest.approx(ends)
    assert found.loss_change[2] == found.loss_change_se[2] == 0


def test_few_images() -> None:
    sums = OutcomeSums(1)
    with pytest.raises(ValueError, match="no image was shown"):
        sums.finalize()
    sums.update(np.ones(1), np.ones(1), np.ones((1, 1)), np.ones((1, 1)))
    found = sums.finalize()
    assert found.accuracy == 1
    assert np.isnan([found.loss_se[0], found.loss_lower[0], found.loss_change_upper[0]]).all()

"""Nearness of units, against correlations by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from neuroprobe.statistics.nearness import nearness_by_dissimilarities, nearness_by_responses


def test_responses_against_every_correlation(rng: np.random.Generator) -> None:
    units, neurons = rng.normal(size=(20, 7)) + 5, rng.normal(size=(20, 4))
    whole = np.corrcoef(units.T, neurons.T)[:7, 7:]
    np.testing.assert_allclose(nearness_by_responses(units, neurons), whole.max(1), atol=1e-12)


def test_dissimilarities_against_every_pair(rng: np.random.Generator) -> None:
    units, pairs = rng.gamma(1, size=(15, 6)) + 3, rng.random(105)
    own = [pdist(unit[:, None], "sqeuclidean") for unit in units.T]
    expected = [np.corrcoef(one, pairs)[0, 1] for one in own]
    np.testing.assert_allclose(nearness_by_dissimilarities(units, pairs), expected, atol=1e-12)


def test_what_does_not_vary_is_undefined() -> None:
    units = np.stack([np.full(6, 0.3), np.arange(6.0), np.array([1.0, 0, 0, 0, 0, 0])], axis=1)
    assert np.isnan(nearness_by_responses(units, np.full((6, 2), 0.1))).all()
    found = nearness_by_responses(units, np.stack([np.arange(6.0), np.full(6, 0.7)], axis=1))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1)
    assert np.isnan(nearness_by_dissimilarities(units, np.arange(15.0))[0])
    assert np.isnan(nearness_by_dissimilarities(units, np.full(15, 0.4))).all()
    # all pairs of two stimuli differ alike
    assert np.isnan(nearness_by_dissimilarities(np.array([[0.0], [1]]), np.array([0.4]))).all()

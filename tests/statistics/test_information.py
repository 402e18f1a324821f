"""Information against scikit-learn, closed forms, and the bias that corrections are for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from neuroprobe.statistics.information import (
    binned,
    expected_responses,
    information,
    skaggs_information,
)


def entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum())


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 5), st.integers(1, 6))
def test_plug_in_is_that_of_scikit_learn(seed: int, n: int, n_conditions: int, n_responses: int) -> None:
    rng = np.random.default_rng(seed)
    condition = rng.integers(-1, n_conditions, n)
    responses = rng.integers(0, n_responses, (n, 3))
    responses[:, 2] = -1
    found = information(responses, condition, n_conditions, 3, rng)
    kept = condition >= 0
    assert np.isnan([part[2] for part in vars(found).values()]).all()
    for unit in range(2):
        if not kept.any():
            assert np.isnan(found.plug_in[unit])
            continue
        own = responses[kept, unit]
        expected = mutual_info_score(condition[kept], own) / np.log(2)
        assert found.plug_in[unit] == pytest.approx(expected, abs=1e-9)
        # Miller & Madow's correction of each entropy
        size = kept.sum()
        corrected = entropy(np.bincount(own)) + (len(np.unique(own)) - 1) / (2 * size * np.log(2))
        for k in np.unique(condition[kept]):
            part = own[condition[kept] == k]
            of_part = entropy(np.bincount(part)) + (len(np.unique(part)) - 1) / (2 * len(part) * np.log(2))
            corrected -= len(part) / size * of_part
        assert found.miller_madow[unit] == pytest.approx(corrected, abs=1e-9)
        assert found.shuffle_subtracted[unit] == pytest.approx(found.plug_in[unit] - found.shuffled[unit])


def test_corrections_take_the_bias_of_nothing(rng: np.random.Generator) -> None:
    """Responses that say nothing: the plug-in estimate is far above 0, the corrections near it."""
    condition = np.repeat(np.arange(8), 12)
    found = information(rng.poisson(3, (96, 300)), condition, 8, 50, rng)
    assert found.plug_in.mean() > 0.25
    assert abs(found.shuffle_subtracted.mean()) < 0.01
    assert abs(found.miller_madow.mean()) < 0.55 * found.plug_in.mean()
    assert abs(found.panzeri_treves.mean()) < 0.25 * found.plug_in.mean()
    assert abs(found.quadratic.mean()) < 0.1 * found.plug_in.mean()
    assert (found.p_value <= 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert found.shuffled_sd.mean() == pytest.approx(found.plug_in.std(), rel=0.1)


def test_corrections_come_near_the_truth(rng: np.random.Generator) -> None:
    """Binary responses of known probabilities: exact information from the table."""
    p = np.array([0.1, 0.3, 0.5, 0.9])
    of_stimulus = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()
    truth = -(p.mean() * np.log2(p.mean()) + (1 - p.mean()) * np.log2(1 - p.mean())) - of_stimulus
    condition = np.repeat(np.arange(4), 20)
    responses = (rng.random((80, 2000)) < p[condition][:, None]).astype(int)
    found = information(responses, condition, 4, 1, rng)
    assert found.plug_in.mean() > truth + 0.025
    for corrected in (found.miller_madow, found.panzeri_treves, found.quadratic):
        assert corrected.mean() == pytest.approx(truth, abs=0.015)
    assert (information(responses, condition, 4, 40, rng).p_value <= 0.05).mean() > 0.95


def test_information_is_at_most_that_of_the_stimulus() -> None:
    condition = np.repeat(np.arange(4), 25)
    found = information(np.stack([condition, np.zeros(100, int)], axis=1), condition, 4, 20, np.random.default_rng(0))
    assert found.plug_in == pytest.approx([2, 0])
    assert found.p_value == pytest.approx([1 / 21, 1])
    assert found.panzeri_treves[0] == pytest.approx(2 + 3 / (200 * np.log(2)))


def test_expected_responses_lie_between_those_seen_and_all(rng: np.random.Generator) -> None:
    counts = rng.multinomial(10, np.full(12, 1 / 12), size=(200, 30)).astype(float)
    seen = (counts > 0).sum(2)
    found = expected_responses(counts)
    assert (found >= seen).all()
    assert (found <= 12).all()
    # of 12 equally likely responses 10 trials show 7.0 on average
    assert seen.mean() == pytest.approx(12 * (1 - (11 / 12) ** 10), abs=0.05)
    assert abs(found.mean() - 12) < 0.5 * abs(seen.mean() - 12)
    many = rng.multinomial(500, np.full(5, 0.2), size=(3, 4)).astype(float)
    assert (expected_responses(many) == 5).all()


@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6))
def test_bins_are_even_and_in_order(seed: int, n: int, n_bins: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 3))
    values[:, 1] = values[:, 1].round()
    values[rng.random(n) < 0.2, 2] = np.nan
    found = binned(values, n_bins)
    assert (found[np.isnan(values)] == -1).all()
    assert found.max() < n_bins
    assert np.ptp(np.bincount(found[:, 0], minlength=n_bins)) <= 1
    for unit in range(3):
        kept = found[:, unit] >= 0
        order = np.argsort(values[kept, unit])
        assert (np.diff(found[kept, unit][order]) >= 0).all()
        same = values[kept, unit][:, None] == values[kept, unit]
        assert (found[kept, unit][:, None] == found[kept, unit])[same].all()


def test_skaggs() -> None:
    per_spike, per_second = skaggs_information(
        np.array([[0.0, 3, 0, 1], [0, 3, 0, -1], [2, 3, 0, 2], [6, 3, 0, 4]]), np.ones(4)
    )
    assert per_spike.round(6)[:2].tolist() == [1.188722, 0]
    assert per_second.round(6)[:2].tolist() == [2.377444, 0]
    assert np.isnan(per_spike[2:]).all()
    one_place, _ = skaggs_information(np.array([[8.0], [0], [0], [0]]), np.array([1.0, 3, 2, 2]))
    assert one_place == pytest.approx(3)

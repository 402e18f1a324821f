"""Regression scores against scikit-learn, run by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from neuroprobe.statistics.encoding import ALPHAS, ceiled, encode, internal_consistency, scores_of

MODELS = {
    "pls": PLSRegression(n_components=25, scale=False),
    "ridge": Ridge(alpha=1),
    "ridge_cv": RidgeCV(alphas=ALPHAS, alpha_per_target=True),
    "linear": LinearRegression(),
}


def sides(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 40))
    return x, x[:, :12] @ rng.normal(size=(12, 5)) + rng.normal(0, 2, (n, 5))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("stratified", [False, True])
def test_scores_are_those_of_scikit_learn(name: str, stratified: bool) -> None:
    x, y = sides()
    strata = np.repeat(["a", "b", "c"], 20) if stratified else None
    cut = (StratifiedShuffleSplit if stratified else ShuffleSplit)(10, train_size=0.9, random_state=1)
    by_split = []
    for train, test in cut.split(x, strata):
        train, test = np.sort(train), np.sort(test)
        predicted = MODELS[name].fit(x[train], y[train]).predict(x[test])
        by_split.append([stats.pearsonr(a, b).statistic for a, b in zip(predicted.T, y[test].T, strict=True)])
    found = encode(x, y, name, strata)
    medians = np.median(by_split, axis=1)
    assert found.score == pytest.approx(medians.mean(), abs=1e-10)
    assert found.error == pytest.approx(medians.std() / np.sqrt(10), abs=1e-10)
    np.testing.assert_allclose(found.units, np.mean(by_split, axis=0), atol=1e-10)


def test_projection_is_of_the_training_stimuli() -> None:
    x, y = sides()
    by_split = []
    for train, test in ShuffleSplit(10, train_size=0.9, random_state=1).split(x):
        train, test = np.sort(train), np.sort(test)
        components = PCA(8, svd_solver="full").fit(x[train])
        model = Ridge(alpha=1).fit(components.transform(x[train]), y[train])
        predicted = model.predict(components.transform(x[test]))
        by_split.append([stats.pearsonr(a, b).statistic for a, b in zip(predicted.T, y[test].T, strict=True)])
    assert encode(x, y, "ridge", n_components=8).score == pytest.approx(np.median(by_split, 1).mean(), abs=1e-10)


def test_neuron_to_neuron_finds_the_unit() -> None:
    x, _ = sides()
    y = 3 * x[:, [7, 30]] + 1
    found = encode(x, y, "neuron_to_neuron")
    assert found.score == pytest.approx(1, abs=1e-10)
    order = np.random.default_rng(1).permutation(40)
    assert encode(x[:, order], y, "neuron_to_neuron").score == pytest.approx(1, abs=1e-10)


def test_a_silent_unit_is_left_out() -> None:
    x, y = sides()
    silent = np.concatenate([y, np.zeros((60, 1))], axis=1)
    found = encode(x, silent, "ridge")
    assert np.isnan(found.units[-1])
    assert found.score == pytest.approx(encode(x, y, "ridge").score)
    assert np.isnan(scores_of(np.full((3, 2), np.nan)).score)


def test_too_few_stimuli() -> None:
    x, y = sides(8)
    with pytest.raises(ValueError, match="8 stimuli are too few"):
        encode(x, y)
    with pytest.raises(ValueError, match="unknown regression 'lasso'; known: pls, ridge"):
        encode(x, y, "lasso")
    with pytest.raises(ValueError, match="2 or more repetitions, received 1"):
        internal_consistency(y[None])


def test_the_ceiling_is_that_of_the_spec() -> None:
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(40, 6))
    trials = signal + rng.normal(0, 1, (12, 40, 6))
    by_split = []
    for one, other in ShuffleSplit(10, train_size=0.5, random_state=1).split(trials):
        r = [
            stats.pearsonr(a, b).statistic for a, b in zip(trials[one].mean(0).T, trials[other].mean(0).T, strict=True)
        ]
        by_split.append([2 * one / (1 + one) for one in r])
    assert internal_consistency(trials).score == pytest.approx(np.median(by_split, 1).mean(), abs=1e-10)
    # 12 repetitions of noise as large as the signal: 12 / 13
    assert internal_consistency(trials).score == pytest.approx(12 / 13, abs=0.05)


def test_ceiled_scores() -> None:
    score, ceiling = np.array([0.6, -0.3, 0.5]), np.array([0.9, 0.9, 0])
    np.testing.assert_allclose(ceiled(score, ceiling), [0.4, -0.1, np.nan])
    np.testing.assert_allclose(ceiled(score, ceiling, "brainscore-2025"), [4 / 9, -1 / 9, np.nan])

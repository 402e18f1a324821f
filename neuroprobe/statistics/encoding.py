"""How well responses of a brain follow from those of a model: regressions on held-out stimuli (no labels).

The definitions are Brain-Score's of 2026 (Schrimpf et al. 2018, 2020): what a split is, what a score is, what an error
is. Regressions are scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.reliability import correlation_of, spearman_brown

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
N_SPLITS: Final = 10
TRAIN_SHARE: Final = 0.9
SEED: Final = 1  # of the splits, as published
N_COMPONENTS: Final = 25  # of partial least squares
ALPHAS: Final = tuple(10.0**power for power in range(-4, 7))  # of ridge regressions whose penalty is chosen


class Scores(NamedTuple):
    """Scores over splits.

    Attributes
    ----------
    score : float
        Mean over splits of the median over units of Pearson's r on held-out stimuli.
    error : float
        Standard deviation over splits (of n) / √splits; splits share stimuli, so it is no standard error.
    units : float array (units,)
        Mean over splits of each unit's r; NaN of units that do not vary.
    splits : float array (splits,)
    """

    score: float
    error: float
    units: Array
    splits: Array


def splits_of(
    n: int, strata: NDArray[Any] | None = None, n_splits: int = N_SPLITS
) -> Iterator[tuple[Integers, Integers]]:
    """Random splits of stimuli into 90 % and 10 %, with as many of each stratum where there are strata."""
    from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

    kind = ShuffleSplit if strata is None else StratifiedShuffleSplit
    cut = kind(n_splits=n_splits, train_size=TRAIN_SHARE, random_state=SEED)
    for train, test in cut.split(np.zeros(n), strata):
        yield np.sort(train), np.sort(test)


def encode(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    regression: str = "ridge",
    strata: NDArray[Any] | None = None,
    n_splits: int = N_SPLITS,
    n_components: int | None = None,
) -> Scores:
    """Score a regression of a brain's units on a model's, on held-out stimuli.

    Parameters
    ----------
    x : float array (stimuli, units of the model)
    y : float array (stimuli, units of the brain)
        Sorted by stimulus, as splits are of places.
    regression : {"pls", "ridge", "ridge_cv", "linear", "neuron_to_neuron"}
    strata : array (stimuli,), optional
        Such as the object of each stimulus.
    n_splits : int
    n_components : int, optional
        Of a projection of `x` to its principal components on the training stimuli, where it has many units.

    Raises
    ------
    ValueError
        If there is no such regression, or too few stimuli.
    """
    if regression not in REGRESSIONS:
        raise ValueError(f"unknown regression {regression!r}; known: {', '.join(REGRESSIONS)}")
    found = []
    for train, test in splits_of(len(x), strata, n_splits):
        if len(test) < 2 or len(train) < 3:
            raise ValueError(f"{len(x)} stimuli are too few for a regression: 11 or more give 2 that are held out")
        fitted, shown = x[train], x[test]
        if n_components is not None and min(fitted.shape) > n_components:
            fitted, shown = _projected(fitted, shown, n_components)
        found.append(
            correlation_of(REGRESSIONS[regression](fitted, y[train], shown), np.asarray(y[test], dtype=np.float64))
        )
    by_split = np.array(found)
    return scores_of(by_split)


def scores_of(by_split: Array) -> Scores:
    """Sum up Pearson's r of splits and units (splits, units)."""
    known = ~np.isnan(by_split)
    splits = np.array([np.median(row[has]) if has.any() else np.nan for row, has in zip(by_split, known, strict=True)])
    n = known.sum(0)
    units = np.where(known, by_split, 0).sum(0) / np.where(n > 0, n, np.nan)
    return Scores(float(splits.mean()), float(splits.std() / np.sqrt(len(splits))), units, splits)


def _projected(fitted: NDArray[Any], shown: NDArray[Any], n: int) -> tuple[Array, Array]:
    from sklearn.decomposition import PCA

    components = PCA(n_components=n, svd_solver="full" if min(fitted.shape) < 500 else "randomized", random_state=SEED)
    first = components.fit_transform(fitted)
    return first, components.transform(shown)


def _pls(x: NDArray[Any], y: NDArray[Any], shown: NDArray[Any]) -> Array:
    from sklearn.cross_decomposition import PLSRegression

    most = min(N_COMPONENTS, x.shape[1], len(x) - 1)
    return np.asarray(PLSRegression(n_components=most, scale=False).fit(x, y).predict(shown)).reshape(len(shown), -1)


def _ridge(x: NDArray[Any], y: NDArray[Any], shown: NDArray[Any]) -> Array:
    from sklearn.linear_model import Ridge

    return np.asarray(Ridge(alpha=1.0).fit(x, y).predict(shown)).reshape(len(shown), -1)


def _ridge_cv(x: NDArray[Any], y: NDArray[Any], shown: NDArray[Any]) -> Array:
    from sklearn.linear_model import RidgeCV

    return np.asarray(RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(x, y).predict(shown)).reshape(len(shown), -1)


def _linear(x: NDArray[Any], y: NDArray[Any], shown: NDArray[Any]) -> Array:
    from sklearn.linear_model import LinearRegression

    return np.asarray(LinearRegression().fit(x, y).predict(shown)).reshape(len(shown), -1)


def _neuron_to_neuron(x: NDArray[Any], y: NDArray[Any], shown: NDArray[Any]) -> Array:
    """Response of the one unit of the model that goes best with each unit of the brain on the training stimuli."""
    parts = []
    for one in (x, y):
        centred = one - one.mean(0)
        length = np.sqrt((centred**2).sum(0))
        parts.append(centred / np.where(length > 0, length, np.nan))
    r = np.nan_to_num(parts[0].T @ parts[1], nan=-np.inf)
    return np.asarray(shown[:, r.argmax(0)])


Regression = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], Array]
REGRESSIONS: Final[dict[str, Regression]] = {
    "pls": _pls,
    "ridge": _ridge,
    "ridge_cv": _ridge_cv,
    "linear": _linear,
    "neuron_to_neuron": _neuron_to_neuron,
}


def internal_consistency(trials: NDArray[np.floating]) -> Scores:
    """Ceiling of a score: how well halves of the repetitions agree, with Spearman & Brown's correction.

    Parameters
    ----------
    trials : float array (repetitions, stimuli, units)
        NaN where a repetition is missing.

    Raises
    ------
    ValueError
        If there are fewer than 2 repetitions.
    """
    from sklearn.model_selection import ShuffleSplit

    if len(trials) < 2:
        raise ValueError(f"a ceiling takes 2 or more repetitions, received {len(trials)}")
    found = []
    for one, other in ShuffleSplit(n_splits=N_SPLITS, train_size=0.5, random_state=SEED).split(trials):
        means = [_mean(trials[half]) for half in (one, other)]
        both = ~np.isnan(means[0] + means[1]).any(1)
        found.append(spearman_brown(correlation_of(means[0][both], means[1][both])))
    return scores_of(np.array(found))


def _mean(trials: NDArray[np.floating]) -> Array:
    known = ~np.isnan(trials)
    n = known.sum(0)
    return np.asarray(np.where(known, trials, 0).sum(0) / np.where(n > 0, n, np.nan))


def ceiled(score: Array, ceiling: Array, version: str = "brainscore-2026") -> Array:
    """Scores as shares of what can be explained.

    Parameters
    ----------
    score, ceiling : float arrays
        Of one shape, or as they broadcast.
    version : {"brainscore-2026", "brainscore-2025"}
        r² / ceiling, since January 2026; or (r / ceiling)², as before.

    Returns
    -------
    float array
        NaN where the ceiling is not above 0; below 0 where the score is, as a square would not be.

    Examples
    --------
    >>> ceiled(np.array([0.5, -0.5]), np.array([0.5, 0.5])).tolist()
    [0.5, -0.5]
    >>> ceiled(np.array(0.5), np.array(0.5), "brainscore-2025").item()
    1.0
    """
    signed = np.asarray(score) * np.abs(score)
    known = np.where(np.asarray(ceiling) > 0, ceiling, np.nan)
    return np.asarray(signed / (known if version == "brainscore-2026" else known**2))

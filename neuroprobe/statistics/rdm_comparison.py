"""How alike dissimilarity matrices are, and how alike a model's can be at best: ceilings (NumPy, no labels)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neuroprobe.statistics.rdms import n_of_pairs

Array = NDArray[np.float64]
Pool = Callable[[Array], Array]


def compare_rdms(a: Array, b: Array, method: str = "spearman") -> Array:
    """Compare each matrix of one set with each of another.

    Parameters
    ----------
    a, b : float arrays (matrices, pairs)
        Pairs that are NaN in any matrix are left out.
    method : str
        ``cosine``, ``pearson``, ``spearman``, ``rho_a`` (12 a·b / (n³ - n) of centred average ranks), ``tau_a``,
        ``tau_b``, or ``cosine_cov``, ``corr_cov``, which take into account that distances of one stimulus vary together
        (Diedrichsen et al. 2020).

    Returns
    -------
    float array (matrices of a, matrices of b)
        NaN where a matrix does not vary.

    Raises
    ------
    ValueError
        If there is no such method, or a whitened one has missing pairs.

    Examples
    --------
    >>> compare_rdms(np.array([[1.0, 2, 3]]), np.array([[1.0, 2, 4], [3, 2, 1]])).round(12).tolist()
    [[1.0, -1.0]]
    """
    if method not in METHODS:
        raise ValueError(f"unknown comparison {method!r}; known: {', '.join(METHODS)}")
    known = ~(np.isnan(a).any(0) | np.isnan(b).any(0))
    if method in WHITENED:
        if not known.all():
            raise ValueError(f"{method} needs all pairs of stimuli, and {int((~known).sum())} are missing")
        return _cosines(*(_whitened(one, centre=method == "corr_cov") for one in (a, b)))
    a, b = a[:, known], b[:, known]
    match method:
        case "cosine":
            return _cosines(a, b)
        case "pearson":
            return _cosines(_centred(a), _centred(b))
        case "spearman":
            return _cosines(_centred(_ranked(a)), _centred(_ranked(b)))
        case "rho_a":
            n = a.shape[1]
            return np.asarray(12 * _centred(_ranked(a)) @ _centred(_ranked(b)).T / (n**3 - n))
        case _:
            return np.array([[_tau(one, other, method) for other in b] for one in a])


def _ranked(a: Array) -> Array:
    return np.asarray(stats.rankdata(a, axis=1), dtype=np.float64)


def _centred(a: Array) -> Array:
    return np.asarray(a - a.mean(1, keepdims=True))


def _cosines(a: Array, b: Array) -> Array:
    lengths = [np.sqrt((one**2).sum(1)) for one in (a, b)]
    size = np.outer(*lengths)
    return np.asarray(np.clip(a @ b.T / np.where(size > 0, size, np.nan), -1, 1))


def _tau(a: Array, b: Array, method: str) -> float:
    tau = float(stats.kendalltau(a, b).statistic)
    if method == "tau_b":
        return tau
    n_pairs = len(a) * (len(a) - 1) / 2
    untied = [n_pairs - sum(n * (n - 1) / 2 for n in np.unique(one, return_counts=True)[1]) for one in (a, b)]
    return float(tau * np.sqrt(untied[0] * untied[1]) / n_pairs)


def _whitened(a: Array, *, centre: bool) -> Array:
    """Matrices whose cosine is the whitened one: second moments of stimuli, -H D H / 2 (matrices, stimuli²)."""
    if centre:
        a = _centred(a)
    n = n_of_pairs(a.shape[1])
    square = np.zeros((len(a), n, n))
    first, second = np.triu_indices(n, 1)
    square[:, first, second] = square[:, second, first] = a
    means = square.mean(1, keepdims=True)
    moments = square - means - means.transpose(0, 2, 1) + means.mean(2, keepdims=True)
    return np.asarray(-0.5 * moments.reshape(len(a), -1))


def _mean_of_scaled(a: Array) -> Array:
    return np.asarray((a / np.sqrt((a**2).mean(1, keepdims=True))).mean(0))


def _mean_of_standardised(a: Array) -> Array:
    return np.asarray((_centred(a) / a.std(1, keepdims=True)).mean(0))


def _mean_of_ranks(a: Array) -> Array:
    return np.asarray(_ranked(a).mean(0))


WHITENED: Final = ("cosine_cov", "corr_cov")
# method → how matrices are pooled into the one that is most alike to all of them
METHODS: Final[dict[str, Pool]] = {
    "cosine": _mean_of_scaled,
    "pearson": _mean_of_standardised,
    "spearman": _mean_of_ranks,
    "rho_a": _mean_of_ranks,
    "tau_a": _mean_of_ranks,
    "tau_b": _mean_of_ranks,
    "cosine_cov": _mean_of_scaled,
    "corr_cov": _mean_of_standardised,
}
CEILINGS: Final = ("rsatoolbox", "brainscore", "net2brain")


def noise_ceiling(a: Array, method: str = "spearman", definition: str = "rsatoolbox") -> tuple[float, float]:
    """Bounds of what a model can reach, from how alike the matrices of subjects are.

    Parameters
    ----------
    a : float array (subjects, pairs)
    method : str
        As for `compare_rdms`.
    definition : {"rsatoolbox", "brainscore", "net2brain"}
        How matrices are pooled: scaled, standardised or ranked as the method asks for (Nili et al. 2014), or as they
        are; ``net2brain`` squares what the latter gives of each subject.

    Returns
    -------
    lower, upper : float
        Mean over subjects of the likeness to the matrix that is pooled of the others, and of all. NaN of one subject.
    """
    if definition not in CEILINGS:
        raise ValueError(f"unknown ceiling {definition!r}; known: {', '.join(CEILINGS)}")
    if len(a) < 2:
        return np.nan, np.nan
    a = a[:, ~np.isnan(a).any(0)]
    pool = METHODS[method] if definition == "rsatoolbox" else _mean
    whole = pool(a)[None]
    lower, upper = [], []
    for subject in range(len(a)):
        one = a[subject : subject + 1]
        lower.append(compare_rdms(pool(np.delete(a, subject, axis=0))[None], one, method).item())
        upper.append(compare_rdms(whole, one, method).item())
    if definition == "net2brain":
        lower, upper = [value**2 for value in lower], [value**2 for value in upper]
    return float(np.mean(lower)), float(np.mean(upper))


def _mean(a: Array) -> Array:
    return np.asarray(a.mean(0))

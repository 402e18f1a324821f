"""Paired tests and effect sizes of differences, of many units at once; and corrections for their number.

Differences come either as they are, one per pair, for the signed ranks; or as sums over pairs, for all else. A test
of differences that are all 0 has nothing to test: its callers leave such units out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from neuroprobe import names

Array = NDArray[np.float64]

# as statsmodels names them, of which Hommel's takes a time that is quadratic in the number of tests; or none
CORRECTIONS: Final = ("fdr_by", "fdr_bh", "bonferroni", "holm", "sidak", "holm-sidak", "none")
VALUES_AT_A_TIME: Final = 1 << 20  # differences whose ranks are in memory together


def t_test(mean: Array, se: Array, n: Array) -> Array:
    """Two-sided p-values of Student's paired t with n - 1 degrees of freedom, from means and their standard errors."""
    return np.asarray(2 * special.stdtr(n - 1, -np.abs(mean / se)))


def sign_test(n_positive: Array, n_negative: Array) -> Array:
    """Two-sided p-values of the exact sign test; pairs without a difference are left out (Dixon & Mood 1946)."""
    fewer = np.minimum(n_positive, n_negative)
    return np.minimum(1.0, 2 * special.bdtr(fewer, (n_positive + n_negative).astype(np.int64), 0.5))


def signed_ranks(d: NDArray[np.floating]) -> dict[str, Array]:
    """Wilcoxon's signed-rank test and the matched-pairs rank-biserial correlation.

    Parameters
    ----------
    d : float array (pairs, units)
        Differences; NaN where a pair is left out.

    Returns
    -------
    dict of arrays (units,)
        ``rank_biserial``, its standard error ``rank_biserial_se``, and the two-sided ``p_value``.

    Notes
    -----
    Differences of 0 are ranked with the others, and their ranks shared by both signs: ``zero_method="zsplit"`` of
    `scipy.stats.wilcoxon`, with its normal approximation and correction for ties. With m_i the midrank of |d_i|, the
    statistic R⁺ - R⁻ is Σ sgn(d_i) m_i, its variance without an effect Σ m_i², and the rank-biserial correlation
    (R⁺ - R⁻) / (R⁺ + R⁻) (Kerby 2014, doi:10.2466/11.IT.3.1). That is the mean of sgn(d_i + d_j) over pairs i ≤ j, a
    U-statistic, whose standard error follows from the means of each pair with all others (Hoeffding 1948,
    doi:10.1214/aoms/1177730196): without bias in large samples, 0 where all differences have one sign.
    """
    n_units = d.shape[1]
    width = max(1, VALUES_AT_A_TIME // len(d))
    parts = [_signed_ranks(np.ascontiguousarray(d[:, i : i + width].T)) for i in range(0, n_units, width)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _signed_ranks(d: NDArray[np.floating]) -> dict[str, Array]:
    """Signed ranks of differences (units, pairs)."""
    n = (~np.isnan(d)).sum(1)
    sign = np.sign(d)
    midrank = _midranks(np.abs(d))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.nansum(sign * midrank, axis=1)
        z = difference / np.sqrt(np.nansum(midrank**2, axis=1))
        # Σ_j sgn(d_i + d_j) = n - 2 (number of d_j below -d_i, those that equal it by half)
        both = _midranks(np.concatenate([d, -d], axis=1))[:, d.shape[1] :]
        below = both - (n[:, None] + 1 - _midranks(d))
        influence = 2 * (n[:, None] - 2 * below) / (n[:, None] + 1)
        centred = influence - np.nansum(influence, axis=1, keepdims=True) / n[:, None]
        variance = np.nansum(centred**2, axis=1) / (n - 1)
        return {
            names.RANK_BISERIAL: difference / (n * (n + 1) / 2),
            names.se(names.RANK_BISERIAL): np.sqrt(variance / n),
            names.P_VALUE: 2 * special.ndtr(-np.abs(z)),
        }


def _midranks(values: NDArray[np.floating]) -> Array:
    """Ranks within rows, ties shared; NaN without a rank."""
    return np.asarray(stats.rankdata(values, axis=1, nan_policy="omit"))


def adjust(p: Array, method: str) -> Array:
    """Correct p-values for their number.

    Parameters
    ----------
    p : float array
        One family, of any shape; NaN where there was nothing to test, which does not count.
    method : str
        One of `CORRECTIONS`.

    Returns
    -------
    float array
        Adjusted p-values of the same shape, NaN where `p` is.
    """
    from statsmodels.stats.multitest import multipletests  # takes a second

    tested = ~np.isnan(p)
    adjusted = np.full(p.shape, np.nan)
    if method == "none":
        adjusted[tested] = p[tested]
    elif tested.any():
        adjusted[tested] = multipletests(p[tested], method=method)[1]
    return adjusted

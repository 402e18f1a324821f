"""Sobol indices, Shapley effects, moments, and their standard errors from the sums of a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names

if TYPE_CHECKING:
    from neuroprobe.statistics.estimators import Terms
    from neuroprobe.statistics.pick_freeze import PickFreezeSums

UNITS_AT_A_TIME: Final = 1 << 13  # the many temporaries of a large layer would take more than its result
PAIRED: Final = frozenset({names.SECOND_ORDER, names.TOTAL_INTERACTION})
MEANS: Final = frozenset({names.VARIANCE, names.MEAN, names.ACTIVITY_RATE})
ONE_BLOCK: Final = 1 - 1e-12  # share of a squared sum that is one block's, but for rounding
NOISE_STEPS: Final = 8  # a variance under (8 rounding steps of the largest response)² is noise


def finalize(sums: PickFreezeSums, terms: Terms, only: Collection[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """Turn sums into indices with standard errors.

    Parameters
    ----------
    sums : PickFreezeSums
    terms : Terms
    only : collection of str, optional
        Quantities that are wanted; all by default.

    Returns
    -------
    dict of arrays
        Shares of the variance: ``first_order``, ``total_order``, ``shapley_effect`` (d, units), ``component`` (subsets,
        units), ``second_order``, ``total_interaction`` (d, d, units; symmetric, NaN on the diagonal). ``variance``,
        ``mean``, ``activity_rate``, ``coefficient_of_variation`` (units,). Those that the terms estimate, each with
        ``<name>_se``; ``defined`` (units,) int8, and ``n_dropped`` where base samples may be dropped. Shares and
        coefficients of variation of units whose variance is 0 or under the noise floor are NaN, and so are
        coefficients of variation of units whose mean is 0, and errors of shares of units that vary in one block alone.
    """
    n_units = sums.total.shape[1]
    result: dict[str, NDArray[np.float64]] = {}
    for start in range(0, n_units, UNITS_AT_A_TIME):
        units = slice(start, start + UNITS_AT_A_TIME)
        for name, values in _finalize(sums.of_units(units), terms, only).items():
            if name not in result:
                result[name] = np.empty((*values.shape[:-1], n_units), values.dtype)
            result[name][..., units] = values
    return result


def result_bytes(terms: Terms, n_units: int) -> dict[str, int]:
    """Bytes of each variable that `finalize` returns."""
    leading = {name: part.stop - part.start for name, part in terms.slices.items()} | dict.fromkeys(terms.derived, 1)
    leading |= dict.fromkeys(PAIRED & set(leading), terms.n_factors**2)
    sizes = {name: 8 * n * n_units for name, n in leading.items()}
    errors = {names.se(name): n for name, n in sizes.items() if name != names.N_DROPPED}
    return sizes | errors | {names.DEFINED: n_units}


def finalize_bytes(terms: Terms) -> int:
    """Bytes that `finalize` takes for a while beside its result."""
    # sums, squares and products, scaled, with the parts that are at work; and the result of the slice
    return UNITS_AT_A_TIME * (5 * 8 * terms.n_kept) + sum(result_bytes(terms, UNITS_AT_A_TIME).values())


def _finalize(sums: PickFreezeSums, terms: Terms, only: Collection[str] | None) -> dict[str, NDArray[np.float64]]:
    parts = terms.slices
    repeats = [part.stop - part.start for part in parts.values()]
    scale = np.repeat([terms.scales[name] for name in parts], repeats)[:, None]
    kept = sums.total.cpu().numpy()
    total, square = kept[: terms.n_ratios] * scale, sums.square.cpu().numpy() * scale**2
    cross = sums.cross.cpu().numpy() * scale
    nothing = np.zeros(total.shape[1])
    n_dropped = total[parts[names.N_DROPPED]][0] if terms.drop else nothing
    n_dropped_squared = square[parts[names.N_DROPPED]][0] if terms.drop else nothing
    block, n_blocks = sums.n_samples / sums.n_blocks, sums.n_blocks
    with np.errstate(divide="ignore", invalid="ignore"):
        n_valid = np.where(n_dropped < sums.n_samples, sums.n_samples - n_dropped, np.nan)
        n_valid_squared = n_blocks * block**2 - 2 * block * n_dropped + n_dropped_squared
        spread = n_blocks / (n_blocks - 1.0) if n_blocks > 1 else np.nan
        overall = {names.VARIANCE: total[:1]} | terms.overall(kept, sums.n_samples)
        variance = overall[names.VARIANCE][0] / n_valid
        defined = variance > noise_floor(sums.peak.cpu().numpy())
        divisor = np.where(defined, total[0], np.nan)
        # where all variance is one block's, every block agrees with the ratio, which says nothing about its error
        error_divisor = np.where(square[0] < ONE_BLOCK * total[0] ** 2, divisor, np.nan)
        overall_divisor = np.where(defined, overall[names.VARIANCE][0], np.nan)
        result: dict[str, NDArray[np.float64]] = {}
        wanted = {*parts, *terms.derived} if only is None else set(only)
        needed = wanted | MEANS if wanted & set(terms.derived) else wanted
        for name, part in parts.items():
            if name not in needed:
                continue
            if name == names.N_DROPPED:
                result[name] = n_dropped
            elif name in MEANS:
                value = total[part][0] / n_valid
                # blocks hold block − dropped samples: Σ (sum − value · valid)²
                with_valid = block * total[part][0] - _with_dropped(name, cross, scale, terms)
                deviation = square[part][0] - 2 * value * with_valid + value**2 * n_valid_squared
                result[name] = overall[name][0] / n_valid if name in overall else value
                result[names.se(name)] = np.sqrt(spread * np.maximum(deviation, 0)) / n_valid
            else:
                ratio = total[part] / divisor
                deviation = square[part] - 2 * ratio * cross[part] * scale[0] + ratio**2 * square[0]
                error = np.sqrt(spread * np.maximum(deviation, 0)) / error_divisor
                result[name] = overall[name] / overall_divisor if name in overall else ratio
                result[names.se(name)] = error
        if wanted & set(terms.derived):
            products = cross[parts[names.MEAN]][0] * scale[0] - block * total[0] * result[names.MEAN]
            covariance = None if terms.drop else spread * products / n_valid**2
            result |= _coefficient_of_variation(result, covariance, defined)
            result = {name: value for name, value in result.items() if name.removesuffix("_se") in wanted}
    for name in PAIRED & set(result):
        for key in (name, names.se(name)):
            result[key] = _symmetric(result[key], terms)
    result[names.DEFINED] = defined.astype(np.int8)
    return result


def _coefficient_of_variation(
    found: dict[str, NDArray[np.float64]], covariance: NDArray[np.float64] | None, defined: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Standard deviation over absolute mean (units,), with its error by the delta method.

    The states of runs that drop base samples hold no products of variance and mean (`covariance` is None): there the
    error is the largest that any correlation of the two would give.
    """
    variance, mean = found[names.VARIANCE], found[names.MEAN]
    of_variance = found[names.se(names.VARIANCE)] / (2 * variance)
    of_mean = found[names.se(names.MEAN)] / mean
    value = np.where(defined & (mean != 0), np.sqrt(variance) / np.abs(mean), np.nan)
    twice_both = 2 * np.abs(of_variance * of_mean) if covariance is None else -covariance / (variance * mean)
    error = value * np.sqrt(np.maximum(of_variance**2 + of_mean**2 + twice_both, 0))
    return {names.COEFFICIENT_OF_VARIATION: value, names.se(names.COEFFICIENT_OF_VARIATION): error}


def noise_floor(peak: NDArray[np.floating]) -> NDArray[np.float64]:
    """Variance that is no more than rounding, of responses up to `peak` in their own precision."""
    return np.asarray((NOISE_STEPS * np.finfo(peak.dtype).eps * peak.astype(np.float64)) ** 2)


def _with_dropped(
    name: str, cross: NDArray[np.float64], scale: NDArray[np.float64], terms: Terms
) -> NDArray[np.float64]:
    """Sum over blocks of the block sums of a mean times the number of dropped samples (units,)."""
    if not terms.drop:
        return np.zeros(cross.shape[1])
    if name == names.VARIANCE:  # its partner is itself; that of the dropped samples is the variance
        return cross[terms.slices[names.N_DROPPED]][0] * scale[0]
    return cross[terms.slices[name]][0]


def _symmetric(pairs: NDArray[np.float64], terms: Terms) -> NDArray[np.float64]:
    matrix = np.full((terms.n_factors, terms.n_factors, pairs.shape[1]), np.nan)
    for index, (i, j) in enumerate(terms.pairs):
        matrix[i, j] = matrix[j, i] = pairs[index]
    return matrix

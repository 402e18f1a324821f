"""SALib itself, on the responses of chosen units."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neuroprobe import names
from neuroprobe.statistics.indices import noise_floor

CONFIDENCE: Final = 0.95
QUANTITIES: Final = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SECOND_ORDER: "S2"}


def salib_indices(
    responses: NDArray[np.float64] | NDArray[np.float32],
    n_factors: int,
    *,
    second_order: bool = True,
    n_resamples: int = 100,
    seed: int = 0,
) -> dict[str, NDArray[np.float64]]:
    """Call `SALib.analyze.sobol.analyze` for each unit.

    Parameters
    ----------
    responses : array (samples, rows, units)
        Rows as in `neuroprobe.design.pick_freeze`.
    n_factors : int
        d.
    n_resamples, seed : int
        Of SALib's bootstrap over base samples.

    Returns
    -------
    dict of arrays
        As `neuroprobe.statistics.indices.finalize` returns: ``first_order``, ``total_order`` (d, units),
        ``second_order`` (d, d, units), each with ``<name>_se``, and ``defined`` (units,).

    Notes
    -----
    SALib takes some milliseconds per unit. It responds to a constant output with zeros; here such units are NaN.
    """
    from SALib.analyze import sobol

    problem = {"num_vars": n_factors, "names": [f"x{i}" for i in range(n_factors)], "bounds": [[0, 1]] * n_factors}
    # its rows are A, AB_1 … AB_d, BA_1 … BA_d, B
    ordered = np.concatenate([responses[:, :1], responses[:, 2:], responses[:, 1:2]], axis=1)
    rows = ordered.reshape(-1, responses.shape[2]).astype(np.float64)
    ends = responses[:, :2].reshape(-1, responses.shape[2])
    defined = ends.astype(np.float64).var(0) > noise_floor(np.abs(ends).max(0))
    wanted = {name: key for name, key in QUANTITIES.items() if second_order or name != names.SECOND_ORDER}
    shapes = {name: (n_factors,) * (2 if name == names.SECOND_ORDER else 1) for name in wanted}
    result = {key: np.full((*shapes[n], rows.shape[1]), np.nan) for n in wanted for key in (n, names.se(n))}
    quantile = stats.norm.ppf(0.5 + CONFIDENCE / 2)
    for unit in np.flatnonzero(defined):
        with warnings.catch_warnings():
            # a bootstrap sample of a rarely active unit may be constant
            warnings.simplefilter("ignore", UserWarning)
            # SALib takes the seed 0 for none
            found = sobol.analyze(
                problem, rows[:, unit], second_order, n_resamples, conf_level=CONFIDENCE, seed=seed + 1
            )
        for name, key in wanted.items():
            result[name][..., unit] = found[key]
            result[names.se(name)][..., unit] = found[f"{key}_conf"] / quantile
    for key, values in result.items():
        if values.ndim == 3:
            # SALib fills the upper triangle
            result[key] = np.where(np.isnan(values), values.swapaxes(0, 1), values)
    return result | {names.DEFINED: defined.astype(np.int8)}

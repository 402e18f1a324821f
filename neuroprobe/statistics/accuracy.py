"""Accuracies under treatment and control, with intervals over images, from contrasts of measures of the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from neuroprobe import names

Array = NDArray[np.float64]
LEVEL: Final = 0.95  # of all intervals


def wilson_interval(proportion: Array, se: Array, n: Array, draws: int) -> tuple[Array, Array]:
    """Wilson's score interval of proportions over images that are each shown several times.

    Parameters
    ----------
    proportion, se : float arrays
        Means over images of the share of an image's draws, and their standard errors.
    n : float array
        Images.
    draws : int
        Of each image.

    Returns
    -------
    lower, upper : float arrays

    Notes
    -----
    The number of presentations is replaced by an effective one, that of independent ones with the same variance, with
    n - 1 degrees of freedom (Korn & Graubard 1998, with Wilson's interval as in Dean & Pagano 2015,
    doi:10.1093/jssam/smv024). Of one draw that is n itself, and the interval Wilson's own. Where all presentations
    agree nothing tells draws from images: images count.
    """
    from statsmodels.stats.proportion import proportion_confint  # takes a second

    variance = se**2 * (n - 1) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = proportion * (1 - proportion) / variance
        freedom = special.stdtrit(n * draws - 1, 0.5 + LEVEL / 2) / special.stdtrit(n - 1, 0.5 + LEVEL / 2)
    certain = (proportion <= 0) | (proportion >= 1)
    effective = np.where(certain, n, np.minimum(alike, n * draws) * freedom**2)
    lower, upper = proportion_confint(proportion * effective, effective, 1 - LEVEL, method="wilson")
    return lower, upper


def accuracies(found: Mapping[str, Array], n: Array, draws: int, is_proportion: NDArray[np.bool_]) -> dict[str, Array]:
    """Intervals of measures of the output, and their differences from the control, paired over images.

    Parameters
    ----------
    found : dict of arrays
        As `neuroprobe.statistics.contrast.finalize` returns it, of measures in place of units.
    n : float array (measures,)
        Images.
    draws : int
        Of each alteration.
    is_proportion : bool array (measures,)
        Which measures are 0 or 1 in each presentation: these have Wilson's intervals, the others Student's.

    Returns
    -------
    dict of arrays (1 + alterations, measures)
        ``estimate``, ``lower``, ``upper``, of the control first; ``difference`` from the control with
        ``difference_lower``, ``difference_upper`` and the ``p_value`` of its paired t-test, NaN for the control. Where
        no image changed, the p-value is 1.
    """
    reach = special.stdtrit(n - 1, 0.5 + LEVEL / 2)
    intervals = []
    for name, n_draws in ((names.CONTROL_MEAN, 1), (names.TREATMENT_MEAN, draws)):
        mean, se = np.atleast_2d(found[name]), np.atleast_2d(found[names.se(name)])
        wilson = wilson_interval(mean, se, np.broadcast_to(n, mean.shape), n_draws)
        student = mean - reach * se, mean + reach * se
        intervals.append([mean, *(np.where(is_proportion, w, s) for w, s in zip(wilson, student, strict=True))])
    estimate, lower, upper = (np.concatenate(both) for both in zip(*intervals, strict=True))
    difference, se = found[names.MEAN_DIFFERENCE], found[names.se(names.MEAN_DIFFERENCE)]
    p = np.where(found[names.DEFINED] == 1, found[names.P_VALUE][0], 1.0)
    paired = [difference, difference - reach * se, difference + reach * se, p]
    nothing = np.full((1, len(n)), np.nan)
    of_difference = ("difference", "difference_lower", "difference_upper", names.P_VALUE)
    return {"estimate": estimate, "lower": lower, "upper": upper} | {
        name: np.concatenate([nothing, values]) for name, values in zip(of_difference, paired, strict=True)
    }

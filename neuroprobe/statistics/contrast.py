"""Treatment against control, paired over images: the sums that are kept, and what becomes of them.

The difference of an image is the mean over the draws of an alteration of (treated - control). The image is the unit
of replication: draws make its difference more precise, and do not count as images.

With m the mean and s the standard deviation of the differences of n images, γ their skewness and κ their kurtosis,
Cohen's d_z = m / s has, for differences of any distribution, the variance

    (1 - γ d_z + (κ - 1) d_z² / 4) / n

by the delta method; of normal ones, where γ = 0 and κ = 3, the usual (1 + d_z² / 2) / n. The latter is taken where
|d_z| is over 1000: the moments of differences that are nearly alike are lost to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.statistics.estimators import Terms, kept_rows, slices_of
from neuroprobe.statistics.indices import UNITS_AT_A_TIME, noise_floor
from neuroprobe.statistics.paired import sign_test, t_test

if TYPE_CHECKING:
    from torch import Tensor

    from neuroprobe.statistics.pick_freeze import PickFreezeSums

Array = NDArray[np.float64]
STREAMED: Final = ("t", "sign")  # tests that sums are enough for
# what sums of squares lose to the mean; float64 holds it so much more exactly than float32 holds responses
LOST_DIGITS: Final = 1e-13
NEARLY_ALIKE: Final = 1e3  # d_z⁴ rounding steps of float64 are lost to the mean in fourth moments


@dataclass(frozen=True)
class ContrastTerms(Terms):
    """Powers of differences between treated and control; rows are the control, then the draws of each alteration.

    Parameters
    ----------
    n_factors : int
        Number of alterations.
    draws : int
        Rows of each.
    drop : bool
        Whether images with a non-finite response are left out, per unit, and counted.
    """

    draws: int = 1

    in_double: ClassVar[bool] = True  # the mean is taken off squares at the end

    @property
    def n_rows(self) -> int:
        """Rows of an image."""
        return 1 + self.n_factors * self.draws

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each sum lies: powers of the differences, those above and under 0, treated², control and control²."""
        of_alterations = ("d", "d2", "d3", "d4", names.N_POSITIVE, names.N_NEGATIVE, "treated2")
        counts = dict.fromkeys(of_alterations, self.n_factors) | {"control": 1, "control2": 1}
        return slices_of(counts | ({names.N_DROPPED: 1} if self.drop else {}))

    @property
    def n_ratios(self) -> int:
        """No second moments over blocks are kept: images replicate, not blocks."""
        return 0

    @property
    def n_sums(self) -> int:
        """K, the number of terms per image."""
        return max(part.stop for part in self.slices.values())

    @property
    def n_kept(self) -> int:
        """Sums of a block that its state keeps."""
        return self.n_sums

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        return self.n_factors

    @property
    def scales(self) -> dict[str, float]:
        """The sums are plain."""
        return dict.fromkeys(self.slices, 1.0)

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the terms in the order of `slices`."""
        (control, *treated), dropped = kept_rows(rows, self.drop)
        draws = [treated[i : i + self.draws] for i in range(0, len(treated), self.draws)]
        d = [difference(control, one) for one in draws]
        return [
            *d,
            *(one**2 for one in d),
            *(one**3 for one in d),
            *(one**4 for one in d),
            *((one > 0).to(one.dtype) for one in d),
            *((one < 0).to(one.dtype) for one in d),
            *((control + one) ** 2 for one in d),
            control,
            control**2,
            *dropped,
        ]


def difference(control: Any, treated: Sequence[Any]) -> Any:
    """Mean over draws of (treated - control), of arrays or tensors in float64."""
    # each less the control: draws that change nothing give 0 exactly, however many they are
    return sum(one - control for one in treated) / len(treated)


def finalize(sums: PickFreezeSums, terms: ContrastTerms) -> dict[str, Array]:
    """Turn sums over images into effects, standard errors and p-values.

    Parameters
    ----------
    sums : PickFreezeSums
    terms : ContrastTerms

    Returns
    -------
    dict of arrays
        ``mean_difference``, ``effect_size`` (Cohen's d_z), ``treatment_mean`` (alterations, units) and
        ``control_mean`` (units,), each with ``<name>_se``; ``n_positive``, ``n_negative`` (alterations, units),
        images with differences above and under 0; ``p_value`` (tests, alterations, units) in the order of `STREAMED`;
        ``defined`` (alterations, units) int8, and ``n_dropped`` (units,) where images may be dropped.

    Notes
    -----
    Where the root mean square of the differences is no more than rounding, the alteration does not change the unit:
    its effect size and p-values are NaN, and ``defined`` is 0. A standard deviation under rounding, of differences
    that are all alike, counts as rounding: its effect size and t are lower bounds.
    """
    n_units = sums.total.shape[1]
    result: dict[str, Array] = {}
    for start in range(0, n_units, UNITS_AT_A_TIME):
        units = slice(start, start + UNITS_AT_A_TIME)
        for name, values in _finalize(sums.of_units(units), terms).items():
            if name not in result:
                result[name] = np.empty((*values.shape[:-1], n_units), values.dtype)
            result[name][..., units] = values
    return result


def _finalize(sums: PickFreezeSums, terms: ContrastTerms) -> dict[str, Array]:
    kept = sums.total.cpu().numpy()
    total = {name: kept[part] for name, part in terms.slices.items()}
    n_dropped = total[names.N_DROPPED][0] if terms.drop else np.zeros(kept.shape[1])
    n = np.where(sums.n_samples - n_dropped > 1, sums.n_samples - n_dropped, np.nan)
    floor = noise_floor(sums.peak.cpu().numpy())
    mean, square, third, fourth = (total[name] / n for name in ("d", "d2", "d3", "d4"))
    defined = square > floor
    lost = np.maximum(floor, LOST_DIGITS * square)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(square - mean**2, lost)
        deviation = np.sqrt(variance * n / (n - 1))
        d_z = np.where(defined, mean / deviation, np.nan)
        mean_se = deviation / np.sqrt(n)
        p = np.stack([t_test(mean, mean_se, n), sign_test(total[names.N_POSITIVE], total[names.N_NEGATIVE])])
        skewness = (third - 3 * mean * square + 2 * mean**3) / variance**1.5
        kurtosis = (fourth - 4 * mean * third + 6 * mean**2 * square - 3 * mean**4) / variance**2
        # no kurtosis is under this bound
        spread = 1 - skewness * d_z + (np.maximum(kurtosis, 1 + skewness**2) - 1) * d_z**2 / 4
        spread = np.where(np.abs(d_z) < NEARLY_ALIKE, spread, 1 + d_z**2 / 2)
        control = _mean(total["control"], total["control2"], n)
        treated = _mean(total["control"] + total["d"], total["treated2"], n)
    result = {
        names.MEAN_DIFFERENCE: mean,
        names.se(names.MEAN_DIFFERENCE): mean_se,
        names.EFFECT_SIZE: d_z,
        names.se(names.EFFECT_SIZE): np.sqrt(spread / n),
        names.P_VALUE: np.where(defined, p, np.nan),
        names.N_POSITIVE: total[names.N_POSITIVE],
        names.N_NEGATIVE: total[names.N_NEGATIVE],
        names.CONTROL_MEAN: control[0][0],
        names.se(names.CONTROL_MEAN): control[1][0],
        names.TREATMENT_MEAN: treated[0],
        names.se(names.TREATMENT_MEAN): treated[1],
        names.DEFINED: defined.astype(np.int8),
    }
    return result | ({names.N_DROPPED: n_dropped} if terms.drop else {})


def _mean(total: Array, squares: Array, n: Array) -> tuple[Array, Array]:
    """Mean over images, and its standard error."""
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0) / (n - 1))

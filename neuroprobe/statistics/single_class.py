"""Single-class sensitivity: whether the classes that a network predicts are those most sensitive to a factor.

T_v are the k outputs that are most sensitive to factor v. The bias of a run towards them is the mean over images of
Jaccard's index of T_v and the k largest outputs (Kharyuk et al. 2025, arXiv 2503.03283, with k = 5). Networks predict
some classes more often than others, so that T_v is compared with sets of k classes drawn at random on the same
predictions; the study compares with two random sets, as if all classes were predicted alike (`hypergeometric_fence`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from neuroprobe import names
from neuroprobe.statistics.masking import ENDS, mean_and_error, share_as_large
from neuroprobe.statistics.plain_sums import PlainSums

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
WHISKER: Final = 1.5  # interquartile ranges over the upper quartile, where Tukey's fence is


def sensitive_classes(sensitivity: Array, k: int) -> Integers:
    """Return the `k` outputs that are most sensitive to each factor, the most sensitive first; of equal ones the first.

    Parameters
    ----------
    sensitivity : float array (factors, outputs)
        NaN where it is undefined, of at most all but `k` outputs: these come last.

    Returns
    -------
    int array (factors, k)
    """
    return np.argsort(-sensitivity, axis=1, kind="stable")[:, :k].astype(np.int64)


def random_sets(n_classes: int, k: int, n_sets: int, random: np.random.Generator) -> Integers:
    """Draw sets of `k` of `n_classes` classes: (sets, k)."""
    return np.stack([random.permutation(n_classes)[:k] for _ in range(n_sets)]).astype(np.int64)


def memberships(sets: Integers, n_classes: int) -> Array:
    """Write sets of classes (sets, k) as 0 and 1: (sets, classes)."""
    found = np.zeros((len(sets), n_classes))
    np.put_along_axis(found, sets, 1.0, axis=1)
    return found


def jaccard_of(n_shared: int, k: int) -> float:
    """Jaccard's index of two sets of `k` that share some.

    Examples
    --------
    >>> jaccard_of(1, 5), jaccard_of(5, 5)
    (0.1111111111111111, 1.0)
    """
    return n_shared / (2 * k - n_shared)


def random_jaccard(n_classes: int, k: int) -> tuple[float, float]:
    """Mean and standard deviation of Jaccard's index of two random sets of `k` of `n_classes` classes.

    Examples
    --------
    >>> mean, deviation = random_jaccard(1000, 5)
    >>> round(mean, 5), round(deviation, 4)
    (0.00278, 0.0176)
    """
    shared = np.arange(k + 1)
    weight = stats.hypergeom.pmf(shared, n_classes, k, k)
    index = shared / (2 * k - shared)
    mean = float((weight * index).sum())
    return mean, float(np.sqrt((weight * (index - mean) ** 2).sum()))


def hypergeometric_fence(n_classes: int, k: int, n_images: int) -> float:
    """Upper fence of Tukey's of the mean index over images, if all sets of classes were predicted alike.

    The mean over `n_images` of the index of two random sets is taken to be normal: its fence, 1.5 interquartile ranges
    over the upper quartile, is 4 Φ⁻¹(0.75) standard deviations over the mean.

    Examples
    --------
    >>> round(hypergeometric_fence(1000, 5, 50_000), 7), round(hypergeometric_fence(365, 5, 36_500), 7)
    (0.0029953, 0.0080627)
    """
    mean, deviation = random_jaccard(n_classes, k)
    return float(mean + (1 + 2 * WHISKER) * special.ndtri(0.75) * deviation / np.sqrt(n_images))


class SingleClassAccumulator:
    """Takes in predictions of images and gives out the sums of each block.

    Parameters
    ----------
    n_inputs, n_factors, n_rules, n_sets, n_classes : int
        `n_sets` are drawn at random.
    """

    def __init__(self, n_inputs: int, n_factors: int, n_rules: int, n_sets: int, n_classes: int) -> None:
        self._shapes = state_shapes(n_inputs, n_factors, n_rules, n_sets, n_classes)
        self._sums = self._empty()

    def _empty(self) -> PlainSums:
        return PlainSums({name: np.zeros(shape) for name, shape in self._shapes.items()})

    def update(
        self,
        intact: Array,
        lesioned: Array,
        random: tuple[Array, Array],
        shares: tuple[Array, Array],
        hits: tuple[Array, Array],
        target: Integers,
        n_dropped: int = 0,
    ) -> None:
        """Add images; all numbers are means over the draws of each input.

        Parameters
        ----------
        intact : float array (images, inputs, factors)
            Index of each factor's sensitive classes, with nothing masked.
        lesioned : float array (images, inputs, factors, rules)
            The same with units masked by the map of this factor.
        random : float arrays (inputs, sets), (inputs, factors, rules, sets)
            Index of random sets, summed over images.
        shares : float arrays (images, inputs, classes), (images, inputs, factors, classes)
            Share of presentations for which a class is the largest output, by the rule of the headline.
        hits : float arrays (images, inputs), (images, inputs, factors)
            Share of presentations for which that is the image's own class.
        target : int array (images,)
            Class of each image.
        """
        add = self._sums.add
        add("n", np.array([len(intact), n_dropped], dtype=np.float64))
        difference = lesioned - intact[..., None]
        for name, values in (("y0", intact), ("y", lesioned), ("d", difference)):
            add(name, values.sum(0))
            add(f"{name}_2", (values**2).sum(0))
        add("random0", random[0])
        add("random", random[1])
        shift = shares[1] - shares[0][:, :, None]
        add("share0", shares[0].sum(0))
        add("share_d", shift.sum(0))
        add("share_d_2", (shift**2).sum(0))
        moved = hits[1] - hits[0][..., None]
        for name, per_image in (("hit0", hits[0]), ("hit_d", moved), ("hit_d_2", moved**2)):
            summed = np.zeros(self._shapes[name])
            np.add.at(np.moveaxis(summed, -1, 0), target, per_image)
            add(name, summed)
        add("n_of_class", np.bincount(target, minlength=self._shapes["n_of_class"][0]).astype(np.float64))

    def end_block(self) -> PlainSums:
        """Return the state of the block that ends here, and start the next one."""
        found, self._sums = self._sums, self._empty()
        return found


def state_shapes(
    n_inputs: int, n_factors: int, n_rules: int, n_sets: int, n_classes: int
) -> dict[str, tuple[int, ...]]:
    """Shapes of the sums of a state."""
    cells = (n_inputs, n_factors, n_rules)
    of_classes = (n_inputs, n_factors, n_classes)
    return {
        "n": (2,),
        "y0": cells[:2],
        "y0_2": cells[:2],
        "y": cells,
        "y_2": cells,
        "d": cells,
        "d_2": cells,
        "random0": (n_inputs, n_sets),
        "random": (*cells, n_sets),
        "share0": (n_inputs, n_classes),
        "share_d": of_classes,
        "share_d_2": of_classes,
        "hit0": (n_inputs, n_classes),
        "hit_d": of_classes,
        "hit_d_2": of_classes,
        "n_of_class": (n_classes,),
    }


def finalize(sums: PlainSums) -> dict[str, Array]:
    """Turn sums over images into indices with intervals and p-values.

    Returns
    -------
    dict of arrays
        ``unlesioned`` (inputs, factors), ``jaccard``, ``difference`` (inputs, factors, rules), each with ``_se``,
        ``_lower``, ``_upper`` over images. P-values are shares of the random sets, the given one among them:
        ``p_unlesioned`` (inputs, factors), of those with as large an index where nothing is masked; ``p_value``
        (inputs, factors, rules), of those whose index where nothing is masked is as large as that of the sensitive
        classes under the lesion; ``p_shift``, of those whose own index the lesion raises as much. ``fence`` (inputs,):
        Tukey's, of random sets where nothing is masked. ``class_share``, ``recall`` (inputs, classes), and what the
        lesions add to them, ``class_share_shift``, ``recall_shift`` (inputs, factors, classes) with ``_se``; ``n``.
    """
    n = sums["n"][0]
    shown = n if n > 0 else np.nan
    reach = special.stdtrit(n - 1, ENDS[1])
    found: dict[str, Array] = {"n": sums["n"]}
    for name, key in ((names.UNLESIONED, "y0"), (names.JACCARD, "y"), (names.DIFFERENCE, "d")):
        mean, se = mean_and_error(sums[key], sums[f"{key}_2"], n)
        found |= {name: mean, names.se(name): se}
        found |= {names.lower(name): mean - reach * se, names.upper(name): mean + reach * se}
    random0, random = sums["random0"] / shown, sums["random"] / shown
    found[names.P_UNLESIONED] = share_as_large(random0[:, None], found[names.UNLESIONED])
    found[names.P_VALUE] = share_as_large(random0[:, None, None], found[names.JACCARD])
    found[names.P_SHIFT] = share_as_large(random - random0[:, None, None], found[names.DIFFERENCE])
    low, high = np.quantile(random0, (0.25, 0.75), axis=-1)
    found[names.FENCE] = high + WHISKER * (high - low)
    found[names.CLASS_SHARE] = sums["share0"] / shown
    shift = mean_and_error(sums["share_d"], sums["share_d_2"], n)
    found[names.CLASS_SHARE_SHIFT], found[names.se(names.CLASS_SHARE_SHIFT)] = shift
    with np.errstate(divide="ignore", invalid="ignore"):
        found[names.RECALL] = sums["hit0"] / sums["n_of_class"]
    shift = mean_and_error(sums["hit_d"], sums["hit_d_2"], sums["n_of_class"])
    found[names.RECALL_SHIFT], found[names.se(names.RECALL_SHIFT)] = shift
    return found

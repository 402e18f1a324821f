"""Selectivity by manipulated stimuli, with labels: one index of each manipulation, its family, and its sham."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.statistics.manipulation_selectivity import (
    ROUNDING,
    AgainstSham,
    Clamp,
    against_sham,
    index_of,
    share_raised,
)
from neuroprobe.statistics.paired import adjust

Array = NDArray[np.float64]
Variable = tuple[tuple[str, ...], Any, dict[str, Any]]
METHOD: Final = "1 - Σa' / Σa over the top stimuli; errors by the jackknife over stimuli"


@dataclass(frozen=True)
class Manipulated:
    """An index by a manipulation.

    Attributes
    ----------
    name, summary : str
    members : tuple of str
        Labels of the family; one empty label of a single manipulation.
    invariance : bool
        Whether the index is what is left of the response, rather than what is lost.
    """

    name: str
    summary: str
    members: tuple[str, ...]
    invariance: bool

    @property
    def dim(self) -> str:
        """Dimension of the family."""
        return f"{self.name}_member"

    @property
    def is_family(self) -> bool:
        """Whether there are several members."""
        return len(self.members) > 1

    @property
    def said(self) -> str:
        """What the index says."""
        return f"share of the response that is {'left' if self.invariance else 'lost'}: {_lower(self.summary)}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def manipulation_variables(
    index: Manipulated,
    original: Array,
    altered: Array,
    sham: Array,
    *,
    clamp: Clamp = "none",
    correction: str = "fdr_bh",
    shorter: Sequence[int] = (),
    half: NDArray[np.integer] | None = None,
) -> dict[str, Variable]:
    """Variables of an index.

    Parameters
    ----------
    index : Manipulated
    original : float array (channels, N)
        Responses to the top stimuli; NaN for channels that have none.
    altered : float array (members, channels, N)
        NaN where a member does not apply to a stimulus.
    sham : float array (draws, channels, N)
    clamp : {"none", "ratio", "final"}
    correction : str
        Of p-values over channels.
    shorter : sequence of int
        Lengths of shorter lists.
    half : int array (channels, N), optional
        Half of the images, 0 or 1, that each top stimulus is in.

    Returns
    -------
    dict of (dims, values, attributes)

    Examples
    --------
    >>> index = Manipulated("colour", "Take the colour away.", ("",), invariance=False)
    >>> found = manipulation_variables(index, np.array([[2.0, 2.0]]), np.array([[[1.0, 0.0]]]), np.empty((0, 1, 2)))
    >>> found["colour"][1], found["colour"][2]["long_name"]
    (array([0.75]), 'share of the response that is lost: take the colour away')
    """
    own, kept = _of_members(original, altered)
    pooled_own, pooled = own.mean(0), kept.mean(0)
    loss, se = index_of(pooled_own, pooled, clamp)
    raised, raised_se = share_raised(original, np.where(np.isnan(altered).all(0), np.nan, _mean(altered)))
    attrs = {"method": METHOD, "clamp": clamp, "selectivity": "invariance" if index.invariance else "loss"}
    by_channel = (names.CHANNEL,)
    found: dict[str, Variable] = {
        index.name: (by_channel, index_value(index, loss), {"long_name": index.said, **attrs}),
        names.se(index.name): (by_channel, se, {"long_name": "standard error over stimuli"}),
        f"{index.name}_raised": (
            by_channel,
            raised,
            {"long_name": "share of the stimuli that drive the channel more where they are altered"},
        ),
        names.se(f"{index.name}_raised"): (by_channel, raised_se, {"long_name": "standard error over stimuli"}),
    }
    if len(sham):
        # of a member at random: as large a part of it as the members that apply are of all
        applying = (~np.isnan(altered)).mean(0)
        compared = _against(index, pooled_own, pooled, applying * sham, clamp)
        found |= _sham_variables(index, compared, len(sham), correction)
    if index.is_family:
        found |= _family_variables(index, own, kept, np.isnan(altered), clamp)
    if half is not None:
        found |= _half_variables(index, own, kept, half, clamp)
    if shorter:
        values = [index_value(index, index_of(pooled_own[:, :n], pooled[:, :n], clamp)[0]) for n in shorter]
        values.append(found[index.name][1])
        attrs = {"long_name": f"{index.said}, of shorter lists of stimuli"}
        found[f"{index.name}_by_n"] = ((names.N_KEPT, names.CHANNEL), np.stack(values), attrs)
    return found


def _half_variables(
    index: Manipulated, own: Array, altered: Array, half: NDArray[np.integer], clamp: Clamp
) -> dict[str, Variable]:
    """Index of the stimuli in either half of the images; of a family, what is chosen by one and scored by the other."""
    parts = [[np.where(half == number, array, 0) for array in (own, altered)] for number in (0, 1)]
    pooled = np.stack([index_of(one.mean(0), other.mean(0), clamp)[0] for one, other in parts])
    found: dict[str, Variable] = {
        f"{index.name}_by_half": (
            (names.HALF, names.CHANNEL),
            index_value(index, pooled),
            {"long_name": f"{index.said}, of the stimuli in either half of the images"},
        )
    }
    if index.is_family:
        losses = [np.stack([index_of(a, b, clamp)[0] for a, b in zip(*part, strict=True)]) for part in parts]
        chosen = [np.where(np.isnan(loss), np.inf, loss).argmin(0) for loss in losses]
        channels = np.arange(own.shape[1])
        scored = [loss[best, channels] for loss, best in zip(losses, chosen[::-1], strict=True)]
        found[f"{index.name}_best_held_out"] = (
            (names.CHANNEL,),
            index_value(index, (scored[0] + scored[1]) / 2),
            {"long_name": "index of the member that one half tolerates best, by the other half, mean of both ways"},
        )
    return found


def index_value(index: Manipulated, loss: Array) -> Array:
    """Value of an index from the share of the response that is lost."""
    return 1 - loss if index.invariance else loss


def _mean(altered: Array) -> Array:
    """Mean over members that apply; NaN where none does."""
    known = ~np.isnan(altered)
    n = known.sum(0)
    return np.divide(np.where(known, altered, 0).sum(0), n, out=np.full(n.shape, np.nan), where=n > 0)


def _of_members(original: Array, altered: Array) -> tuple[Array, Array]:
    """Responses to stimuli that each member applies to, and altered ones; both 0 where it does not apply."""
    known = ~np.isnan(altered)
    own = np.where(known, original, 0)
    own[:, np.isnan(original).any(1)] = np.nan
    return own, np.where(known, altered, 0)


def _against(index: Manipulated, own: Array, altered: Array, sham: Array, clamp: Clamp) -> AgainstSham:
    known = ~np.isnan(sham).any(0)
    own, altered, sham = (np.where(known, array, 0) for array in (own, altered, sham))
    found = against_sham(own, altered, sham, clamp)
    if not index.invariance:
        return found
    loss, draws = index_of(own, altered, clamp)[0], index_of(own, sham, clamp)[0]
    p_value = (1 + (draws <= loss + ROUNDING).sum(0)) / (1 + len(sham))
    p_value = np.where(np.isnan(found.p_value), np.nan, p_value)
    return AgainstSham(1 - found.sham, found.sham_deviation, -found.corrected, found.se, p_value)


def _sham_variables(index: Manipulated, compared: AgainstSham, n_draws: int, correction: str) -> dict[str, Variable]:
    p = (
        "share of sham draws, the manipulation itself among them, by which as much of the response is "
        f"{'left' if index.invariance else 'lost'}"
    )
    said = {
        f"{index.name}_sham": (
            compared.sham,
            "index of changes of equal energy that leave the property, mean of draws",
        ),
        f"{index.name}_sham_deviation": (compared.sham_deviation, "standard deviation over these draws"),
        f"{index.name}_corrected": (compared.corrected, "index less that of the sham"),
        names.se(f"{index.name}_corrected"): (compared.se, "standard error over stimuli"),
        f"{index.name}_p_value": (compared.p_value, p),
        f"{index.name}_p_adjusted": (adjust(compared.p_value, correction), f"{p}, corrected over channels"),
    }
    extra: dict[str, dict[str, Any]] = {
        f"{index.name}_p_value": {names.DRAWS: n_draws},
        f"{index.name}_p_adjusted": {names.DRAWS: n_draws, "correction": correction},
    }
    return {
        name: ((names.CHANNEL,), values, {"long_name": text, **extra.get(name, {})})
        for name, (values, text) in said.items()
    }


def _family_variables(
    index: Manipulated, own: Array, altered: Array, unknown: NDArray[np.bool_], clamp: Clamp
) -> dict[str, Variable]:
    """Index of each member, and which member the channel tolerates best."""
    values = [index_of(one, other, clamp) for one, other in zip(own, altered, strict=True)]
    loss, se = np.stack([value for value, _ in values]), np.stack([error for _, error in values])
    known = ~np.isnan(loss)
    best = np.where(known, loss, np.inf).argmin(0)
    labels = np.array(index.members, dtype=object)[best]
    labels[~known.any(0)] = ""
    dims = (index.dim, names.CHANNEL)
    return {
        f"{index.name}_by_member": (dims, index_value(index, loss), {"long_name": f"{index.said}, by member"}),
        names.se(f"{index.name}_by_member"): (dims, se, {"long_name": "standard error over stimuli"}),
        f"{index.name}_n": (
            dims,
            (~unknown).sum(2).astype(np.float64),
            {"long_name": "stimuli that the member applies to"},
        ),
        f"{index.name}_best": ((names.CHANNEL,), labels, {"long_name": "member that costs least of the response"}),
    }

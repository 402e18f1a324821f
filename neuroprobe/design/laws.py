"""Laws of the factors' inputs: each maps a uniform number in (0, 1) to a value by its inverse distribution function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
LARGEST: Final = 1e30  # number of a law: its tails are finite in float32 too


@dataclass(frozen=True)
class Law:
    """A one-dimensional law.

    Parameters
    ----------
    kind : str
        One of `SYNTAX`.
    arguments : tuple of float
        As in `SYNTAX`; the values, for ``choice``.
    weights : tuple of float
        Probabilities of the values of a ``choice``.

    Raises
    ------
    ValueError
        If the arguments do not describe a law.

    Examples
    --------
    >>> Law("uniform", (-10, 10)).ppf([0.0, 0.25, 1.0])
    array([-10.,  -5.,  10.])
    >>> Law("choice", (1, 2, 4), (0.5, 0.25, 0.25)).ppf([0.1, 0.6, 0.9])
    array([1., 2., 4.])
    """

    kind: str
    arguments: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise ValueError(problem)
        # 10 and 10.0 are the same law, and have the same hash in a protocol
        object.__setattr__(self, "arguments", tuple(map(float, self.arguments)))
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))

    @property
    def constant(self) -> bool:
        """Whether the law has one value only, and so takes no dimension of the design."""
        low, high = self.support
        return low == high

    @property
    def support(self) -> tuple[float, float]:
        """Smallest and largest value."""
        match self.kind, self.arguments:
            case "constant", (value,):
                return value, value
            case "normal", (mean, sd):
                return (-np.inf, np.inf) if sd > 0 else (mean, mean)
            case "truncated_normal", (_, _, low, high):
                return low, high
            case "beta", (_, _):
                return 0.0, 1.0
            case "beta", (_, _, low, high):
                return low, high
            case "bernoulli", (p,):
                return float(p >= 1), float(p > 0)
            case "choice", values if self.weights:
                possible = [value for value, weight in zip(values, self.weights, strict=True) if weight > 0]
                return min(possible), max(possible)
            case _, values:
                return min(values), max(values)

    @property
    def falls(self) -> bool:
        """Whether values fall as the quantile rises: a switch is on at those below its probability."""
        return self.kind == "bernoulli"

    def ppf(self, u: ArrayLike) -> Array:
        """Values at the quantiles `u`, of any shape, each in (0, 1)."""
        u = np.asarray(u, dtype=np.float64)
        if self.constant:
            return np.full(u.shape, self.support[0], dtype=np.float64)
        match self.kind, self.arguments:
            case "uniform", (low, high):
                return low + u * (high - low)
            case "loguniform", (low, high):
                return np.asarray(np.clip(low * (high / low) ** u, low, high))
            case "normal", (mean, sd):
                return mean + sd * stats.norm.ppf(u)
            case "truncated_normal", (mean, sd, low, high):
                scaled = stats.truncnorm.ppf(u, (low - mean) / sd, (high - mean) / sd)
                return np.asarray(np.clip(mean + sd * scaled, low, high))
            case "beta", (a, b, *bounds):
                low, high = bounds or (0.0, 1.0)
                return low + (high - low) * stats.beta.ppf(u, a, b)
            case "integers", (low, high):
                return np.minimum(low + np.floor(u * (high - low + 1)), high)
            case "bernoulli", (p,):
                return (u < p).astype(np.float64)
            case _:
                weights = np.asarray(self.weights or (1.0,) * len(self.arguments))
                edges = np.cumsum(weights / weights.sum())[:-1]
                return np.asarray(self.arguments, dtype=np.float64)[np.searchsorted(edges, u, side="right")]


SYNTAX: Final = {
    "uniform": "{uniform: [low, high]}",
    "loguniform": "{loguniform: [low, high]}, both above 0",
    "normal": "{normal: [mean, sd]}",
    "truncated_normal": "{truncated_normal: [mean, sd, low, high]}",
    "beta": "{beta: [a, b]} or {beta: [a, b, low, high]}",
    "choice": "{choice: [value, …]}, with weights: [weight, …] if not all alike",
    "integers": "{integers: [low, high]}, both included",
    "constant": "a number",
}
_N_ARGUMENTS: Final = {
    "uniform": (2,),
    "loguniform": (2,),
    "normal": (2,),
    "truncated_normal": (4,),
    "beta": (2, 4),
    "integers": (2,),
    "bernoulli": (1,),
    "constant": (1,),
}


def _problem(law: Law) -> str:
    """Say what is wrong with the arguments of a law; empty where nothing is."""
    values = law.arguments
    if law.kind == "choice":
        return _choice_problem(law)
    if law.kind not in _N_ARGUMENTS:
        return f"unknown law {law.kind!r}; known: {', '.join(SYNTAX)}"
    if len(values) not in _N_ARGUMENTS[law.kind]:
        return f"{law.kind} takes {' or '.join(map(str, _N_ARGUMENTS[law.kind]))} numbers, received {len(values)}"
    if not np.all(np.abs(values) <= LARGEST):
        return f"{law.kind} takes finite numbers, up to {LARGEST:g}, received {list(values)}"
    if law.kind == "bernoulli":
        return "" if 0 <= values[0] <= 1 else f"a probability lies between 0 and 1, received {values[0]}"
    if law.kind == "normal" and values[1] < 0:
        return f"the standard deviation of a normal law is not negative, received {values[1]}"
    if law.kind == "truncated_normal" and values[1] <= 0:
        return f"the standard deviation of a truncated normal law is above 0, received {values[1]}"
    if law.kind == "beta" and min(values[:2]) <= 0:
        return f"both shapes of a beta law are above 0, received {list(values[:2])}"
    if law.kind == "loguniform" and values[0] <= 0:
        return f"a log-uniform law lies above 0, received low = {values[0]}"
    if law.kind == "loguniform" and values[0] < 1 / LARGEST:
        return f"a log-uniform law lies above {1 / LARGEST:g}, received low = {values[0]:g}"
    if law.kind == "integers" and any(value != int(value) for value in values):
        return f"integers takes whole numbers, received {list(values)}"
    if law.kind in {"uniform", "loguniform", "integers"} or len(values) == 4:
        low, high = values[-2:]
        if low > high:
            return f"low is above high in {law.kind}: [{low:g}, {high:g}]"
    if law.kind == "truncated_normal" and not law.constant and np.ptp(law.ppf([0.25, 0.75])) == 0:
        return (
            f"the values of truncated_normal {list(values)} cannot be told apart: take bounds that are nearer its mean"
        )
    return ""


def _choice_problem(law: Law) -> str:
    if not law.arguments:
        return "choice takes at least one value"
    if law.weights and len(law.weights) != len(law.arguments):
        return f"choice has {len(law.arguments)} values and {len(law.weights)} weights"
    if not np.all(np.abs([*law.arguments, *law.weights]) <= LARGEST):
        return f"choice takes finite numbers, up to {LARGEST:g}, received {[*law.arguments, *law.weights]}"
    if law.weights and (min(law.weights) < 0 or sum(law.weights) <= 0):
        return f"weights are not negative and sum to more than 0, received {list(law.weights)}"
    return ""

"""Experiments on simulated animals of which the indices of sensitivity are known: planted, or exact by enumeration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.design.randomness import generator
from neuroprobe.recordings.simulated import Simulated
from neuroprobe.recordings.simulated_units import Columns, Population
from neuroprobe.statistics.conditions import repetitions

Array = NDArray[np.float64]
LEAST_RATE: Final = 0.05  # of the mean rate: the lowest that a planted unit has
SCRAMBLE: Final = 16  # base samples that share a scramble, and so a block of the errors


def planted_units(
    n_units: int,
    factors: Sequence[str],
    *,
    seed: int = 0,
    rate: tuple[float, float] = (10.0, 60.0),
    share_interaction: float = 0.3,
) -> Population:
    """Units whose indices of sensitivity are planted: the mean rate is a polynomial of factors in [0, 1].

    With z = √12 (x − ½), which has mean 0 and variance 1, the rate is proportional to 1 + Σ a_i z_i + Σ b_ij z_i z_j.
    The parts do not overlap: V = Σ a² + Σ b², S_i = a_i² / V, ST_i = (a_i² + Σ_j b_ij²) / V and the Shapley effect is
    (a_i² + ½ Σ_j b_ij²) / V.

    Parameters
    ----------
    n_units : int
    factors : sequence of str
        Columns of the table of stimuli, uniform in [0, 1] and independent of each other.
    seed : int
    rate : (float, float)
        spikes/s; lowest and highest of mean rates over stimuli.
    share_interaction : float
        Mean share of the variance that pairs of factors have together.

    Returns
    -------
    Population
        `truth` holds ``first_order``, ``total_order`` and ``shapley_effect`` over ``factor`` and ``unit``,
        ``second_order`` over ``factor``, ``factor_2`` and ``unit``: shares of the explainable variance.

    Examples
    --------
    >>> units = planted_units(2, ["hue", "blur"], share_interaction=0)
    >>> bool(np.allclose(units.truth.first_order.sum("factor"), 1))
    True
    """
    d = len(factors)
    random = generator(seed, "planted effects")
    pairs = list(itertools.combinations(range(d), 2))
    main = random.dirichlet(np.ones(d), n_units).T
    joint = random.dirichlet(np.ones(len(pairs)), n_units).T if pairs else np.zeros((0, n_units))
    together = random.beta(2, 2 * (1 - share_interaction) / share_interaction, n_units) if share_interaction > 0 else 0
    together = np.broadcast_to(together if pairs else 0, (n_units,))
    variance = np.concatenate([main * (1 - together), joint * together])
    size = np.sqrt(variance) * random.choice([-1.0, 1.0], variance.shape)
    reach = np.sqrt(3) * np.abs(size[:d]).sum(0) + 3 * np.abs(size[d:]).sum(0)
    size = size * (1 - LEAST_RATE) / reach
    mean_rate = random.uniform(*rate, n_units)

    def rates(shown: Columns) -> Array:
        z = np.sqrt(12) * (np.stack([np.asarray(shown[name], dtype=np.float64) for name in factors], axis=1) - 0.5)
        products = [z[:, i] * z[:, j] for i, j in pairs]
        terms = np.concatenate([z, np.reshape(products, (len(pairs), len(z))).T], axis=1)
        return np.asarray(mean_rate * (1 + terms @ size))

    second = np.full((d, d, n_units), np.nan)
    shared = np.zeros((d, n_units))
    for (i, j), share in zip(pairs, variance[d:], strict=True):
        second[i, j] = second[j, i] = share
        shared[[i, j]] += share
    over = (names.FACTOR, names.UNIT)
    truth = xr.Dataset(
        {
            names.FIRST_ORDER: (over, variance[:d]),
            names.TOTAL_ORDER: (over, variance[:d] + shared),
            names.SHAPLEY_EFFECT: (over, variance[:d] + shared / 2),
            names.SECOND_ORDER: ((names.FACTOR, names.FACTOR_2, names.UNIT), second),
            "mean_rate": (names.UNIT, mean_rate, {"units": "spikes/s"}),
        },
        coords={names.FACTOR: list(factors), names.FACTOR_2: list(factors)},
        attrs={"tuning": "planted"},
    )
    return Population(rates, mean_rate, truth)


@dataclass(frozen=True)
class PickFreezeExperiment:
    """A complete design, as a table of stimuli for `simulate_animal`.

    Attributes
    ----------
    table : dict of arrays (samples × rows,)
        One column per factor, and ``design``, ``sample``, ``role``.
    presentations : Presentations
        The rows, and of which of them indices are made.
    block : int array (samples,)
        Base samples that share a scramble.
    """

    table: dict[str, NDArray[Any]]
    presentations: Presentations
    block: NDArray[np.int64]

    def rows(self, animal: Simulated) -> Array:
        """Counts of an animal in all rows: float array (repetitions, samples, rows, units)."""
        n_samples, n_rows = self.presentations.source.shape
        counts = repetitions(animal.counts, animal.condition, n_samples * n_rows)
        return counts.reshape(len(counts), n_samples, n_rows, -1)

    def of_sobol(self, rows: Array) -> tuple[Array, Array, Array, Array]:
        """Return a, b, e, c, as `neuroprobe.statistics.cross_repeat.explainable_indices` takes them."""
        taken = np.take_along_axis(rows, self.presentations.of_sobol[None, :, :, None], axis=2)
        a, b, *others = np.moveaxis(taken, 2, 0)
        d = len(others) // 2
        return a, b, np.stack(others[:d]), np.stack(others[d:])

    def of_walks(self, rows: Array) -> tuple[Array, NDArray[np.int64]]:
        """Return walks and permutations, as `neuroprobe.statistics.cross_repeat.explainable_shapley` takes them."""
        walk, order = self.presentations.walk, self.presentations.order
        assert walk is not None
        assert order is not None
        return np.moveaxis(np.take_along_axis(rows, walk[None, :, :, None], axis=2), 2, 0), order


def pick_freeze_experiment(factors: Sequence[str], n_samples: int, *, seed: int = 0) -> PickFreezeExperiment:
    """Make a complete pick-freeze design of factors uniform in [0, 1], with the rows of Sobol's and Shapley's indices.

    Parameters
    ----------
    factors : sequence of str
    n_samples : int
        Base samples, each of rows A, B, A_i, B_i and those of a walk.
    seed : int

    Examples
    --------
    >>> made = pick_freeze_experiment(["hue", "blur", "noise"], 2)
    >>> made.presentations.roles
    ('A', 'B', 'A_hue', 'A_blur', 'A_noise', 'B_hue', 'B_blur', 'B_noise')
    >>> len(made.table["hue"])
    16
    """
    design = PickFreeze(
        tuple(Factor(name, (Input(name, Law("uniform", (0, 1))),)) for name in factors),
        seed,
        n_images=1,
        scramble=SCRAMBLE,
        walks=True,
    )
    shown = design.presentations(0, n_samples)
    n_rows = len(shown.roles)
    table: dict[str, NDArray[Any]] = {name: shown.values[name].ravel() for name in factors}
    table[names.DESIGN] = np.full(n_samples * n_rows, shown.design, dtype=object)
    table[names.SAMPLE] = np.repeat(shown.sample, n_rows)
    table[names.ROLE] = np.tile(np.array(shown.roles, dtype=object), n_samples)
    return PickFreezeExperiment(table, shown, shown.sample // SCRAMBLE)


@dataclass(frozen=True)
class ExactEffects:
    """Indices of a function on a grid of independent, equally likely levels: float arrays (factors, units).

    Attributes
    ----------
    first_order, total_order, shapley_effect : float arrays
        Shares of the variance; NaN where there is none.
    variance : float array (units,)
        Over the grid, of n.
    """

    first_order: Array
    total_order: Array
    shapley_effect: Array
    variance: Array


def exact_effects(values: Array) -> ExactEffects:
    """Indices by enumeration, of expected responses to every combination of levels.

    Parameters
    ----------
    values : float array (levels of the first factor, …, levels of the last factor, units)
        As `factorial_table` orders stimuli, reshaped.

    Examples
    --------
    >>> grid = np.add.outer([0.0, 2.0], [0.0, 1.0])[..., None]
    >>> exact_effects(grid).shapley_effect.ravel()
    array([0.8, 0.2])
    """
    d = values.ndim - 1
    explained = {}
    for size in range(d + 1):
        for subset in itertools.combinations(range(d), size):
            others = tuple(axis for axis in range(d) if axis not in subset)
            explained[subset] = values.mean(axis=others).reshape(-1, values.shape[-1]).var(axis=0)
    whole = explained[tuple(range(d))]
    share = np.where(whole > 0, whole, np.nan)
    effect = np.zeros((d, len(whole)))
    for subset, variance in explained.items():
        for factor in set(range(d)) - set(subset):
            joined = tuple(sorted((*subset, factor)))
            weight = math.factorial(len(subset)) * math.factorial(d - len(subset) - 1) / math.factorial(d)
            effect[factor] += weight * (explained[joined] - variance)
    first = np.stack([explained[(factor,)] for factor in range(d)])
    without = np.stack([explained[tuple(one for one in range(d) if one != factor)] for factor in range(d)])
    return ExactEffects(first / share, (whole - without) / share, effect / share, whole)

"""Functions whose Sobol indices are known in closed form, and their way through design and statistic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations, block_length
from neuroprobe.statistics.estimators import DifferenceTerms, Terms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums
from neuroprobe.statistics.tree import MergeTree, Span


@dataclass(frozen=True)
class Oracle:
    """A function of independent inputs with its exact indices; pairs that are left out of `second` are 0."""

    name: str
    function: Callable[[np.ndarray], np.ndarray]
    law: Law
    variance: float
    first: tuple[float, ...]
    total: tuple[float, ...]
    second: dict[tuple[int, int], float]

    @property
    def d(self) -> int:
        return len(self.first)

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(Factor(f"x{i + 1}", (Input(f"x{i + 1}", self.law),)) for i in range(self.d))

    def second_matrix(self) -> np.ndarray:
        matrix = np.zeros((self.d, self.d))
        for (i, j), value in self.second.items():
            matrix[i, j] = matrix[j, i] = value
        np.fill_diagonal(matrix, np.nan)
        return matrix


def _ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[..., 0]) + 7 * np.sin(x[..., 1]) ** 2 + 0.1 * x[..., 2] ** 4 * np.sin(x[..., 0])


G_A = np.array([0, 0.5, 3, 9, 99, 99.0])


def _g_function(x: np.ndarray) -> np.ndarray:
    return np.prod((np.abs(4 * x - 2) + G_A) / (1 + G_A), axis=-1)


def _bratley(x: np.ndarray) -> np.ndarray:
    products = np.cumprod(x, axis=-1)
    return sum((-1) ** (i + 1) * products[..., i] for i in range(3))


def _g_second() -> dict[tuple[int, int], float]:
    one = 1 / (3 * (1 + G_A) ** 2)
    variance = np.prod(1 + one) - 1
    return {(i, j): one[i] * one[j] / variance for i, j in itertools.combinations(range(6), 2)}


ORACLES = (
    Oracle(
        "Ishigami",
        _ishigami,
        Law("uniform", (-np.pi, np.pi)),
        13.8445879407,
        (0.313905191148, 0.442411144790, 0.0),
        (0.557588855210, 0.442411144790, 0.243683664062),
        {(0, 2): 0.243683664062},
    ),
    Oracle(
        "g-function",
        _g_function,
        Law("uniform", (0, 1)),
        0.568070925153,
        (0.586781189767, 0.260791639896, 0.0366738243604, 0.00586781189767, 5.86781189767e-5, 5.86781189767e-5),
        (0.690085892325, 0.356173363781, 0.0563335422306, 0.00917057664219, 9.20083853638e-5, 9.20083853638e-5),
        _g_second(),
    ),
    Oracle(
        "Bratley",
        _bratley,
        Law("uniform", (0, 1)),
        0.0630787037037,
        (0.743119266055, 0.0825688073394, 0.0825688073394),
        (0.807339449541, 0.146788990826, 0.146788990826),
        dict.fromkeys(itertools.combinations(range(3), 2), 0.0275229357798),
    ),
)


def stream(
    function: Callable[[np.ndarray], np.ndarray],
    factors: tuple[Factor, ...],
    samples: int,
    *,
    seed: int = 0,
    scramble: str | int = "auto",
    second_order: bool = True,
    total_interaction: bool = False,
    dtype: torch.dtype = torch.float64,
) -> dict[str, np.ndarray]:
    """Send a function of the inputs (…, d) → (…) or (…, units) through design, statistic and merge tree."""
    block, length = block_length(samples, scramble)
    design = PickFreeze(factors, seed, 1, second_order, length)
    terms = DifferenceTerms(len(factors), second_order, total_interaction)

    def respond(rows: Presentations) -> np.ndarray:
        return function(np.stack([rows.values[factor.inputs[0].name] for factor in factors], -1))

    return finalize(stream_design(design, respond, samples, block, terms, dtype), terms)


def stream_design(
    design: PickFreeze,
    respond: Callable[[Presentations], np.ndarray],
    samples: int,
    block: int,
    terms: Terms,
    dtype: torch.dtype = torch.float64,
) -> PickFreezeSums:
    """Send responses (samples, rows) or (samples, rows, units) to the rows of a design through the statistic."""
    tree: MergeTree[PickFreezeSums] = MergeTree()
    accumulator = None
    for number in range(samples // block):
        rows = design.presentations(number * block, (number + 1) * block)
        y = respond(rows).reshape(block, terms.n_rows, -1)
        accumulator = accumulator or PickFreezeAccumulator(terms, y.shape[-1], block, dtype=dtype)
        step = min(64, block)
        for start in range(0, block, step):
            part = torch.from_numpy(y[start : start + step]).to(dtype).flatten(0, 1)
            index = torch.arange(len(part)).view(step, -1)
            assert accumulator.update(part, index)
        tree.add(Span(number, number + 1), accumulator.end_block())
    (_, sums), *others = tree.nodes()
    for _, right in others:
        sums.merge(right)
    return sums


def sums_of(y: torch.Tensor, terms: Terms, cuts: tuple[int, ...] = (), **options) -> PickFreezeSums:
    """Accumulate responses (samples, rows, units) as one block, in the pieces between `cuts`."""
    accumulator = PickFreezeAccumulator(terms, y.shape[-1], len(y), **options)
    for start, stop in itertools.pairwise((0, *cuts, len(y))):
        for first in range(start, stop, 64):
            part = y[first : min(first + 64, stop)]
            assert accumulator.update(
                part.flatten(0, 1), torch.arange(part.shape[0] * part.shape[1]).view(len(part), -1)
            )
    return accumulator.end_block()


def sums_of_rows(y: np.ndarray, terms: Terms, block: int = 64, dtype: torch.dtype = torch.float64) -> PickFreezeSums:
    """Accumulate responses (base samples, rows, units) in blocks of which the last may be shorter."""
    y = torch.as_tensor(y).to(dtype)
    accumulator = PickFreezeAccumulator(terms, y.shape[-1], block, dtype=dtype)
    states = []
    for part in y.split(block):
        for piece in part.split(64):
            assert accumulator.update(piece.flatten(0, 1), torch.arange(piece[..., 0].numel()).view(len(piece), -1))
        states.append(accumulator.end_block())
    for state in states[1:]:
        states[0].merge(PickFreezeSums.from_state(state.state()))
    return states[0]


class SeparableImages:
    """Units y = g(x) + h(I) + k(x) m(I) with g and k multilinear: their indices are known in each image.

    g = a₁x₁ + a₂x₂ + a₁₂x₁x₂ and k = b₁x₁ + b₂x₂ of two independent x ~ U(−√3, √3), of mean 0 and variance 1, so that
    within image I the variances are V_i = (a_i + b_i m(I))² and V_12 = a₁₂².

    Parameters
    ----------
    n_images, n_units, seed : int
        m and h of each image and unit are drawn from normal laws: m ~ N(.5, 1).
    """

    factors = tuple(Factor(name, (Input(name, Law("uniform", (-(3**0.5), 3**0.5))),)) for name in ("x1", "x2"))

    def __init__(self, n_images: int, n_units: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.a, self.b = rng.normal(size=(2, 2, n_units))
        self.a12 = rng.normal(size=n_units)
        self.m = rng.normal(0.5, 1, (n_images, n_units))
        self.h = rng.normal(0, 3, (n_images, n_units))

    def respond(self, rows: Presentations) -> np.ndarray:
        """Responses (samples, rows, units)."""
        x1, x2 = (rows.values[name][..., None] for name in ("x1", "x2"))
        g = self.a[0] * x1 + self.a[1] * x2 + self.a12 * x1 * x2
        return g + self.h[rows.image] + (self.b[0] * x1 + self.b[1] * x2) * self.m[rows.image]

    def within(self, *, new_images: bool = False) -> dict[str, np.ndarray]:
        """Ratios of means over images: of these, or of the law that they are drawn from."""
        mean, square = (0.5, 1.25) if new_images else (self.m.mean(0), (self.m**2).mean(0))
        alone = self.a**2 + 2 * self.a * self.b * mean + self.b**2 * square
        variance = alone.sum(0) + self.a12**2
        return {
            "first_order": alone / variance,
            "total_order": (alone + self.a12**2) / variance,
            "second_order": self.a12**2 / variance,
        }

    def with_image(self) -> dict[str, np.ndarray]:
        """Indices where the image is the third factor, drawn from these images alike."""
        mean, spread = self.m.mean(0), self.m.var(0)
        alone = np.stack([*(self.a + self.b * mean) ** 2, self.h.var(0)])
        by_image = self.b**2 * spread
        variance = alone.sum(0) + self.a12**2 + by_image.sum(0)
        total = np.stack([*(alone[:2] + self.a12**2 + by_image), alone[2] + by_image.sum(0)])
        pairs = np.stack([self.a12**2, *by_image])  # (x1, x2), (x1, image), (x2, image)
        return {"first_order": alone / variance, "total_order": total / variance, "second_order": pairs / variance}

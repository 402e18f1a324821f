"""Shapley effects of dependent factors against closed forms and brute force over all subsets."""

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import integrate, stats

from neuroprobe import names
from neuroprobe.design.dependence import GaussianCopula
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations, block_length
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.shapley import GodaTerms, WalkTerms
from oracles import stream_design

SAMPLES = 1 << 14
NORMAL = Law("normal", (0, 1))


def copula_of(matrix: np.ndarray) -> GaussianCopula:
    return GaussianCopula(tuple(f"x{i}" for i in range(len(matrix))), tuple(map(tuple, matrix.tolist())))


def correlation(d: int, **pairs: float) -> np.ndarray:
    """Matrix with some correlations, given as r12=.5 for those of x0 and x1."""
    matrix = np.eye(d)
    for name, r in pairs.items():
        i, j = int(name[1]) - 1, int(name[2]) - 1
        matrix[i, j] = matrix[j, i] = r
    return matrix


def stream_walks(function, laws: Sequence[Law], matrix: np.ndarray, *, scramble="auto", seed=0, terms=GodaTerms):
    """Results of a function of inputs (…, d), one factor each."""
    block, length = block_length(SAMPLES, scramble)
    factors = tuple(Factor(f"x{i}", (Input(f"x{i}", law),)) for i, law in enumerate(laws))
    design = PickFreeze(factors, seed, 1, single=False, walks=True, scramble=length, copula=copula_of(matrix))

    def respond(rows: Presentations) -> np.ndarray:
        y = function(np.stack([rows.values[factor.name] for factor in factors], -1))
        return np.take_along_axis(y, rows.steps, axis=1)

    sums = stream_design(design, respond, SAMPLES, block, terms(len(laws)))
    return finalize(sums, terms(len(laws))), stats.t.ppf(1 - 1e-6, SAMPLES // block - 1)


def shapley_of(explained: Callable[[tuple[int, ...]], float], d: int) -> np.ndarray:
    """Shapley values of Var E[Y | X_u] (of E Var(Y | X_−u) they are the same), as shares."""
    value = {u: explained(u) for k in range(d + 1) for u in itertools.combinations(range(d), k)}
    effects = np.zeros(d)
    for j, (u, before) in itertools.product(range(d), value.items()):
        if j not in u:
            effects[j] += (value[tuple(sorted((*u, j)))] - before) / (d * math.comb(d - 1, len(u)))
    return effects / value[tuple(range(d))]


def check(found: dict, bound: float, truth: Sequence[float]) -> None:
    value, error = found[names.SHAPLEY_EFFECT][:, 0], found[names.se(names.SHAPLEY_EFFECT)][:, 0]
    assert (np.abs(value - truth) <= bound * error + 1e-9).all()
    assert value.sum() == pytest.approx(1, abs=1e-12)


# linear functions of normal inputs


def linear_truth(beta: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    shared = covariance @ beta

    def explained(u: tuple[int, ...]) -> float:
        return float(shared[list(u)] @ np.linalg.solve(covariance[np.ix_(u, u)], shared[list(u)])) if u else 0.0

    return shapley_of(explained, len(beta))


@pytest.mark.parametrize("scramble", ["auto", 128, "whole"])
@pytest.mark.parametrize(
    ("r", "truth"),
    [
        (0.9, (0.104166666667, 0.418229166667, 0.477604166667)),
        (-0.5, (0.25, 0.09375, 0.65625)),
        (0.0, (1 / 6, 1 / 6, 4 / 6)),
    ],
)
def test_linear_function_of_correlated_normal_inputs(r: float, truth: tuple[float, ...], scramble) -> None:
    """A walk that drew one input at a time would give .104, .038, .097 for r = .9."""
    sd = np.array([1, 1, 2])
    matrix = correlation(3, r23=r)
    np.testing.assert_allclose(linear_truth(np.ones(3), matrix * sd * sd[:, None]), truth, atol=1e-11)
    found, bound = stream_walks(
        lambda x: x.sum(-1), [Law("normal", (0, s)) for s in (1, 1, 2)], matrix, scramble=scramble
    )
    check(found, bound, truth)
    assert found["variance"][0] == pytest.approx(sd @ matrix @ sd, rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_linear_function_with_all_correlations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(4, 3))
    covariance = loadings @ loadings.T + 0.5 * np.eye(4)
    sd = np.sqrt(np.diag(covariance))
    matrix = covariance / sd / sd[:, None]
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1)
    beta = rng.normal(size=4)
    found, bound = stream_walks(lambda x: x @ beta, [Law("normal", (1, s)) for s in sd], matrix, seed=seed)
    check(found, bound, linear_truth(beta, covariance))


# other functions and laws


def test_nonlinear_function_by_quadrature_over_all_subsets() -> None:
    """Var E[Y | Z_u] by Gauss–Hermite quadrature, exact for polynomials of normal variables."""
    matrix = correlation(3, r12=0.7, r13=-0.3, r23=0.2)

    def function(x: np.ndarray) -> np.ndarray:
        return x[..., 0] * x[..., 1] + x[..., 2] ** 2 * (1 + 0.5 * x[..., 0])

    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()

    def explained(u: tuple[int, ...]) -> float:
        order = [*u, *(i for i in range(3) if i not in u)]
        cholesky = np.linalg.cholesky(matrix[np.ix_(order, order)])
        z = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), -1) @ cholesky.T
        y = function(z[..., np.argsort(order)])
        for _ in range(3 - len(u)):
            y = y @ weights
        square, mean = y**2, y
        for _ in u:
            square, mean = weights @ square, weights @ mean
        return float(square - mean**2)

    found, bound = stream_walks(function, [NORMAL] * 3, matrix)
    check(found, bound, shapley_of(explained, 3))


def test_discrete_inputs_by_integration_over_their_latent_variables() -> None:
    """A switch and a whole number: E[Y | latent variable of one] is known, its variance is one integral."""
    r, p = 0.6, 0.3
    laws = [Law("bernoulli", (p,)), Law("integers", (0, 3))]
    edges = stats.norm.ppf([0.25, 0.5, 0.75])
    rest = math.sqrt(1 - r**2)

    def on(z: float) -> float:
        return float(z > stats.norm.ppf(1 - p))

    def number(z: float) -> float:
        return float(np.searchsorted(edges, z))

    def mean_given(z: float, i: int) -> float:
        """E of switch · number + number, given the latent variable of either."""
        if i == 0:
            return (1 + on(z)) * float(stats.norm.sf((edges - r * z) / rest).sum())
        return (1 + float(stats.norm.sf((stats.norm.ppf(1 - p) - r * z) / rest))) * number(z)

    breaks = sorted([*edges, stats.norm.ppf(1 - p)])

    def expectation(function: Callable[[float], float]) -> float:
        pieces = itertools.pairwise([-9, *breaks, 9])
        return sum(integrate.quad(lambda z: function(z) * stats.norm.pdf(z), *piece)[0] for piece in pieces)

    mean = expectation(lambda z: mean_given(z, 0))
    assert expectation(lambda z: mean_given(z, 1)) == pytest.approx(mean, abs=1e-8)
    # E[Y²] given the number: (1 + 3 P(on)) · number²
    square = expectation(
        lambda z: (1 + 3 * float(stats.norm.sf((stats.norm.ppf(1 - p) - r * z) / rest))) * number(z) ** 2
    )
    explained = {(): 0.0, (0, 1): square - mean**2}
    explained |= {(i,): expectation(lambda z, i=i: mean_given(z, i) ** 2) - mean**2 for i in (0, 1)}
    found, bound = stream_walks(lambda x: x[..., 1] * (1 + x[..., 0]), laws, correlation(2, r12=r))
    check(found, bound, shapley_of(explained.__getitem__, 2))
    assert found["variance"][0] == pytest.approx(square - mean**2, rel=0.03)


def test_an_independent_factor_without_effect_is_exactly_zero_and_twins_have_equal_shares() -> None:
    matrix = correlation(4, r12=0.8, r14=0.5, r24=0.5)
    found, _ = stream_walks(lambda x: np.sin(x[..., 0]) + np.sin(x[..., 1]), [NORMAL] * 4, matrix)
    value, error = found[names.SHAPLEY_EFFECT][:, 0], found[names.se(names.SHAPLEY_EFFECT)][:, 0]
    assert value[2] == error[2] == 0
    assert abs(value[0] - value[1]) <= 6 * np.hypot(error[0], error[1])
    # one without effect that goes along with others has a share: it tells of them
    assert value[3] > 10 * error[3]


def test_without_correlations_the_effects_are_those_of_the_symmetric_term() -> None:
    def function(x: np.ndarray) -> np.ndarray:
        return x[..., 0] * x[..., 1] + 2 * x[..., 2]

    goda, bound = stream_walks(function, [NORMAL] * 3, np.eye(3))
    symmetric, _ = stream_walks(function, [NORMAL] * 3, np.eye(3), terms=WalkTerms)
    for found in (goda, symmetric):
        check(found, bound, (0.1, 0.1, 0.8))
    np.testing.assert_allclose(goda["variance"], symmetric["variance"], rtol=1e-12)


def test_correlations_within_a_factor_leave_its_sobol_indices_valid() -> None:
    """x0 + x1 of one factor, with variance 2 + 2r; x2 of another; and the product of x1 and x2."""
    r, block = 0.5, SAMPLES // 16
    grouped = Factor("g", (Input("x0", NORMAL), Input("x1", NORMAL)))
    copula = GaussianCopula.of_pairs({("x0", "x1"): r})
    design = PickFreeze((grouped, Factor("h", (Input("x2", NORMAL),))), 0, 1, scramble=block, copula=copula)

    def respond(rows: Presentations) -> np.ndarray:
        x0, x1, x2 = (rows.values[name] for name in ("x0", "x1", "x2"))
        return x0 + x1 + 2 * x2 + x1 * x2

    terms = DifferenceTerms(2)
    found = finalize(stream_design(design, respond, SAMPLES, block, terms), terms)
    bound, variance = stats.t.ppf(1 - 1e-6, 15), 3 + 4 + 1
    for name, truth in (("first_order", (3 / 8, 4 / 8)), ("total_order", (4 / 8, 5 / 8)), ("variance", variance)):
        assert (np.abs(found[name][..., 0] - truth) <= bound * found[names.se(name)][..., 0]).all(), name

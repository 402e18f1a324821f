"""Gaussian copulas: valid correlations, the law of the rows, and which rows go with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.design.dependence import LEAST_EIGENVALUE, GaussianCopula, nearest_correlation
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze

NORMAL = Law("normal", (0, 1))


def factors_of(*laws: Law) -> tuple[Factor, ...]:
    return tuple(Factor(f"x{i}", (Input(f"x{i}", law),)) for i, law in enumerate(laws))


def walks_of(copula: GaussianCopula | None, *laws: Law, scramble: int | None = None) -> PickFreeze:
    return PickFreeze(factors_of(*laws), 4, 1, scramble=scramble, single=False, walks=True, copula=copula)


def random_copula(d: int, seed: int) -> GaussianCopula:
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(d, d + 1))
    matrix = loadings @ loadings.T
    scale = np.sqrt(np.diag(matrix))
    matrix = np.round(matrix / scale / scale[:, None], 6)
    np.fill_diagonal(matrix, 1)
    return GaussianCopula(tuple(f"x{i}" for i in range(d)), tuple(map(tuple, matrix.tolist())))


# matrices


@pytest.mark.parametrize(
    ("inputs", "matrix", "message"),
    [
        (("a", "b"), ((1.0, 0.5),), "2 × 2, received"),
        (("a", "a"), ((1.0, 0.5), (0.5, 1.0)), "2 names"),
        (("a", "b"), ((1.0, 0.5), (0.4, 1.0)), "symmetric"),
        (("a", "b"), ((2.0, 0.5), (0.5, 1.0)), "1 on its diagonal"),
        (("a", "b"), ((1.0, 1.0), (1.0, 1.0)), "not positive definite; the nearest that is: a, b: 0.999"),
        (("a", "b"), ((1.0, float("nan")), (float("nan"), 1.0)), "symmetric"),
    ],
)
def test_what_is_no_correlation_matrix(inputs, matrix, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianCopula(inputs, matrix)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-0.99, 0.99), min_size=10, max_size=10))
def test_the_correlations_that_an_error_names_are_accepted(values: list[float]) -> None:
    names = "abcde"
    pairs = {
        (names[i], names[j]): r for (i, j), r in zip(zip(*np.triu_indices(5, 1), strict=True), values, strict=True)
    }
    try:
        GaussianCopula.of_pairs(pairs)
    except ValueError as error:
        named = str(error).split("the nearest that is: ")[1].split("; ")
        changes = {tuple(one.rsplit(": ", 1)[0].split(", ")): float(one.rsplit(": ", 1)[1]) for one in named}
        assert set(changes) <= set(pairs)
        accepted = GaussianCopula.of_pairs(pairs | changes).correlation
        assert np.linalg.eigvalsh(accepted)[0] > LEAST_EIGENVALUE


def test_the_nearest_matrix_is_highams() -> None:
    """The example of Higham 2002, section 4: .7607 beside the diagonal, .1573 in the corner."""
    nearest = nearest_correlation(np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1.0]]), floor=0)
    np.testing.assert_allclose(nearest[[0, 0, 1], [1, 2, 2]], [0.7607, 0.1573, 0.7607], atol=5e-5)


def test_linked_inputs() -> None:
    copula = GaussianCopula.of_pairs({("a", "b"): 0.5, ("c", "d"): 0.1, ("e", "a"): 0.2, ("f", "a"): 0.0})
    assert [tuple(copula.inputs[i] for i in group) for group in copula.linked] == [("a", "b", "e"), ("c", "d"), ("f",)]


# the law of the rows


def test_every_row_has_the_joint_law() -> None:
    copula, n = random_copula(4, 1), 1 << 14
    shown = walks_of(copula, *[NORMAL] * 4).presentations(0, n)
    points = np.stack([shown.values[name] for name in copula.inputs], -1)
    for row in range(5):
        # independent draws would have errors of 1/√n = .008
        np.testing.assert_allclose(np.corrcoef(points[:, row].T), copula.correlation, atol=0.03)
        np.testing.assert_allclose(points[:, row].std(0), 1, atol=0.03)
    # the two ends are independent of each other
    both = np.corrcoef(points[:, 0].T, points[:, 1].T)
    np.testing.assert_allclose(both[:4, 4:], 0, atol=0.03)


def test_what_is_drawn_anew_is_given_the_rest_independent_of_what_it_replaces() -> None:
    """Covariance of A and a row is that of the conditional expectations given what they share."""
    copula, n = random_copula(3, 5), 1 << 16
    shown = walks_of(copula, *[NORMAL] * 3).presentations(0, n)
    points = np.stack([shown.values[name] for name in copula.inputs], -1)
    sigma, swapped = copula.correlation, np.zeros((n, 3), dtype=bool)
    for k in range(1, 3):
        swapped[np.arange(n), shown.order[:, k - 1]] = True
        row = points[np.arange(n), shown.walk[:, k]]
        np.testing.assert_array_equal(row[~swapped], points[:, 0][~swapped])
        for pattern in np.unique(swapped, axis=0):
            these = (swapped == pattern).all(1)
            kept, drawn = np.flatnonzero(~pattern), np.flatnonzero(pattern)
            regression = sigma[np.ix_(drawn, kept)] @ np.linalg.inv(sigma[np.ix_(kept, kept)])
            expected = regression @ sigma[np.ix_(kept, drawn)]
            found = points[these, 0][:, drawn].T @ row[these][:, drawn] / these.sum()
            np.testing.assert_allclose(found, expected, atol=0.04)


def test_inputs_keep_their_laws() -> None:
    laws = (Law("uniform", (-1, 1)), Law("choice", (3, 1, 2), (0.5, 0.2, 0.3)), Law("integers", (0, 4)))
    shown = walks_of(random_copula(3, 2), *laws).presentations(0, 1 << 14)
    for row in range(4):
        x0, x1, x2 = (shown.values[f"x{i}"][:, row] for i in range(3))
        assert stats.kstest(x0, stats.uniform(-1, 2).cdf).statistic < 0.02
        for value, share in ((3, 0.5), (1, 0.2), (2, 0.3)):
            assert (x1 == value).mean() == pytest.approx(share, abs=0.015)
        np.testing.assert_allclose(np.bincount(x2.astype(int)) / len(x2), 0.2, atol=0.015)


def test_a_positive_correlation_with_a_switch_is_on_where_the_other_is_high() -> None:
    copula = GaussianCopula.of_pairs({("x0", "x1"): 0.7})
    shown = walks_of(copula, Law("bernoulli", (0.3,)), NORMAL).presentations(0, 1 << 12)
    on, high = shown.values["x0"] == 1, shown.values["x1"]
    assert on[:, :2].mean() == pytest.approx(0.3, abs=0.01)
    assert (high[:, 0][on[:, 0]].mean() - high[:, 0][~on[:, 0]].mean()) > 1


def test_values_are_finite_in_the_tails() -> None:
    copula = GaussianCopula.of_pairs({("x0", "x1"): 0.99999, ("x1", "x2"): -0.5, ("x0", "x2"): -0.5})
    shown = walks_of(copula, *[NORMAL] * 3).presentations(0, 1 << 14)
    assert all(np.isfinite(value).all() for value in shown.values.values())
    extreme = copula.quantiles(*(np.full((1, 3), u) for u in (1 - 2.0**-53, 2.0**-40)), np.ones((1, 1, 3), dtype=bool))
    assert ((extreme > 0) & (extreme < 1)).all()


def test_without_correlations_the_rows_are_those_of_independent_factors() -> None:
    copula = GaussianCopula.of_pairs({("x0", "x1"): 0.0, ("x1", "x2"): 0.0})
    plain, linked = (walks_of(c, *[NORMAL] * 4, scramble=64).presentations(0, 128) for c in (None, copula))
    for name, value in plain.values.items():
        np.testing.assert_allclose(linked.values[name], value, rtol=1e-9)
    np.testing.assert_array_equal(plain.source, linked.source)


def test_rows_that_differ_in_an_independent_factor_are_alike_in_all_others() -> None:
    """Else a factor without effect would not have the effect 0."""
    copula = GaussianCopula.of_pairs({("x0", "x1"): 0.6})
    shown = walks_of(copula, *[NORMAL] * 3, scramble=64).presentations(0, 256)
    before, after = (shown.steps[:, at] for at in (2 + 2, 2 + 3 + 2))
    for name in ("x0", "x1"):
        one, other = (np.take_along_axis(shown.values[name], row[:, None], 1) for row in (before, after))
        np.testing.assert_array_equal(one, other)


# designs that go with it


GROUPED = (Factor("g", (Input("x0", NORMAL), Input("x1", NORMAL))), Factor("h", (Input("x2", NORMAL),)))


@pytest.mark.parametrize("options", [{}, {"walks": True}, {"subsets": True}, {"single": False, "walks": True}])
def test_inputs_of_one_factor_leave_the_factors_independent(options: dict) -> None:
    copula = GaussianCopula.of_pairs({("x0", "x1"): 0.8})
    design = PickFreeze(GROUPED, 0, 1, copula=copula, **options)
    shown = design.presentations(0, 1024)
    assert design.dependent == ()
    for row in range(design.n_rows):
        assert np.corrcoef(shown.values["x0"][:, row], shown.values["x1"][:, row])[0, 1] == pytest.approx(0.8, abs=0.05)
        is_of_a, is_of_b = ((shown.values["x0"][:, row] == shown.values["x0"][:, end]) for end in (0, 1))
        assert (is_of_a | is_of_b).all()


@pytest.mark.parametrize("options", [{}, {"walks": True}, {"single": False, "subsets": True}])
def test_dependent_factors_have_no_rows_for_sobol_indices(options: dict) -> None:
    copula = GaussianCopula.of_pairs({("x1", "x2"): 0.8})
    with pytest.raises(ValueError, match="take independent factors; dependent: g and h"):
        PickFreeze(GROUPED, 0, 1, copula=copula, **options)


def test_inputs_that_do_not_vary_cannot_be_linked() -> None:
    factors = (Factor("g", (Input("x0", NORMAL), Input("x1", Law("constant", (1,))))),)
    with pytest.raises(ValueError, match="no inputs that vary: x1, x9"):
        PickFreeze(factors, 0, 1, copula=GaussianCopula.of_pairs({("x0", "x1"): 0.1, ("x0", "x9"): 0.1}))

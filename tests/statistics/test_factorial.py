"""Analysis of variance of factorial experiments against statsmodels, balanced and not, of all kinds."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from neuroprobe.statistics.factorial import factorial_anova

N_LEVELS = (2, 3, 2)


def crossed(repeats: int) -> np.ndarray:
    return np.tile(np.stack(np.meshgrid(*map(np.arange, N_LEVELS), indexing="ij"), -1).reshape(-1, 3), (repeats, 1))


def theirs(values: np.ndarray, levels: np.ndarray, n_factors: int, kind: int) -> pd.DataFrame:
    table = pd.DataFrame({"y": values} | {f"x{i}": levels[:, i] for i in range(n_factors)})
    formula = "y ~ " + " * ".join(f"C(x{i}, Sum)" for i in range(n_factors))
    return anova_lm(ols(formula, table).fit(), typ=kind)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3]), st.integers(1, 3), st.booleans())
def test_sums_of_squares_are_those_of_statsmodels(seed: int, kind: int, n_factors: int, balanced: bool) -> None:
    rng = np.random.default_rng(seed)
    levels = crossed(4)
    if not balanced:
        levels = np.concatenate([levels[:24], levels[24:][rng.random(24) < 0.6]])
    values = rng.normal(size=(len(levels), 2)) + levels @ [[0.0, 1], [1, 0.5], [0, 0]] + 20
    found = factorial_anova(values, levels[:, :n_factors], kind=kind)
    for unit in range(2):
        table = theirs(values[:, unit], levels, n_factors, kind)
        rows = table.drop(index=[name for name in ("Intercept", "Residual") if name in table.index])
        named = [tuple(int(part[3]) for part in name.split(":")) for name in rows.index]
        assert sorted(named) == sorted(found.terms)
        for term, (_, row) in zip(named, rows.iterrows(), strict=True):
            at = found.terms.index(term)
            assert found.df[at] == row["df"]
            assert found.sum_of_squares[at, unit] == pytest.approx(row["sum_sq"], rel=1e-7, abs=1e-9)
            assert found.statistic[at, unit] == pytest.approx(row["F"], rel=1e-7, abs=1e-9)
            assert found.p_value[at, unit] == pytest.approx(row["PR(>F)"], rel=1e-6)
            error = table.loc["Residual", "sum_sq"] / table.loc["Residual", "df"]
            total = ((values[:, unit] - values[:, unit].mean()) ** 2).sum()
            above = row["sum_sq"] - row["df"] * error
            assert found.omega_squared[at, unit] == pytest.approx(above / (total + error), rel=1e-6, abs=1e-9)
            partial = above / (row["sum_sq"] + (len(values) - row["df"]) * error)
            assert found.partial_omega_squared[at, unit] == pytest.approx(partial, rel=1e-6, abs=1e-9)
        assert found.error[unit] == pytest.approx(error)


def test_factors_of_many_levels(rng: np.random.Generator) -> None:
    """More columns than trials, as of factors with values of their own in nearly every stimulus."""
    cells = np.unique(rng.integers(0, 25, (60, 2)), axis=0)
    levels = np.concatenate([cells, cells])
    values = rng.normal(size=(len(levels), 3)) + levels[:, :1]
    found = factorial_anova(values, levels, kind=1)
    pairs = values.reshape(2, len(cells), 3)
    within = ((pairs - pairs.mean(0)) ** 2).sum((0, 1))
    np.testing.assert_allclose(found.error, within / len(cells))
    assert found.df.sum() == len(cells) - 1
    np.testing.assert_allclose(found.sum_of_squares.sum(0), ((values - values.mean(0)) ** 2).sum(0) - within)
    np.testing.assert_allclose(found.sum_of_squares[0], factorial_anova(values, levels[:, :1]).sum_of_squares[0])


def test_omega_squared_is_without_bias(rng: np.random.Generator) -> None:
    """Of known components of variance: 1 for one factor, 0.5 for the interaction, 2 for the noise."""
    levels = np.tile(np.stack(np.meshgrid([0, 1], [0, 1], indexing="ij"), -1).reshape(-1, 2), (5, 1))
    signs = 2 * levels - 1.0
    values = signs[:, :1] + np.sqrt(0.5) * signs.prod(1)[:, None] + rng.normal(0, np.sqrt(2), (20, 8000))
    found = factorial_anova(values, levels)
    # the ratio of means is free of bias; the mean of ratios nearly
    assert found.omega_squared.mean(1) == pytest.approx([1 / 3.5, 0, 0.5 / 3.5], abs=0.012)
    assert found.omega_squared[1].min() < 0


def test_units_that_lack_trials_are_as_if_alone(rng: np.random.Generator) -> None:
    levels = crossed(3)
    values = rng.normal(size=(36, 4))
    values[:5, 1] = np.nan
    values[:5, 3] = np.nan
    values[10, 2] = np.nan
    together = factorial_anova(values, levels, order=2)
    for unit in range(4):
        kept = ~np.isnan(values[:, unit])
        alone = factorial_anova(values[kept, unit : unit + 1], levels[kept], order=2)
        assert together.p_value[:, unit] == pytest.approx(alone.p_value[:, 0])
        assert together.df_error[unit] == alone.df_error[0]


def test_an_empty_cell_takes_freedom_from_the_interaction(rng: np.random.Generator) -> None:
    levels = crossed(3)[:, :2]
    kept = ~((levels == [1, 2]).all(1))
    found = factorial_anova(rng.normal(size=(kept.sum(), 1)), levels[kept])
    assert dict(zip(found.terms, found.df, strict=True)) == {(0,): 1, (1,): 2, (0, 1): 1}
    assert np.isfinite(found.p_value).all()


def test_what_cannot_be_tested_is_nan() -> None:
    levels = crossed(1)
    found = factorial_anova(np.stack([np.arange(12.0), np.full(12, 7.1), np.full(12, np.nan)], axis=1), levels)
    assert (found.df_error[:2] == 0).all()
    assert np.isnan(found.p_value).all()
    additive = factorial_anova(np.stack([np.arange(12.0), np.full(12, 7.1)], axis=1), levels, order=1)
    assert np.isnan(additive.p_value[:, 1]).all()
    one_level = factorial_anova(np.random.default_rng(0).normal(size=(12, 1)), levels * [0, 1, 1])
    assert np.isnan(one_level.p_value[0])
    assert one_level.df[0] == 0
    assert np.isfinite(one_level.p_value[1])


@pytest.mark.parametrize(
    ("levels", "options", "message"),
    [(crossed(1)[:5], {}, "of 12 trials"), (crossed(1), {"kind": 4}, "kind 1"), (crossed(1), {"order": 4}, "1 to 3")],
)
def test_wrong_requests_are_refused(levels: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factorial_anova(np.zeros((12, 1)), levels, **options)

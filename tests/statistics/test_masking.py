"""Accuracies under lesions against brute force, in any blocks; and tests of maps against all that could have been."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from neuroprobe.statistics.masking import (
    Estimates,
    Headline,
    MaskingAccumulator,
    correlation_interval,
    cross_table,
    diagonal_test,
    estimates,
    headline,
    of_cells,
    poisson_counts,
    random_summary,
    share_as_large,
    state_bytes,
)
from neuroprobe.statistics.plain_sums import PlainSums

IS_PROPORTION = np.array([True, False])
DRAWS = np.array([1, 3, 1])
INPUTS, CONDITIONS, MEASURES = len(DRAWS), 4, len(IS_PROPORTION)


def made(
    rng: np.random.Generator, n: int, n_conditions: int = CONDITIONS, draws: np.ndarray = DRAWS
) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of images (images, inputs, conditions, measures): a share of draws and a probability; and resamples."""
    hard = rng.random((n, 1, 1))
    right = [rng.binomial(k, np.clip(hard[:, 0] + 0.1, 0, 1), (n, n_conditions)) / k for k in draws]
    y = np.stack([np.stack(right, 1), np.clip(hard + rng.normal(0, 0.1, (n, len(draws), n_conditions)), 0, 1)], -1)
    return y, rng.poisson(1, (n, 7)).astype(float)


def summed(y: np.ndarray, counts: np.ndarray, block: int = 10**6, pack: int = 10**6, n_dropped: int = 0) -> PlainSums:
    """Sums of images in blocks, each taken in a pack at a time, merged from the left."""
    accumulator = MaskingAccumulator(*y.shape[1:], counts.shape[1])
    accumulator.update(y[:0], counts[:0], n_dropped)
    total = accumulator.end_block()
    for start in range(0, len(y), block):
        part = slice(start, start + block)
        for at in range(0, len(y[part]), pack):
            accumulator.update(y[part][at : at + pack], counts[part][at : at + pack])
        total.merge(accumulator.end_block())
    return total


def found_of(rng: np.random.Generator, n: int, n_conditions: int = CONDITIONS) -> Estimates:
    return estimates(summed(*made(rng, n, n_conditions)), IS_PROPORTION, DRAWS)


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(1, 45), st.integers(1, 12), st.integers(0, 3))
def test_sums_in_any_blocks_give_what_numpy_makes_of_the_images(n: int, block: int, pack: int, dropped: int) -> None:
    y, counts = made(np.random.default_rng(n), n)
    counts[:, 0] = 0  # a resample without an image
    found = estimates(summed(y, counts, block, pack, dropped), IS_PROPORTION, DRAWS)
    assert (found.n_images, found.n_dropped) == (n, dropped)
    d = y - y[:, :, :1]
    for values, mean, se in ((y, found.mean, found.se), (d, found.difference, found.difference_se)):
        np.testing.assert_allclose(mean, values.mean(0), atol=1e-14)
        np.testing.assert_allclose(se, stats.sem(values), atol=1e-8)
    error = stats.sem(d)
    of_none = np.where((found.difference_se == 0) & IS_PROPORTION, 1 - 0.025 ** (1 / n), 0)
    reach = stats.t.ppf(0.975, n - 1) * error + of_none
    np.testing.assert_allclose(found.difference_lower, d.mean(0) - reach, atol=1e-6)
    np.testing.assert_allclose(found.difference_upper, d.mean(0) + reach, atol=1e-6)
    assert np.isnan(found.resampled[0]).all()
    for number in range(1, counts.shape[1]):
        expected = np.average(y, axis=0, weights=counts[:, number]) if counts[:, number].any() else np.nan
        np.testing.assert_allclose(found.resampled[number], np.broadcast_to(expected, y.shape[1:]), atol=1e-14)


def test_merges_have_no_order(rng: np.random.Generator) -> None:
    y, counts = made(rng, 20)
    left, right = summed(y[:8], counts[:8]), summed(y[8:], counts[8:])
    right.merge(left)
    whole = summed(y, counts)
    for name, array in whole.state().items():
        np.testing.assert_allclose(right[name], array.numpy(), atol=1e-13, err_msg=name)
    again = PlainSums.from_state(whole.state())
    assert all(np.array_equal(again[name], whole[name]) for name in whole.state())


def test_the_state_does_not_grow_with_images(rng: np.random.Generator) -> None:
    for n in (3, 30):
        sums = summed(*made(rng, n))
        assert sum(array.nbytes for array in sums.state().values()) == state_bytes(INPUTS, CONDITIONS, MEASURES, 7)


@pytest.mark.parametrize("n_right", [0, 1, 13, 30])
def test_shares_of_one_draw_have_wilsons_interval(n_right: int) -> None:
    y = np.zeros((30, 1, 2, 1))
    y[:n_right] = 1
    found = estimates(summed(y, np.ones((30, 1))), np.array([True]), np.array([1]))
    lower, upper = proportion_confint(n_right, 30, method="wilson")
    np.testing.assert_allclose(found.lower, lower, atol=1e-12)
    np.testing.assert_allclose(found.upper, upper, atol=1e-12)


def test_intervals_are_those_of_the_draws_and_of_the_measure(rng: np.random.Generator) -> None:
    """Wilson's of as many presentations as would vary as much, for shares; Student's for probabilities."""
    n = 60
    y, counts = made(rng, n)
    found = estimates(summed(y, counts), IS_PROPORTION, DRAWS)
    for number, draws in enumerate(DRAWS):
        share = y[:, number, :, 0]
        p = share.mean(0)
        presentations = np.minimum(p * (1 - p) / (share.var(0) / (n - 1) * (n - 1) / n), n * draws)
        presentations *= (stats.t.ppf(0.975, n * draws - 1) / stats.t.ppf(0.975, n - 1)) ** 2
        lower, upper = proportion_confint(p * presentations, presentations, method="wilson")
        np.testing.assert_allclose(found.lower[number, :, 0], lower)
        np.testing.assert_allclose(found.upper[number, :, 0], upper)
    probability = y[..., 1]
    lower, upper = stats.t.interval(0.95, n - 1, probability.mean(0), stats.sem(probability))
    np.testing.assert_allclose(found.lower[..., 1], lower)
    np.testing.assert_allclose(found.upper[..., 1], upper)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_images_give_nan_and_no_p_value(n: int, rng: np.random.Generator) -> None:
    """NaN is not as large as anything: counted like that, nothing would be as sure as no images."""
    y, counts = made(rng, n)
    found = estimates(summed(y, np.ones_like(counts)), IS_PROPORTION, DRAWS)
    for values in (found.mean, found.se, found.lower, found.upper, found.difference, found.difference_upper):
        assert np.isnan(values).all()
    compared = headline(found, Headline(np.array([1, 2]), np.array([1, 2]), np.array([3])), "fdr_bh", 0)
    for name, values in compared.items():
        assert np.isnan(values).all(), name


# resamples


def test_counts_follow_poissons_law(rng: np.random.Generator) -> None:
    uniform = rng.random(100_000)
    counts = poisson_counts(uniform)
    np.testing.assert_array_equal(counts, stats.poisson.ppf(uniform, 1))
    expected = np.append(stats.poisson.pmf(np.arange(6), 1), stats.poisson.sf(5, 1)) * len(counts)
    observed = np.bincount(np.minimum(counts, 6).astype(int), minlength=7)
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    ends = poisson_counts(np.array([2.0**-53, 1 - 2.0**-53]))
    assert ends.tolist() == [0, 12]


def test_resamples_spread_as_the_standard_error_says(rng: np.random.Generator) -> None:
    """Of accuracies and of their differences: an image counts as often under all masks."""
    y, _ = made(rng, 500)
    found = estimates(summed(y, poisson_counts(rng.random((500, 2000)))), IS_PROPORTION, DRAWS)
    np.testing.assert_allclose(found.resampled.std(0), found.se, rtol=0.08)
    resampled = found.resampled - found.resampled[:, :, :1]
    np.testing.assert_allclose(resampled.std(0)[:, 1:], found.difference_se[:, 1:], rtol=0.08)
    # unpaired differences would spread much more
    assert (found.difference_se[:, 1:, 1] < found.se[:, 1:, 1] / 1.5).all()


# the headline

RANDOM = np.arange(4, 15)


@pytest.mark.parametrize("correction", ["fdr_bh", "fdr_by", "bonferroni", "none"])
def test_the_headline_is_what_counting_gives(correction: str, rng: np.random.Generator) -> None:
    """Of few images, so that masks tie; the second of three factors has no input of its own."""
    found = found_of(rng, 12, 15)
    inputs, maps = [2, -1, 1], [3, 1, 2]
    compared = headline(found, Headline(np.array(inputs), np.array(maps), RANDOM), correction, 1)
    ties = 0
    for factor, (own, mine) in enumerate(zip(inputs, maps, strict=True)):
        names = ("excess", "against_others", "p_value", "p_less", "p_others", "p_adjusted", "excess_lower")
        if own < 0:
            assert all(np.isnan(compared[name][factor]).all() for name in names)
            continue
        others = [one for one in maps if one != mine]
        for measure in range(MEASURES):
            change = found.difference[own, :, measure]
            resampled = found.resampled[:, own, :, measure] - found.resampled[:, own, :1, measure]
            for name, rest in (("excess", list(RANDOM)), ("against_others", others)):
                value = change[mine] - np.mean([change[one] for one in rest])
                assert compared[name][factor, measure] == pytest.approx(value, abs=1e-13)
                ends = np.quantile(resampled[:, mine] - resampled[:, rest].mean(1), [0.025, 0.975])
                assert compared[f"{name}_lower"][factor, measure] == pytest.approx(ends[0], abs=1e-13)
                assert compared[f"{name}_upper"][factor, measure] == pytest.approx(ends[1], abs=1e-13)
            as_much = [abs(change[one]) > abs(change[mine]) - 1e-9 for one in RANDOM]
            as_little = [abs(change[one]) < abs(change[mine]) + 1e-9 for one in RANDOM]
            ties += sum(as_much) + sum(as_little) - len(RANDOM)
            assert compared["p_value"][factor, measure] == (1 + sum(as_much)) / 12
            assert compared["p_less"][factor, measure] == (1 + sum(as_little)) / 12
            of_maps = sum(abs(change[one]) > abs(change[mine]) - 1e-9 for one in maps)
            assert compared["p_others"][factor, measure] == pytest.approx(of_maps / 3)
    assert ties > 0
    for p, adjusted in (("p_value", "p_adjusted"), ("p_less", "p_less_adjusted")):
        for measure in range(MEASURES):
            given = compared[p][[0, 2], measure]
            expected = given if correction == "none" else multipletests(given, method=correction)[1]
            np.testing.assert_allclose(compared[adjusted][[0, 2], measure], expected)
    table = np.abs(found.difference[np.ix_([2, 1], [3, 2])])
    np.testing.assert_allclose(compared["diagonal"], (table[0, 0] + table[1, 1]) / 2 - table.mean((0, 1)))


def test_the_sign_of_a_change_does_not_count_and_ties_do() -> None:
    """One image less right is as much as one more."""
    y = np.zeros((10, 2, 7, 1))
    y[:5] = 1
    for condition, n_right in enumerate([5, 4, 6, 4, 3, 5, 5]):
        y[:, 1, condition, 0] = np.arange(10) < n_right
    found = estimates(summed(y, np.ones((10, 2))), np.array([True]), np.array([1, 1]))
    compared = headline(found, Headline(np.array([1]), np.array([1]), np.arange(2, 7)), "fdr_bh", 0)
    # of changes by 1, 1, 2, 0 and 0 images, three are as large as 1, and four as small
    assert compared["p_value"].item() == pytest.approx(4 / 6)
    assert compared["p_less"].item() == pytest.approx(5 / 6)
    assert compared["excess"].item() == pytest.approx(-0.1 - (0.1 - 0.1 - 0.2) / 5)


def test_no_p_value_is_0(rng: np.random.Generator) -> None:
    found = found_of(rng, 30, 15)
    found.difference[1, 1], found.difference[2, 2] = -5, 0
    found.difference[2, RANDOM] = 0.5
    compared = headline(found, Headline(np.array([1, 2]), np.array([1, 2]), RANDOM), "none", 0)
    assert (compared["p_value"][0] == 1 / 12).all()
    assert (compared["p_less"][0] == 1).all()
    assert (compared["p_value"][1] == 1).all()
    assert (compared["p_less"][1] == 1 / 12).all()
    assert (compared["p_others"][0] == 1 / 2).all()


def test_without_random_masks_maps_are_compared_with_each_other_only(rng: np.random.Generator) -> None:
    found = found_of(rng, 30)
    compared = headline(found, Headline(np.array([1, 2]), np.array([1, 2]), np.empty(0, np.int64)), "fdr_bh", 0)
    for name in ("excess", "excess_lower", "excess_upper", "p_value", "p_less", "p_adjusted", "p_less_adjusted"):
        assert np.isnan(compared[name]).all(), name
    for name in ("against_others", "against_others_lower", "p_others", "diagonal", "p_diagonal"):
        assert np.isfinite(compared[name]).all(), name


def test_one_map_is_compared_with_random_masks_only(rng: np.random.Generator) -> None:
    compared = headline(found_of(rng, 30), Headline(np.array([1]), np.array([1]), np.array([2, 3])), "fdr_bh", 0)
    for name in ("against_others", "against_others_upper", "p_others", "diagonal", "p_diagonal"):
        assert np.isnan(compared[name]).all(), name
    for name in ("excess", "excess_lower", "p_value", "p_less", "p_adjusted"):
        assert np.isfinite(compared[name]).all(), name


def test_maps_of_factors_that_are_no_input_are_compared_with_nothing(rng: np.random.Generator) -> None:
    compared = headline(found_of(rng, 30), Headline(np.array([-1, -1]), np.array([1, 2]), np.array([3])), "fdr_bh", 0)
    for name, values in compared.items():
        assert np.isnan(values).all(), name


def test_maps_that_are_random_masks_give_uniform_p_values(rng: np.random.Generator) -> None:
    random = rng.normal(size=(4000, 19))
    p = share_as_large(np.abs(random), np.abs(rng.normal(size=4000)))
    np.testing.assert_allclose(np.unique(p), np.arange(1, 21) / 20)
    assert stats.chisquare(np.unique(p, return_counts=True)[1]).pvalue > 1e-4


# the diagonal


def test_a_planted_diagonal_has_the_smallest_p_value(rng: np.random.Generator) -> None:
    table = rng.random((8, 8, 2))
    table[np.arange(8), np.arange(8), 0] += 3
    excess, p = diagonal_test(table, 0, 999)
    assert p[0] == 1 / 1000
    assert p[1] > 0.01
    np.testing.assert_allclose(excess, np.diagonal(table).mean(-1) - table.mean((0, 1)))


def test_strong_inputs_and_strong_maps_make_no_diagonal(rng: np.random.Generator) -> None:
    """p-values are as uniform as 720 permutations allow where rows and columns differ, and nothing else."""
    margins = rng.gamma(1, 2, (6, 1, 3000)) + rng.gamma(1, 2, (1, 6, 3000))
    _, p = diagonal_test(margins + rng.normal(size=(6, 6, 3000)), 0, 999)
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        assert (p <= level).mean() == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize("number", range(4))
def test_permutations_agree_with_all_of_them(number: int) -> None:
    """Of whole numbers, so that permutations tie."""
    table = np.random.default_rng(number).integers(0, 4, (4, 4)).astype(float)
    table[np.arange(4), np.arange(4)] += 1
    sums = [sum(table[row, column] for row, column in enumerate(one)) for one in itertools.permutations(range(4))]
    exact = np.mean(np.array(sums) >= np.trace(table))
    _, p = diagonal_test(table[..., None], 5)
    assert p.item() == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999) + 1e-4)


def test_a_diagonal_takes_two_rows_and_numbers() -> None:
    for table in (np.ones((1, 1, 2)), np.empty((0, 0, 2)), np.full((3, 3, 2), np.nan)):
        excess, p = diagonal_test(table, 0, 99)
        assert np.isnan(excess).all()
        assert np.isnan(p).all()
    _, p = diagonal_test(np.zeros((3, 3, 1)), 0, 99)
    assert p == 1


# the cross table


def test_the_cross_table_is_spearmans(rng: np.random.Generator) -> None:
    """Of accuracies with ties, of one run and of several."""
    accuracy = rng.integers(0, 5, (2, 4, 3, 6, 2)) / 5
    found = cross_table(accuracy)
    assert found.shape == (2, 4, 3, 2)
    assert np.isnan(found[:, 0]).all()
    for run, shown, factor, measure in np.ndindex(2, 4, 3, 2):
        if shown:
            pair = accuracy[run, [0, shown], factor, :, measure]
            assert found[run, shown, factor, measure] == pytest.approx(stats.spearmanr(*pair).statistic)
    np.testing.assert_array_equal(cross_table(accuracy[1]), found[1])


def test_accuracies_that_are_alike_have_no_correlation(rng: np.random.Generator) -> None:
    accuracy = rng.random((4, 2, 5, 1))
    accuracy[1] = 0.3
    accuracy[2] = 0.3 + 1e-16 * np.arange(5)[:, None]  # by rounding alone
    accuracy[3, 0] = np.nan
    accuracy[3, 1] = accuracy[0, 1] ** 3
    found = cross_table(accuracy)
    assert np.isnan(found[:3]).all()
    assert np.isnan(found[3, 0])
    assert found[3, 1] == 1
    accuracy[0] = 0.5
    assert np.isnan(cross_table(accuracy)).all()


# random masks


def test_random_masks_are_summed_up_as_many_as_there_are(rng: np.random.Generator) -> None:
    """Rules have different numbers of them: NaN fills up, and stands where there is none."""
    random = rng.normal(size=(2, 3, 50, 2))
    random[:, 1, 19:] = np.nan
    random[:, 2] = np.nan
    found = random_summary(random)
    for rule, n in ((0, 50), (1, 19)):
        there = random[:, rule, :n]
        np.testing.assert_allclose(found["random_mean"][:, rule], there.mean(1))
        np.testing.assert_allclose(found["random_mean_lower"][:, rule], np.quantile(there, 0.025, axis=1))
        np.testing.assert_allclose(found["random_mean_upper"][:, rule], np.quantile(there, 0.975, axis=1))
    assert all(np.isnan(values[:, 2]).all() for values in found.values())


def test_cells_are_those_of_the_conditions(rng: np.random.Generator) -> None:
    found = found_of(rng, 10)
    cells = of_cells(found, np.array([[1, 2], [3, 0]]))
    assert set(cells) == {
        name + end for name in ("estimate", "difference") for end in ("", "_se", "_lower", "_upper")
    }  # fmt: skip
    np.testing.assert_array_equal(cells["estimate_upper"][:, 1, 0], found.upper[:, 3])
    np.testing.assert_array_equal(cells["difference_se"][:, 0, 1], found.difference_se[:, 2])
    assert (cells["difference"][:, 1, 1] == 0).all()


def test_interval_of_a_correlation_is_a_hull(rng: np.random.Generator) -> None:
    value = np.array([0.98, 0.2, np.nan, 0.5])
    resampled = np.clip(value - 0.05 + rng.normal(0, 0.04, (400, 4)), -1, 1)
    resampled[:7, 1] = np.nan
    resampled[:, 3] = np.nan
    low, high = correlation_interval(value, resampled)
    for at in (0, 1):
        ends = np.nanquantile(resampled[:, at], (0.025, 0.975))
        assert low[at] == min(ends[0], 2 * value[at] - ends[1])
        assert high[at] == min(1, max(ends[1], 2 * value[at] - ends[0]))
        assert low[at] <= value[at] <= high[at]
    assert np.isnan([low[2], high[2], low[3], high[3]]).all()


def test_interval_of_a_correlation_covers_it(rng: np.random.Generator) -> None:
    """Large correlations too, of which resamples are all lower."""
    truth = rng.normal(0, 1, (2, 30))
    truth[1] = truth[0] + 0.05 * rng.normal(0, 1, 30)
    expected = stats.spearmanr(*truth).statistic
    assert expected > 0.98
    covered = 0
    for _ in range(60):
        images = truth[:, None] + 4 * rng.normal(0, 1, (2, 400, 30))
        counts = rng.poisson(1, (100, 400))
        means = np.einsum("ri,sij->rsj", counts, images) / counts.sum(1)[:, None, None]
        every = np.concatenate([images.mean(1)[None], means])
        found = cross_table(every[:, :, None, :, None])[:, 1, 0, 0]
        low, high = correlation_interval(found[:1], found[1:, None])
        covered += low[0] <= expected <= high[0]
    assert covered >= 54


def test_differences_of_no_image_have_an_interval(rng: np.random.Generator) -> None:
    """Of shares: another sample may hold images that change; as wide as of a share of 0."""
    n = 40
    y = np.repeat(rng.integers(0, 2, (n, 1, 1, 2)).astype(float), 2, axis=2)
    accumulator = MaskingAccumulator(1, 2, 2, 4)
    accumulator.update(y, rng.poisson(1, (n, 4)).astype(float))
    found = estimates(accumulator.end_block(), np.array([True, False]), np.array([1]))
    _, bound = proportion_confint(0, n, method="beta")
    np.testing.assert_allclose(found.difference_upper[0, :, 0], bound)
    np.testing.assert_allclose(found.difference_lower[0, :, 0], -bound)
    assert (found.difference_upper[0, :, 1] == 0).all()


def test_nothing_is_said_of_no_random_masks() -> None:
    for values in random_summary(np.empty((3, 2, 0, 2))).values():
        assert values.shape == (3, 2, 2)
        assert np.isnan(values).all()

"""Streaming Sobol indices against closed forms, SALib, brute force, and themselves in other chunks."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from SALib.analyze import sobol as salib
from scipy import stats

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import (
    PickFreezeAccumulator,
    PickFreezeSums,
    compiles,
    state_bytes,
)
from oracles import ORACLES, Oracle, stream, sums_of

SAMPLES = 1 << 12


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
@pytest.mark.parametrize("scramble", ["auto", 128, "whole"])
def test_closed_forms_lie_within_the_standard_errors(oracle: Oracle, scramble: str | int) -> None:
    found = stream(oracle.function, oracle.factors, SAMPLES, scramble=scramble, total_interaction=True)
    n_blocks = SAMPLES // {"auto": SAMPLES // 16, 128: 128, "whole": 64}[scramble]
    bound = stats.t.ppf(1 - 1e-6, n_blocks - 1)
    truth = {"first_order": oracle.first, "total_order": oracle.total, "variance": oracle.variance}
    truth["second_order"] = oracle.second_matrix()
    for name, exact in truth.items():
        error = np.abs(found[name][..., 0] - np.asarray(exact))
        assert np.all((error <= bound * found[f"{name}_se"][..., 0] + 1e-12) | np.isnan(error)), name


def test_total_interaction_is_the_superset_importance() -> None:
    oracle = ORACLES[1]
    found = stream(oracle.function, oracle.factors, SAMPLES, total_interaction=True)
    error = abs(found["total_interaction"][0, 1, 0] - 0.0890433409452)
    assert error <= 8 * found["total_interaction_se"][0, 1, 0]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_design_without_second_order(oracle: Oracle) -> None:
    found = stream(oracle.function, oracle.factors, SAMPLES, second_order=False, total_interaction=True)
    assert "second_order" not in found
    bound = stats.t.ppf(1 - 1e-6, 15)
    for name, exact in (("first_order", oracle.first), ("total_order", oracle.total)):
        assert np.all(np.abs(found[name][:, 0] - exact) <= bound * found[f"{name}_se"][:, 0])
    # superset importance of a pair is at least its second-order index
    pairs = np.triu_indices(oracle.d, 1)
    superset, alone = found["total_interaction"][..., 0][pairs], oracle.second_matrix()[pairs]
    assert np.all(superset >= alone - bound * found["total_interaction_se"][..., 0][pairs])


def test_agrees_with_salib_on_the_same_rows() -> None:
    """SALib's estimators on the same model evaluations differ by their own sampling error only."""
    oracle, n = ORACLES[0], 1 << 13
    design = PickFreeze(oracle.factors, 3, 1)
    rows = design.presentations(0, n)
    y = oracle.function(np.stack([rows.values[name] for name in ("x1", "x2", "x3")], -1))
    ours = finalize(
        sums_of(torch.from_numpy(y)[..., None], DifferenceTerms(3), dtype=torch.float64), DifferenceTerms(3)
    )
    # SALib orders the rows A, AB_1 … AB_d, BA_1 … BA_d, B
    order = [0, *range(2, 8), 1]
    problem = {"num_vars": 3, "names": ["a", "b", "c"], "bounds": [[-np.pi, np.pi]] * 3}
    theirs = salib.analyze(problem, y[:, order].ravel(), num_resamples=2, seed=1)
    np.testing.assert_allclose(ours["first_order"][:, 0], theirs["S1"], atol=0.01)
    np.testing.assert_allclose(ours["total_order"][:, 0], theirs["ST"], atol=0.01)
    np.testing.assert_allclose(ours["second_order"][0, 1:, 0], theirs["S2"][0, 1:], atol=0.02)


@pytest.mark.parametrize("second_order", [True, False])
def test_sums_are_those_of_the_formulas(second_order: bool) -> None:
    """Brute force: each term written out for one sample and one unit."""
    d = 3
    terms = DifferenceTerms(d, second_order, total_interaction=True)
    y = torch.randn(5, terms.n_rows, 2, dtype=torch.float64)
    scale = [terms.scales[name] for name, part in terms.slices.items() for _ in range(part.start, part.stop)]
    total = sums_of(y, terms, dtype=torch.float64).total.numpy() * np.array(scale)[:, None]
    expected = np.zeros_like(total)
    for sample, unit in np.ndindex(5, 2):
        a, b, *rest = y[sample, :, unit].tolist()
        e, c = rest[:d], rest[d:]
        p = [x - a for x in e]
        q = [x - b for x in c]
        pairs = list(itertools.combinations(range(d), 2))
        if second_order:
            column = [((a - b) ** 2 + sum((x - z) ** 2 for x, z in zip(e, c, strict=True))) / (2 * (d + 1))]
            column += [-p[i] * q[i] / 2 for i in range(d)] + [(p[i] ** 2 + q[i] ** 2) / 4 for i in range(d)]
            column += [(p[i] * q[j] + p[j] * q[i]) / 2 for i, j in pairs]
            column += [(p[i] * p[j] + q[i] * q[j]) / 2 for i, j in pairs]
        else:
            column = [(a - b) ** 2 / 2]
            column += [(b - (a + e[i]) / 2) * p[i] for i in range(d)] + [p[i] ** 2 / 2 for i in range(d)]
            column += [p[i] * p[j] for i, j in pairs]
        column += [(a + b) / 2, ((a > 0) + (b > 0)) / 2]
        expected[:, unit] += column
    np.testing.assert_allclose(total, expected, rtol=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 127), max_size=6, unique=True), st.integers(1, 40))
def test_random_chunks_change_nothing_beyond_rounding(cuts: list[int], n_units: int) -> None:
    terms = DifferenceTerms(3)
    y = torch.randn(128, terms.n_rows, n_units, generator=torch.Generator().manual_seed(n_units))
    whole, pieces = sums_of(y, terms), sums_of(y, terms, tuple(sorted(cuts)))
    np.testing.assert_allclose(pieces.total, whole.total, rtol=1e-5, atol=1e-4)
    assert torch.equal(pieces.peak, whole.peak)


def test_tiles_of_units_change_nothing() -> None:
    """The eager update walks over tiles of units: a unit's sums do not depend on its neighbours."""
    terms = DifferenceTerms(2)
    y = torch.randn(64, terms.n_rows, 5000)
    whole = sums_of(y, terms).total
    alone = sums_of(y[..., 4321:4322].contiguous(), terms).total
    np.testing.assert_allclose(whole[:, 4321:4322], alone, rtol=1e-6, atol=1e-5)


def test_compiled_update_equals_the_eager_one() -> None:
    if not compiles():
        pytest.skip("no compiler for torch.compile here")
    terms = DifferenceTerms(2, total_interaction=True)  # the compiler takes as long again for 3
    y = torch.randn(128, terms.n_rows, 700)
    eager, compiled = sums_of(y, terms), sums_of(y, terms, (50,), compiled=True)
    scale = eager.total.abs().amax(1, keepdim=True)
    assert float(((compiled.total - eager.total) / scale).abs().max()) < 1e-6


def test_rows_are_looked_up() -> None:
    """A row that repeats a stimulus is run once, and its response serves every row that repeats it."""
    terms = DifferenceTerms(2)
    y = torch.randn(64, terms.n_rows, 7)
    index = torch.randint(0, 64 * terms.n_rows, (64, terms.n_rows))
    accumulator = PickFreezeAccumulator(terms, 7, 64)
    accumulator.update(y.flatten(0, 1), index)
    assert torch.equal(accumulator.end_block().total, sums_of(y.flatten(0, 1)[index], terms).total)


def test_a_factor_without_effect_gives_exactly_zero() -> None:
    found = stream(lambda x: np.sin(x[..., 0]) + x[..., 1], ORACLES[0].factors, 256, dtype=torch.float32)
    assert found["first_order"][2, 0] == found["total_order"][2, 0] == 0
    assert found["first_order_se"][2, 0] == found["total_order_se"][2, 0] == 0


def test_a_shift_of_the_response_changes_nothing() -> None:
    function = ORACLES[0].function
    plain, shifted = (stream(f, ORACLES[0].factors, 512) for f in (function, lambda x: function(x) + 1000))
    np.testing.assert_allclose(shifted["first_order"], plain["first_order"], atol=1e-9)


def test_linear_function_in_float32_blocks() -> None:
    """Additive function: S1 = ST = β²Var/V in every sample, and second order 0 on average."""
    beta = np.array([1.0, 2.0, 3.0])
    found = stream(lambda x: x @ beta, ORACLES[2].factors, SAMPLES, dtype=torch.float32)
    np.testing.assert_allclose(found["total_order"][:, 0], beta**2 / 14, atol=2e-3)
    np.testing.assert_allclose(found["first_order"][:, 0], found["total_order"][:, 0], atol=1e-6)
    assert np.nanmax(np.abs(found["second_order"])) < 5e-3


@pytest.mark.parametrize(("t", "expected"), [(1.0, 0.40), (0.5, 0.236), (0.1, 0.057)])
def test_rarely_active_units_look_like_interactions(t: float, expected: float) -> None:
    """relu(x1 + x2 − 2 + t): the rarer the activity, the lower S1; the activity rate tells."""
    factors = ORACLES[2].factors[:2]
    found = stream(lambda x: np.maximum(x.sum(-1) - 2 + t, 0), factors, 1 << 16, scramble="whole")
    np.testing.assert_allclose(found["first_order"][:, 0], expected, atol=0.1 * expected)
    np.testing.assert_allclose(found["activity_rate"][0], t**2 / 2, rtol=0.1)


def test_dead_and_constant_units_are_undefined_and_spare_the_rest() -> None:
    def function(x: np.ndarray) -> np.ndarray:
        tiny = 1000 + 1e-5 * x[..., 0]
        return np.stack([x.sum(-1), np.zeros(x.shape[:-1]), np.full(x.shape[:-1], 7.0), tiny], -1)

    found = stream(function, ORACLES[2].factors, 256, dtype=torch.float32)
    assert found["defined"].tolist() == [1, 0, 0, 0]
    assert np.isnan(found["first_order"][:, 1:]).all()
    assert np.isfinite(found["first_order"][:, 0]).all()
    np.testing.assert_allclose(found["mean"], [1.5, 0, 7, 1000], rtol=1e-2)
    assert found["variance"][1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_response_that_is_not_finite_is_seen_at_once(bad: float) -> None:
    terms = DifferenceTerms(2)
    y = torch.randn(8, terms.n_rows, 5)
    y[3, 2, 4] = bad
    accumulator = PickFreezeAccumulator(terms, 5, 8)
    assert not accumulator.update(y.flatten(0, 1), torch.arange(8 * terms.n_rows).view(8, -1))


def test_dropped_base_samples_are_left_out_per_unit_and_counted() -> None:
    terms = DifferenceTerms(2, drop=True)
    y = torch.randn(64, terms.n_rows, 3, dtype=torch.float64)
    kept = y.clone()
    y[[3, 10], [0, 4], [1, 1]] = float("nan")
    found = finalize(sums_of(y, terms, dtype=torch.float64), terms)
    mask = torch.ones(64, dtype=torch.bool)
    mask[[3, 10]] = False
    without = finalize(sums_of(kept[mask][..., 1:2], DifferenceTerms(2), dtype=torch.float64), DifferenceTerms(2))
    assert found["n_dropped"].tolist() == [0, 2, 0]
    for name in ("first_order", "total_order", "variance", "mean"):
        np.testing.assert_allclose(found[name][..., 1], without[name][..., 0], rtol=1e-10)


def test_errors_of_means_allow_for_blocks_of_which_more_is_dropped() -> None:
    """Half of the samples of some blocks are dropped: a mean of noise has the error of the samples that are left."""
    terms, rng = DifferenceTerms(2, drop=True), np.random.default_rng(0)
    merged, kept = None, []
    for _ in range(64):
        y = torch.from_numpy(rng.normal(10, 1, (64, 1, 1))).expand(-1, terms.n_rows, -1).clone()
        y[: rng.integers(0, 33)] = float("nan")
        kept.append(y[:, 0, 0][~y[:, 0, 0].isnan()])
        part = sums_of(y, terms, dtype=torch.float64)
        if merged is None:
            merged = part
        else:
            merged.merge(PickFreezeSums.from_state(part.state()))
    values = torch.cat(kept)
    found = finalize(merged, terms)
    assert found["mean"][0] == pytest.approx(float(values.mean()), rel=1e-12)
    # 64 blocks: the error of the error is about a tenth of it
    assert found["mean_se"][0] == pytest.approx(float(values.std()) / len(values) ** 0.5, rel=0.4)
    assert found["activity_rate_se"][0] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("row", range(4))
def test_every_row_is_checked_without_second_order(row: int) -> None:
    terms = DifferenceTerms(2, second_order=False)
    y = torch.randn(8, terms.n_rows, 3)
    y[2, row, 1] = np.nan
    accumulator = PickFreezeAccumulator(terms, 3, 8)
    assert not accumulator.update(y.flatten(0, 1), torch.arange(8 * terms.n_rows).view(8, -1))


def test_merging_equals_one_span_and_survives_saving() -> None:
    terms = DifferenceTerms(3)
    parts = [sums_of(torch.randn(64, terms.n_rows, 6), terms) for _ in range(4)]
    totals = [part.total.clone() for part in parts]
    left, right = parts[0], parts[2]
    left.merge(parts[1])
    right.merge(parts[3])
    left = PickFreezeSums.from_state({name: array.clone() for name, array in left.state().items()})
    left.merge(right)
    assert (left.n_blocks, left.n_samples) == (4, 256)
    np.testing.assert_allclose(left.total, sum(totals), rtol=1e-14)
    np.testing.assert_allclose(left.square, sum(t**2 for t in totals), rtol=1e-14)
    np.testing.assert_allclose(left.cross, sum(t * t[0] for t in totals), rtol=1e-14)


def test_standard_error_is_that_of_the_ratio_of_block_sums() -> None:
    """Delta method by an independent route: the residuals t − R v of the blocks."""
    terms = DifferenceTerms(2)
    parts = [
        sums_of(torch.randn(64, terms.n_rows, 4, dtype=torch.float64), terms, dtype=torch.float64) for _ in range(8)
    ]
    blocks = np.stack([part.total.numpy() for part in parts])
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    found = finalize(merged, terms)
    blocks[:, 0] *= terms.scales[names.VARIANCE]
    blocks[:, 1:3] *= terms.scales[names.FIRST_ORDER]
    ratio = blocks[:, 1:3].sum(0) / blocks[:, 0].sum(0)
    residual = blocks[:, 1:3] - ratio * blocks[:, :1]
    expected = np.sqrt(8 * residual.var(0, ddof=1)) / blocks[:, 0].sum(0)
    np.testing.assert_allclose(found["first_order_se"], expected, rtol=1e-9)
    means = blocks[:, -2] / 128
    np.testing.assert_allclose(found["mean_se"], means.std(0, ddof=1) / np.sqrt(8), rtol=1e-9)


def test_coverage_of_the_intervals() -> None:
    """95 % intervals with t over independent scrambles hold the truth in 95 % of repetitions, within binomial error."""
    oracle, inside = ORACLES[2], []
    critical = stats.t.ppf(0.975, 7)
    for seed in range(60):
        found = stream(oracle.function, oracle.factors, 1024, seed=seed, scramble=128)
        for name, exact in (("first_order", oracle.first), ("total_order", oracle.total)):
            inside += (np.abs(found[name][:, 0] - exact) <= critical * found[f"{name}_se"][:, 0]).tolist()
    # 360 intervals, correlated within a repetition: three standard errors of 60 repetitions
    assert abs(np.mean(inside) - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 60)


@pytest.mark.parametrize("n_samples", [0, 5])
def test_a_block_that_is_empty_or_too_long_is_refused(n_samples: int) -> None:
    accumulator = PickFreezeAccumulator(DifferenceTerms(1), 2, 4)
    for _ in range(n_samples):
        accumulator.update(torch.randn(4, 2), torch.arange(4).view(1, 4))
    with pytest.raises(ValueError, match=f"a block has 4 base samples, or less if it is the last: {n_samples}"):
        accumulator.end_block()


def test_the_last_block_may_be_shorter() -> None:
    terms, y = DifferenceTerms(2), torch.randn(100, 6, 3)
    accumulator = PickFreezeAccumulator(terms, 3, 64)
    states = []
    for part in y.split(64):
        assert accumulator.update(part.flatten(0, 1), torch.arange(6 * len(part)).view(-1, 6))
        states.append(accumulator.end_block())
    states[0].merge(states[1])
    assert (states[0].n_samples, states[0].n_blocks) == (100, 2)
    np.testing.assert_allclose(states[0].total, sums_of(y, terms).total, rtol=1e-5, atol=1e-5)


def test_state_bytes_are_those_of_the_specification() -> None:
    """About 36 K bytes per unit, 1.0 kB for six factors with second order, whatever the number of samples."""
    terms = DifferenceTerms(6)
    with_merged = state_bytes(terms, 1, 0) + state_bytes(terms, 1, 2) - state_bytes(terms, 1, 1)
    assert with_merged == pytest.approx(36 * terms.n_sums, rel=0.01)
    assert 900 < with_merged < 1200


def test_binary_switch_halves_are_reused_and_give_the_same_indices() -> None:
    """Half of the rows of a switch repeat their origin; looking them up changes no number."""
    factors = tuple(Factor(n, (Input(f"{n}_on", Law("bernoulli", (0.5,))),), switched=True) for n in "abc")
    design = PickFreeze(factors, 0, 1)
    rows = design.presentations(0, 256)
    x = np.stack([rows.values[f"{n}_on"] for n in "abc"], -1)
    y = torch.from_numpy(x[..., 0] + 2 * x[..., 1] * x[..., 2])[..., None]
    terms = DifferenceTerms(3)
    looked_up = torch.take_along_dim(y, torch.from_numpy(rows.source)[..., None], dim=1)
    assert rows.is_run.mean() < 0.75
    assert torch.equal(
        sums_of(y, terms, dtype=torch.float64).total, sums_of(looked_up, terms, dtype=torch.float64).total
    )

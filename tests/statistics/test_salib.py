"""SALib's formulas in one pass against SALib itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from SALib.analyze import sobol as salib

from neuroprobe import names
from neuroprobe.statistics.estimators import DifferenceTerms, SaltelliTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums
from neuroprobe.statistics.salib import salib_indices
from neuroprobe.statistics.tree import MergeTree, Span
from oracles import ORACLES

QUANTITIES = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SECOND_ORDER: "S2"}


def streamed(y: torch.Tensor, terms: SaltelliTerms | DifferenceTerms, block: int) -> PickFreezeSums:
    accumulator = PickFreezeAccumulator(terms, y.shape[-1], block, dtype=y.dtype)
    tree: MergeTree[PickFreezeSums] = MergeTree()
    for start in range(0, len(y), block):
        for first in range(start, start + block, 32):
            part = y[first : min(first + 32, start + block)]
            assert accumulator.update(part.flatten(0, 1), torch.arange(part[..., 0].numel()).view(part.shape[:2]))
        tree.add(Span(start // block, start // block + 1), accumulator.end_block())
    (_, sums), *others = tree.nodes()
    for _, right in others:
        sums.merge(right)
    return PickFreezeSums.from_state(sums.state())


def theirs(y: np.ndarray, d: int, second_order: bool) -> dict:
    problem = {"num_vars": d, "names": [str(i) for i in range(d)], "bounds": [[0, 1]] * d}
    rows = np.concatenate([y[:, :1], y[:, 2:], y[:, 1:2]], axis=1).ravel().astype(np.float64)
    return salib.analyze(problem, rows, second_order, num_resamples=2, seed=1)


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-12)])
@settings(max_examples=10)
@given(d=st.integers(1, 5), mean=st.floats(-20, 20), seed=st.integers(0, 2**32 - 1))
def test_equals_salib(dtype: torch.dtype, tolerance: float, second_order: bool, d: int, mean: float, seed: int) -> None:
    terms = SaltelliTerms(d, second_order)
    rng = np.random.default_rng(seed)
    y = torch.from_numpy(rng.normal(mean, rng.uniform(0.5, 2, 3), (128, terms.n_rows, 3))).to(dtype)
    ours = finalize(streamed(y, terms, 64), terms)
    for unit in range(3):
        expected = theirs(y[..., unit].numpy(), d, second_order)
        for name, key in QUANTITIES.items():
            if name in ours:
                found = ours[name][..., unit]
                found = np.triu(found, 1) if found.ndim == 2 else found
                # the terms grow with the mean, and so does what they lose
                np.testing.assert_allclose(found, np.nan_to_num(expected[key]), atol=tolerance * (1 + mean**2))
    ends = y[:, :2].double().flatten(0, 1).numpy()
    np.testing.assert_allclose(ours[names.VARIANCE], ends.var(0), rtol=1e-11)
    np.testing.assert_allclose(ours[names.MEAN], ends.mean(0), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_errors_are_those_of_the_estimator(oracle) -> None:
    """Root mean square error over 400 independent repetitions, each with its own standard error."""
    rng, d, terms = np.random.default_rng(3), oracle.d, SaltelliTerms(oracle.d)
    low, high = oracle.law.support
    a, b = (rng.uniform(low, high, (1024, 400, d)) for _ in range(2))
    rows = [a, b]
    for x, z in ((a, b), (b, a)):
        for i in range(d):
            swapped = x.copy()
            swapped[..., i] = z[..., i]
            rows.append(swapped)
    y = torch.from_numpy(np.stack([oracle.function(row) for row in rows], 1))
    ours = finalize(streamed(y + 5, terms, 64), terms)
    upper = np.triu_indices(d, 1)
    truth = {
        names.FIRST_ORDER: np.array(oracle.first)[:, None],
        names.TOTAL_ORDER: np.array(oracle.total)[:, None],
        names.SECOND_ORDER: oracle.second_matrix()[upper][:, None],
    }
    for name, value in truth.items():
        found, error = ours[name], ours[names.se(name)]
        if found.ndim == 3:
            found, error = found[upper], error[upper]
        actual, promised = np.sqrt(((found - value) ** 2).mean(1)), np.sqrt((error**2).mean(1))
        np.testing.assert_allclose(promised, actual, rtol=0.2)


def test_constant_units_are_undefined_and_spare_the_rest() -> None:
    terms = SaltelliTerms(2)
    y = torch.randn(128, terms.n_rows, 3)
    y[..., 1] = 3.7
    result = finalize(streamed(y, terms, 64), terms)
    called = salib_indices(y.numpy(), 2, n_resamples=2)
    for found in (result, called):
        assert found[names.DEFINED].tolist() == [1, 0, 1]
        assert np.isnan(found[names.FIRST_ORDER][:, 1]).all()
        assert np.isfinite(found[names.FIRST_ORDER][:, [0, 2]]).all()


@pytest.mark.parametrize("second_order", [True, False])
def test_salib_called_for_units_equals_the_streamed_sums(second_order: bool) -> None:
    terms = SaltelliTerms(3, second_order)
    y = torch.randn(128, terms.n_rows, 4, dtype=torch.float64) + 2
    result = finalize(streamed(y, terms, 64), terms)
    called = salib_indices(y.numpy(), 3, second_order=second_order, n_resamples=200)
    assert set(called) == {k for n in QUANTITIES if n in result for k in (n, names.se(n))} | {names.DEFINED}
    for name in set(QUANTITIES) & set(result):
        np.testing.assert_allclose(called[name], result[name], atol=1e-11)
        # a bootstrap over 128 samples, and the delta method over two blocks
        assert 0.05 < np.nanmedian(called[names.se(name)] / result[names.se(name)]) < 20


def test_not_finite_responses_are_seen_in_every_row() -> None:
    terms = SaltelliTerms(2)
    for row in range(terms.n_rows):
        y = torch.zeros(1, terms.n_rows, 2)
        y[0, row, 1] = float("inf")
        accumulator = PickFreezeAccumulator(terms, 2, 1)
        assert not accumulator.update(y.flatten(0, 1), torch.arange(terms.n_rows)[None])


@pytest.mark.parametrize("options", [{"total_interaction": True}, {"drop": True}])
def test_what_salib_has_no_formula_for(options: dict) -> None:
    with pytest.raises(ValueError, match="no formula"):
        SaltelliTerms(3, **options)

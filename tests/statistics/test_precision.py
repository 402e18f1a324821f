"""Errors of units against brute force over all their shares."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe import names
from neuroprobe.statistics import indices, precision
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums
from neuroprobe.statistics.precision import needed, worst_errors

QUANTITIES = (names.FIRST_ORDER, names.TOTAL_ORDER, names.SECOND_ORDER)


def sums_of(terms: DifferenceTerms, n_units: int, n_blocks: int = 4) -> PickFreezeSums:
    """Sums of random responses; unit 0 is dead, unit 1 varies in the second block alone."""
    random = torch.Generator().manual_seed(3)
    accumulator, total = PickFreezeAccumulator(terms, n_units, 4), None
    for block in range(n_blocks):
        y = torch.randn(4 * terms.n_rows, n_units, generator=random)
        y[:, 0] = 2.0
        if block != 1:
            y[:, 1] = 0.0
        accumulator.update(y, torch.arange(4 * terms.n_rows).view(4, -1))
        state = accumulator.end_block()
        if total is None:
            total = state
        else:
            total.merge(state)
    assert total is not None
    return total


@pytest.mark.parametrize("n_factors", [1, 3])
def test_worst_error_is_the_largest_of_all_shares(n_factors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = DifferenceTerms(n_factors)
    sums = sums_of(terms, 11)
    whole = indices.finalize(sums, terms)
    expected = []
    for unit in range(11):
        errors = [whole[names.se(name)][i, unit] for name in QUANTITIES[:2] for i in range(n_factors)]
        pairs = whole[names.se(names.SECOND_ORDER)]
        errors += [pairs[i, j, unit] for i in range(n_factors) for j in range(i)]
        unknown = any(np.isnan(errors))
        expected.append(np.nan if not whole[names.DEFINED][unit] else np.inf if unknown else max(errors))
    assert np.isnan(expected[0])
    assert expected[1] == np.inf
    assert np.isfinite(expected[2:]).all()
    # a layer larger than what is looked at at a time
    monkeypatch.setattr(precision, "UNITS_AT_A_TIME", 4)
    np.testing.assert_array_equal(worst_errors(sums, terms, QUANTITIES), expected)
    # fewer quantities have no larger errors
    fewer = worst_errors(sums, terms, QUANTITIES[:1])
    assert (fewer[2:] <= expected[2:]).all()


@given(
    st.lists(st.sampled_from([0.001, 0.01, 0.02, np.inf, np.nan]), min_size=1, max_size=40),
    st.sampled_from([0.001, 0.01, 0.05]),
    st.integers(1, 100),
)
def test_the_share_is_reached_where_its_error_is(worst: list[float], se: float, percent: int) -> None:
    share = percent / 100
    found = precision.precision(np.array(worst), se, share)
    defined = [error for error in worst if not np.isnan(error)]
    assert found.n_defined == len(defined)
    assert found.n_reached == sum(error <= se for error in defined)
    if not defined:
        assert np.isnan(found.error)
        assert np.isnan(found.share)
        return
    # whole numbers of units: 100 n ≥ percent · N
    is_enough = 100 * found.n_reached >= percent * found.n_defined
    assert (found.n_reached >= needed(found.n_defined, share)) == (is_enough and found.n_reached > 0)
    assert (found.error <= se) == (is_enough and found.n_reached > 0)

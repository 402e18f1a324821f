"""Summaries over units, against numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from neuroprobe.statistics.summary import preferred, quantiles

values = st.one_of(st.just(np.nan), st.floats(-2, 2))


@given(arrays(float, array_shapes(min_dims=2, max_dims=3, max_side=6), elements=values))
def test_quantiles_leave_undefined_units_out(array: np.ndarray) -> None:
    got = quantiles(array, [0.1, 0.5, 0.95])
    assert got.shape == (*array.shape[:-1], 3)
    for place in np.ndindex(*array.shape[:-1]):
        defined = array[place][~np.isnan(array[place])]
        expected = np.quantile(defined, [0.1, 0.5, 0.95]) if defined.size else [np.nan] * 3
        np.testing.assert_array_equal(got[place], expected)


@given(arrays(float, (3, 5), elements=values), arrays(float, (3, 5), elements=st.floats(0, 1)))
def test_preferred_is_the_first_of_the_largest(array: np.ndarray, errors: np.ndarray) -> None:
    array[:, np.isnan(array).any(0)] = np.nan
    largest, clear = preferred(array, errors, 2)
    for unit in range(5):
        column = array[:, unit].tolist()
        if np.isnan(column).any():
            assert not clear[unit]
            continue
        assert largest[unit] == column.index(max(column))
        assert clear[unit] == (max(column) > 2 * errors[largest[unit], unit])

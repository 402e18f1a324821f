"""d′ and ROC of conditions against each other: by hand, against scipy, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from made_animals import animal, apart, trials
from neuroprobe.analysis.discrimination import discrimination
from neuroprobe.errors import ReaderError


def test_each_condition_against_all_others() -> None:
    values, condition, _, _ = trials(n_conditions=3, n_units=4)
    found = discrimination(animal(values, {"kind": condition}), "kind", correction="none")
    for kind in range(3):
        own, others = values[condition == kind], values[condition != kind]
        for unit in range(4):
            test = stats.mannwhitneyu(own[:, unit], others[:, unit], use_continuity=False, method="asymptotic")
            assert found.auc.values[kind, unit] == pytest.approx(test.statistic / (len(own) * len(others)))
            assert found.p_value.values[kind, unit] == pytest.approx(test.pvalue)
            spread = (own[:, unit].var(ddof=1) + others[:, unit].var(ddof=1)) / 2
            expected = (own[:, unit].mean() - others[:, unit].mean()) / spread**0.5
            assert found.d_prime.values[kind, unit] == pytest.approx(expected)
    assert ((found.auc_se > 0) | (found.auc == 1)).all()
    np.testing.assert_array_equal(found.p_adjusted, found.p_value)


def test_against_one_condition() -> None:
    values, condition, _, _ = trials(n_conditions=3, n_units=4)
    names = np.array(["a", "b", "c"], dtype=object)[condition]
    found = discrimination(animal(values, {"kind": names}), "kind", against="b")
    both = condition != 2
    pair = discrimination(animal(values[both], {"kind": names[both]}), "kind")
    np.testing.assert_allclose(found.auc.sel(condition=0), pair.auc.sel(condition=0))
    np.testing.assert_allclose(pair.auc.sel(condition=0), 1 - pair.auc.sel(condition=1))
    assert found.auc.sel(condition=1).isnull().all()
    assert found.attrs["against"] == "b"
    # numbers, as a protocol writes them
    of_numbers = discrimination(animal(values, {"kind": condition * 22.5}), "kind", against=22.5)
    np.testing.assert_array_equal(of_numbers.auc, found.auc)


def test_units_that_lack_trials_or_do_not_vary_are_undefined() -> None:
    values, condition, _, _ = trials(n_conditions=2, n_units=4)
    values = values.astype(float)
    values[:, 0], values[3, 1] = 2, np.nan
    found = discrimination(animal(values, {"kind": condition}), "kind")
    assert found.defined.values.tolist() == [0, 0, 1, 1]
    sessions = [np.flatnonzero(condition == 0), np.arange(len(condition))]
    alone = discrimination(apart(values[:, 2:], {"kind": condition}, sessions), "kind")
    assert alone.defined.values.tolist() == [0, 1]


def test_what_is_refused() -> None:
    values, condition, _, _ = trials(n_conditions=2)
    tree = animal(values, {"kind": condition, "one": np.zeros(len(condition))})
    with pytest.raises(ReaderError, match="two conditions or more; one has 1"):
        discrimination(tree, "one")
    with pytest.raises(ReaderError, match=r"against: 5 is no condition of kind: 0, 1"):
        discrimination(tree, "kind", against=5)

"""Kernel alignment: identities, brute force, blocks of units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.cka import Alignment, Kernel, cka


def kernel(responses: np.ndarray, *places: int) -> np.ndarray:
    found = Kernel(len(responses))
    for block in np.split(responses, sorted(places), axis=1):
        part = Kernel(len(responses))
        part.add(block)
        found.merge(part)
    assert found.n_units == responses.shape[1]
    return found.matrix


@given(st.integers(0, 10**6), st.integers(0, 12), st.booleans())
def test_identities(seed: int, place: int, biased: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(5, 1, (9, 12)), rng.normal(size=(9, 4))
    k = kernel(x, place)
    np.testing.assert_allclose(k, kernel(x), atol=1e-10)
    assert cka(k, k, biased=biased) == pytest.approx(1, abs=1e-10)
    whole = cka(k, kernel(y), biased=biased)
    order = rng.permutation(9)
    turned, _ = np.linalg.qr(rng.normal(size=(12, 12)))
    assert cka(kernel(3 * x[order] @ turned), kernel(y[order]), biased=biased) == pytest.approx(whole, abs=1e-10)


def test_against_definitions() -> None:
    rng = np.random.default_rng(0)
    n = 7
    k, m = kernel(rng.normal(size=(n, 3))), kernel(rng.normal(size=(n, 5)))
    h = np.eye(n) - 1 / n
    expected = np.trace(k @ h @ m @ h) / np.sqrt(np.trace(k @ h @ k @ h) * np.trace(m @ h @ m @ h))
    assert cka(k, m, biased=True) == pytest.approx(expected, abs=1e-12)

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        a, b = (one - np.diag(np.diag(one)) for one in (a, b))
        ones = np.ones(n)
        return float(
            np.trace(a @ b)
            + ones @ a @ ones * (ones @ b @ ones) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (ones @ a @ b @ ones)
        ) / (n * (n - 3))

    assert cka(k, m) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)), abs=1e-12)


def test_without_bias_unrelated_responses_are_not_alike() -> None:
    rng = np.random.default_rng(1)
    pairs = [[kernel(rng.normal(size=(20, 200))) for _ in range(2)] for _ in range(60)]
    unbiased = [cka(*pair) for pair in pairs]
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / np.sqrt(60)
    assert np.mean([cka(*pair, biased=True) for pair in pairs]) > 0.8


def test_what_is_undefined() -> None:
    with pytest.raises(ValueError, match="takes 4 or more stimuli, received 3"):
        cka(np.eye(3), np.eye(3))
    assert np.isnan(cka(np.zeros((5, 5)), np.eye(5), biased=True))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("elements", [1, 70, 1 << 16])
def test_parts_and_permutations_against_brute_force(
    biased: bool, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that are cut out, centred again and permuted as whole matrices; also where none was centred before."""
    monkeypatch.setattr("neuroprobe.statistics.cka.BLOCK_ELEMENTS", elements)
    rng = np.random.default_rng(2)
    x, n = rng.normal(2, 1, (23, 4)), 23
    y = x @ rng.normal(size=(4, 9)) + rng.normal(size=(n, 9))
    groups, orders = np.array_split(rng.permutation(n), 5), [rng.permutation(n) for _ in range(7)]
    for k, m in ((kernel(x), kernel(y)), (x @ x.T, y @ y.T)):
        found = Alignment(k, m, biased=biased)
        without = []
        for group in groups:
            kept = np.delete(np.arange(n), group)
            without.append(cka(k[np.ix_(kept, kept)], m[np.ix_(kept, kept)], biased=biased))
        np.testing.assert_allclose([found.without(group) for group in groups], without, atol=1e-11)
        permuted = [cka(k, m[np.ix_(order, order)], biased=biased) for order in orders]
        np.testing.assert_allclose(found.permuted(orders), permuted, atol=1e-11)
        assert found.permuted([np.arange(n)]) == pytest.approx(found.value, abs=1e-11)
        assert np.ptp(without) > 1e-3
        assert np.ptp(permuted) > 1e-3


def test_parts_that_are_undefined() -> None:
    flat = Alignment(np.zeros((6, 6)), np.eye(6))
    assert np.isnan([flat.value, flat.without(np.array([0])), *flat.permuted([np.arange(6)])]).all()
    with pytest.raises(ValueError, match="takes 4 or more stimuli, received 3"):
        Alignment(np.eye(6), np.eye(6)).without(np.arange(3))

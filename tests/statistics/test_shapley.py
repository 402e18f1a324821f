"""Shapley effects of walks against closed forms and brute force over all permutations."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from neuroprobe import names
from neuroprobe.design.pick_freeze import PickFreeze, block_length
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator
from neuroprobe.statistics.shapley import WalkTerms
from oracles import ORACLES, Oracle, stream_design

SHAPLEY = {
    "Ishigami": (0.435747023179, 0.442411144790, 0.121841832031),
    "g-function": (
        0.638073944055,
        0.308126765848,
        0.0461902931841,
        0.00745954175711,
        7.47275779064e-5,
        7.47275779064e-5,
    ),
    "Bratley": (0.773700305810, 0.113149847095, 0.113149847095),
}


def shapley(oracle: Oracle, samples: int, scramble: str | int, seed: int, *, single: bool = False) -> dict:
    block, length = block_length(samples, scramble)
    design = PickFreeze(oracle.factors, seed, 1, single=single, walks=True, scramble=length)
    terms = WalkTerms(oracle.d)

    def respond(rows):
        y = oracle.function(np.stack([rows.values[factor.name] for factor in oracle.factors], -1))
        return np.take_along_axis(y, rows.steps, axis=1)

    return finalize(stream_design(design, respond, samples, block, terms), terms)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("scramble", ["auto", 128, "whole"])
@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.name)
def test_closed_forms_lie_within_the_standard_errors(oracle: Oracle, scramble: str | int, single: bool) -> None:
    samples = 1 << 14
    found = shapley(oracle, samples, scramble, 0, single=single)
    bound = stats.t.ppf(1 - 1e-6, samples // block_length(samples, scramble)[0] - 1)
    value, error = found[names.SHAPLEY_EFFECT][:, 0], found[names.se(names.SHAPLEY_EFFECT)][:, 0]
    assert (np.abs(value - SHAPLEY[oracle.name]) <= bound * error + 1e-9).all()
    assert value.sum() == pytest.approx(1, abs=1e-12)
    assert found[names.VARIANCE][0] == pytest.approx(oracle.variance, rel=0.05)


def test_the_effect_lies_between_the_sobol_indices() -> None:
    oracle = ORACLES[1]
    value = shapley(oracle, 1 << 13, "auto", 1)[names.SHAPLEY_EFFECT][:, 0]
    assert (value >= np.array(oracle.first) - 0.02).all()
    assert (value <= np.array(oracle.total) + 0.02).all()


def test_sums_are_those_of_the_formula() -> None:
    """Every permutation once, on one pair of points: the average over walks is Shapley's value of the game."""
    d, rng = 3, np.random.default_rng(0)
    y = {subset: rng.normal() for k in range(d + 1) for subset in itertools.combinations(range(d), k)}
    whole = y[()] - y[tuple(range(d))]
    rows, expected = [], np.zeros(d)
    permutations = list(itertools.permutations(range(d)))
    for order in permutations:
        walk = [y[tuple(sorted(order[:k]))] for k in range(d + 1)]
        before, after = np.zeros(d), np.zeros(d)
        for k, factor in enumerate(order):
            before[factor], after[factor] = walk[k], walk[k + 1]
            expected[factor] += 0.5 * whole * (walk[k] - walk[k + 1])
        rows.append(np.concatenate([[walk[0], walk[-1]], before, after]))
    terms = WalkTerms(d)
    accumulator = PickFreezeAccumulator(terms, 1, len(rows), dtype=torch.float64)
    stacked = torch.from_numpy(np.stack(rows))
    assert accumulator.update(stacked.reshape(-1, 1), torch.arange(stacked.numel()).view(stacked.shape))
    total = accumulator.end_block().total[:, 0].numpy()
    np.testing.assert_allclose(0.5 * total[terms.slices[names.SHAPLEY_EFFECT]], expected, rtol=1e-12)
    np.testing.assert_allclose(0.5 * total[0], len(rows) * 0.5 * whole**2, rtol=1e-12)


def test_a_factor_without_effect_and_one_that_is_listed_twice() -> None:
    oracle = ORACLES[0]

    def function(x: np.ndarray) -> np.ndarray:
        return np.stack([np.sin(x[..., 0]) + x[..., 2] * 0, x[..., 0] + x[..., 1]], -1)

    block = 256
    design = PickFreeze(oracle.factors, 0, 1, single=False, walks=True, scramble=block)
    terms = WalkTerms(3)

    def respond(rows):
        y = function(np.stack([rows.values[factor.name] for factor in oracle.factors], -1))
        return np.take_along_axis(y, rows.steps[..., None], axis=1)

    found = finalize(stream_design(design, respond, 4096, block, terms), terms)
    value, error = found[names.SHAPLEY_EFFECT], found[names.se(names.SHAPLEY_EFFECT)]
    np.testing.assert_array_equal(value[:, 0], [1, 0, 0])
    assert abs(value[0, 1] - value[1, 1]) <= 6 * np.hypot(error[0, 1], error[1, 1])
    assert value[2, 1] == 0


def test_sobol_indices_of_a_joint_run_are_those_of_a_run_of_their_own() -> None:
    oracle = ORACLES[1]
    terms = DifferenceTerms(oracle.d)

    def respond(rows):
        y = oracle.function(np.stack([rows.values[factor.name] for factor in oracle.factors], -1))
        return y[:, : terms.n_rows]

    alone, joint = (
        finalize(
            stream_design(PickFreeze(oracle.factors, 0, 1, walks=walks, scramble=64), respond, 512, 64, terms), terms
        )
        for walks in (False, True)
    )
    for name in alone:
        np.testing.assert_array_equal(alone[name], joint[name])

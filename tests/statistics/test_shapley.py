"""Shapley effects of walks against closed forms and brute force over all permutations."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
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


# scalar inputs as players, their effects summed per factor

SIX = Factor("six", tuple(Input(f"p{i}", Law("uniform", (-1, 1))) for i in range(6)))
ONE = Factor("one", (Input("q", Law("uniform", (-1, 1))), Input("fixed", Law("constant", (3,)))))


def of_product(factors: tuple[Factor, ...], groups: tuple[int, ...], samples: int = 1 << 14) -> dict:
    """Shapley effects of a product of seven centred inputs: a pure interaction of all of them."""
    terms = WalkTerms(len(factors), groups=groups)
    design = PickFreeze(factors, 0, 1, single=False, walks=True, scramble=samples // 16)

    def respond(rows):
        y = np.prod([rows.values[item.name] for factor in (SIX, ONE) for item in factor.varying], axis=0)
        return np.take_along_axis(y, rows.steps, axis=1)

    return finalize(stream_design(design, respond, samples, samples // 16, terms), terms)


def test_scalar_players_inflate_a_factor_of_many_parameters() -> None:
    players = (*SIX.players, *ONE.players)
    assert [player.name for player in players] == [*(f"p{i}" for i in range(6)), "q"]
    assert players[-1].inputs == ONE.inputs
    for factors, groups, expected in (
        ((SIX, ONE), (), [0.5, 0.5]),
        (players, (0,) * 6 + (1,), [6 / 7, 1 / 7]),
    ):
        found = of_product(factors, groups)
        value, error = found[names.SHAPLEY_EFFECT][:, 0], found[names.se(names.SHAPLEY_EFFECT)][:, 0]
        assert (np.abs(value - expected) <= stats.t.ppf(1 - 1e-6, 15) * error).all()
        assert (error < 0.05).all()
        assert value.sum() == pytest.approx(1, abs=1e-6)


def test_effects_of_a_group_are_sums_and_their_errors_those_of_sums() -> None:
    players, groups = (*SIX.players, *ONE.players), (0, 0, 1, 1, 1, 2, 2)
    apart, summed = of_product(players, (), 1024), of_product(players, groups, 1024)
    value, error = (apart[name][:, 0] for name in (names.SHAPLEY_EFFECT, names.se(names.SHAPLEY_EFFECT)))
    member = np.equal.outer(range(3), groups)
    np.testing.assert_allclose(summed[names.SHAPLEY_EFFECT][:, 0], member @ value, rtol=1e-4, atol=1e-6)
    # the errors of players of a walk depend on each other: those of sums lie under the sum of theirs
    assert (summed[names.se(names.SHAPLEY_EFFECT)][:, 0] <= member @ error + 1e-6).all()
    # all in one group: the whole variance, exactly
    whole = of_product(players, (0,) * 7, 1024)
    assert whole[names.SHAPLEY_EFFECT].ravel() == pytest.approx(1, abs=1e-5)
    assert whole[names.se(names.SHAPLEY_EFFECT)].ravel() == pytest.approx(0, abs=1e-5)

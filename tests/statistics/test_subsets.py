"""All components of the variance from all subsets, against closed forms and brute force."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations, block_length
from neuroprobe.statistics.estimators import DifferenceTerms, Terms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator
from neuroprobe.statistics.shapley import SubsetTerms
from oracles import G_A, ORACLES, stream_design

UNIFORM = Law("uniform", (0, 1))


def g_function(x: np.ndarray) -> np.ndarray:
    return np.prod((np.abs(4 * x - 2) + G_A[: x.shape[-1]]) / (1 + G_A[: x.shape[-1]]), axis=-1)


def g_components(d: int) -> dict[tuple[int, ...], float]:
    alone = 1 / (3 * (1 + G_A[:d]) ** 2)
    return {subset: np.prod(alone[list(subset)]) / (np.prod(1 + alone) - 1) for subset in SubsetTerms(d).subsets}


ISHIGAMI, _, BRATLEY = ORACLES
# function, law, components as shares of the variance
CASES = {
    "Ishigami": (ISHIGAMI.function, ISHIGAMI.law, {(0,): 0.313905191148, (1,): 0.44241114479, (0, 2): 0.243683664062}),
    "Bratley": (
        BRATLEY.function,
        UNIFORM,
        {(0,): 0.743119266055}
        | dict.fromkeys(((1,), (2,)), 0.0825688073394)
        | dict.fromkeys(((0, 1), (0, 2), (1, 2)), 0.0275229357798)
        | {(0, 1, 2): 1 - 0.743119266055 - 2 * 0.0825688073394 - 3 * 0.0275229357798},
    ),
    **{f"g-function of {d}": (g_function, UNIFORM, g_components(d)) for d in (1, 2, 4)},
}


def stream_subsets(function, law: Law, d: int, samples: int, *, scramble="auto", terms: Terms | None = None, **options):
    """Results of the rows of all subsets, of all components unless other terms are given."""
    block, length = block_length(samples, scramble)
    factors = tuple(Factor(f"x{i}", (Input(f"x{i}", law),)) for i in range(d))
    design = PickFreeze(factors, 0, 1, scramble=length, subsets=True, **options)

    def respond(rows: Presentations) -> np.ndarray:
        y = function(np.stack([rows.values[factor.name] for factor in factors], -1))
        return y[:, (rows.of_subsets if isinstance(terms, SubsetTerms) else rows.of_sobol)[0]]

    terms = terms or SubsetTerms(d)
    return finalize(stream_design(design, respond, samples, block, terms), terms)


@pytest.mark.parametrize("scramble", ["auto", 128, "whole"])
@pytest.mark.parametrize(("function", "law", "components"), CASES.values(), ids=CASES)
def test_closed_forms_lie_within_the_standard_errors(function, law, components, scramble) -> None:
    samples, d = 1 << 14, 1 + max(max(subset) for subset in components)
    found = stream_subsets(function, law, d, samples, scramble=scramble)
    bound = stats.t.ppf(1 - 1e-6, samples // block_length(samples, scramble)[0] - 1)
    subsets = SubsetTerms(d).subsets
    effects = [sum(share / len(v) for v, share in components.items() if j in v) for j in range(d)]
    for name, truth in (("component", [components.get(v, 0.0) for v in subsets]), ("shapley_effect", effects)):
        value, error = found[name][:, 0], found[names.se(name)][:, 0]
        assert (np.abs(value - truth) <= bound * error + 1e-9).all(), name
        assert value.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_all_pairs_of_points_of_a_grid_give_the_exact_components(d: int) -> None:
    """Two values per factor, every A with every B once: the analysis of variance of the table itself."""
    table = np.random.default_rng(d).normal(5, 1, (2,) * d)
    terms = SubsetTerms(d)
    points = list(itertools.product((0, 1), repeat=d))
    numbers = [0, 2**d - 1, *range(1, 2**d - 1)]
    y = np.array(
        [
            [table[tuple((b if number >> i & 1 else a)[i] for i in range(d))] for number in numbers]
            for a, b in itertools.product(points, repeat=2)
        ]
    )
    accumulator = PickFreezeAccumulator(terms, 1, len(y), dtype=torch.float64)
    for start in range(0, len(y), 64):
        part = torch.from_numpy(y[start : start + 64])
        assert accumulator.update(part.reshape(-1, 1), torch.arange(part.numel()).view(part.shape))
    found = finalize(accumulator.end_block(), terms)
    # component of v: mean square of what the means given v add to those given its subsets
    effect, expected = {(): np.full_like(table, table.mean())}, []
    for subset in terms.subsets:
        others = tuple(i for i in range(d) if i not in subset)
        mean = np.broadcast_to(table.mean(others, keepdims=True), table.shape)
        smaller = (effect[part] for k in range(len(subset)) for part in itertools.combinations(subset, k))
        effect[subset] = mean - sum(smaller)
        expected.append((effect[subset] ** 2).mean())
    np.testing.assert_allclose(found["variance"][0], table.var(), rtol=1e-12)
    np.testing.assert_allclose(found["component"][:, 0], np.array(expected) / table.var(), atol=1e-12)
    assert found["mean"][0] == pytest.approx(table.mean())


def test_numbers_of_sobol_are_those_of_a_design_of_their_own() -> None:
    terms, factors = DifferenceTerms(3, total_interaction=True), ISHIGAMI.factors
    together = stream_subsets(ISHIGAMI.function, ISHIGAMI.law, 3, 512, terms=terms)
    block, length = block_length(512, "auto")

    def respond(rows: Presentations) -> np.ndarray:
        return ISHIGAMI.function(np.stack([rows.values[factor.name] for factor in factors], -1))

    alone = finalize(stream_design(PickFreeze(factors, 0, 1, scramble=length), respond, 512, block, terms), terms)
    for name, value in alone.items():
        np.testing.assert_array_equal(together[name], value, err_msg=name)


@pytest.mark.parametrize("d", [2, 3, 4])
def test_the_effect_lies_between_the_sobol_indices(d: int) -> None:
    found, sobol = (stream_subsets(g_function, UNIFORM, d, 1 << 12, terms=t(d)) for t in (SubsetTerms, DifferenceTerms))
    value, error = found["shapley_effect"], found["shapley_effect_se"]
    assert (sobol["first_order"] <= value + 6 * np.hypot(error, sobol["first_order_se"])).all()
    assert (sobol["total_order"] >= value - 6 * np.hypot(error, sobol["total_order_se"])).all()


def test_a_factor_without_effect_is_exactly_zero_and_one_listed_twice_has_equal_shares() -> None:
    terms = SubsetTerms(4)
    found = stream_subsets(
        lambda x: 1000 + np.exp(x[..., 0]) * (x[..., 1] + x[..., 3]), UNIFORM, 4, 1 << 12, terms=terms
    )
    effect, error = found["shapley_effect"][:, 0], found["shapley_effect_se"][:, 0]
    assert effect[2] == error[2] == 0
    for subset, component, se in zip(terms.subsets, found["component"][:, 0], found["component_se"][:, 0], strict=True):
        if 2 in subset:
            assert component == se == 0
    assert abs(effect[1] - effect[3]) <= 6 * np.hypot(error[1], error[3])


def test_shares_sum_to_one_in_single_precision_and_a_shift_changes_little() -> None:
    design = PickFreeze(BRATLEY.factors, 0, 1, scramble=64, subsets=True)
    terms, found = SubsetTerms(3), []
    for shift in (0, 100):

        def respond(rows: Presentations, shift: float = shift) -> np.ndarray:
            x = np.stack([rows.values[factor.name] for factor in BRATLEY.factors], -1)
            return (BRATLEY.function(x)[:, rows.of_subsets[0]] + shift).astype(np.float32)

        found.append(finalize(stream_design(design, respond, 512, 64, terms, torch.float32), terms))
        for name in ("shapley_effect", "component"):
            assert found[-1][name].sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(found[1]["component"], found[0]["component"], atol=1e-4)

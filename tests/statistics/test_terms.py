"""What all terms have in common: chunks, compilation, responses that are not finite, base samples that are dropped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprobe import names
from neuroprobe.statistics.estimators import DifferenceTerms, MomentsTerms, SaltelliTerms, Terms
from neuroprobe.statistics.indices import finalize, result_bytes
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums, compiles
from neuroprobe.statistics.shapley import GodaTerms, SubsetTerms, WalkTerms
from oracles import sums_of, sums_of_rows

TERMS: list[Terms] = [
    DifferenceTerms(3, total_interaction=True),
    DifferenceTerms(3, second_order=False),
    SaltelliTerms(3),
    WalkTerms(3),
    GodaTerms(3),
    SubsetTerms(1),
    SubsetTerms(4),
    MomentsTerms(3),
]
each = pytest.mark.parametrize("terms", TERMS, ids=lambda terms: f"{type(terms).__name__}{terms.n_factors}")
each_that_drops = pytest.mark.parametrize(
    "terms", [t for t in TERMS if not isinstance(t, SaltelliTerms)], ids=lambda terms: type(terms).__name__
)


@each
@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, 127), max_size=6, unique=True), n_units=st.integers(1, 20))
def test_random_chunks_change_nothing_beyond_rounding(terms: Terms, cuts: list[int], n_units: int) -> None:
    y = torch.randn(128, terms.n_rows, n_units, generator=torch.Generator().manual_seed(n_units))
    whole, pieces = sums_of(y, terms), sums_of(y, terms, tuple(sorted(cuts)))
    np.testing.assert_allclose(pieces.total, whole.total, rtol=1e-5, atol=1e-3)
    assert torch.equal(pieces.peak, whole.peak)


@pytest.mark.parametrize("terms", [GodaTerms(2), SubsetTerms(2, drop=True), MomentsTerms(3)], ids=str)
def test_compiled_update_equals_the_eager_one(terms: Terms) -> None:
    if not compiles():
        pytest.skip("no compiler for torch.compile here")
    assert terms.compilable
    y = 3 + torch.randn(130, terms.n_rows, 200, generator=torch.Generator().manual_seed(0))
    eager, compiled = sums_of(y, terms), sums_of(y, terms, (50,), compiled=True)
    scale = eager.total.abs().amax(1, keepdim=True).clamp(min=1)
    assert float(((compiled.total - eager.total) / scale).abs().max()) < 1e-5
    assert torch.equal(compiled.peak, eager.peak)


@each
def test_shares_of_what_varies_in_one_block_have_no_error(terms: Terms) -> None:
    """Every block agrees with the ratio of such a unit: 0 would be a false certainty."""
    if isinstance(terms, MomentsTerms):
        pytest.skip("no shares")
    y = torch.randn(256, terms.n_rows, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    y[64:, :, 1] = 0
    found = finalize(sums_of_rows(y.numpy(), terms), terms)
    assert found[names.DEFINED].tolist() == [1, 1]
    for name in set(found) & {names.FIRST_ORDER, names.TOTAL_ORDER, names.SHAPLEY_EFFECT, names.COMPONENT}:
        assert np.isfinite(found[name]).all()
        assert np.isfinite(found[names.se(name)][..., 0]).all()
        assert np.isnan(found[names.se(name)][..., 1]).all()
    assert np.isfinite(found[names.se(names.VARIANCE)]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@each
def test_a_response_that_is_not_finite_is_seen_in_every_row(terms: Terms, bad: float) -> None:
    for row in range(terms.n_rows):
        y = torch.randn(8, terms.n_rows, 3)
        y[2, row, 1] = bad
        accumulator = PickFreezeAccumulator(terms, 3, 8)
        assert not accumulator.update(y.flatten(0, 1), torch.arange(8 * terms.n_rows).view(8, -1)), row


@each_that_drops
def test_dropped_base_samples_are_left_out_per_unit_and_counted(terms: Terms) -> None:
    dropping = replace(terms, drop=True)
    y = torch.randn(64, terms.n_rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = y.clone()
    y[[3, 10], [0, terms.n_rows - 1], [1, 1]] = float("nan")
    found = finalize(sums_of(y, dropping, dtype=torch.float64), dropping)
    mask = torch.ones(64, dtype=torch.bool)
    mask[[3, 10]] = False
    without = finalize(sums_of(kept[mask][..., 1:2], terms, dtype=torch.float64), terms)
    assert found["n_dropped"].tolist() == [0, 2, 0]
    for name in {*terms.slices, *terms.derived}:
        np.testing.assert_allclose(found[name][..., 1], without[name][..., 0], rtol=1e-10, err_msg=name)


@each
def test_bytes_of_the_result(terms: Terms) -> None:
    found = finalize(sums_of(torch.randn(64, terms.n_rows, 5), terms), terms)
    assert {name: value.nbytes for name, value in found.items()} == result_bytes(terms, 5)


@each
def test_some_quantities_by_themselves(terms: Terms) -> None:
    sums = sums_of(torch.randn(64, terms.n_rows, 5), terms)
    everything = finalize(sums, terms)
    for name in (*terms.slices, *terms.derived):
        alone = finalize(sums, terms, [name])
        assert set(alone) == {name, names.se(name), "defined"}
        np.testing.assert_array_equal(alone[name], everything[name])


# moments


def merged(blocks: list[torch.Tensor], terms: Terms) -> PickFreezeSums:
    first, *others = (sums_of(block, terms, dtype=torch.float64) for block in blocks)
    for other in others:
        first.merge(other)
    return first


def test_moments_of_a_known_law() -> None:
    rng, terms = np.random.default_rng(0), MomentsTerms(2)
    blocks = [torch.from_numpy(rng.gamma(4, [1, 2, 3], (256, 2, 3))) for _ in range(32)]
    found = finalize(merged(blocks, terms), terms)
    truth = {"mean": 4.0 * np.array([1, 2, 3]), "variance": 4.0 * np.array([1, 4, 9]), "coefficient_of_variation": 0.5}
    for name, value in truth.items():
        assert (np.abs(found[name] - value) <= 5 * found[names.se(name)]).all(), name
    # the coefficient does not depend on the unit of the response
    shift = finalize(merged([-7 * block for block in blocks], terms), terms)
    for name in ("coefficient_of_variation", "coefficient_of_variation_se"):
        np.testing.assert_allclose(shift[name], found[name], rtol=1e-10)


def test_error_of_the_coefficient_of_variation_is_that_of_blocks_left_out_in_turn() -> None:
    """The jackknife is another way to the delta method's error; the two agree to the order of 1 / blocks."""
    rng, terms = np.random.default_rng(1), MomentsTerms(1)
    blocks = [torch.from_numpy(rng.exponential(2, (128, 2, 1))) for _ in range(64)]
    found = finalize(merged(blocks, terms), terms)["coefficient_of_variation_se"][0]
    left_out = [
        finalize(merged(blocks[:i] + blocks[i + 1 :], terms), terms)["coefficient_of_variation"][0] for i in range(64)
    ]
    assert found == pytest.approx(np.sqrt(63 * np.var(left_out)), rel=0.05)
    # of an exponential law, variance and mean are correlated: the bound that dropping takes is larger
    bound = finalize(merged(blocks, MomentsTerms(1, drop=True)), MomentsTerms(1, drop=True))
    assert found < bound["coefficient_of_variation_se"][0] < 10 * found


def test_a_mean_of_zero_or_no_variance_has_no_coefficient_of_variation() -> None:
    terms = MomentsTerms(1)
    signs = torch.tensor([1.0, -1.0]).repeat(32)
    y = torch.stack([torch.stack([signs, -signs]), torch.full((2, 64), 3.0), torch.zeros(2, 64)]).permute(2, 1, 0)
    found = finalize(sums_of(y.contiguous(), terms), terms)
    assert np.isnan(found["coefficient_of_variation"]).all()
    assert np.isnan(found["coefficient_of_variation_se"]).all()
    assert found["defined"].tolist() == [1, 0, 0]
    np.testing.assert_array_equal(found["variance"], [2, 0, 0])

"""What lesions did: selections hold the numbers of the result, and what is not there is named."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from made_masking import make_masking
from neuroprobe.analysis import lesion_effects
from neuroprobe.errors import ReaderError

ENDS = ("", "_lower", "_upper")


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return make_masking(["hue", "blur", "rotation"])


@pytest.mark.parametrize("group", ["masking", "single_class"])
def test_places_come_in_the_order_of_the_protocol(group: str) -> None:
    # the groups of a store are sorted by name
    made = make_masking(places=[["late"], ["early"], ["early", "late"]])
    assert lesion_effects.masking_places(made, group) == ["late", "early", "early+late"]
    assert lesion_effects.place_of(made, group=group).attrs["depth"] == 0
    assert lesion_effects.place_of(made, "early+late", group).attrs["layers"] == '["early", "late"]'


@pytest.mark.parametrize(("multiply", "has_random"), [(0.0, True), (1.5, False)])
def test_dose_response_starts_without_a_lesion(result: xr.DataTree, multiply: float, has_random: bool) -> None:
    found = lesion_effects.dose_response(result, "late", "probability", multiply)
    table = result["masking/late"].to_dataset().sel(measure="probability")
    # the rules are given from the largest share to the smallest
    np.testing.assert_allclose(found["masked_share"], [0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert found["estimate"].dims == ("input", "factor", "masked_share")
    assert found["random"].dims == ("input", "masked_share")
    for end in ENDS:
        for factor in ("hue", "blur", "rotation"):
            start = found[f"estimate{end}"].sel(masked_share=0, factor=factor)
            np.testing.assert_array_equal(start, table[f"unlesioned{end}"])
        for quantile in (0.5, 0.9):
            rule = f"q{quantile} x{multiply:g}"
            at = found.isel(masked_share=5 if quantile == 0.5 else 1)
            np.testing.assert_array_equal(at[f"estimate{end}"], table[f"estimate{end}"].sel(rule=rule))
            random = table["unlesioned"] + table[f"random_mean{end}"].sel(rule=rule)
            np.testing.assert_array_equal(at[f"random{end}"], random)
        np.testing.assert_array_equal(found[f"random{end}"][:, 0], table["unlesioned"])
    assert bool(found["random"][:, 1:].notnull().all()) == has_random
    assert found.attrs["multiply"] == multiply


def test_no_random_masks_are_no_control() -> None:
    found = lesion_effects.dose_response(make_masking(n_random=0))
    assert found["random"][:, 1:].isnull().all()
    assert found["estimate"].notnull().all()


def test_differences_at_a_rule(result: xr.DataTree) -> None:
    table = result["masking/early+late"].to_dataset().sel(measure="top_1")
    for rule, expected in ((None, "q0.9 x0"), ("x s", "x s")):
        found = lesion_effects.accuracy_differences(result, rule=rule)
        assert found.attrs["rule"] == expected
        for end in ENDS:
            np.testing.assert_array_equal(found[f"difference{end}"], table[f"difference{end}"].sel(rule=expected))


def test_cross_table_has_no_original(result: xr.DataTree) -> None:
    found = lesion_effects.cross_table(result, "late")
    assert found["input"].values.tolist() == ["hue", "blur", "rotation"]
    np.testing.assert_array_equal(found["cross"], result["masking/late"]["cross"].sel(measure="top_1")[1:])


def test_headline_compares_own_maps_with_random_ones_and_others() -> None:
    # one map is of no alteration, and one alteration has no map
    made = make_masking(["hue", "blur"], maps=["other", "hue"])
    table = made["masking/late"].to_dataset().sel(measure="top_1", rule="q0.9 x0")
    found = lesion_effects.headline(made, "late")
    assert found["factor"].values.tolist() == ["hue"]
    assert found["factor_2"].values.tolist() == ["other", "hue"]
    of_input, one = table.sel(input="hue"), found.sel(factor="hue")
    for end in ENDS:
        assert float(one[f"difference{end}"]) == float(of_input[f"difference{end}"].sel(factor="hue"))
        assert float(one[f"random_mean{end}"]) == float(of_input[f"random_mean{end}"])
        assert float(one[f"excess{end}"]) == float(table[f"excess{end}"].sel(factor="hue"))
    np.testing.assert_array_equal(found["random_difference"][0], of_input["random_difference"])
    assert float(found["others"][0, 0]) == float(of_input["difference"].sel(factor="other"))
    assert np.isnan(found["others"][0, 1])
    assert float(found["p_adjusted"][0]) == float(table["p_adjusted"].sel(factor="hue"))


def test_without_an_own_input_there_is_no_headline() -> None:
    found = lesion_effects.headline(make_masking(["hue"], maps=["other"]))
    assert found.sizes["factor"] == 0


def test_clusters_of_accuracies(result: xr.DataTree) -> None:
    made = make_masking(["hue", "blur", "rotation"])
    table = made["masking/late"].to_dataset()
    # no lesion changes one, and one is undefined at a rule
    table["estimate"][1, 2] = 0.5
    table["estimate"][0, 1, 3] = np.nan
    made["masking/late"] = xr.DataTree(table)
    found = lesion_effects.accuracy_clusters(made, "late")
    assert (found.attrs["n_constant"], found.attrs["n_undefined"]) == (1, 1)
    pairs = list(zip(found["input"].values, found["factor"].values, strict=True))
    assert len(pairs) == 4 * 3 - 2
    assert not {("hue", "rotation"), ("original", "blur")} & set(pairs)
    vectors = [table["estimate"].sel(input=i, factor=f, measure="top_1").values for i, f in pairs]
    distances = np.sqrt(1 - np.abs(stats.spearmanr(vectors, axis=1).statistic).clip(max=1))
    np.fill_diagonal(distances, 0)
    expected = hierarchy.average(squareform(distances, checks=False))
    np.testing.assert_allclose(found["linkage"], expected, atol=1e-7)
    assert sorted(found["leaf"].values) == list(range(10))
    everything = lesion_effects.accuracy_clusters(result, "late")
    assert everything.attrs["n_constant"] == everything.attrs["n_undefined"] == 0


def test_few_rules_make_no_tree() -> None:
    found = lesion_effects.accuracy_clusters(make_masking(quantiles=(), soft=True))
    assert found["linkage"].isnull().all()
    assert found["linkage"].shape == (5, 4)


def test_shifts_of_classes_keep_the_sensitive_ones(result: xr.DataTree) -> None:
    table = result["single_class/early+late"].to_dataset()
    found = lesion_effects.class_shifts(result, "blur", n_classes=7)
    assert (found.attrs["input"], found.attrs["n_classes"]) == ("blur", 12)
    shift = table["class_share_shift"].sel(input="blur", factor="blur")
    sensitive = set(table["sensitive_class"].sel(factor="blur").values)
    shown = found["class"].values.tolist()
    assert sensitive < set(shown)
    rest = [c for c in shown if c not in sensitive]
    left_out = set(table["class"].values) - set(shown)
    assert abs(shift.sel({"class": rest})).min() >= abs(shift.sel({"class": sorted(left_out)})).max()
    assert (np.diff(found["class_share_shift"]) <= 0).all()
    for name in shown:
        one = found.sel({"class": name})
        assert float(one["class_share_shift"]) == float(shift.sel({"class": name}))
        assert bool(one["sensitive_class"]) == (name in sensitive)
    original = lesion_effects.class_shifts(result, "blur", "original")
    assert original.sizes["class"] == 12
    expected = table["class_share_shift_se"].sel(input="original", factor="blur").sel({"class": original["class"]})
    np.testing.assert_array_equal(original["class_share_shift_se"], expected)


def test_jaccards_are_those_of_the_input() -> None:
    made = make_masking(["hue", "blur"], maps=["blur", "other", "hue"])
    table = made["single_class/late"].to_dataset()
    own = lesion_effects.jaccards(made, place="late")
    assert own["factor"].values.tolist() == own["input"].values.tolist() == ["blur", "hue"]
    original = lesion_effects.jaccards(made, "original", "late", "x s")
    assert original["factor"].values.tolist() == ["blur", "other", "hue"]
    assert (own.attrs["rule"], original.attrs["rule"]) == ("q0.9 x0", "x s")
    for found in (own, original):
        for number, (factor, which) in enumerate(zip(found["factor"].values, found["input"].values, strict=True)):
            one, expected = found.isel(factor=number), table.sel(input=which, factor=factor)
            for name in ("unlesioned_upper", "jaccard", "p_shift_adjusted", "p_unlesioned", "fence"):
                np.testing.assert_array_equal(one[name], expected[name])
    assert own["fence"].attrs["hypergeometric_fence"] == 0.26


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: lesion_effects.masking_places(r["stimuli"]), r"no group 'masking'.*analyses: \[masking\]"),
        (lambda r: lesion_effects.jaccards(r["stimuli"]), r"no group 'single_class'.*analyses: \[single_class\]"),
        (lambda r: lesion_effects.place_of(r, "latte"), "unknown place 'latte' .did you mean 'late'"),
        (lambda r: lesion_effects.dose_response(r, measure="top_5"), "unknown measure 'top_5'.*known: top_1, prob"),
        (lambda r: lesion_effects.dose_response(r, multiply=2), "multiplied by 2 here, rules multiply by: 0, 0.5, 1.5"),
        (lambda r: lesion_effects.dose_response(make_masking(quantiles=())), "all rules are soft.*rules: "),
        (lambda r: lesion_effects.accuracy_differences(r, rule="q0.9"), "unknown rule 'q0.9' .did you mean 'q0.9 x"),
        (lambda r: lesion_effects.headline(r, measure="top"), "unknown measure 'top'"),
        (lambda r: lesion_effects.cross_table(r, measure="top"), "unknown measure 'top'"),
        (lambda r: lesion_effects.accuracy_clusters(r, "x"), "unknown place 'x'"),
        (lambda r: lesion_effects.class_shifts(r, "sharpness"), "unknown factor 'sharpness'"),
        (lambda r: lesion_effects.class_shifts(r, "hue", "noise"), "unknown input 'noise'; known: original, hue"),
        (lambda r: lesion_effects.class_shifts(make_masking(maps=["m"]), "m"), "unknown input 'm'"),
        (lambda r: lesion_effects.jaccards(r, rule="x"), "unknown rule 'x'"),
    ],
)
def test_what_is_not_there_is_named(ask: Callable, message: str, result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=message):
        ask(result)

"""Single units by selectivity: orders, curves, families, similarities and labels, against what is stored."""

import numpy as np
import pytest
import xarray as xr

from made_selectivity_pictures import DEAD, N_IMAGES, made_selectivity, with_values, without
from neuroprobe.analysis import selectivity_units as single
from neuroprobe.errors import ReaderError


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return made_selectivity()


@pytest.mark.parametrize("ascending", [False, True])
def test_order_of_units(result: xr.DataTree, ascending: bool) -> None:
    # equal ones by channel
    made = with_values(result, "stage1", colour=[0.5, np.nan, 0.9, 0.5, -0.1, *[0.2] * 7])
    found = single.ordered_units(made, "stage1", "colour", ascending)
    expected = [4, 5, 6, 7, 8, 9, 10, 11, 0, 3, 2] if ascending else [2, 0, 3, 5, 6, 7, 8, 9, 10, 11, 4]
    assert found["channel"].values.tolist() == expected
    assert (found.attrs["n_undefined"], found.attrs["n_defined"]) == (1, 11)
    assert single.ordered_units(made, "stage1", "colour", ascending, 3)["channel"].values.tolist() == expected[:3]


def test_activation_curves(result: xr.DataTree) -> None:
    found = single.activation_curves(result, "stage2", [3, DEAD])
    top = result["selectivity/stage2"]["top_value"].values[3]
    np.testing.assert_allclose(found["share"].sel(channel=3), top / top[0])
    assert float(found["mean"].sel(channel=3)) == pytest.approx((top / top[0]).mean())
    assert found["share"].sel(channel=DEAD).isnull().all()
    assert np.isnan(found["mean"].sel(channel=DEAD))
    images = result["selectivity/stage2"]["top_image"].values[3]
    shown = result["stimuli/shown"].to_dataset().sel(image=images)
    np.testing.assert_array_equal(found["image_id"].sel(channel=3), shown["image_id"])
    np.testing.assert_array_equal(found["class_label"].sel(channel=3), shown["class_label"])
    # images are found by their number, not by their place
    turned = result.copy()
    turned["stimuli/shown"] = xr.DataTree(turned["stimuli/shown"].to_dataset().isel(image=slice(None, None, -1)))
    again = single.activation_curves(turned, "stage2", 3)
    np.testing.assert_array_equal(again["image_id"][0], shown["image_id"])
    assert turned["stimuli/shown"].sizes["image"] == N_IMAGES
    alone = xr.DataTree.from_dict({"selectivity/stage2": result["selectivity/stage2"].to_dataset()})
    assert "image_id" not in single.activation_curves(alone, "stage2", 3).coords


def test_top_stimuli(result: xr.DataTree) -> None:
    node, found = result["selectivity/stage2"].to_dataset(), single.top_stimuli(result, "stage2", 5)
    np.testing.assert_array_equal(found["neuron_feature"], node["neuron_feature"][5])
    np.testing.assert_array_equal(found["top_crop"], node["top_crop"].transpose("channel", "crop", ...).values[5])
    assert found.sizes["rank"] == 4
    assert "top_crop" not in single.top_stimuli(without(result, "stage2", "top_crop"), "stage2", 5)
    with pytest.raises(ReaderError, match="unknown channel 12; this layer has 12, from 0 to 11"):
        single.top_stimuli(result, "stage2", 12)


def test_profiles_of_families(result: xr.DataTree) -> None:
    node = result["selectivity/stage1"].to_dataset()
    found = single.member_profile(result, "orientation", "stage1", q=(0.25, 0.5))
    alive = np.delete(node["orientation_by_member"].values, DEAD, axis=1)
    np.testing.assert_allclose(found["orientation"], np.quantile(alive, (0.25, 0.5), axis=1))
    assert found["member"].values.tolist() == [str(angle) for angle in range(15, 360, 15)]
    assert (int(found["n_defined"]), int(found["n_undefined"])) == (11, 1)
    one = single.member_profile(result, "orientation", "stage1", channel=4)
    np.testing.assert_array_equal(one["orientation"], node["orientation_by_member"][:, 4])
    np.testing.assert_array_equal(one["orientation_se"], node["orientation_by_member_se"][:, 4])
    assert single.member_profile(result, "symmetry", "stage1")["symmetry"].attrs["selectivity"] == "invariance"
    with pytest.raises(ReaderError, match="unknown family of alterations 'colour'; known: orientation, symmetry"):
        single.member_profile(result, "colour", "stage1")


def test_like_units_stand_beside_each_other() -> None:
    made = made_selectivity(n_channels=7)
    node = made["selectivity/stage1"].to_dataset().copy(deep=True)
    group = np.array([0, -1, 1, 0, 2, 1, 0])
    similarity = np.where(group[:, None] == group, 0.9, 0.1)
    similarity[0, 3] = 0.7  # not symmetric
    np.fill_diagonal(similarity, 1)
    similarity[DEAD], similarity[:, DEAD] = np.nan, np.nan
    node["similarity"] = (("channel", "channel_2"), similarity)
    made["selectivity/stage1"] = xr.DataTree(node)
    found = single.clustered_similarity(made, "stage1")
    order = found["channel"].values
    assert sorted(order) == [0, 2, 3, 4, 5, 6]
    assert found.attrs["n_undefined"] == 1
    np.testing.assert_array_equal(found["similarity"], similarity[np.ix_(order, order)])
    assert (np.diff(group[order]) != 0).sum() == 2
    with pytest.raises(ReaderError, match="layer 'stage1' has no 'similarity'"):
        single.clustered_similarity(made_selectivity(similarity=False), "stage1")


@pytest.mark.parametrize("dead", [range(12), range(1, 12), range(2, 12)])
def test_similarity_of_few_units(dead: range) -> None:
    found = single.clustered_similarity(made_selectivity(dead=dead), "stage1")
    assert found["channel"].values.tolist() == list(range(12 - len(dead)))


def test_shares_of_labels(result: xr.DataTree) -> None:
    node = result["selectivity/linear"].to_dataset()
    for labels, name, dim in (("classes", "class_frequency", "class"), ("colours", "colour_share", "colour_name")):
        found = single.label_shares(result, "linear", 3, labels)
        stored = node[name].sel(channel=3)
        assert found["share"].values.tolist() == sorted(stored.values[stored.values > 0].tolist(), reverse=True)
        np.testing.assert_array_equal(stored.sel({dim: found["label"].values}), found["share"])
        assert found.attrs["least"] == 0.1
    assert single.label_shares(result, "linear", DEAD)["share"].isnull().all()
    with pytest.raises(ReaderError, match="unknown labels 'objects'; known: classes, colours"):
        single.label_shares(result, "linear", 3, "objects")

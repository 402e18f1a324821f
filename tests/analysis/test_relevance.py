"""What units rest on, with labels: the tree and the list are those of the matrices that a result holds."""

import numpy as np
import pytest
import xarray as xr

from made_selectivity_pictures import DEAD, made_selectivity
from neuroprobe.analysis.relevance import relevance_tree, relevance_variables, relevant_channels
from neuroprobe.errors import ReaderError

N_LAYERS = 4


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    """Channels of the second layer have other numbers than places."""
    made = made_selectivity(n_layers=N_LAYERS, relevance=True)
    renumbered = made["selectivity/stage2"].to_dataset().assign_coords(channel=np.arange(12) * 10)
    made["selectivity/stage2"] = xr.DataTree(renumbered)
    later = made["selectivity/stage3"].to_dataset().assign_coords(earlier_channel=np.arange(12) * 10)
    made["selectivity/stage3"] = xr.DataTree(later)
    return made


def of_pair(result: xr.DataTree, layer: str, earlier: int, channel: int, name: str) -> float:
    return float(result[f"selectivity/{layer}/{name}"].sel(earlier_channel=earlier, channel=channel))


@pytest.mark.parametrize(("n_parents", "least", "n_levels"), [(2, 0.2, 4), (3, 0.0, 2), (1, 0.9, 1)])
def test_nodes_are_the_most_relevant_channels(result: xr.DataTree, n_parents: int, least: float, n_levels: int) -> None:
    tree = relevance_tree(result, "linear", 4, n_parents, least, n_levels)
    order = ["linear", "stage3", "stage2", "stage1"]
    assert tree["level"].max() == min(n_levels, N_LAYERS - 1)
    assert [str(one) for one in tree["layer"].values] == [order[level] for level in tree["level"].values]
    assert (tree["layer"][0], tree["channel"][0], tree["child"][0]) == ("linear", 4, -1)
    for node in range(1, tree.sizes["node"]):
        at, below = tree.isel(node=node), tree.isel(node=int(tree["child"][node]))
        layer, pair = str(below["layer"].item()), (int(at["channel"]), int(below["channel"]))
        for name in ("relevance", "relevance_se", "signed_relevance", "signed_relevance_se"):
            assert at[name] == of_pair(result, layer, *pair, name)
    for node in np.flatnonzero(tree["level"] < tree["level"].max()):
        at = tree.isel(node=int(node))
        all_of = result[f"selectivity/{at['layer'].item()}/relevance"].sel(channel=int(at["channel"]))
        best = all_of.sortby(all_of, ascending=False)[:n_parents]
        expected = best.where(best > least * best.max(), drop=True)["earlier_channel"].values
        assert tree["channel"].values[tree["child"].values == node].tolist() == expected.tolist()


def test_a_list_holds_what_comes_near_the_best(result: xr.DataTree) -> None:
    found = relevant_channels(result, "stage3", 5, least=0.3)
    shares = result["selectivity/stage3/relevance"].sel(channel=5)
    expected = shares.where(shares >= 0.3 * shares.max(), drop=True)
    expected = expected.sortby(expected, ascending=False)
    xr.testing.assert_equal(found["relevance"], expected.reset_coords(drop=True))
    assert found.attrs["earlier"] == "stage2"
    assert relevant_channels(result, "stage3", DEAD).sizes["earlier_channel"] == 0
    assert relevance_tree(result, "stage3", DEAD).sizes["node"] == 1


def test_what_is_not_there(result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=r"'stage1' has no relevance .* run with `selectivity: {relevance: true}`"):
        relevance_tree(result, "stage1", 0)
    with pytest.raises(ReaderError, match="unknown channel 5"):
        relevance_tree(result, "stage2", 5)
    for wrong in ({"n_parents": 0}, {"n_levels": 0}, {"least": 1.0}):
        with pytest.raises(ReaderError, match="expected 1 or more, 1 or more, and a share"):
            relevance_tree(result, "linear", 0, **wrong)
    refused = made_selectivity(n_layers=2)
    refused["selectivity/linear"].attrs["no_relevance"] = "it does not depend on the layer before"
    with pytest.raises(ReaderError, match="before it: it does not depend on"):
        relevant_channels(refused, "linear", 0)


def test_classes_that_are_lost_have_their_names() -> None:
    matrix = np.array([[0.5, np.nan]])
    scores = {"class drop": matrix, "dropped class": np.array([[1, -1]]), "why slow": np.zeros(0, np.uint8)}
    scores |= {f"{of}relevance{what}": matrix for of in ("", "signed ") for what in ("", " error")}
    found = relevance_variables(scores, "before", ["cat", "dog"])
    assert found["dropped_class"][1].tolist() == [["dog", ""]]
    assert (found["relevance"][2]["earlier"], found["relevance"][2]["closed_form"]) == ("before", 1)
    assert relevance_variables({}, "before", []) == {}

"""Units selected by labels, hierarchies and neighbours, and from several results, against brute force."""

import io
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

import neuroprobe as npr
from made_selectivity import CLASSES, COLOURS, DEAD, HIERARCHY, made_selectivity
from neuroprobe.analysis.labels import LabelText, Vocabulary
from neuroprobe.analysis.query import MAX_LENGTH, parse_query
from neuroprobe.analysis.select import list_columns
from neuroprobe.errors import QueryError, ReaderError
from neuroprobe.export import write_units
from neuroprobe.store import quiet_zarr

LAYERS = ("early", "late")
NEAR = [f"{layer}/{channel}" for layer in LAYERS for channel in range(6)]
Answer = bool | None  # None: undefined


def units_of(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Every unit by itself, with its labels and similarities; None where it does not respond."""
    found = []
    for layer in LAYERS:
        node = tree[f"selectivity/{layer}"].to_dataset()
        for channel in node["channel"].values.tolist():
            one = node.sel(channel=channel)
            sets: dict[str, dict[str, float] | None] = {}
            for title, variable, least in (("classes", "class_frequency", 0.1), ("colours", "colour_share", 0.25)):
                shares = dict(
                    zip(map(str, one[variable][one[variable].dims[0]].values), one[variable].values, strict=True)
                )
                dead = any(math.isnan(share) for share in shares.values())
                sets[title] = None if dead else {k: float(v) for k, v in shares.items() if v >= least}
            found.append({"layer": layer, "channel": channel, "similarity": one.get("similarity"), **sets})
    return found


def contrary(answer: Answer) -> Answer:
    return None if answer is None else not answer


def ancestors(label: str) -> list[str]:
    return [label, *ancestors(HIERARCHY[label])] if label in HIERARCHY else [label]


@st.composite
def conditions(draw: st.DrawFn, depth: int = 4) -> tuple[str, Any]:
    """A condition on one unit, and its answer."""
    match draw(st.sampled_from(["in", "under", "near", *(["and", "not"] if depth else [])])):
        case "in":
            title, labels = draw(st.sampled_from([("classes", CLASSES), ("colours", COLOURS)]))
            label, negated = draw(st.sampled_from(labels)), draw(st.booleans())
            return (
                f"'{label}'{' not' * negated} in {title}",
                lambda unit: None if unit[title] is None else (label in unit[title]) != negated,
            )
        case "under":
            node, least = draw(st.sampled_from([*CLASSES, "mammal", "animal"])), draw(st.sampled_from([0, 0.3, 0.8]))
            return (
                f"under(classes, '{node}') > {least}",
                lambda unit: (
                    None
                    if unit["classes"] is None
                    else sum(share for label, share in unit["classes"].items() if node in ancestors(label)) > least
                ),
            )
        case "near":
            name, least = draw(st.sampled_from(NEAR)), draw(st.sampled_from([0, 0.4, 0.9, 1]))
            layer, channel = name.split("/")

            def near(unit: dict[str, Any]) -> Answer:
                if unit["layer"] != layer:
                    return False
                similarity = float(unit["similarity"].sel(channel_2=int(channel)))
                return None if math.isnan(similarity) else similarity >= least

            return f'near("{name}", {least})', near
        case "not":
            text, answer = draw(conditions(depth - 1))
            return f"not ({text})", lambda unit: contrary(answer(unit))
    (one, first), (other, second) = draw(conditions(depth - 1)), draw(conditions(depth - 1))

    def both(unit: dict[str, Any]) -> Answer:
        answers = {first(unit), second(unit)}
        return False if False in answers else None if None in answers else True

    return f"({one}) and ({other})", both


@given(conditions(), st.integers(0, 3))
def test_selections_equal_brute_force(condition: tuple[str, Any], seed: int) -> None:
    text, answer = condition
    tree = made_selectivity(seed, pictures=False)
    expected = [(unit["layer"], unit["channel"]) for unit in units_of(tree) if answer(unit) is True]
    found = npr.select_units(tree, text, columns=["layer", "channel"])
    assert list(zip(found["layer"].values, found["channel"].values, strict=True)) == expected
    assert found.attrs["n_units"] == 12


def test_the_query_of_the_issue() -> None:
    units = npr.select_units(
        made_selectivity(2),
        "layer == 'late' and colour > 0.1 and 'red' in colours and under(classes, 'animal') > 0.3",
        order_by="gamma",
        limit=20,
    )
    assert list(units.variables) == ["layer", "channel", "colour", "colour_se", "colours", "classes", "gamma"]
    assert units.sizes["unit"] >= 1
    assert (np.diff(units["gamma"].values) <= 0).all()
    for text in units["colours"].values:
        assert text.shares["red"] >= 0.25


def test_a_unit_is_near_itself_and_dead_ones_are_near_none() -> None:
    tree = made_selectivity()
    units = npr.select_units(tree, "near('late/2', 1)")
    assert units.to_dataframe().values.tolist() == [["late", 2, 1.0]]
    assert units["similarity_late/2"].attrs["channel_2"] == "late/2"
    near = npr.select_units(tree, "near('late/2', 0)")
    assert near["channel"].values.tolist() == [0, 2, 3, 4, 5]
    # of other layers it is false, of units that do not respond undefined
    far = npr.select_units(tree, "not near('late/2', 0)", columns=["layer", "channel"])
    assert far["layer"].values.tolist() == ["early"] * 6
    assert not npr.select_units(tree, f"near('late/{DEAD}', 0)").sizes["unit"]
    # S(n, m): not that of m to n
    column = tree["selectivity/late"]["similarity"].sel(channel_2=2)
    ordered = npr.select_units(tree, "near('late/2', 0)", order_by="similarity_late/2")
    np.testing.assert_array_equal(ordered["similarity_late/2"], np.sort(column.dropna("channel"))[::-1])
    asked = npr.select_units(tree, "`similarity_late/2` < 0.5 and channel >= 0")
    assert asked["channel"].values.tolist() == column["channel"][column < 0.5].values.tolist()


def test_channels_are_called_by_their_numbers() -> None:
    tree = made_selectivity()
    node = (
        tree["selectivity/late"]
        .to_dataset()
        .assign_coords(channel=[7, 5, 3, 11, 13, 2], channel_2=[7, 5, 3, 11, 13, 2])
    )
    units = npr.select_units(xr.DataTree.from_dict({"/selectivity/late": node}), "near('late/3', 1)")
    assert units["channel"].values.tolist() == [3]
    with pytest.raises(QueryError, match="layer 'late' has no channel 4: it has 6, from 2 to 13"):
        npr.select_units(xr.DataTree.from_dict({"/selectivity/late": node}), "near('late/4', 1)")


def test_labels_are_columns_of_their_own_kind() -> None:
    tree = made_selectivity()
    kinds = {row["name"]: row["kind"] for row in list_columns(tree)}
    assert (kinds["classes"], kinds["colours"], kinds["class_frequency_sea lion"]) == ("labels", "labels", "number")
    units = npr.select_units(tree, columns=["classes", "channel"])
    frequency = tree["selectivity/early"]["class_frequency"]
    for channel, text in enumerate(units["classes"].values[:6]):
        if channel == DEAD:
            assert (text, text.shares) == ("", None)
            continue
        expected = frequency.sel(channel=channel).to_series()
        expected = expected[expected >= 0.1].sort_values(ascending=False)
        assert text.shares == expected.to_dict()
        assert text == ", ".join(f"{label} {f'{share:.2f}'[1:]}" for label, share in expected.items())
    assert units["classes"].attrs["least"] == 0.1


def test_columns_of_single_labels_of_many_are_shown_if_they_are_named() -> None:
    many = [f"class {number}" for number in range(40)]
    tree = made_selectivity(classes=many, hierarchy=None, pictures=False)
    shown = list(npr.select_units(tree, "layer == 'late'").variables)
    assert {"gamma", "classes", "colour_share_red"} < set(shown)
    assert not [name for name in shown if name.startswith("class_frequency")]
    listed = [row["name"] for row in list_columns(tree)]
    assert len([name for name in listed if name.startswith("class_frequency")]) == 40
    named = npr.select_units(tree, "`class_frequency_class 3` >= 0")
    assert list(named.data_vars) == ["class_frequency_class 3"]


def test_labels_in_every_format() -> None:
    tree = made_selectivity()
    units = npr.select_units(tree, columns=["layer", "classes"])
    streams = {style: io.StringIO() for style in ("tsv", "csv", "json")}
    for style, stream in streams.items():
        write_units(units, stream, style)
    records = json.loads(streams["json"].getvalue())
    assert [record["classes"] for record in records] == [text.shares for text in units["classes"].values]
    assert records[DEAD]["classes"] is None
    table = pd.read_csv(io.StringIO(streams["csv"].getvalue()), keep_default_na=False)
    assert table["classes"].tolist() == units["classes"].values.tolist()
    assert streams["tsv"].getvalue().splitlines()[1] == f"early\t{units['classes'].values[0]}"
    # netCDF holds the text
    assert [type(text) for text in units["classes"].values] == [LabelText] * 12


@pytest.mark.parametrize("source", ["zarr", "netcdf"])
def test_stored_results_give_the_same(source: str, tmp_path: Path) -> None:
    tree = made_selectivity(pictures=False)
    query = "'dog' in classes or under(classes, 'mammal') > 0.2 or near('late/3', 0.3)"
    expected = npr.select_units(tree, query)
    with quiet_zarr():
        if source == "zarr":
            tree.to_zarr(tmp_path / "a.zarr", consolidated=False)
            stored = xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)
        else:
            tree.to_netcdf(tmp_path / "a.nc")
            stored = xr.open_datatree(tmp_path / "a.nc")
    found = npr.select_units(stored, query)
    pd.testing.assert_frame_equal(found.to_dataframe(), expected.to_dataframe(), check_dtype=False)
    stored.close()


def test_layers_without_labels_are_undefined() -> None:
    tree = made_selectivity(pictures=False)
    nodes = {path: tree[path].to_dataset() for path in ("selectivity/early", "selectivity/late")}
    nodes["selectivity/early"] = nodes["selectivity/early"].drop_vars("class_frequency")
    # the layers have other labels, of which each knows its own
    late = nodes["selectivity/late"]["class_frequency"]
    tree = xr.DataTree.from_dict({f"/{path}": node for path, node in nodes.items()})
    for query in ("'dog' in classes", "'dog' not in classes", "under(classes, 'animal') >= 0"):
        assert set(npr.select_units(tree, query)["layer"].values) == {"late"}
    renamed = late.to_dataset().assign_coords({"class": [f"my {label}" for label in CLASSES]})
    tree = xr.DataTree.from_dict({"/a/early": made_selectivity()["selectivity/early"].to_dataset(), "/a/late": renamed})
    assert set(npr.select_units(tree, "'my dog' in classes")["layer"].values) == {"late"}
    assert npr.select_units(tree, "'my dog' not in classes and layer == 'early'").sizes["unit"] == 5
    with pytest.raises(QueryError, match="did you mean 'dog'"):
        npr.select_units(tree, "'dok' in classes")


def test_several_labels_of_one_name_take_that_of_their_group() -> None:
    tree = made_selectivity(pictures=False)
    other = made_selectivity(1, classes=("x", "y"), pictures=False)
    both = xr.DataTree.from_dict(
        {f"/{group}/{layer}": one[f"selectivity/{layer}"].to_dataset() for layer in LAYERS
         for group, one in (("first", tree), ("second", other))}
    )  # fmt: skip
    with pytest.raises(QueryError, match="'classes' is in several groups: write first_classes or second_classes"):
        npr.select_units(both, "'dog' in classes")
    units = npr.select_units(both, "'dog' in first_classes and 'x' in second_classes")
    assert units.sizes["unit"] >= 1
    for row in range(units.sizes["unit"]):
        assert "dog" in units["first_classes"].values[row].shares
        assert "x" in units["second_classes"].values[row].shares
    with pytest.raises(QueryError, match="groups 'first' and 'second' hold similarities of layer 'late'"):
        npr.select_units(both, "near('late/1', 0.3)")


@pytest.mark.parametrize(
    ("query", "column", "message"),
    [
        ("'dgo' in classes", 1, "unknown label of classes, 'dgo' (did you mean 'dog'?); known: 'cat', 'dog'"),
        ("'Red' not in colours", 1, "unknown label of colours, 'Red' (did you mean 'red'?)"),
        ("classes == 'dog'", 1, "classes is a set of labels, which is compared with nothing: ask for one of them by"),
        ("gamma > classes", 9, "classes is a set of labels, which is compared"),
        ("classes in ['dog']", 1, "one of them by 'dog' in classes"),
        ("classes", 1, "classes is a set of labels, expected a condition, such as 'dog' in classes"),
        ("classes + 1 > 2", 1, "classes is a set of labels, expected a number to calculate with"),
        ("'early' in layer", 12, "layer is text, expected after in a column of labels, such as classes, or a list"),
        ("3 in classes", 1, "3 is a number, expected the name of a label in quotes, such as 'dog'"),
        ("'dog' in clases", 10, "unknown column 'clases' (did you mean 'classes'?)"),
        ("'dog' in 'classes'", 10, "expected a list in brackets, such as ['conv1', 'conv2'], or a column of labels"),
        ("under(classes, 'anmal') > 0", 16, "unknown node above classes, 'anmal' (did you mean 'animal'?); known:"),
        ("under(colours, 'warm') > 0", 7, "this result holds no hierarchy of colours: give one by the option"),
        ("under(gamma, 'animal') > 0", 7, "gamma is a number, expected a column of labels, such as classes"),
        ("under('animal') > 0", 7, "expected a column of labels, such as classes"),
        ("under(classes) > 0", 14, "expected a comma and a node of the hierarchy, such as under(classes, 'animal')"),
        ("under(classes, animal) > 0", 16, "received 'animal', expected a node of the hierarchy in quotes"),
        ("under(classes, 'animal'", 24, "expected the ) of the ( at character 6"),
        ("under(classes, 'animal')", 1, "this is a number, expected a condition"),
        ("near('late/2')", 14, "expected a comma and the least similarity, such as near('layer3.2/17', 0.4)"),
        ("near('late/2', 'a')", 16, "expected the least similarity, a number from 0 to 1"),
        ("near('late/2', 1.5)", 16, "a number from 0 to 1"),
        ("near('late/2', -0.5)", 16, "a number from 0 to 1"),
        ("near('late/2', gamma)", 16, "received 'gamma', expected a number or text in quotes"),
        ("near('late', 0.4)", 6, "received \"'late'\", expected a unit in quotes, layer and channel"),
        ("near('late/x', 0.4)", 6, "expected a unit in quotes"),
        ("near(late, 0.4)", 6, "received 'late', expected a unit in quotes"),
        ("near('lat/2', 0.4)", 6, "no similarities of units of a layer 'lat' (did you mean 'late'?); there are"),
        ("near('late/6', 0.4)", 6, "layer 'late' has no channel 6: it has 6, from 0 to 5"),
        ("near('late/2', 0.4) > 1", 23, "this is a condition"),
    ],
)  # fmt: skip
def test_errors_mark_their_place(query: str, column: int, message: str) -> None:
    with pytest.raises(QueryError) as raised:
        npr.select_units(made_selectivity(pictures=False), query)
    assert (raised.value.line, raised.value.column) == (1, column)
    assert message in str(raised.value)


def test_what_a_result_lacks() -> None:
    tree = made_selectivity(hierarchy=None, similarity=False, pictures=False)
    with pytest.raises(QueryError, match="this result holds no hierarchy of classes"):
        npr.select_units(tree, "under(classes, 'animal') > 0")
    with pytest.raises(QueryError, match=r"query:1:6: this result holds no similarities of units.*selectivity"):
        npr.select_units(tree, "near('late/2', 0.4)")
    with pytest.raises(QueryError, match="near needs a result that holds the similarities of units"):
        parse_query("near('late/2', 0.4)").check({"layer": "text"})
    with pytest.raises(QueryError, match="order_by: classes is a set of labels, which has no order"):
        npr.select_units(tree, order_by="classes")
    with pytest.raises(QueryError, match="order_by: layer 'late' has no channel 99"):
        npr.select_units(made_selectivity(), order_by="similarity_late/99")


MONSTERS = [
    "'" + "a" * 90_000 + "' in classes",
    "under(classes, '" + "a" * 90_000 + "') > 0",
    "near('" + "a" * 90_000 + "/1', 0.4)",
    "near('late/" + "9" * 90_000 + "', 0.4)",
    "near('late/\u0663', 0.4)",  # a digit, but not of ours
    "near('late/2\n', 0.4)",
    "near('" + "/" * 90_000 + "', 0.4)",
    "near('late/2', " + "9" * 90_000 + ")",
    "near(" * 20_000 + "'late/2', 0.4" + ")" * 20_000,
    "under(" * 20_000 + "classes, 'animal'" + ")" * 20_000,
    "near('../../etc/passwd', 0.4)",
    "near('late/2', 0.4).__class__",
    "near('{0.__class__}/2', 0.4)",
    "'{classes.__class__}' in classes",
    "'%s%s%s' in classes",
    "under(classes, '__import__(\"os\")') > 0",
    "under(classes.__dict__, 'animal') > 0",
    "'(a+)+$' in classes",
    "'dog\x00' in classes",
    "'\u202egod' in classes",
    "'\x1b[2J' in classes",
    "'ｄｏｇ' in classes",  # letters of full width
    "'dog' in `classes`.values",
    "'dog' in classes()",
    "'dog' in [classes]",
    "getattr(classes, 'dog') > 0",
    "'dog' in " + "classes in " * 30_000 + "classes",
]


@pytest.mark.parametrize("text", MONSTERS, ids=[ascii(text[:40]) for text in MONSTERS])
def test_code_and_monsters_are_refused(text: str) -> None:
    tree = made_selectivity(pictures=False)
    with pytest.raises(QueryError) as raised:
        npr.select_units(tree, text)
    assert len(str(raised.value)) < 600
    # what a terminal would act on is not printed
    assert all(character.isprintable() or character == "\n" for character in str(raised.value))


def test_long_but_flat_queries_of_labels_are_read() -> None:
    tree = made_selectivity(pictures=False)
    once = npr.select_units(tree, "'dog' in classes")
    text = " or ".join(["'dog' in classes"] * (MAX_LENGTH // 20 - 1))
    assert npr.select_units(tree, text).drop_attrs().identical(once.drop_attrs())


@given(st.text(alphabet="near(under)'classes/dog,.41 >in", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    words = {"classes": Vocabulary(("dog",), ("dog", "animal"))}
    try:
        query = parse_query(text)
        query.check({**dict.fromkeys(query.columns, "number"), "classes": "labels"}, words)
    except QueryError:
        return
    assert query.evaluate({}).true in {True, False}


def maps(channels: list[int], group: str = "shapley", *, weights: str | None = None, side: int = 2) -> xr.DataTree:
    """A result over places, whose numbers tell channel and place."""
    numbers = np.add.outer(np.array(channels) / 10, np.arange(side * side).reshape(side, side) / 100)
    node = xr.Dataset(
        {
            "shapley_effect": (("factor", "channel", "y", "x"), numbers[None]),
            "gamma": (("channel", "y", "x"), numbers),
        },
        {"factor": np.array(["hue"], object), "channel": channels},
    )
    tree = xr.DataTree.from_dict({f"/{group}/late": node, f"/{group}/deep": node})
    if weights is not None:
        tree.attrs["neuroprobe_provenance"] = json.dumps({"weights_hash": weights})
    return tree


def test_results_are_queried_together() -> None:
    index, sensitivity = made_selectivity(pictures=False), maps([0, 1, 2, 3, 4, 5])
    for results in ([sensitivity, index], (index, sensitivity)):
        units = npr.select_units(results, "shapley_hue > .25 and selectivity_gamma > .2 and layer == 'late'")
        gamma = index["selectivity/late"]["gamma"].values
        expected = [
            (c, y, x) for c in range(6) for y in range(2) for x in range(2) if c >= 3 or (c == 2 and y * 2 + x > 5)
        ]
        expected = [place for place in expected if gamma[place[0]] > 0.2]
        found = units.to_dataframe()
        assert list(found[["channel", "y", "x"]].itertuples(index=False, name=None)) == expected
        np.testing.assert_array_equal(found["selectivity_gamma"], gamma[found["channel"]])
    with pytest.raises(QueryError, match="'gamma' is in several groups: write shapley_gamma or selectivity_gamma"):
        npr.select_units([sensitivity, index], "gamma > 0")
    # an index by itself is of channels, also beside maps; layers that one result lacks are undefined in it
    channels = npr.select_units([sensitivity, index], "colour > 0.1 or `similarity_late/2` > 2")
    assert "y" not in channels.variables
    assert set(channels["layer"].values) == {"early", "late"}
    assert set(npr.select_units([sensitivity, index], "shapley_hue >= 0")["layer"].values) == {"late", "deep"}
    names = [row["name"] for row in list_columns([sensitivity, index])]
    assert {"shapley_hue", "shapley_gamma", "selectivity_gamma", "classes"} < set(names)


def test_tuning_is_queried_beside_selectivity(tmp_path: Path) -> None:
    """Its units, in one dimension, say themselves which channel of which layer they are; the order does not matter."""
    index, rng = made_selectivity(pictures=False), np.random.default_rng(3)
    places = [("late", channel) for channel in (5, 0, 3)] + [("early", channel) for channel in (1, 2)]
    layer, channel = (np.array(one, dtype=object) for one in zip(*places, strict=True))
    coords = {"layer": ("unit", layer), "channel": ("unit", channel.astype(int))}
    tuning = xr.Dataset({"osi": ("unit", rng.random(5)), "rectified": ("unit", np.zeros(5, int))}, coords)
    tuning.to_netcdf(tmp_path / "tuning.nc")
    colour = {place: float(index[f"selectivity/{place[0]}/colour"].sel(channel=place[1])) for place in places}
    expected = {
        place: (osi, colour[place])
        for place, osi in zip(places, tuning["osi"].values, strict=True)
        if osi > 0.2 and colour[place] > 0.1
    }
    assert expected
    for results in ([tuning, index], [index, tuning], [tmp_path / "tuning.nc", index]):
        found = npr.select_units(results, "osi > 0.2 and colour > 0.1").to_dataframe()
        assert (
            dict(
                zip(
                    zip(found["layer"], found["channel"], strict=True),
                    zip(found["osi"], found["colour"], strict=True),
                    strict=True,
                )
            )
            == expected
        )
    # units of places of maps, or of which two are one channel, stay as they are
    for wrong in (tuning.assign_coords(y=("unit", np.arange(5))), xr.concat([tuning, tuning], "unit")):
        with pytest.raises(ReaderError, match="no layer in common"):
            npr.select_units([wrong, index], "osi > 0.2")


def test_channels_are_matched_by_number() -> None:
    index, some = made_selectivity(pictures=False), maps([4, 2, 9])
    units = npr.select_units([index, some], "shapley_hue >= 0 and colour >= 0 and y == 0 and x == 0")
    assert units["channel"].values.tolist() == [2, 4]  # in the order of the first
    np.testing.assert_array_equal(units["shapley_hue"], [0.2, 0.4])
    np.testing.assert_array_equal(units["colour"], index["selectivity/late"]["colour"].values[[2, 4]])
    # a layer has the channels that all results hold of it, and a neighbour any
    assert npr.select_units([index, some], "layer == 'late' and defined == 1").sizes["unit"] == 2
    assert npr.select_units([index, some], "near('late/3', 0)")["channel"].values.tolist() == [2, 4]
    assert npr.select_units([index, some], "layer == 'early' and defined == 1").sizes["unit"] == 5
    with pytest.raises(ReaderError, match="no channel of layer 'late' in common"):
        npr.select_units([index, maps([7, 8])], "colour > 0")
    with pytest.raises(ReaderError, match="'a' and 'b' hold different units of layer 'late'"):
        npr.select_units([maps([0, 1], "a"), maps([0, 1], "b", side=3)], "a_gamma > b_gamma")


def test_groups_of_one_name_are_numbered() -> None:
    first, second = maps([0, 1]), maps([0, 1])
    second["shapley/late"]["gamma"] = second["shapley/late"]["gamma"] + 5
    with pytest.raises(QueryError, match="write shapley_gamma or shapley_2_gamma"):
        npr.select_units([first, second], "gamma > 0")
    units = npr.select_units([first, second], "layer == 'late' and shapley_2_gamma - shapley_gamma > 4")
    assert units.sizes["unit"] == 8
    # groups, and layers by themselves
    units = npr.select_units([first["shapley"], second["shapley/late"]], "shapley_2_gamma > 5.105")
    assert units["layer"].values.tolist() == ["late"] * 3
    datasets = [one["shapley/late"].to_dataset() for one in (first, second)]
    assert npr.select_units(datasets, "result_2_gamma - result_gamma > 4").sizes["unit"] == 8


def test_results_of_other_networks_are_refused() -> None:
    index = made_selectivity(weights="a" * 64, pictures=False)
    with pytest.raises(
        ReaderError, match=r"results 1 and 3 are of networks with other weights .*aaaaaaaa and bbbbbbbb\)"
    ):
        npr.select_units([index, maps([0]), maps([0], weights="b" * 64)], "colour > 0")
    with pytest.raises(ReaderError, match="with other weights"):
        npr.select_units([index["selectivity"], maps([0], weights="b" * 64)["shapley"]], "colour > 0")
    for lacking in (None, "a" * 64):
        units = npr.select_units([index, maps([0], weights=lacking)], "colour > 0")
        provenance = json.loads(units.attrs["neuroprobe_provenance"])
        assert provenance == {"weights_hash": "a" * 64}
    broken = maps([0])
    broken.attrs["neuroprobe_provenance"] = "[1"
    assert npr.select_units([index, broken], "colour > 0").sizes["unit"] > 0
    strange = maps([0])
    strange = xr.DataTree.from_dict({"/shapley/conv9": strange["shapley/late"].to_dataset()})
    with pytest.raises(
        ReaderError, match="result 2 has no layer in common with the others: it has 'conv9', they have 'early'"
    ):
        npr.select_units([index, strange], "colour > 0")
    with pytest.raises(QueryError, match="received no result"):
        npr.select_units([], "colour > 0")


def test_only_labels_that_are_needed_are_read(tmp_path: Path) -> None:
    tree = made_selectivity(pictures=False)
    tree.attrs["format"] = "x"
    with quiet_zarr():
        tree.to_zarr(tmp_path / "a.zarr", consolidated=False)
        for array in ("late/class_frequency", "early/similarity", "early/colour_share", "late/gamma"):
            shutil.rmtree(tmp_path / "a.zarr" / "selectivity" / array / "c")
            (tmp_path / "a.zarr" / "selectivity" / array / "c").write_bytes(b"not to be read")
        stored = xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)
        query = "near('late/2', 0.1) and 'red' in colours"
        expected = npr.select_units(tree, query)
        assert npr.select_units(stored, query).equals(expected)
    stored.close()

from types import SimpleNamespace

import pytest

from neuroprobe import errors, registry
from neuroprobe.errors import NeuroprobeError, Problem, ProtocolError, RegistryError, closest, unknown_name
from neuroprobe.registry import Registry


def offer(monkeypatch, group, **things):
    """Install entry points; a thing that is an error is raised on loading."""

    def point(name, thing):
        def load():
            if isinstance(thing, Exception):
                raise thing
            return thing() if callable(thing) else thing

        return SimpleNamespace(name=name, value=f"package.{name}:thing", load=load)

    points = [point(name, thing) for name, thing in things.items()]
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points if group == asked else [])
    asked = group


def colours():
    found = Registry("colour")
    found.add("red", 0xFF0000)
    found.add("green", 0x00FF00)
    return found


def test_a_thing_is_found_by_its_name():
    found = colours()
    assert found["red"] == 0xFF0000
    assert "red" in found
    assert "blue" not in found
    assert 3 not in found
    assert list(found) == found.names() == ["red", "green"]


def test_register_decorates():
    shapes = Registry("shape")

    @shapes.register("round")
    def circle():
        """Stay as it is."""

    assert shapes["round"] is circle
    assert circle.__doc__ == "Stay as it is."


def test_a_name_that_is_taken_is_refused():
    found = colours()
    found.add("red", found["red"])
    with pytest.raises(RegistryError, match="colour 'red' is registered already: choose another name"):
        found.add("red", object())
    assert found["red"] == 0xFF0000


def test_an_unknown_name_lists_what_exists_and_the_closest():
    with pytest.raises(RegistryError) as caught:
        colours()["gren"]
    assert str(caught.value) == "unknown colour 'gren' (did you mean 'green'?); known: red, green"


def test_an_empty_registry_says_so():
    with pytest.raises(RegistryError, match="unknown colour 'red'; known: none"):
        Registry("colour")["red"]


def test_registries_share_nothing():
    assert "red" not in Registry("colour")
    assert "red" in colours()


def test_other_packages_add_theirs_by_entry_points(monkeypatch):
    loaded = []
    offer(monkeypatch, "neuroprobe.colours", blue=lambda: loaded.append("blue") or 0x0000FF, red=0)
    found = colours()
    assert found.names() == ["red", "green", "blue"]
    assert "blue" in found
    assert not loaded  # listing imports nobody's package
    assert found["blue"] == found["blue"] == 0x0000FF
    assert loaded == ["blue"]
    assert found["red"] == 0xFF0000  # ours wins


def test_the_group_of_a_kind_of_two_words(monkeypatch):
    offer(monkeypatch, "neuroprobe.image_sources", web="web")
    assert Registry("image source")["web"] == "web"


def test_the_group_of_a_kind_with_a_plural_of_its_own(monkeypatch):
    offer(monkeypatch, "neuroprobe.selectivity_indexes", warmth="warm")
    assert Registry("selectivity index", "selectivity indexes")["warmth"] == "warm"


def test_a_module_that_registers_its_thing_when_it_is_imported(monkeypatch):
    found = colours()
    offer(monkeypatch, found.group, blue=lambda: found.add("blue", "by decorator") or "by entry point")
    assert found["blue"] == "by decorator"


def test_a_package_that_does_not_import_is_named(monkeypatch):
    found = colours()
    offer(monkeypatch, found.group, blue=ImportError("no module named paint"))
    with pytest.raises(RegistryError) as caught:
        found["blue"]
    for fragment in ("colour 'blue'", "package.blue:thing", "does not import", "no module named paint"):
        assert fragment in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)
    assert found["red"] == 0xFF0000


@pytest.mark.parametrize(
    ("given", "known", "hint"),
    [
        ("rotatoin", ["hue", "rotation"], " (did you mean 'rotation'?)"),
        ("xyz", ["hue", "rotation"], ""),
        ("hue", [], ""),
        (3, ["hue"], ""),
    ],
)
def test_closest(given, known, hint):
    assert closest(given, known) == hint
    listed = ", ".join(known) or "none"
    assert unknown_name("alteration", given, iter(known)) == f"unknown alteration {given!r}{hint}; known: {listed}"


def test_a_protocol_error_lists_its_problems_in_the_order_of_the_file():
    error = ProtocolError([Problem("third", 3, 1), Problem("second", 2, 9), Problem("first", 2, 4)], "p.yaml")
    assert str(error) == "p.yaml:2:4: first\np.yaml:2:9: second\np.yaml:3:1: third"
    assert (error.line, error.column) == (2, 4)
    assert [problem.message for problem in error.problems] == ["first", "second", "third"]


def test_a_problem_without_a_place():
    assert str(ProtocolError([Problem("no such file")], "p.yaml")) == "p.yaml: no such file"


def test_every_error_is_one_of_ours():
    kinds = [thing for thing in vars(errors).values() if isinstance(thing, type) and issubclass(thing, Exception)]
    assert len(kinds) > 5
    assert all(issubclass(kind, NeuroprobeError) for kind in kinds)

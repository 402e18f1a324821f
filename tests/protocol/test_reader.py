import textwrap
from pathlib import Path

import pytest

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol

BASE = """\
neuroprobe: 1
seed: 3
subject:
  network: embedded
  layers: [conv1]
stimuli:
  images: {photographs: {}}
treatment:
  alterations:
    - hue
    - {name: rotation, switch: 0.5}
"""


@pytest.fixture
def write(tmp_path):
    """Write a protocol file: BASE with one piece replaced, or with lines added, or another text."""

    def make(old="", new="", *, text=None, name="protocol.yaml"):
        assert old in BASE
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((BASE.replace(old, new, 1) if old else BASE + new) if text is None else text, encoding="utf-8")
        return path

    return make


def problems_of(path):
    with pytest.raises(ProtocolError) as caught:
        load_protocol(path)
    assert caught.value.file == str(path)
    # the report has one line per problem, each with its place
    lines = str(caught.value).split("\n")
    assert len(lines) == len(caught.value.problems)
    for line, problem in zip(lines, caught.value.problems, strict=True):
        assert line == f"{path}:{problem.line}:{problem.column}: {problem.message}"
    return caught.value.problems


def test_a_protocol_is_read(write):
    protocol = load_protocol(write())
    assert isinstance(protocol, Protocol)
    assert (protocol.seed, protocol.subject.network) == (3, "embedded")
    assert [item.name for item in protocol.treatment.alterations] == ["hue", "rotation"]
    assert load_protocol(str(write())) == protocol
    assert load_protocol(protocol) is protocol


# scalars of YAML 1.2


@pytest.mark.parametrize(
    "text",
    ["no", "on", "off", "yes", "y", "N", "1:30", "2001-01-01", "1_000", "0b11", "=", "1e", "1.2.3", "nulls", "tRUE"],
)
def test_plain_words_that_yaml_1_1_reads_otherwise_are_text(write, text):
    assert load_protocol(write(new=f"title: {text}\n")).title == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("+7", 7),
        ("0", 0),
        ("00", 0),
        ("0xfF", 255),
        ("123456789012", 123456789012),
    ],
)
def test_whole_numbers(write, text, value):
    assert load_protocol(write("seed: 3", f"seed: {text}")).seed == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E+1", 10.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.5e1", -5.0),
        ("+1.5", 1.5),
        ("-7", -7.0),
        ("010.5", 10.5),
    ],
)
def test_numbers(write, text, value):
    protocol = load_protocol(write("switch: 0.5", f"switch: 0.5, angle: {text}"))
    assert protocol.treatment.alterations[1].laws["angle"].arguments == (value,)


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", ".NAN"])
def test_infinite_numbers_are_read_as_such_and_refused(write, text):
    [problem] = problems_of(write("switch: 0.5", f"switch: 0.5, angle: {text}"))
    assert "finite" in problem.message


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("FALSE", False), ("false", False)])
def test_truth(write, text, value):
    assert load_protocol(write(new=f"design: {{second_order: {text}}}\n")).design.second_order is value


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "1", "tRUE"])
def test_what_is_not_truth(write, text):
    [problem] = problems_of(write(new=f"design: {{second_order: {text}}}\n"))
    assert "design.second_order" in problem.message


@pytest.mark.parametrize("text", ["null", "Null", "NULL", "~", ""])
def test_null(write, text):
    assert load_protocol(write("layers:", f"preprocess: {text}\n  layers:")).subject.preprocess is None


def test_quoted_scalars_are_text(write):
    assert load_protocol(write(new="title: '010'\n")).title == "010"
    assert load_protocol(write(new='title: "null"\n')).title == "null"
    assert "given '3'" in problems_of(write("seed: 3", "seed: '3'"))[0].message


def test_anchors_are_followed(write):
    path = write("    - hue", "    - {name: hue, shift: &law {uniform: [-0.1, 0.1]}}")
    path.write_text(path.read_text().replace("switch: 0.5", "angle: *law"))
    hue, rotation = load_protocol(path).treatment.alterations
    assert hue.laws["shift"] == rotation.laws["angle"]


# paths and variables of the environment


def test_paths_are_relative_to_the_file(write, tmp_path, monkeypatch):
    path = write("{photographs: {}}", "{folder: ../images}", name="protocols/deep.yaml")
    path.write_text(path.read_text().replace("layers:", "weights: w/net.pt\n  layers:"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for given in (path, Path("../protocols/deep.yaml")):
        protocol = load_protocol(given)
        assert Path(protocol.stimuli.images.folder).resolve() == tmp_path.resolve() / "images"
        assert Path(protocol.stimuli.images.folder).is_absolute()
        assert Path(protocol.subject.weights).resolve() == tmp_path.resolve() / "protocols/w/net.pt"


def test_absolute_paths_and_names_of_weights_stay(write):
    assert load_protocol(write("{photographs: {}}", "{folder: /data/images}")).stimuli.images.folder == "/data/images"
    for name in ("DEFAULT", "none"):
        assert load_protocol(write("layers:", f"weights: {name}\n  layers:")).subject.weights == name


def test_paths_of_a_mapping_are_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    protocol = load_protocol(
        {
            "neuroprobe": 1,
            "subject": {"network": "embedded", "layers": ["conv1"]},
            "stimuli": {"images": {"folder": "images"}},
            "treatment": {"alterations": ["hue"]},
        }
    )
    assert Path(protocol.stimuli.images.folder) == Path.cwd() / "images"


@pytest.mark.parametrize(
    "style", ["{folder: ${IMAGES}/cats}", '{folder: "${IMAGES}/cats"}', "\n    folder: ${IMAGES}/cats"]
)
def test_variables_in_flow_and_block_style(write, monkeypatch, style):
    monkeypatch.setenv("IMAGES", "/data")
    assert load_protocol(write("{photographs: {}}", style)).stimuli.images.folder == "/data/cats"


def test_several_variables_in_one_value(write, monkeypatch):
    monkeypatch.setenv("A", "/a")
    monkeypatch.setenv("B", "b")
    assert load_protocol(write("{photographs: {}}", "{folder: ${A}/${B}-${B}}")).stimuli.images.folder == "/a/b-b"


def test_a_variable_is_text_and_not_yaml(write, monkeypatch):
    monkeypatch.setenv("TITLE", "3 # a: [b}")
    assert load_protocol(write(new="title: ${TITLE}\n")).title == "3 # a: [b}"
    monkeypatch.setenv("TITLE", "${HOME}")
    assert load_protocol(write(new="title: ${TITLE}\n")).title == "${HOME}"


def test_variables_in_comments_are_ignored(write, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    assert load_protocol(write(new="# ${NOWHERE}\n")).seed == 3


def test_a_dollar_without_braces_is_itself(write):
    assert load_protocol(write(new="title: $HOME costs $5 {or so}\n")).title == "$HOME costs $5 {or so}"


def test_undefined_variables_are_all_reported(write, monkeypatch):
    for name in ("NOWHERE", "NOBODY"):
        monkeypatch.delenv(name, raising=False)
    path = write("{photographs: {}}", "{folder: ${NOWHERE}/a, sise: 3}")
    path.write_text(path.read_text() + "title: by ${NOBODY}\n")
    found = problems_of(path)
    assert [(problem.line, problem.column) for problem in found] == [(7, 20), (7, 34), (12, 8)]
    assert "'NOWHERE' is not defined" in found[0].message
    assert "'NOBODY' is not defined" in found[2].message


# one table of what can go wrong: what is replaced in BASE ("" appends), by what, where, and what the report says

MALFORMED = {
    "unknown key": ("seed: 3", "sed: 3", 2, 1, ["unknown key 'sed'", "did you mean 'seed'?", "treatment"]),
    "unknown key in a block": (
        "  layers: [",
        "  random_twins: true\n  layers: [",
        5,
        3,
        ["did you mean 'random_twin'?"],
    ),
    "unknown key in flow style": ("{photographs: {}}", "{photographs: {}, sise: 3}", 7, 29, ["did you mean 'size'?"]),
    "unknown key of a layer": ("[conv1]", "[{name: conv1, chanels: [1]}]", 5, 26, ["did you mean 'channels'?"]),
    "unknown key of photographs": ("{}}", "{crap: 3}}", 7, 26, ["'crap'", "did you mean 'crop'?", "per_image"]),
    "wrong version": ("neuroprobe: 1", "neuroprobe: 2", 1, 1, ["given 2", "expected 1"]),
    "text for a number": ("seed: 3", "seed: no", 2, 1, ["seed", "given 'no'", "integer"]),
    "negative seed": ("seed: 3", "seed: -1", 2, 1, ["seed", "given -1", "greater than or equal to 0"]),
    "decimal seed": ("seed: 3", "seed: 1e3", 2, 1, ["seed", "given 1000.0", "integer"]),
    "truth for a number": ("seed: 3", "seed: true", 2, 1, ["seed", "given True", "integer"]),
    "number for text": ("", "title: 3\n", 12, 1, ["title", "given 3", "string"]),
    "no layers": ("[conv1]", "[]", 5, 3, ["subject.layers", "at least 1 item"]),
    "one layer without a list": ("[conv1]", "conv1", 5, 3, ["subject.layers", "given 'conv1'", "list"]),
    "item of a list": ("[conv1]", "[conv1, conv2, 3]", 5, 26, ["given 3", "expected a layer: its name"]),
    "unknown reduction": ("[conv1]", "[{name: a, reduce: men}]", 5, 22, ["'men'", "did you mean 'mean'?", "'centre'"]),
    "weights": ("  layers", "  weights: net.bin\n  layers", 5, 3, ["'net.bin'", "DEFAULT", ".safetensors"]),
    "no source of images": ("{photographs: {}}", "{folders: x}", 7, 3, ["source of images", "folder, photographs"]),
    "unknown alteration": ("- hue", "- rotatoin", 10, 7, ["'rotatoin'", "did you mean 'rotation'?", "erasing"]),
    "unknown alteration by name": (
        "- hue",
        "- {name: hoe}",
        10,
        8,
        ["unknown alteration 'hoe'", "did you mean 'hue'?"],
    ),
    "unknown parameter": ("- hue", "- {name: hue, shft: 1}", 10, 19, ["'shft'", "did you mean 'shift'?", "switch"]),
    "unknown law": (
        "- hue",
        "- {name: hue, shift: {unifrm: [0, 1]}}",
        10,
        19,
        ["did you mean 'uniform'?", "{normal: [mean, sd]}"],
    ),
    "law upside down": (
        "- hue",
        "- {name: hue, shift: {uniform: [0.5, -0.5]}}",
        10,
        19,
        ["low is above high", "[0.5, -0.5]"],
    ),
    "law of text": (
        "- hue",
        "- {name: hue, shift: {uniform: [0, a]}}",
        10,
        19,
        ["'a'", "list of numbers", "{uniform: [low, high]}"],
    ),
    "law outside of the parameter": (
        "- hue",
        "- {name: hue, shift: {uniform: [0, 3]}}",
        10,
        19,
        ["shift of hue", "-1 and 1", "0 to 3"],
    ),
    "list for a law": ("- hue", "- {name: hue, shift: [0, 1]}", 10, 19, ["given [0, 1]", "a number or a law"]),
    "weights of uniform": (
        "- hue",
        "- {name: hue, shift: {uniform: [0, 1], weights: [1]}}",
        10,
        19,
        ["weights belong to choice"],
    ),
    "constant alteration": ("- hue", "- {name: hue, shift: 0.1}", 10, 7, ["'hue' is constant", "switch: always"]),
    "alteration without parameters": ("- hue", "- hue\n    - grayscale", 11, 7, ["'grayscale' is constant"]),
    "alteration that is off": ("- hue", "- {name: hue, switch: 0}", 10, 7, ["'hue' is constant", "switch: 0"]),
    "switch over 1": ("- hue", "- {name: hue, switch: 2}", 10, 19, ["given 2", "between 0 and 1, or always"]),
    "switch in words": (
        "- hue",
        "- {name: hue, switch: sometimes}",
        10,
        19,
        ["'sometimes'", "between 0 and 1, or always"],
    ),
    "label": ("- hue", "- {name: hue, as: a b}", 10, 7, ["as: given 'a b'", "letters, digits and underscores"]),
    "number of samples": ("", "design:\n  samples: 3\n", 13, 3, ["design.samples", "given 3"]),
    "scramble": ("", "design: {scramble: 100}\n", 12, 10, ["given 100", "auto, whole, or a power of two from 64"]),
    "short scramble": ("", "design: {scramble: 32}\n", 12, 10, ["given 32", "a power of two from 64"]),
    "samples for the scramble": (
        "",
        "design: {samples: 64, scramble: 64}\n",
        12,
        10,
        ["samples: 64", "raise samples to 128"],
    ),
    "unknown analysis": ("", "analyses: [sobl]\n", 12, 12, ["unknown analysis 'sobl'", "did you mean 'sobol'?"]),
    "option of an analysis": ("", "analyses:\n  - sobol: {totl: true}\n", 13, 13, ["'totl'", "total_interaction"]),
    "device": ("", "record: {batch: 8, device: gpu}\n", 12, 20, ["record.device", "given 'gpu'"]),
    "batch": ("", "record: {batch: 0}\n", 12, 10, ["record.batch", "given 0", "greater than 0"]),
    "nan": ("", "record: {nan: drp}\n", 12, 10, ["record.nan", "did you mean 'drop'?"]),
    "empty block": ("", "record: null\n", 12, 1, ["record", "given None"]),
    "repeated key": ("", "seed: 4\n", 12, 1, ["'seed' is given twice", "first in line 2"]),
    "repeated key in flow style": (
        "switch: 0.5",
        "switch: 0.5, switch: 0.1",
        11,
        37,
        ["'switch' is given twice", "line 11"],
    ),
    "number as a key": ("", "3: 4\n", 12, 1, ["the key 3", "expected a word"]),
    "list as a key": ("", "? [a]\n: 4\n", 12, 3, ["the key ['a']"]),
    "merge key": ("", "<<: {seed: 4}\n", 12, 1, ["unknown key '<<'"]),
    "tab": ("", "\ttitle: a\n", 12, 1, ["not valid YAML", "'\\t'"]),
    "open bracket": ("", "title: [\n", 13, 1, ["not valid YAML"]),
    "indentation": ("", "title: a\n  b: c\n", 13, 4, ["not valid YAML"]),
    "alias of nothing": ("", "title: *x\n", 12, 8, ["not valid YAML", "undefined alias 'x'"]),
    "tag": ("", "title: !python/object 3\n", 12, 8, ["not valid YAML", "!python/object"]),
    "second document": ("", "---\nneuroprobe: 1\n", 12, 1, ["not valid YAML", "another document"]),
}


@pytest.mark.parametrize(("old", "new", "line", "column", "fragments"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_protocol_is_reported_at_its_place(write, old, new, line, column, fragments):
    [problem] = problems_of(write(old, new))
    for fragment in fragments:
        assert fragment in problem.message
    assert (problem.line, problem.column) == (line, column)


# values that fit none of several forms, and rules between blocks: where they are reported is a matter of taste


@pytest.mark.parametrize(
    ("old", "new", "fragments"),
    [
        ("[conv1]", "[conv1, a, conv1]", ["layers listed twice: conv1"]),
        ("[conv1]", "[{name: conv1, channels: [1, 1]}]", ["channels of 'conv1' are listed twice"]),
        ("- hue", "- hue\n    - hue", ["alterations listed twice: hue", "as: NAME"]),
        ("- hue", "- {name: hue, as: image}", ["cannot be called image"]),
        ("", "  order: [hue]\n", ["order: given ['hue']", "['hue', 'rotation'] once"]),
        ("", "  order: fctor\n", ["'fctor'", "did you mean 'factor'?"]),
        ("", "  reference_side: 0\n", ["reference_side", "greater than 0"]),
        ("", "design: {scramble: atuo}\n", ["'atuo'", "did you mean 'auto'?"]),
        ("", "design: {scramble: true}\n", ["scramble", "True"]),
        ("", "design: {scramble: []}\n", ["scramble"]),
        ("", "design: {scramble: {a: 1}}\n", ["scramble"]),
        ("", "analyses: [sobol, sobol]\n", ["sobol is listed twice"]),
        ("", "control: none\n", ["'none'", "'original'"]),
        ("", "record: {store: some}\n", ["'some'", "'none'"]),
        ("", "record: {store: {responses: [conv9]}}\n", ["['conv9'] not among the recorded layers ['conv1']"]),
    ],
)
def test_what_the_report_says(write, old, new, fragments):
    report = "\n".join(problem.message for problem in problems_of(write(old, new)))
    for fragment in fragments:
        assert fragment in report


def test_every_problem_is_in_one_report(write):
    text = """\
    neuroprobe: 1
    seed: no
    seed: 4
    subject:
      netwrk: embedded
      layers: [{name: a, reduce: men}, 3]
    stimuli:
      images: {photographs: {crap: 1}, size: [1, -2]}
    treatment:
      alterations:
        - {name: hue, shift: {unifrm: [0, 1]}, switch: 7, shft: 3}
        - hoe
    design: {scramble: 100}
    record: {device: gpu, batch: 0}
    """
    found = problems_of(write(text=textwrap.dedent(text)))
    assert [(problem.line, problem.column) for problem in found] == [
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 3),
        (6, 22),
        (6, 36),
        (8, 26),
        (8, 46),
        (11, 19),
        (11, 44),
        (11, 55),
        (12, 7),
        (13, 10),
        (14, 10),
        (14, 23),
    ]
    assert "missing key 'network' in subject" in found[2].message
    assert "did you mean 'network'?" in found[3].message


def test_missing_blocks_are_all_named(write):
    found = problems_of(write(text="title: nothing else\n"))
    assert [problem.message for problem in found] == [
        f"missing key {name!r}" for name in ("neuroprobe", "subject", "stimuli")
    ]


@pytest.mark.parametrize(
    ("text", "given"),
    [("", "an empty file"), ("# a comment\n", "an empty file"), ("- a\n", "list"), ("hello\n", "str"), ("3\n", "int")],
)
def test_a_file_that_is_no_mapping(write, text, given):
    [problem] = problems_of(write(text=text))
    assert f"given {given}" in problem.message
    assert "`neuroprobe: 1`" in problem.message
    assert (problem.line, problem.column) == (1, 1)


def test_a_problem_in_front_of_invalid_yaml_is_kept(write):
    found = problems_of(write(text="seed: 1\nseed: 2\ntitle: !unknown x\n"))
    assert [(problem.line, problem.column) for problem in found] == [(2, 1), (3, 8)]


def test_invalid_yaml_keeps_its_columns_behind_a_variable(write, monkeypatch):
    monkeypatch.setenv("IMAGES", "/a/very/long/path")
    [problem] = problems_of(write(text="a: [${IMAGES}, *x]\n"))
    assert (problem.line, problem.column) == (1, 16)


@pytest.mark.parametrize("value", ["!!int foo", "!!float foo", "!!bool foo", "!!timestamp foo", "9" * 5000])
def test_scalars_that_cannot_be_made_are_reported(write, value):
    [problem] = problems_of(write("seed: 3", f"seed: {value}"))
    assert problem.line == 2


def test_a_value_that_holds_itself_is_reported(write):
    assert problems_of(write(new="title: &x [*x]\n"))[0].line == 12


def test_a_control_character_is_reported(write):
    with pytest.raises(ProtocolError, match="not valid YAML"):
        load_protocol(write("seed: 3", "title: \x07"))


def test_a_variable_is_shown_as_it_is_written(write):
    [problem] = problems_of(write(new="${HOME}: 3\n"))
    assert "'${HOME}'" in problem.message


def test_a_missing_file(tmp_path):
    with pytest.raises(ProtocolError) as caught:
        load_protocol(tmp_path / "no.yaml")
    assert str(caught.value) == f"{tmp_path / 'no.yaml'}: no such file"


def test_a_folder_is_no_protocol(tmp_path):
    with pytest.raises(ProtocolError, match="cannot be read"):
        load_protocol(tmp_path)


def test_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("neuroprobe: 1\ntitle: caf\u00e9\n".encode("latin-1"))
    with pytest.raises(ProtocolError, match=r"latin.yaml:2:11: not UTF-8: byte 0xe9 .* save the file as UTF-8"):
        load_protocol(path)


def test_text_beyond_ascii_is_kept(write):
    assert load_protocol(write(new="title: café – 猫\n")).title == "café – 猫"


def test_a_mapping_has_no_lines():
    with pytest.raises(ProtocolError) as caught:
        load_protocol({"neuroprobe": 1, "sed": 3, 4: 5})
    lines = str(caught.value).split("\n")
    assert len(lines) == 4
    assert all(line.startswith("<protocol>: ") for line in lines)
    assert "did you mean 'seed'?" in str(caught.value)


def test_a_missing_key_is_missing_in_its_own_block(write):
    """Though another block has one of its name."""
    path = write("layers: [conv1]", "layers: [conv1]\n  lesion: {random: {share: 0.1}}")
    (problem,) = problems_of(path)
    assert (problem.message, problem.line) == ("missing key 'layers' in subject.lesion", 6)

"""The rules of the house: public names, who imports whom, shipped protocols, documentation that runs."""

import ast
import doctest
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

import neuroprobe as npr
from neuroprobe.protocol import load_protocol
from neuroprobe.protocol.selectivity import SelectivityOptions

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neuroprobe"

PUBLIC = {
    "Lesion",
    "NeuroprobeError",
    "Parameter",
    "Protocol",
    "Setting",
    "alteration",
    "check_alteration",
    "check_generator",
    "check_manipulation",
    "compare",
    "contrast",
    "generator",
    "lesioned",
    "load_protocol",
    "manipulation",
    "open_recording",
    "open_result",
    "plan",
    "plot",
    "read_recording",
    "reliability",
    "responsiveness",
    "run",
    "select_units",
    "shapley",
    "sobol",
    "specialisation",
    "tuning",
}

TORCH = {
    "stimuli",
    "subjects",
    "probe",
    "rig",
    "studies",
    "recorder",
    "feeding",
    "rounding",
    "masking_recorder",
    "runner",
}
TORCH |= {"selectivity"}
TORCH |= {f"statistics.{name}" for name in ("pick_freeze", "estimators", "shapley")}
EVERYWHERE = {"errors", "names", "registry"}
# part → the parts that it may import at module level; parts that are not listed may import any but NOBODY
ALLOWED = {
    "errors": set(),
    "names": set(),
    "registry": set(),
    "statistics": {"statistics"},
    "design": {"design"},
    "analysis": {"analysis", "design", "statistics"},
    "plot": {"plot", "analysis"},
}
NOBODY = {"cli", "report"}


@cache
def modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }


def imports(tree: ast.Module) -> set[str]:
    """Modules that are imported when a module is, those for the type checker apart."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            deeper = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= deeper if node.module == "neuroprobe" else {node.module}
    return found


def test_public_names() -> None:
    assert set(npr.__all__) == PUBLIC == set(dir(npr))
    for name in PUBLIC:
        thing = getattr(npr, name)
        assert thing is getattr(npr, name)
        assert thing.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'sobel'"):
        npr.sobel  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_who_may_import_whom(name: str) -> None:
    found = imports(modules()[name])
    part = name.split(".")[0]
    ours = {other.split(".")[1] for other in found if other.startswith("neuroprobe.")}
    if part in ALLOWED:
        assert ours <= ALLOWED[part] | EVERYWHERE
    if name != "__main__":
        assert not (ours - {part}) & NOBODY
    if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in TORCH):
        assert not {other for other in found if other.split(".")[0] in {"torch", "torchvision"}}
    if part not in {"plot", "report"}:
        assert not {other for other in found if other.split(".")[0] == "holoviews"}


def test_modules_fit_a_reader() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert max(lengths.values()) <= 450, max(lengths, key=lambda name: lengths[name])


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_opens_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make demo") < text.index("make test") < text.index("##")


def test_protocol_of_the_readme_is_valid() -> None:
    block, sources, options, kinds, lesions, _, of_animal, compared = readme_blocks("yaml")
    assert len(load_protocol(yaml.safe_load(of_animal)).analyses) == 6
    protocol = yaml.safe_load(block)
    assert load_protocol(protocol).neuroprobe == 1
    protocol["analyses"] = ["shapley"]
    # a pair of names is no key for plain YAML
    given = yaml.safe_load(options.replace("{[hue, rotation]: 0.6}", "[{between: [hue, rotation], r: 0.6}]"))
    for name, block in given.items():
        for key, value in block.items() if isinstance(block, dict) else [(None, block)]:
            merged = value if key is None else {**protocol[name], key: value}
            if key == "segment":
                del merged["preprocess"]  # of whole networks
            assert load_protocol({**protocol, name: merged}).neuroprobe == 1
    assert len(kinds.splitlines()) == 4
    for line in kinds.splitlines():
        subject = {**protocol["subject"], **yaml.safe_load(line)}
        assert len(load_protocol({**protocol, "subject": subject}).subject.lesion) == 1
    studies = load_protocol({**protocol, **yaml.safe_load(lesions)}).lesion_studies
    assert [study.name for study in studies] == ["masking", "single_class"]
    shown = {key: protocol[key] for key in ("neuroprobe", "subject", "stimuli")}
    shown["stimuli"] = {"images": shown["stimuli"]["images"]}
    assert load_protocol({**shown, **yaml.safe_load(compared)}).analyses[0].name == "compare"
    assert len(sources.splitlines()) == 5
    for line in sources.splitlines():
        images = yaml.safe_load(line)["images"]
        assert load_protocol({**protocol, "stimuli": {"images": images}}).stimuli.sources


def test_protocol_of_selectivity_names_every_option() -> None:
    block = next(block for block in readme_blocks("yaml") if "selectivity:" in block)
    protocol = load_protocol(yaml.safe_load(block))
    given = yaml.safe_load(block)["analyses"][0]["selectivity"]
    assert set(given) == set(SelectivityOptions.model_fields)
    # but where a comment says more, the values are the defaults
    shown = protocol.options("selectivity")
    differing = {name for name in given if getattr(shown, name) != getattr(SelectivityOptions(), name)}
    assert differing == {"indexes", "thresholds", "hierarchy", "label_maps"}


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    quick = yaml.safe_load((ROOT / "protocols" / "quickstart.yaml").read_text())
    quick["design"]["samples"] = 128
    with pytest.warns(UserWarning, match="standard errors rest on 2 blocks"):
        npr.run(quick, "results/quickstart.zarr")
    blocks = readme_blocks("python")
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_makefile_offers_what_the_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(
        re.findall(r"make (\w+)", (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text())
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_doctests_are_collected() -> None:
    """Examples in docstrings run with the tests; this counts that they are there."""
    finder = doctest.DocTestFinder()
    import neuroprobe.design.laws as laws

    assert sum(bool(test.examples) for test in finder.find(laws)) >= 1

"""The protocols that ship: each says what the study says, and runs, tiny."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import neuroprobe as npr
from neuroprobe.design.laws import Law
from neuroprobe.probe.capture import find_sites
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.digest import as_given
from neuroprobe.protocol.masking import LesionStudyOptions, rule_label
from neuroprobe.protocol.selectivity import SelectivityOptions
from neuroprobe.subjects.networks import find_network

FOLDER = Path(__file__).parents[1] / "protocols"
# those of recordings are in test_recording_runs
PROTOCOLS = [path for path in sorted(FOLDER.rglob("*.yaml")) if "recording:" not in path.read_text()]
STUDY = sorted((FOLDER / "kharyuk2025").rglob("*.yaml"))
WHOLE = [path for path in STUDY if path.parent.name != "kharyuk2025"]  # of whole networks, one folder each
# the study on a network and images of 32 px
OURS = [path for path in sorted(FOLDER.glob("cifar_resnet20_*.yaml")) if not path.stem.endswith("selectivity")]
OF_UNITS = sorted((FOLDER / "rafegas2019").glob("*.yaml"))  # what drives units, and what they are selective for
OF_LESIONS = [path for path in PROTOCOLS if "NEUROPROBE_RESULTS" in path.read_text()]  # by maps of other protocols
COMPARED = [path for path in PROTOCOLS if "- compare:" in path.read_text()]  # with brains, which saw the same images
FROM_DATA = [path for path in PROTOCOLS if "${NEUROPROBE_DATA}" in path.read_text()]

# alterations of the study and the laws of their parameters, for 224 px
SETS: dict[int, dict[str, dict[str, Law]]] = {
    1: {
        "erasing": {
            "row": Law("uniform", (44, 180)),
            "column": Law("uniform", (44, 180)),
            "area": Law("uniform", (0.02, 0.33)),
            "aspect": Law("loguniform", (0.3, 3.3)),
        },
        "sharpness": {"factor": Law("constant", (1.5,))},
        "rolling": {"dy": Law("integers", (-44, 44)), "dx": Law("integers", (-44, 44))},
        "grayscale": {},
        "gaussian_blur": {"sigma": Law("uniform", (0.1, 2.0))},
    },
    2: {
        "brightness": {"factor": Law("uniform", (0.1, 2.5))},
        "contrast": {"factor": Law("uniform", (0.01, 3.5))},
        "saturation": {"factor": Law("uniform", (0.01, 3.5))},
        "hue": {"shift": Law("uniform", (-0.5, 0.5))},
        "hflip": {},
        "rotation": {"angle": Law("uniform", (-10, 10))},
        "elliptic_local_blur": {
            "a": Law("uniform", (10, 32)),
            "b": Law("uniform", (10, 32)),
            "dy": Law("uniform", (-32, 32)),
            "dx": Law("uniform", (-32, 32)),
            "angle": Law("uniform", (-15, 15)),
            "sigma": Law("constant", (3,)),
        },
    },
}
# blurs that do something to 32 px: the study's lengths in px of those
AT_32: dict[tuple[str, str], Law] = {
    ("gaussian_blur", "sigma"): Law("uniform", (0.7, 14)),
    ("elliptic_local_blur", "sigma"): Law("constant", (21,)),
}
# options of the code of the study, and what we take in place of them
OPTIONS = {"erasing": {"outside": (Law("constant", (1,)), Law("constant", (0,)))},
           "rotation": {"crop": (Law("constant", (1,)), Law("constant", (0,)))}}  # fmt: skip
SHAPES = {
    "alexnet": {
        "features.2": (64, 27, 27),
        "features.5": (192, 13, 13),
        "features.7": (384, 13, 13),
        "features.9": (256, 13, 13),
        "avgpool": (256, 6, 6),
        "classifier.2": (4096,),
        "classifier.5": (4096,),
        "classifier.6": (1000,),
    },
    "vgg11": {
        "features.2": (64, 112, 112),
        "features.5": (128, 56, 56),
        "features.10": (256, 28, 28),
        "features.15": (512, 14, 14),
        "avgpool": (512, 7, 7),
        "classifier.1": (4096,),
        "classifier.4": (4096,),
        "classifier.6": (1000,),
    },
    "resnet18": {
        "maxpool": (64, 56, 56),
        "layer1": (64, 56, 56),
        "layer2": (128, 28, 28),
        "layer3": (256, 14, 14),
        "avgpool": (512, 1, 1),
        "fc": (1000,),
    },
}
N_UNITS = {"alexnet": 205_672, "vgg11": 1_539_560, "resnet18": 553_448}
# rows of each analysis of the study, by set
ROWS = {"sobol": {1: 2.36e6, 2: 2.89e6}, "shapley": {1: 3.94e6, 2: 5.25e6}, "moments": {1: 1.18e6, 2: 1.44e6},
        "contrast": {0: 9.4e6}}  # fmt: skip
N_IMAGES = 50_000  # which contrasts show, all of them
N_SHOWN = 4
RULES = [f"q{q} x{a}" for q in (0.5, 0.6, 0.7, 0.8, 0.9) for a in ("0", "0.5", "1.5")] + [
    "x s",
    "x 1-s",
]  # of the study
# rectified convolutions and outputs of the networks of Rafegas et al. 2019, at 224 px
RECTIFIED = {
    "alexnet": {"features.1": (64, 55, 55), "features.11": (256, 13, 13), "classifier.5": (4096,)},
    "resnet18": {"relu": (64, 112, 112), "layer4": (512, 7, 7)},
    "vgg16": {"features.1": (64, 224, 224), "features.29": (512, 14, 14), "classifier.4": (4096,)},
    "vgg_m": {"relu1": (96, 109, 109), "relu5": (512, 13, 13), "relu7": (4096,)},
}
REAL = (
    "alexnet/sobol_set1",
    "resnet18/sobol_set1",
    "rafegas2019/resnet18",
)  # run with the network itself, others with one of a second


def label(path: Path) -> str:
    return "/".join(path.relative_to(FOLDER).with_suffix("").parts)


@pytest.fixture(autouse=True)
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Name folders by the variables of the protocols: the real data where they are, and a few made images."""
    for name in ("n01440764", "n01443537"):
        (tmp_path / "val" / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (80, 96, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "val" / name / f"{number}.JPEG")
    monkeypatch.setenv("IMAGENET_VAL", str(tmp_path / "val"))
    monkeypatch.setenv("IMAGENET_TRAIN", str(tmp_path / "val"))
    monkeypatch.setenv("NEUROPROBE_RESULTS", str(tmp_path / "results"))
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8))
    monkeypatch.setenv("IT92_IMAGES", str(tmp_path / "images.npy"))


def loaded(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Protocol:
    if path in FROM_DATA:
        monkeypatch.setenv("NEUROPROBE_DATA", str(request.getfixturevalue("data")))
    return load_protocol(path)


def set_of(protocol: Protocol) -> int:
    """Which set of the study a protocol applies; 0 for both."""
    applied = [item.name for item in protocol.treatment.alterations]
    return {(*SETS[1],): 1, (*SETS[2],): 2, (*SETS[1], *SETS[2]): 0}[tuple(applied)]


@pytest.mark.parametrize("path", STUDY + OURS, ids=label)
def test_alterations_are_those_of_the_study(path: Path, request, monkeypatch) -> None:
    protocol = loaded(path, request, monkeypatch)
    treatment, number = protocol.treatment, set_of(protocol)
    expected = SETS[number] if number else SETS[1] | SETS[2]
    theirs = protocol.reference == "kharyuk2025"
    for item in treatment.alterations:
        laws = dict(expected[item.name])
        if path in OURS:
            laws |= {key: law for (name, key), law in AT_32.items() if name == item.name}
        laws |= {key: law if theirs else ours for key, (law, ours) in OPTIONS.get(item.name, {}).items()}
        assert item.laws == laws
        assert item.switch == (0.5 if number else "always")
    assert treatment.order == ("factor" if number else "fixed")
    assert treatment.reference_side == 224
    assert str(number) in path.stem.split("_")[-1] if "set" in path.stem else True


@pytest.mark.parametrize("path", WHOLE, ids=label)
def test_networks_and_layers_are_those_of_the_study(path: Path, request, monkeypatch) -> None:
    subject = loaded(path, request, monkeypatch).subject
    assert (subject.network, subject.weights, subject.preprocess) == (path.parent.name, "DEFAULT", None)
    with torch.device("meta"):
        network = find_network(subject.network).build().eval()
        sites = find_sites(network, subject.layers, torch.empty(1, 3, 224, 224))
    shapes = SHAPES[subject.network]
    if path in OF_LESIONS:
        # the study masks layers with maps over space, but for the pooled one of ResNet18
        spatial = {name: shape for name, shape in shapes.items() if len(shape) == 3 and shape[1] > 1}
        assert {site.name: site.shape for site in sites} == spatial
        return
    assert {site.name: site.shape for site in sites} == shapes
    assert sum(site.n_units for site in sites) == N_UNITS[subject.network]
    assert [site.spec.transform for site in sites] == ["none"] * (len(sites) - 1) + ["softmax"]


@pytest.mark.parametrize("path", OF_UNITS, ids=label)
def test_units_are_rectified_channels_of_the_networks(path: Path, request, monkeypatch) -> None:
    protocol = loaded(path, request, monkeypatch)
    subject, name = protocol.subject, protocol.subject.network
    assert name == path.stem
    with torch.device("meta"):
        network = find_network(name).build().eval()
        sites = find_sites(network, subject.layers, torch.empty(1, 3, 224, 224))
    shapes = {site.name: site.shape for site in sites}
    assert {layer: shapes[layer] for layer in RECTIFIED[name]} == RECTIFIED[name]
    assert sites[-1].shape == (1000,)
    assert sites[-1].spec.transform == "softmax"
    # lists of the study, and no more than its own indexes
    options = protocol.options("selectivity")
    assert isinstance(options, SelectivityOptions)
    assert (options.top, options.border, options.clamp) == (100, "masked", "none")
    assert [index.name for index in options.wanted(labelled=True)] == ["colour", "class", "colour_name"]
    n_convolutional = sum(shape[0] for shape in shapes.values() if len(shape) == 3)
    assert n_convolutional == {"alexnet": 1152, "resnet18": 1024, "vgg16": 4224, "vgg_m": 1888}[name]


@pytest.mark.parametrize(("name", "analyses"), [("reference", ["sobol"]), ("reference_shapley", ["shapley"])])
def test_the_reference_differs_by_that_word_alone(name: str, analyses: list[str]) -> None:
    reference, corrected = (
        yaml.safe_load((FOLDER / f"cifar_resnet20_{one}.yaml").read_text()) for one in (name, "set2")
    )
    assert (reference.pop("analyses"), corrected.pop("analyses")) == (analyses, ["sobol", "shapley"])
    for protocol in (reference, corrected):
        del protocol["design"]
    assert reference.pop("reference") == "kharyuk2025"
    for options in (corrected["treatment"]["alterations"], reference["treatment"]["alterations"]):
        for item in options:
            item.pop("crop", None)
    assert corrected["stimuli"].pop("image") == "frozen"
    assert {**reference, "title": ""} == {**corrected, "title": ""}


@pytest.mark.filterwarnings(
    "ignore:(image. redrawn hides|standard errors rest on 2 blocks|contrast. accuracies are left out"
    "|layer .* are undefined in some map):UserWarning"
)
@pytest.mark.parametrize("path", [path for path in PROTOCOLS if path not in COMPARED], ids=label)
def test_protocols_that_ship_run(path: Path, tmp_path: Path, request, monkeypatch) -> None:
    if path in OF_LESIONS:
        make_maps(path, tmp_path / "results", request, monkeypatch)
    protocol = small(path, request, monkeypatch)
    of_units = "selectivity" in path.read_text()
    result = npr.run(protocol, tmp_path / "out.zarr", limit=None if of_units else N_SHOWN)
    assert result.attrs["samples"] == (2 * N_SHOWN if of_units else N_SHOWN)
    analyses = [next(iter(item)) if isinstance(item, dict) else item for item in protocol["analyses"]]
    for analysis in analyses:
        found = "difference" if path in OF_LESIONS else "defined"
        assert all((node[found] != 0).any() for node in result[analysis].children.values())
    if path in OF_LESIONS:
        written = npr.load_protocol(path)
        assert [rule_label(rule) for rule in written.lesion_studies[0].options.rules] == RULES
        assert all(options.draws == (1 if path in OURS else 3) for options in map(options_of, written.lesion_studies))
    elif path in WHOLE:
        [analysis] = analyses
        samples = protocol.get("design", {}).get("samples", N_IMAGES)
        assert samples * result.attrs["rows"] <= ROWS[analysis][set_of(load_protocol(path))]


@pytest.mark.parametrize("path", COMPARED, ids=label)
def test_protocols_of_comparisons_run(path: Path, tmp_path: Path, request, monkeypatch, rng) -> None:
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (92, 32, 32, 3), dtype=np.uint8))
    protocol = as_given(loaded(path, request, monkeypatch))
    protocol["subject"]["layers"] = ["layer3.2", "linear"]
    (options,) = (item["compare"] for item in protocol["analyses"])
    options["lesion"]["random"], options["options"] = 2, {"n_draws": 10}
    options["with"].popitem()
    (name,) = options["with"]
    found = npr.run(protocol, tmp_path / "out.zarr")[f"compare/{name}"]
    assert np.isfinite(found["score"]).all()
    assert found["lesion/drop_random"].shape == (2, 2)


def options_of(analysis: Any) -> LesionStudyOptions:
    assert isinstance(analysis.options, LesionStudyOptions)
    return analysis.options


def small(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A protocol that runs in seconds."""
    protocol = as_given(loaded(path, request, monkeypatch))
    if path in STUDY or path in OF_UNITS:
        of_part = path in STUDY and path not in WHOLE
        shrink(protocol, real=of_part or label(path).removeprefix("kharyuk2025/") in REAL)
    elif path in FROM_DATA:
        sources = protocol["stimuli"]["images"]
        for source in sources if isinstance(sources, list) else [sources]:
            source["limit"] = N_SHOWN if isinstance(sources, list) else 2 * N_SHOWN
            if (
                "folder" in source and not Path(source["folder"]).exists()
            ):  # the training images, which may lie there packed
                source["folder"] = str(Path(source["folder"]).with_name("test"))
        protocol["record"] = {"batch": 16, "device": "cpu", **({} if protocol["analyses"] else {"store": "responses"})}
        for options in (item["contrast"] for item in protocol["analyses"] if "contrast" in item):
            options["draws"] = 2
    for item in protocol["analyses"]:
        for name, options in item.items() if isinstance(item, dict) else ():
            if name == "masking":
                options.update(random=3, controls=1, bootstrap=40)
            if name == "single_class":
                options.update(permutations=99)
            if name == "selectivity":
                protocol["subject"]["layers"] = protocol["subject"]["layers"][-2:]
                options.update(top=2, stability=[], sham=min(1, options.get("sham", 1)), permutations=9)
    return protocol


def make_maps(path: Path, folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the protocols of the maps, as the head of a protocol says."""
    commands = re.findall(r"neuroprobe run protocols/(\S+) -o \$NEUROPROBE_RESULTS/(\S+)", path.read_text())
    assert len(commands) == 2
    for protocol, store in commands:
        given = small(FOLDER / protocol, request, monkeypatch)
        if path in STUDY:
            given["subject"] = {"network": "embedded", "layers": ["conv6", "linear"]}
        npr.run(given, folder / store, limit=N_SHOWN)


def shrink(protocol: dict[str, Any], *, real: bool) -> None:
    """Take small images and passes, and random weights or, unless `real`, a small network."""
    protocol["stimuli"]["images"]["size"] = 64
    protocol["record"] = {"batch": 16, "device": "cpu"}
    for analysis in protocol["analyses"]:
        for name, options in analysis.items() if isinstance(analysis, dict) else ():
            if name == "contrast":
                options.update(draws=2, ranks=None)
            elif name in ("masking", "single_class"):
                options.update(draws=2, at=None, classes=["n01440764", "n01443537", *"abcdefgh"])
    if real:
        protocol["subject"]["weights"] = "none"
    else:
        protocol["subject"] = {"network": "embedded", "layers": ["conv6", {"name": "linear", "transform": "softmax"}]}

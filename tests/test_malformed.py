"""Bad input as a user meets it: every refusal is one sentence at its place, before any work, and nothing is written."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from neuroprobe.cli import main
from neuroprobe.subjects.embedded import load_embedded_weights

PROTOCOL = """\
neuroprobe: 1
title: small
subject: {network: embedded, layers: [conv6, linear]}
stimuli: {images: {photographs: {per_image: 2}, size: 16}}
treatment:
  reference_side: image
  alterations:
    - {name: grayscale, switch: 0.5}
    - {name: hue, switch: 0.5}
design: {samples: 8}
record: {batch: 64}
"""
NETWORKS = """\
import sys
import torch
from torch import nn
from neuroprobe.subjects.embedded import EmbeddedNetwork

class Net(nn.Module):
    def __init__(self, change=lambda x: x, n_good=10**9):
        super().__init__()
        self.conv6, self.linear, self.spare = nn.Conv2d(3, 4, 3), nn.Linear(4, 2), nn.Identity()
        self.change, self.n_good = change, n_good

    def forward(self, images):
        self.n_good -= 1
        return self.linear(self.change(self.conv6(images)) .mean((2, 3)))

    def fail(self, x):
        if self.n_good < 0:
            raise ValueError("it is tired")
        return x

def good(): return Net().eval()
def in_training(): return EmbeddedNetwork()
def needs(width): return Net()
def leaves(): sys.exit(3)
def no_network(): return {"conv6": 1}
def raises(): return Net(lambda x: x @ torch.zeros(3)).eval()
def exits(): return Net(lambda x: sys.exit(3)).eval()
def asserts(): return Net(lambda x: exec("assert x is None", {"x": x})).eval()
def not_a_number(): return Net(lambda x: x / 0 * 0).eval()
def noisy(): return Net(lambda x: x + torch.rand_like(x)).eval()
def half(): return nn.Sequential(Half(), nn.Flatten()).eval()
def empty(): return nn.Sequential(Nothing(), nn.Identity()).eval()
def slashed():
    network = nn.Sequential()
    network.add_module("a/b", nn.Conv2d(3, 2, 3))
    return network.eval()
def tires():
    network = Net(n_good=6).eval()
    network.change = network.fail
    return network

class Half(nn.Module):
    def forward(self, images): return images.half()

class Nothing(nn.Module):
    def forward(self, images): return images[:, :0]
"""
NETWORK, IMAGES, HUE = "network: embedded", "{photographs: {per_image: 2}, size: 16}", "{name: hue, switch: 0.5}"
SUBJECT = f"{NETWORK}, layers: [conv6, linear]"
# each list holds the one before it nine times
REPEATS = "title: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{one}: &{two} [{', '.join(9 * ['*' + one])}]\n" for one, two in itertools.pairwise("abcdefgh")
)
SAMPLES, RECORD = "{samples: 8}", "{batch: 64}"


class Trap:
    """What makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished store, and with all that can be wrong about images and weights."""
    root = tmp_path_factory.mktemp("bench")
    (root / "p.yaml").write_text(PROTOCOL)
    (root / "other.yaml").write_text(PROTOCOL.replace("hue, switch: 0.5", "hue, switch: 0.25"))
    (root / "nets_of_a_test.py").write_text(NETWORKS)
    (root / "broken_module.py").write_text("def build(:\n")
    (root / "a_file").write_text("text\n")
    for name in ("empty", "full"):
        (root / name).mkdir()
    (root / "full" / "thing").write_text("mine")
    result = CliRunner().invoke(main, ["run", str(root / "p.yaml"), "-o", str(root / "good.zarr")])
    assert result.exit_code == 0, result.stderr
    _make_images(root)
    _make_arrays(root)
    _make_weights(root)
    return root


@pytest.fixture(scope="module")
def stores(bench: Path) -> None:
    """Stores with which something is wrong, beside the good one."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(bench / "good.zarr", bench / name))

    (copy("unfinished.zarr") / "zarr.json").unlink()
    (copy("headless.zarr") / ".neuroprobe" / "header.json").unlink()
    (copy("header.zarr") / ".neuroprobe" / "header.json").write_text('{"format": 3}')
    (copy("older.zarr") / ".neuroprobe" / "header.json").write_text('{"format": 2}')
    (copy("newer.zarr") / ".neuroprobe" / "header.json").write_text('{"format": 99}')
    (copy("journal.zarr") / ".neuroprobe" / "journal.jsonl").write_text("what is this\n")
    (copy("entry.zarr") / ".neuroprobe" / "journal.jsonl").write_text('{"span": 3}\n')
    (copy("metadata.zarr") / "zarr.json").write_text("{")
    (copy("data.zarr") / "sobol/linear/first_order/c/0/0").write_bytes(b"junk")
    with (copy("torn.zarr") / ".neuroprobe" / "journal.jsonl").open("a") as journal:
        journal.write('{"span": [0,')


def _make_images(root: Path) -> None:
    rng = np.random.default_rng(0)

    def folder(name: str, *sides: int) -> Path:
        (root / name).mkdir()
        for number, side in enumerate(sides):
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(root / name / f"{number}.jpg")
        return root / name

    folder("ok", 16, 16, 16)
    folder("mixed", 16, 24)
    cut = folder("cut", 16, 16) / "1.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (folder("garbage", 16, 16) / "1.jpg").write_bytes(rng.bytes(300))
    for number in range(2):
        (folder("broken") if not number else root / "broken").joinpath(f"{number}.png").write_text("no picture")
    (folder("texts") / "a.txt").write_text("no picture")


def _make_arrays(root: Path) -> None:
    pixels = np.random.default_rng(1).random((3, 16, 16, 3)).astype(np.float32)
    np.save(root / "range.npy", 255 * pixels)
    np.save(root / "integers.npy", (255 * pixels).astype(np.int64))
    np.save(root / "plane.npy", pixels[0, :, :, 0])
    np.save(root / "none.npy", pixels[:0])
    np.save(root / "nan.npy", np.where(np.arange(3)[:, None, None, None] == 1, np.nan, pixels))
    np.save(root / "objects.npy", np.array([Trap(root / "trapped"), None], dtype=object), allow_pickle=True)
    (root / "pickled.npy").write_bytes(pickle.dumps(Trap(root / "trapped")))
    (root / "cut.npy").write_bytes((root / "range.npy").read_bytes()[:500])
    np.savez(root / "keys.npz", first=pixels, second=pixels)
    np.savez(root / "labels.npz", images=pixels, labels=np.arange(2))
    (root / "text.npz").write_text("no archive")
    np.savez(root / "shape.npz", linear=np.ones(3))
    np.savez(root / "not_a_number.npz", linear=np.full(10, np.nan))


def _make_weights(root: Path) -> None:
    weights = load_embedded_weights()
    torch.save(weights, root / "whole.pth")
    (root / "cut.pth").write_bytes((root / "whole.pth").read_bytes()[:100_000])
    torch.save(weights | {"linear.weight": torch.zeros(5, 112)}, root / "shape.pth")
    torch.save(weights | {"linear.weight": torch.full((10, 112), torch.nan)}, root / "nan.pth")
    torch.save(weights | {"linear.weight": torch.zeros(10, 112, dtype=torch.complex64)}, root / "complex.pth")
    torch.save({"fc.weight": torch.zeros(3)}, root / "keys.pth")
    torch.save([1, 2], root / "list.pth")
    torch.save(Trap(root / "trapped"), root / "trap.pth")
    (root / "raw.pth").write_bytes(pickle.dumps(Trap(root / "trapped"), protocol=2))
    (root / "text.pth").write_text("these are no weights\n")
    (root / "garbage.safetensors").write_bytes(np.random.default_rng(2).bytes(200))
    (root / "whole.pth").unlink()


@pytest.fixture
def call(bench: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """Call the command line in the bench; what is made there and is not asked about fails the test."""
    monkeypatch.chdir(bench)
    monkeypatch.syspath_prepend(bench)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delenv("NOWHERE", raising=False)

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    yield invoke
    for name in ("nets_of_a_test", "broken_module"):
        sys.modules.pop(name, None)


@pytest.fixture
def refused(call: Callable[..., Result], bench: Path) -> Callable[..., str]:
    """Return a function that makes sure that a call is refused as it should, and returns what is said."""

    def check(code: int, fragments: list[str], *arguments: object) -> str:
        before = content(bench)
        result = call(*arguments)
        assert result.exit_code == code, result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        for fragment in fragments:
            assert fragment in result.stderr
        assert content(bench) == before
        return result.stderr

    return check


def content(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that is in a folder, with what changes when a file is written, be it with the same bytes."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in files or ([] if folders else ["."]):
            stat = os.stat(os.path.join(where, name))
            found[os.path.join(where, name)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
    return found


def refused_protocol(
    bench: Path, refused: Callable[..., str], text: str | bytes, place: str, code: int, fragments: list[str]
) -> None:
    """Run a protocol; what is said begins with its place."""
    (bench / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refused(code, fragments, "run", "bad.yaml", "-o", "out.zarr")
    assert said.startswith(f"bad.yaml:{place}: " if place else "error: ")


# parameters that depend on each other: name → correlations, analysis, line:column, and what has to be said
TREATMENT = PROTOCOL[PROTOCOL.index("reference_side") : PROTOCOL.index("design:")]
DEPENDENT: dict[str, tuple[str, str, str, list[str]]] = {
    name: (TREATMENT, f"dependence: {{correlation: {given}}}\n  alterations: [brightness, hue, rotation]\n"
        + (f"analyses: [{analysis}]\n" if analysis else ""), place, fragments)
    for name, (given, analysis, place, fragments) in {
        "correlations that cannot be": ("{[hue, rotation]: 0.9, [hue, brightness]: 0.9, [rotation, brightness]: -0.9}",
            "shapley", "6:16",
            ["the matrix is not positive definite; the nearest that is: hue_shift, rotation_angle: 0.495"]),
        "Sobol indices of dependent alterations": ("{[hue, rotation]: 0.9}", "sobol", "8:12",
            ["sobol takes independent alterations", "links hue and rotation", "`analyses: [shapley]`"]),
        "Sobol indices by default": ("{[hue, rotation]: 0.9}", "", "6:3", ["sobol takes independent alterations"]),
        "correlation with a stranger": ("{[hue, rotate]: 0.9}", "shapley", "6:30",
            ["unknown parameter 'rotate' (did you mean 'rotation'?)"]),
        "correlation with itself": ("{[hue, hue_shift]: 0.9}", "shapley", "6:30", ["both are hue_shift: name two"]),
        "correlation with the image": ("{[hue, image]: 0.9}", "shapley", "6:30", ["the image has no scale"]),
        "correlation of one": ("{[hue, rotation]: 1}", "shapley", "6:30",
            ["given the correlation 1, expected a number between -1 and 1, both excluded"]),
        "no correlation": ("{}", "shapley", "6:16", ["given {}, expected the correlations of pairs"]),
    }.items()
}  # fmt: skip

# name → piece of the protocol, what stands there instead, line:column, and what has to be said

TEXTS: dict[str, tuple[str, str, str, list[str]]] = {
    "syntax": ("title: small", "title: [small", "3:8", ["not valid YAML", "expected ',' or ']'"]),
    "colon": ("title: small", "title: a: b", "2:9", ["mapping values are not allowed", "in quotes"]),
    "tab": ("    - {name: hue", "\t- {name: hue", "9:1", ["'\\t'", "indent by spaces"]),
    "repeated key": ("title: small", "title: a\ntitle: b", "3:1",
        ["'title' is given twice (first in line 2)", "keep one"]),
    "no": ("title: small", "seed: no", "2:1", ["seed: given 'no', expected a valid integer"]),
    "on": (SAMPLES, "{samples: 8, second_order: on}", "10:22", ["given 'on', expected true or false"]),
    "percent": (HUE, "{name: hue, switch: 50%}", "9:19", ["given '50%'", "a probability between 0 and 1"]),
    "unknown key": ("title: small", "titel: small", "2:1", ["unknown key 'titel' (did you mean 'title'?)"]),
    "unknown key in a block": (RECORD, "{bach: 64}", "11:10",
        ["'bach' (did you mean 'batch'?)", "device, store, nan"]),
    "block without content": ("{" + SUBJECT + "}", "", "3:1",
        ["given None, expected a block with the keys: network, weights"]),
    "missing block": ("design: {samples: 8}\n", "design:\n", "10:1", ["given None, expected a block with the keys"]),
    "missing key": ("network: embedded, ", "", "3:1", ["missing key 'network' in subject"]),
    "list for a word": (NETWORK, "network: [embedded]", "3:11", ["given ['embedded'], expected a valid string"]),
    "word for a list": ("[conv6, linear]", "conv6", "3:30", ["given 'conv6', expected a valid list"]),
    "number for a layer": ("[conv6, linear]", "[6]", "3:39", ["given 6, expected a layer: its name"]),
    "word for a source": (IMAGES, "photographs", "4:11",
        ["given 'photographs', expected a source of images: a block"]),
    "neither of two forms": ("reference_side: image", "reference_side: imag", "6:3",
        ["given 'imag', expected a valid integer or 'image' (did you mean 'image'?)"]),
    "undefined variable": (IMAGES, "{folder: '${NOWHERE}/a'}", "4:28",
        ["variable 'NOWHERE' is not defined", "set it"]),
    "half a character": ("title: small", 'title: "\\ud800"', "2:8", ["given '\\ud800'"]),
    "control character": ("title: small", "title: a\x00", "2:9", ["the control character #x00; remove it"]),
    "it holds itself": ("title: small", "title: &a [*a]", "2:8", ["it holds itself"]),
    "repeats of repeats": ("title: small", REPEATS, "2:12",
        ["more than 100,000 values"]),
    "huge whole number": (SAMPLES, "{samples: 1" + 30 * "0" + "}", "10:10",
        ["samples: given 1000", "less than or equal to 16777216"]),
    "huger whole number": (SAMPLES, "{samples: 1" + 5000 * "0" + "}", "10:19",
        ["given '1000", "…, which cannot be read as a whole number"]),
    "huge seed": ("title: small", f"seed: {2**63}", "2:1",
        ["seed: given 9223372036854775808", f"equal to {2**63 - 1}"]),
    "huge image": ("size: 16", "size: 1000000", "4:49",
        ["size: given 1000000, expected a number less than or equal to 4096"]),
    "size in words": ("size: 16", "size: large", "4:49",
        ["size: given 'large', expected a number of px, or [height, width]"]),
    "NaN in a law": (HUE, "{name: hue, switch: 0.5, shift: {uniform: [0, .nan]}}", "9:32",
        ["finite numbers", "[0.0, nan]"]),
    "infinity in a law": (HUE, "{name: hue, switch: 0.5, shift: {normal: [0, .inf]}}", "9:32",
        ["finite numbers", "[0.0, inf]"]),
    "huge number in a law": (HUE, "{name: rotation, switch: 0.5, angle: 1" + 400 * "0" + "}", "9:37",
        ["finite numbers, up to 1e+30", "[inf]"]),
    "law that overflows": (HUE, "{name: rotation, switch: 0.5, angle: {uniform: [-1e308, 1e308]}}", "9:37",
        ["finite numbers, up to 1e+30"]),
    "law of one value in the end": (HUE, "{name: rotation, switch: 0.5, angle: {truncated_normal: [0, 1e-9, 5, 6]}}",
        "9:37",
        ["cannot be told apart", "bounds that are nearer"]),
    "NaN in a number": ("layers: [", "preprocess: {mean: [0, .nan, 0]}, layers: [", "3:53",
        ["given nan, expected a finite number"]),
    "law outside of its range": (HUE, "{name: hue, switch: 0.5, shift: {uniform: [0, 3]}}", "9:32",
        ["shift of hue lies between -1 and 1, received 0 to 3"]),
    "law upside down": (HUE, "{name: hue, switch: 0.5, shift: {uniform: [0.5, 0.1]}}", "9:32", ["low is above high"]),
    "two laws": (HUE, "{name: hue, switch: 0.5, shift: {uniform: [0, 1], normal: [0, 1]}}", "9:32",
        ["given the law uniform, normal, expected one of"]),
    "constant alteration": (HUE, "{name: hue, shift: 0.1}", "9:7", ["'hue' is constant", "a switch between 0 and 1"]),
    "nothing for an alteration": (HUE, "null", "9:7", ["given None, expected an alteration: its name"]),
    "repeated label": (HUE, "{name: grayscale, switch: 0.1}", "5:1", ["listed twice: grayscale", "`as: NAME`"]),
    "label that is taken": (HUE, "{name: hue, switch: 0.5, as: layer}", "9:32", ["cannot be called layer", "`as`"]),
    "order with a stranger": ("reference_side: image", "order: [hue, rotation]", "6:3",
        ["order: given ['hue', 'rotation'], expected each of ['grayscale', 'hue'] once"]),
    "order twice": ("reference_side: image", "order: [hue, hue]", "6:3", ["given ['hue', 'hue']"]),
    "list for the image": (IMAGES, IMAGES + ", image: [class]", "4:60",
        ["image: given ['class'], expected frozen, factor, redrawn, or {factors: [partition, class, image]}"]),
    "level of the image": (IMAGES, IMAGES + ", image: {factors: [clas]}", "4:78",
        ["given 'clas'", "(did you mean 'class'?)"]),
    "partition of one source": (IMAGES, IMAGES + ", image: {factors: [partition, image]}", "4:68",
        ["partition tells sources of images apart, received one"]),
    "probability without factors": (IMAGES, "[{photographs: {}, probability: 0.5}, {photographs: {}}]", "4:11",
        ["probability: goes with several sources of which images are drawn as factors"]),
    "set without an alteration": ("reference_side: image", "sets: {a: []}", "6:10",
        ["sets.a: given [], expected a list of at least 1 item"]),
    "set with a stranger": ("reference_side: image", "sets: {a: [hue, grey]}", "6:19",
        ["unknown alteration of this treatment 'grey'", "known: grayscale, hue"]),
    "sets that overlap": ("reference_side: image", "sets: {a: [hue], b: [grayscale, hue]}", "6:35",
        ["hue is in the set a already"]),
    "set that is not there": ("reference_side: image", "sets: {ab: [hue]}\n  set: ac", "7:3",
        ["unknown set 'ac'; known: ab"]),
    "segment without an end": (NETWORK, "network: embedded, segment: {plane: hue}", "3:30",
        ["missing key 'to' in subject.segment"]),
    "plane of a segment": (NETWORK, "network: embedded, segment: {to: conv6, plane: huge}", "3:51",
        ["given 'huge', expected 'hue', 'saturation' or 'value' (did you mean 'hue'?)"]),
    "segment with standardisation": (NETWORK,
        "network: embedded, preprocess: {std: [1, 1, 1]}, segment: {to: conv6, plane: hue}", "3:30",
        ["preprocess: mean and std do not go with segment"]),
    "no samples": (SAMPLES, "{samples: 0}", "10:10",
        ["samples: given 0, expected a number greater than or equal to 4"]),
    "three samples": (SAMPLES, "{samples: 3}", "10:10",
        ["samples: given 3, expected a number greater than or equal to 4"]),
    "scramble": (SAMPLES, "{samples: 512, scramble: 100}", "10:24",
        ["given 100, expected auto, whole, or a power of two from 64"]),
    "too long a scramble": (SAMPLES, "{samples: 64, scramble: 64}", "10:10", ["raise samples to 128"]),
    "salib with frozen images": (RECORD, "{batch: 64}\nanalyses: [{sobol: {estimator: salib}}]", "12:21",
        ["do not go with frozen images", "take estimator: differences"]),
    "constant alteration of Shapley effects": (HUE, "{name: hue, switch: always, shift: 0.1}\n"
        "analyses: [shapley]\n", "9:7", ["'hue' is constant under `switch: always`", "a law to one of its parameters"]),
    "word for the analyses": (RECORD, "{batch: 64}\nanalyses: shapley", "12:1",
        ["analyses: given 'shapley', expected a valid list"]),
    "unknown analysis": (RECORD, "{batch: 64}\nanalyses: [shaply]", "12:12",
        ["unknown analysis 'shaply' (did you mean 'shapley'?)"]),
    "analysis that is listed twice": (RECORD, "{batch: 64}\nanalyses: [shapley, {shapley: {}}]", "12:21",
        ["shapley is listed twice; list it once"]),
    "option of an analysis without": (RECORD, "{batch: 64}\nanalyses: [{shapley: {walks: 3}}]", "12:23",
        ["unknown key 'walks'; expected: no keys"]),
    "no draws": (RECORD, "{batch: 64}\nanalyses: [{contrast: {draws: 0}}]", "12:24",
        ["contrast.draws: given 0, expected a number greater than or equal to 1"]),
    "too many draws": (RECORD, "{batch: 64}\nanalyses: [{contrast: {draws: 1000000}}]", "12:24",
        ["contrast.draws: given 1000000, expected a number less than or equal to 1024"]),
    "correction": (RECORD, "{batch: 64}\nanalyses: [{contrast: {correction: fdr}}]", "12:24",
        ["contrast.correction: given 'fdr', expected 'fdr_by', 'fdr_bh'", "(did you mean 'fdr_by'?)"]),
    "family of tests": (RECORD, "{batch: 64}\nanalyses: [{contrast: {family: both}}]", "12:24",
        ["contrast.family: given 'both', expected 'alteration' or 'all'"]),
    "ranks of another layer": (RECORD, "{batch: 64}\nanalyses: [{contrast: {ranks: [linear, conv5]}}]", "12:40",
        ["ranks: unknown layer 'conv5' (did you mean 'conv6'?); known: conv6, linear"]),
    "responses to two designs": (RECORD, "{store: responses}\nanalyses: [sobol, contrast]", "11:10",
        ["no place in one store", "give contrast a protocol of its own"]),
    "parameters as players of Sobol indices": (SAMPLES, "{samples: 8, players: parameters}", "10:22",
        ["players: parameters concerns Shapley effects only", "add shapley"]),
    "parameters as players of both": (SAMPLES, "{samples: 8, players: parameters}\nanalyses: [sobol, shapley]", "10:22",
        ["Sobol indices of factors have another design", "take `players: factors`"]),
    "order of one alteration": ("  reference_side: image\n  alterations:\n    - {name: grayscale, switch: 0.5}\n",
        "  order: factor\n  alterations:\n", "6:3", ["order: factor takes 2 to 12 alterations, received 1"]),
    **DEPENDENT,
    "plane that is not there": (NETWORK, "network: embedded, segment: {to: conv6, plane: red}", "3:51",
        ["given 'red', expected 'hue', 'saturation' or 'value'"]),
    "responses of nothing": (RECORD, "{store: {responses: []}}", "11:18",
        ["given [], expected a list of at least 1 item"]),
    "responses of another layer": (RECORD, "{store: {responses: [conv5]}}", "11:18",
        ["['conv5'] not among the recorded layers ['conv6', 'linear']"]),
    "list to store": (RECORD, "{store: [conv6]}", "11:10",
        ["record.store: given ['conv6'], expected 'none', 'responses', or {responses: "]),
    "empty control": (RECORD, "{batch: 64}\ncontrol: {alterations: []}", "12:11",
        ["control.alterations: given [], expected a list of at least 1 item"]),
    "device": (RECORD, "{device: gpu}", "11:10", ["record.device: given 'gpu', expected auto, cpu, cuda, or cuda:N"]),
    "data set": (IMAGES, "{dataset: CIFAR11, root: empty}", "4:20",
        ["unknown data set 'CIFAR11' (did you mean 'CIFAR10'?)"]),
    "suffix of an array": (IMAGES, "{array: a.csv}", "4:20",
        ["given 'a.csv', expected a path that ends in .npy, .npz"]),
    "suffix of weights": (NETWORK, "network: embedded, weights: w.bin", "3:30",
        ["given 'w.bin', expected DEFAULT, none, or a path"]),
    "lesion by nothing known": (NETWORK, "network: embedded, lesion: {quantile: 0.9}", "3:30",
        ["lesion: given 'quantile', expected a block with one of the keys: units, array, random, from"]),
    "quantile of one": (NETWORK,
        "network: embedded, lesion: {from: good.zarr, analysis: shapley, factor: hue, rule: {quantile: 1}}", "3:95",
        ["given 1, expected a number less than 1"]),
    "query of a lesion": (NETWORK, "network: embedded, lesion: {units: 'channel = 3'}", "3:39",
        ["units: query:1:9: '=' is not part of a query: write =="]),
    "lesion that does nothing": (NETWORK, "network: embedded, lesion: {units: 'channel == 3', multiply: 1}", "3:62",
        ["given 1, which leaves responses as they are"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "fragments"), TEXTS.values(), ids=TEXTS)
def test_what_is_written_wrong(
    bench: Path, refused: Callable[..., str], old: str, new: str, place: str, fragments: list[str]
) -> None:
    assert old in PROTOCOL
    refused_protocol(bench, refused, PROTOCOL.replace(old, new, 1), place, 2, fragments)
    assert refused(2, fragments, "check", "bad.yaml").startswith(f"bad.yaml:{place}: ")


UNKNOWN: dict[str, tuple[str, str, str, list[str]]] = {
    "unknown network": (NETWORK, "network: embeded", "3:11",
        ["unknown network 'embeded' (did you mean 'embedded'?)", "`neuroprobe list networks`"]),
    "network without a callable": (NETWORK, "network: 'nets_of_a_test:goood'", "3:11",
        ["has no 'goood' (did you mean 'good'?)"]),
    "unknown layer": ("[conv6, linear]", "[linear, conv7]", "3:47", ["unknown layer 'conv7'; nearest: conv6"]),
    "layer that is not called": (SUBJECT, "network: 'nets_of_a_test:good', layers: [spare]", "3:52",
        ["layer 'spare' exists and is not called"]),
    "unknown beginning of a segment": (NETWORK, "network: embedded, segment: {from: conv7, to: linear, plane: hue}",
        "3:40",
        ["segment.from: unknown layer 'conv7' (did you mean 'conv"]),
    "layer outside of a segment": (NETWORK, "network: embedded, segment: {to: conv6, plane: hue}", "3:80",
        ["layer 'linear' lies outside of the segment"]),
    "no set chosen": ("reference_side: image", "sets: {a: [hue], b: [grayscale]}", "6:3",
        ["choose one by --set", "a (hue); b (grayscale)"]),
    "unknown layer of a lesion": (NETWORK, "network: embedded, lesion: {random: {share: 0.1}, layers: [conv7]}",
        "3:70", ["unknown layer 'conv7'; nearest: conv6"]),
    "unknown column of a lesion": (NETWORK, "network: embedded, lesion: [{units: 'chanel == 3'}]", "3:40",
        ["query:1:1: unknown column 'chanel' (did you mean 'channel'?)"]),
    "unknown factor of a lesion": (NETWORK,
        "network: embedded, lesion: {from: good.zarr, analysis: sobol, value: first_order, factor: hu, "
        "rule: {quantile: 0.5}}", "3:93", ["good.zarr': unknown factor 'hu' (did you mean 'hue'?)"]),
    "unknown channel": ("[conv6, linear]", "[{name: linear, channels: [3, 10]}]", "3:39",
        ["layer 'linear' has channels 0 to 9, received 10"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "fragments"), UNKNOWN.values(), ids=UNKNOWN)
def test_names_of_nothing(
    bench: Path, refused: Callable[..., str], old: str, new: str, place: str, fragments: list[str]
) -> None:
    refused_protocol(bench, refused, PROTOCOL.replace(old, new, 1), place, 2, fragments)


FILES: dict[str, tuple[str | bytes, str, list[str]]] = {
    "empty": ("", "1:1", ["given an empty file, expected a protocol that begins with `neuroprobe: 1`"]),
    "not UTF-8": (PROTOCOL.replace("small", "caf\xe9").encode("latin-1"), "2:11",
        ["byte 0xe9", "save the file as UTF-8"]),
    "UTF-16": (PROTOCOL.encode("utf-16"), "1:1", ["not UTF-8: byte 0xff"]),
    "deep": ("a: " + 3000 * "[" + 3000 * "]", "1:", ["too many blocks or brackets within each other"]),
    "text": ("Dear neuroprobe,\nplease record ResNet.\n", "1:1", ["given str, expected a protocol"]),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place", "fragments"), FILES.values(), ids=FILES)
def test_files_that_are_no_protocol(
    bench: Path, refused: Callable[..., str], text: str | bytes, place: str, fragments: list[str]
) -> None:
    (bench / "bad.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused(2, fragments, "check", "bad.yaml").startswith(f"bad.yaml:{place}")


def test_several_errors_are_said_at_once(bench: Path, refused: Callable[..., str]) -> None:
    text = PROTOCOL.replace("title:", "titel:").replace("hue,", "huge,").replace("samples: 8", "samples: 3")
    (bench / "bad.yaml").write_text(text)
    lines = refused(2, [], "run", "bad.yaml", "-o", "out.zarr").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["bad.yaml:2:1", "bad.yaml:9:8", "bad.yaml:10:10"]


# name → piece of the protocol, what stands there instead, line:column, and what has to be said

NAMED: dict[str, tuple[str, str, str, list[str]]] = {
    # networks
    "absent module": (NETWORK, "network: 'no_such_module:build'", "3:11",
        ["'no_such_module' does not import: ModuleNotFoundError", "install it, or run where it lies"]),
    "broken module": (NETWORK, "network: 'broken_module:build'", "3:11", ["does not import: SyntaxError", "line 1"]),
    "callable with arguments": (NETWORK, "network: 'nets_of_a_test:needs'", "3:11",
        ["without arguments failed: TypeError", "wrap it"]),
    "callable that exits": (NETWORK, "network: 'nets_of_a_test:leaves'", "3:11",
        ["without arguments failed: SystemExit: 3"]),
    "no network": (NETWORK, "network: 'nets_of_a_test:no_network'", "3:11",
        ["returned dict, expected a torch.nn.Module"]),
    "train mode": (NETWORK, "network: 'nets_of_a_test:in_training'", "3:11",
        ["(BatchNorm2d) is in train mode", "call `.eval()`"]),
    "forward pass that raises": (NETWORK, "network: 'nets_of_a_test:raises'", "3:11",
        ["Net cannot be shown an image of 3 × 16 × 16: RuntimeError", "mend its forward pass"]),
    "forward pass that exits": (NETWORK, "network: 'nets_of_a_test:exits'", "3:11",
        ["cannot be shown an image of 3 × 16 × 16: SystemExit: 3"]),
    "forward pass that says nothing": (NETWORK, "network: 'nets_of_a_test:asserts'", "3:11",
        ["AssertionError; mend"]),
    "NaN responses": (NETWORK, "network: 'nets_of_a_test:not_a_number'", "3:11",
        ["layer 'linear' gives NaN or infinity in 2 of 2 units", "`record: {nan: drop}`"]),
    "noise": (NETWORK, "network: 'nets_of_a_test:noisy'", "3:11",
        ["responds otherwise when the same images are shown again"]),
    "half precision": (SUBJECT, "network: 'nets_of_a_test:half', layers: ['1']", "3:11",
        ["torch.float16, expected float32"]),
    "no units": (SUBJECT, "network: 'nets_of_a_test:empty', layers: ['1']", "3:53",
        ["(0, 16, 16) per image, expected one unit at least"]),
    "layer with a slash": (SUBJECT, "network: 'nets_of_a_test:slashed', layers: [a/b]", "3:55",
        ["layer 'a/b' cannot be stored under its name", "give its module another"]),
    "no space to reduce": ("[conv6, linear]", "[{name: linear, reduce: mean}]", "3:39",
        ["layer 'linear' has no space to reduce"]),
    "no default weights": (NETWORK, "network: cifar_resnet20", "3:1",
        ["'cifar_resnet20' has no default weights", "`weights: none`"]),
    "image that is too small": ("size: 16", "size: 1", "3:11",
        ["EmbeddedNetwork cannot be shown an image of 3 × 1 × 1", "give the size that it takes"]),
    # weights
    **{
        f"weights {name}": (NETWORK, f"network: embedded, weights: {name}", "3:30", [f"{name}'", *fragments])
        for name, fragments in {
            "nowhere.pth": ["no such file; expected a state dict (.pt, .pth, .th, .safetensors)"],
            "cut.pth": ["cannot be read as a state dict", "the file is damaged", "copy it again"],
            "text.pth": ["cannot be read as a state dict", "or holds something else"],
            "garbage.safetensors": ["cannot be read as a state dict", "SafetensorError"],
            "list.pth": ["hold list, expected a state dict (names to tensors)"],
            "keys.pth": ["do not fit EmbeddedNetwork", "missing (conv1.0.weight", "1 unexpected (fc.weight)"],
            "shape.pth": ["1 of another shape (linear.weight: file (5, 112), network (10, 112))"],
            "complex.pth": ["1 of another type (linear.weight: file torch.complex64, network torch.float32)"],
            "trap.pth": ["reading them would run their code", "save `network.state_dict()`"],
            "raw.pth": ["reading them would run their code"],
        }.items()
    },
    "weights of NaN": (NETWORK, "network: embedded, weights: nan.pth", "3:11",
        ["layer 'linear' gives NaN or infinity in 10 of 10 units", "mend the network or its weights"]),
    # images
    "no folder": (IMAGES, "{folder: nowhere}", "4:11", ["nowhere' does not exist; expected a folder of images"]),
    "file for a folder": (IMAGES, "{folder: a_file}", "4:11", ["a_file' is a file; expected a folder of images"]),
    "empty folder": (IMAGES, "{folder: empty}", "4:11", ["empty' holds no image: 0 other files; expected .png"]),
    "folder of texts": (IMAGES, "{folder: texts}", "4:11", ["texts' holds no image: 1 other files"]),
    "second folder": (IMAGES, "[{folder: ok}, {folder: nowhere}]", "4:34", ["nowhere' does not exist"]),
    "JPEG that was cut off": (IMAGES, "{folder: cut}", "4:11",
        ["image '1.jpg' cannot be decoded", "`skip_broken: true`"]),
    "JPEG of garbage": (IMAGES, "{folder: garbage}", "4:11",
        ["image '1.jpg' cannot be decoded: cannot identify", "garbage/1.jpg"]),
    "too few that can be decoded": (IMAGES, "{folder: cut, limit: 2, skip_broken: true}", "4:33",
        ["limit: 2 images asked for, 1 of 2 can be decoded"]),
    "none that can be decoded": (IMAGES, "{folder: broken, skip_broken: true}", "4:11",
        ["all 2 images of image folder", "are broken, '1.png' for instance"]),
    "limit": (IMAGES, "{folder: ok, limit: 4}", "4:32",
        ["limit: 4 images asked for, 3 are in image folder", "lower the limit"]),
    "crop": ("per_image: 2", "crop: 9999", "4:11",
        ["crop: 9999 px asked for, astronaut.png has 512×512; lower the crop"]),
    "one image for a factor": (IMAGES + "}", "{folder: ok, limit: 1}, image: factor}", "4:43",
        ["at least two images, received one"]),
    **{
        f"array {name}": (IMAGES, f"{{array: {name}}}", "4:11", fragments)
        for name, fragments in {
            "nowhere.npy": ["nowhere.npy' does not exist; expected a .npy or .npz file of images"],
            "range.npy": ["range.npy': values from 0.", "expected 0 to 1; scale them"],
            "integers.npy": ["integers.npy': images are of int64, expected uint8, or float in [0, 1]"],
            "plane.npy": ["plane.npy': shape (16, 16), expected (n, height, width)", "image[None]"],
            "none.npy": ["none.npy': shape (0, 16, 16, 3) holds no image"],
            "nan.npy": ["image '1' cannot be decoded: it holds NaN or infinity"],
            "objects.npy": ["objects.npy' cannot be read", "not of object"],
            "pickled.npy": ["pickled.npy' cannot be read: no NumPy file, or one of Python objects"],
            "cut.npy": ["cut.npy' cannot be read"],
            "keys.npz": ["keys.npz' cannot be read: expected the key 'images'", "it holds first, second"],
            "labels.npz": ["labels has shape (2,), expected one for each of 3 images"],
            "text.npz": ["text.npz' cannot be read: it is no archive, or damaged"],
        }.items()
    },
    "data set that is not there": (IMAGES, "{dataset: CIFAR10, root: empty}", "4:11",
        ["CIFAR10 is not in", "`download: true`"]),
    "data set in no folder": (IMAGES, "{dataset: CIFAR10, root: nowhere}", "4:11", ["there is no such folder"]),
    # what does not go with them
    "one image for a level": (IMAGES + "}", "{folder: ok, limit: 1}, image: {factors: [image]}}", "4:51",
        ["factors: image takes two images of some class, received one of each"]),
    "too few images to contrast": (IMAGES + "}", "{folder: ok}}\nanalyses: [contrast]", "4:11",
        ["contrast of 3 images, expected at least 4", "show more of them"]),
    "accuracy without labels": (IMAGES + "}", "{folder: ok}}\nanalyses: [{contrast: {accuracy: true}}]", "5:24",
        ["accuracy: images have no class", "one folder per class", "`contrast: {accuracy: false}`"]),
    "classes that are not those of the outputs": (IMAGES + "}", IMAGES + "}\nanalyses: [{contrast: {classes: [a, b]}}]",
        "5:13", ["classes: 2 different ones given, expected one for each of 10 outputs"]),
    "classes of images without": (IMAGES + "}", "{folder: ok}, image: {factors: [class]}}", "4:41",
        ["factors: class takes images with classes, received 3 of 3 without", "or leave class out"]),
    "segment of no maps": (SUBJECT,
        "network: embedded, layers: [linear], segment: {from: flatten, to: linear, plane: hue}", "3:58",
        ["segment: the layer before it gives (112,) per image", "begin behind a layer that gives maps"]),
    "segment upside down": (SUBJECT,
        "network: embedded, layers: [conv2], segment: {from: conv3, to: conv2, plane: hue}", "3:70",
        ["layer 'conv2' is not made of the output of 'conv3'", "let `from` lie before `to`"]),
    # lesions
    "lesion behind the last layer": (SUBJECT,
        "network: embedded, layers: [conv6], lesion: {units: \"layer == 'pool'\"}", "3:47",
        ["lesion of layer 'pool' has no effect on what is recorded: 'conv6' is the last layer"]),
    "lesion of nothing": (NETWORK, "network: embedded, lesion: {units: \"layer == 'conv1' and channel == 99\"}",
        "3:30", ["is true of no unit: look at its layers"]),
    "lesion by a map of other weights": (NETWORK,
        "network: embedded, weights: none, lesion: {units: 'total_order_hue > 0.3', from: good.zarr}", "3:86",
        ["good.zarr' is a result of network 'embedded' with the weights", "or write `any_network: true`"]),
    "lesion by no result": (NETWORK, "network: embedded, lesion: {units: 'channel == 1', from: nowhere.zarr}", "3:62",
        ["nowhere.zarr' is missing: no such result"]),
    "lesion by masks of another shape": (NETWORK, "network: embedded, lesion: {array: shape.npz}", "3:39",
        ["the array of layer 'linear' is (3,), expected (10,)"]),
    "lesion by masks with NaN": (NETWORK, "network: embedded, lesion: {array: not_a_number.npz}", "3:39",
        ["the mask of layer 'linear' holds NaN or infinity at 10 of 10 units"]),
    "lesion by no masks": (NETWORK, "network: embedded, lesion: {array: text.npz}", "3:39",
        ["text.npz' cannot be read", "as numpy.savez writes it"]),
    "fewer images than blocks": (SAMPLES, "{samples: 1024, scramble: 64, replicate: image}", "10:39",
        ["16 blocks of 64 base samples need as many groups of images, and there are 12 images", "show more of them"]),
    "patch outside of the image": (HUE, "{name: erasing, switch: 0.5, row: 99, column: {uniform: [1, 2]}}", "9:36",
        ["erasing: row lies between 99 and 99 px, outside of images of 16 px", "give it a law for this size"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "place", "fragments"), NAMED.values(), ids=NAMED)
def test_what_a_protocol_names(
    bench: Path, refused: Callable[..., str], old: str, new: str, place: str, fragments: list[str]
) -> None:
    assert old in PROTOCOL
    refused_protocol(bench, refused, PROTOCOL.replace(old, new, 1), place, 1, fragments)


def test_images_of_several_sizes(bench: Path, refused: Callable[..., str]) -> None:
    text = PROTOCOL.replace(IMAGES, "{folder: mixed}").replace(NETWORK, "network: 'nets_of_a_test:good'")
    fragments = ["image '1.jpg' has 24×24 px, image '0.jpg' has 16×16", "give one by `size: 16`"]
    refused_protocol(bench, refused, text, "4:11", 1, fragments)


def test_devices_that_are_not_there(bench: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(
        1,
        ["device 'cuda'", "sees no CUDA device; use `device: auto`"],
        "run",
        "p.yaml",
        "-o",
        "out.zarr",
        "--device",
        "cuda",
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    refused_protocol(bench, refused, PROTOCOL.replace(RECORD, "{device: 'cuda:2'}"), "", 1, ["sees the devices 0 to 1"])


@pytest.mark.parametrize("name", ["trap.pth", "raw.pth", "objects.npy", "pickled.npy"])
def test_no_code_of_a_file_is_run(bench: Path, call: Callable[..., Result], name: str) -> None:
    trapped = bench / "trapped"
    if name == "raw.pth":
        pickle.loads((bench / name).read_bytes())
        trapped.rmdir()  # so much for the trap: it works
    new = {NETWORK: f"{NETWORK}, weights: {name}"} if name.endswith("pth") else {IMAGES: f"{{array: {name}}}"}
    ((old, text),) = new.items()
    (bench / "bad.yaml").write_text(PROTOCOL.replace(old, text))
    assert call("run", "bad.yaml", "-o", "out.zarr").exit_code == 1
    assert not trapped.exists()


def test_a_number_of_samples_that_is_no_power_of_two_is_run(bench: Path, call: Callable[..., Result]) -> None:
    (bench / "bad.yaml").write_text(PROTOCOL.replace(SAMPLES, "{samples: 12}"))
    result = call("run", "bad.yaml", "-o", "twelve.zarr")
    assert result.exit_code == 0
    assert "warning: samples: 12 is not a power of two" in result.stderr
    shutil.rmtree(bench / "twelve.zarr")


# name → exit code, arguments, and what has to be said

READERS = {"status": [], "select": [], "report": ["-o", "new/out"], "export": ["-o", "new/out"]}
COMMANDS: dict[str, tuple[int, list[str], list[str]]] = {
    "no protocol": (2, ["run", "nowhere.yaml", "-o", "out.zarr"], ["nowhere.yaml: no such file"]),
    "folder for a protocol": (2, ["check", "full"], ["full: cannot be read (Is a directory); expected a YAML file"]),
    "store for a protocol": (2, ["check", "good.zarr"], ["good.zarr: cannot be read (Is a directory)"]),
    "no output": (2, ["run", "p.yaml"], ["-o OUT.zarr, or --dry-run"]),
    "limit of one": (2,
        ["run", "p.yaml", "-o", "out.zarr", "--limit", "1"], ["'--limit': 1 is not in the range x>=4"]),
    "limit in words": (2, ["run", "p.yaml", "-o", "out.zarr", "--limit", "few"], ["'--limit': 'few' is not a valid"]),
    "unknown device": (2,
        ["run", "p.yaml", "-o", "out.zarr", "--device", "tpu"], ["given 'tpu', expected auto, cpu"]),
    "negative size": (2,
        ["list", "layers", "--network", "embedded", "--size", "-3"], ["-3 is not in the range 1<=x<=4096"]),
    "unknown set": (2,
        ["run", "p.yaml", "-o", "out.zarr", "--set", "a"], ["p.yaml:5:1: unknown set 'a'; known: none; sets are"]),
    "layers of nothing": (2, ["list", "layers", "--network", "embeded"], ["did you mean 'embedded'?"]),
    "output is a file": (1,
        ["run", "p.yaml", "-o", "a_file"], ["output 'a_file' exists and is not a result (file); choose"]),
    "output is a folder": (1,
        ["run", "p.yaml", "-o", "full"], ["output 'full' exists and is not a result (folder that holds other things)"]),
    "output to overwrite is a folder": (1,
        ["run", "p.yaml", "-o", "full", "--overwrite"], ["output 'full' exists and is not a result"]),
    "output in a file": (1,
        ["run", "p.yaml", "-o", "a_file/out.zarr"], ["'a_file/out.zarr' cannot be made in", "(it is a file)"]),
    "output with a long name": (1,
        ["run", "p.yaml", "-o", 300 * "x"], ["xxx' cannot be opened (File name too long)"]),
    "other protocol": (1,
        ["run", "other.yaml", "-o", "good.zarr"], ["'good.zarr' was written by another protocol (small)"]),
    "fewer samples": (1,
        ["run", "p.yaml", "-o", "good.zarr", "--limit", "4"], ["holds 8 base samples, more than the 4 asked for"]),
    "damaged journal": (1,
        ["run", "p.yaml", "-o", "journal.zarr"], ["journal.jsonl':1: not a line of a journal", "--overwrite"]),
    "damaged entry": (1, ["status", "entry.zarr"], ["journal.jsonl':1: not a line of a journal"]),
    "damaged header": (1,
        ["run", "p.yaml", "-o", "header.zarr"], ["'header.zarr': its header cannot be read", "--overwrite"]),
    "newer store": (1, ["status", "newer.zarr"], ["'newer.zarr': store format 99, expected 3"]),
    "older store": (1,
        ["run", "p.yaml", "-o", "older.zarr"], ["'older.zarr': store format 2, expected 3", "--overwrite"]),
    "store without a header": (1,
        ["run", "p.yaml", "-o", "headless.zarr"], ["'headless.zarr' exists and is not a result"]),
    **{
        f"{command} of {name}": (1, [command, name, *output], fragments)
        for command, output in READERS.items()
        for name, fragments in {
            "nowhere.zarr": ["'nowhere.zarr' is missing: no such result; give a path that `run -o` wrote"],
            "full": ["'full' is not a result of neuroprobe (folder that holds other things)"],
            "empty": ["'empty' is not a result of neuroprobe (empty folder)"],
            "a_file": ["'a_file' is "],
            "unfinished.zarr": ["'unfinished.zarr' is unfinished: 2 of 2 blocks are done; run the same"],
            "header.zarr": ["'header.zarr': its header cannot be read"],
            "metadata.zarr": ["'metadata.zarr': its data are damaged (JSONDecodeError", "--overwrite"],
            "data.zarr": ["'data.zarr': its data are damaged", "--overwrite"],
        }.items()
        if (command, name) != ("status", "unfinished.zarr") and (name != "data.zarr" or command in {"status", "select"})
    },
    **{
        f"{command} to {name}": (1, [command, "good.zarr", "-o", name], fragments)
        for command in ("report", "export")
        for name, fragments in {
            "full": ["output 'full' is a folder; give the name of a file in it"],
            "a_file/out": ["output 'a_file/out' cannot be made", "choose another path"],
            300 * "x": ["xxx' cannot be made (File name too long); choose another path"],
        }.items()
    },
}  # fmt: skip


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize(("code", "arguments", "fragments"), COMMANDS.values(), ids=COMMANDS)
def test_commands(refused: Callable[..., str], code: int, arguments: list[str], fragments: list[str]) -> None:
    refused(code, fragments, *arguments)


@pytest.mark.usefixtures("stores")
@pytest.mark.parametrize("command", ["report", "export"])
def test_damaged_data_leave_no_half_of_a_file(bench: Path, refused: Callable[..., str], command: str) -> None:
    (bench / "out.old").write_text("old")
    refused(1, ["'data.zarr': its data are damaged", "--overwrite"], command, "data.zarr", "-o", "out.old")


@pytest.mark.parametrize("command", [["run", "p.yaml"], ["report", "good.zarr"], ["export", "good.zarr"]])
def test_places_where_nothing_can_be_written(bench: Path, refused: Callable[..., str], command: list[str]) -> None:
    (bench / "read_only").mkdir(exist_ok=True)
    (bench / "read_only").chmod(0o555)
    if os.access(bench / "read_only", os.W_OK):
        pytest.skip("this user may write everywhere")
    refused(1, ["output 'read_only/out' cannot be made", "choose another path"], *command, "-o", "read_only/out")


@pytest.mark.usefixtures("stores")
def test_a_torn_line_of_the_journal_is_cut_off(bench: Path, call: Callable[..., Result]) -> None:
    journals = [bench / name / ".neuroprobe" / "journal.jsonl" for name in ("torn.zarr", "good.zarr")]
    assert json.loads(call("status", "torn.zarr", "--json").stdout)["finished"]
    assert journals[0].read_bytes() != journals[1].read_bytes()
    assert call("run", "p.yaml", "-o", "torn.zarr").exit_code == 0
    assert journals[0].read_bytes() == journals[1].read_bytes()


def test_a_damaged_state_is_recorded_again(bench: Path, call: Callable[..., Result]) -> None:
    shutil.copytree(bench / "good.zarr", bench / "state.zarr")
    (state,) = (bench / "state.zarr" / ".neuroprobe").glob("*.safetensors")
    state.write_bytes(b"junk")
    (bench / "more.yaml").write_text(PROTOCOL.replace(SAMPLES, "{samples: 16}"))
    results = []
    for name in ("state.zarr", "good.zarr"):
        copy = shutil.copytree(bench / name, bench / f"more_{name}")
        assert call("run", "more.yaml", "-o", copy).exit_code == 0
        results.append(call("select", copy, "--csv").stdout)
    assert results[0] == results[1] != ""


def test_a_network_that_fails_later(bench: Path, call: Callable[..., Result]) -> None:
    (bench / "bad.yaml").write_text(PROTOCOL.replace(NETWORK, "network: 'nets_of_a_test:tires'"))
    result = call("run", "bad.yaml", "-o", "late.zarr")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: Net failed when it was shown" in result.stderr
    assert "ValueError: it is tired; mend its forward pass" in result.stderr
    status = json.loads(call("status", "late.zarr", "--json").stdout)
    assert (status["sessions"]["pick-freeze"]["blocks_done"], status["finished"]) == (0, False)
    # there is nothing to go on with, and nothing in the way
    assert call("run", "p.yaml", "-o", "late.zarr").exit_code == 0


def test_what_a_network_prints_is_no_result(bench: Path, call: Callable[..., Result]) -> None:
    (bench / "talks.py").write_text(NETWORKS + "\ndef talks():\n    print('hello')\n    return good()\n")
    (bench / "bad.yaml").write_text(PROTOCOL.replace(NETWORK, "network: 'talks:talks'"))
    result = call("run", "bad.yaml", "--dry-run", "--json")
    assert json.loads(result.stdout)["sessions"]["pick-freeze"]["samples"] == 8
    assert "hello" in result.stderr
    sys.modules.pop("talks")


QUERIES = {
    "empty": ("", ["the query is empty: expected a condition, such as"]),
    "blank": (" \t", ["the query is empty"]),
    "unfinished": ("first_order_hue >", ["query:1:18: received the end of the query"]),
    "unclosed": ("layer == 'conv", ["query:1:10: what begins here has no end"]),
    "one equals sign": ("channel = 3", ["query:1:9: '=' is not part of a query: write =="]),
    "unknown column": ("first_order_huge > 1",
        ["query:1:1: unknown column 'first_order_huge' (did you mean 'first_order_hue'?)"]),
    "second line": ("channel > 1\nand colour > 1", ["query:2:5: unknown column 'colour'"]),
    "text for a number": ("channel == 'a'", ["query:1:12: channel is a number: expected a number", "received 'a'"]),
    "number for text": ("layer > 3", ["query:1:9: layer is text: expected text in quotes"]),
    "no condition": ("first_order_hue", ["first_order_hue is a number, expected a condition"]),
    "list without end": ("channel in [1, 2", ["query:1:17: received the end", "the ] of the list"]),
    "infinite number": ("channel > 1e999", ["query:1:11: 1e999 is too large for a number"]),
    "code": ("__import__('os').system('mkdir trapped')", ["query:1:17: '.system' is not part of a query"]),
    "call": ("__import__('os')", ["query:1:1: a query calls no functions but abs"]),
    "attribute": ("layer.__class__ == 'a'", ["query:1:6: '.__class__' is not part of a query"]),
    "lambda": ("(lambda: 1)() > 0", ["query:1:8: ':' is not part of a query"]),
    "list of a loop": ("[x for x in [1]] == 1", ["query:1:1: received '['"]),
    "a megabyte": ("channel > 1 and " * 70_000 + "true",
        ["the query has 1,120,004 characters, expected 100,000 at most"]),
    "a megabyte of a word": (10**6 * "x", ["the query has 1,000,000 characters"]),
    "deep": (5000 * "(" + "true" + 5000 * ")", ["query:1:31: more than 30 levels within each other"]),
    "deep in words": (5000 * "not " + "true", ["more than 30 levels within each other"]),
}  # fmt: skip


@pytest.mark.parametrize(("query", "fragments"), QUERIES.values(), ids=QUERIES)
def test_queries(refused: Callable[..., str], query: str, fragments: list[str]) -> None:
    said = refused(2, fragments, "select", "good.zarr", query)
    assert len(said) < 1000


@pytest.mark.parametrize(
    ("options", "fragments"),
    [
        (["--columns", "nope"], ["columns: unknown column 'nope'"]),
        (["--sort", "first_order_huge"], ["unknown column 'first_order_huge' (did you mean 'first_order_hue'?)"]),
        (["--limit", "-1"], ["'--limit': -1 is not in the range"]),
    ],
)
def test_options_of_select(refused: Callable[..., str], options: list[str], fragments: list[str]) -> None:
    refused(2, fragments, "select", "good.zarr", "true", *options)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["check", "subprocess.yaml"], 2, "subprocess.yaml:2:1: unknown key 'titel'"),
        (["run", "trap.yaml", "-o", "out.zarr"], 1, "trap.yaml:3:30: weights "),
        (["report", "full", "-o", "out.html"], 1, "error: 'full' is not a result"),
        (["select", "good.zarr", "__import__('os')"], 2, "error: query:1:1: a query calls no functions"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_in_a_process_of_its_own(bench: Path, arguments: list[str], code: int, said: str) -> None:
    (bench / "subprocess.yaml").write_text(PROTOCOL.replace("title", "titel"))
    (bench / "trap.yaml").write_text(PROTOCOL.replace(NETWORK, f"{NETWORK}, weights: trap.pth"))
    before = content(bench)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "neuroprobe", *arguments]
    process = subprocess.run(command, cwd=bench, env=environment, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (code, "")
    assert process.stderr.startswith(said)
    assert "Traceback" not in process.stderr
    assert content(bench) == before

"""ResNet-20 on CIFAR-10, trained beside its random twin: time, and medians of shares per layer and factor.

Under five alterations, and under both sets of alterations of Kharyuk et al. 2025, all at once and in any order; the
same by the choices of their code; accuracies under each alteration alone; and whether maps tell their factors.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data).
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from pathlib import Path

import neuroprobe as npr
from neuroprobe.summary import status

SHARES = {"first_order": "S1", "total_order": "ST", "shapley_effect": "Shapley"}
DATA = Path(os.environ.get("NEUROPROBE_DATA", "../shared/data"))


def protocol(samples: int = 1024, random_twin: bool = False, scramble: str | int = "auto") -> dict:
    return {
        "neuroprobe": 1,
        "title": "ResNet-20 under five alterations",
        "subject": {
            "network": "cifar_resnet20",
            "weights": str(DATA / "cifar10/resnet20.th"),
            "layers": ["layer1", "layer2", "layer3", "linear"],
            "preprocess": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            "random_twin": random_twin,
        },
        "stimuli": {"images": {"folder": str(DATA / "cifar10/test"), "limit": 500}, "image": "frozen"},
        "treatment": {
            "alterations": [
                {"name": "erasing", "switch": 0.5},
                {"name": "grayscale", "switch": 0.5},
                {"name": "gaussian_blur", "switch": 0.5, "sigma": {"uniform": [0.1, 2.0]}},
                {"name": "hue", "switch": 0.5, "shift": {"uniform": [-0.5, 0.5]}},
                {"name": "rotation", "switch": 0.5, "angle": {"uniform": [-10, 10]}},
            ]
        },
        "design": {"samples": samples, "scramble": scramble},
        "record": {"batch": 128},
    }


def shipped(name: str, **changes: dict) -> dict:
    """Return a shipped protocol, some of its blocks changed."""
    os.environ.setdefault("NEUROPROBE_DATA", str(DATA.resolve()))
    asked = npr.load_protocol(f"protocols/cifar_resnet20_{name}.yaml").model_dump(by_alias=True, exclude_unset=True)
    return asked | {block: asked[block] | change for block, change in changes.items()}


def timed(name: str, asked: dict, folder: str) -> Path:
    """Run a protocol and print how long it took."""
    started, path = time.perf_counter(), Path(folder, f"{name}.zarr")
    npr.run(asked, path)
    print(f"{name}: {time.perf_counter() - started:.1f} s", flush=True)
    return path


def compare(name: str, paths: dict[str, Path]) -> None:
    """Print medians of the shares of several results side by side, with their standard errors."""
    tables = {kind: status(path).layers for kind, path in paths.items()}
    shown = [(kind, key) for kind, rows in tables.items() for key in SHARES if key in rows[0]]
    print(f"\n{name}\n{'layer':<9} {'factor':<20} " + " ".join(f"{f'{kind} {SHARES[key]}':>18}" for kind, key in shown))
    for rows in zip(*tables.values(), strict=True):
        of = dict(zip(tables, rows, strict=True))
        cells = (f"{of[kind][key]:.3f} ({of[kind][f'{key}_se']:.3f})" for kind, key in shown)
        print(f"{rows[0]['layer']:<9} {rows[0]['factor']:<20} " + " ".join(f"{cell:>18}" for cell in cells))


def accuracies(path: Path) -> None:
    """Print accuracies under each alteration, with 95 % intervals."""
    table = npr.open_result(path)["accuracy"].to_dataset()
    print(
        f"\naccuracies on {int(table['n_images'][0])} images\n{'alteration':<20} " + f"{'top-1':>22} {'true class':>22}"
    )
    for factor in table["factor"].values:
        cells = []
        for measure in ("top_1", "probability"):
            one = table.sel(factor=factor, measure=measure)
            cells.append(f"{float(one.estimate):.4f} [{float(one.lower):.4f}, {float(one.upper):.4f}]")
        print(f"{factor:<20} " + " ".join(f"{cell:>22}" for cell in cells))


def classifications(paths: dict[str, Path]) -> None:
    """Print how well a linear discriminant tells which factor a map is of, beside chance and permutations."""
    print("\nwhich factor is this map of? accuracy (standard error), mean of permutations, adjusted p")
    for name, path in paths.items():
        found = npr.specialisation(npr.open_result(path), values=["shapley_effect"], n_permutations=20, max_features=64)
        data = found.to_dataset() if "accuracy" in found.data_vars else found["classification"].to_dataset()
        for layer in data["layer"].values:
            cells = []
            for kind in ("none", "unit"):
                one = data.sel(layer=layer, normalisation=kind).squeeze()
                cells.append(
                    f"{kind} {float(one.accuracy):.3f} ({float(one.accuracy_se):.3f}), "
                    f"{float(one.permuted_accuracy):.3f}, {float(one.p_adjusted):.3f}"
                )
            print(f"{name:<20} {layer:<9} chance {data.attrs.get('chance', float('nan')):.3f}  " + "  ".join(cells))


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"trained": False, "twin": True}
        five = {kind: timed(f"five {kind}", protocol(random_twin=twin), folder) for kind, twin in kinds.items()}
        compare("five alterations", five)
        sets: dict[str, Path] = {}
        for name in ("set1", "set2"):
            paths = {
                kind: timed(f"{name} {kind}", shipped(name, subject={"random_twin": twin}), folder)
                for kind, twin in kinds.items()
            }
            compare(name, paths)
            sets |= {f"{name} {kind}": path for kind, path in paths.items()}
        # the study's choices: images redrawn in every row, parameters as players
        of_the_study = timed("reference", shipped("reference"), folder)
        compare(
            "set 2, Sobol indices: corrected and the study's", {"ours": sets["set2 trained"], "study": of_the_study}
        )
        players = timed("reference_shapley", shipped("reference_shapley"), folder)
        compare("set 2, Shapley effects: corrected and the study's", {"ours": sets["set2 trained"], "study": players})
        frozen = shipped("reference_shapley", stimuli={"image": "frozen"})
        compare("the same, images frozen", {"ours": sets["set2 trained"], "scalar": timed("players", frozen, folder)})
        accuracies(timed("contrast", shipped("contrast"), folder))
        classifications(sets)


if __name__ == "__main__":
    main()

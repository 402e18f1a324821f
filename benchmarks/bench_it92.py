"""ResNet-20 and its random twins on the 92 images of Kriegeskorte et al. 2008, against human IT, monkey IT and EVC.

Images are resized from 175 to 32 px (bicubic, PIL) and standardised as the weights want them; dissimilarities are
1 - Pearson's r over units, compared by Spearman's correlation. The file of images that protocols/it92_resnet20.yaml
reads is written by ``--images FILE``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from PIL import Image
from scipy.io import loadmat

import neuroprobe as npr
from neuroprobe.recordings.rdms import read_rdms
from neuroprobe.statistics.rdm_comparison import compare_rdms
from neuroprobe.statistics.rdms import Products
from neuroprobe.subjects.cifar_resnet import MEAN, STD, CifarResNet

DATA = Path(os.environ.get("NEUROPROBE_DATA", "../shared/data"))
FOLDER = DATA / "it92"
BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)]
LAYERS = ["conv1", *BLOCKS, "linear"]


def images() -> Any:
    """The 92 images, 32 px, uint8."""
    told = loadmat(FOLDER / "Kriegeskorte_Neuron2008_supplementalData.mat")
    found = told["stimuli_92objs"]["image"][0]
    return np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in found])


def responses(model: torch.nn.Module, shown: Any) -> dict[str, Any]:
    """Responses (images, units) of each layer."""
    kept: dict[str, Any] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, output, name=name: kept.update({name: output.flatten(1).numpy()})
        )
        for name in LAYERS
    ]
    x = torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        model.eval()((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    for hook in hooks:
        hook.remove()
    return kept


def dissimilarities(of_layer: Any) -> Any:
    """1 - r of all pairs of images."""
    products = Products(len(of_layer))
    products.add(of_layer)
    return products.distances()


def recording(kept: dict[str, Any]) -> xr.DataTree:
    """Responses as a recording."""
    ids = {"stimulus_id": ("presentation", [str(number) for number in range(92)])}
    nodes = {f"/responses/{n}": xr.Dataset({"response": (("presentation", "channel"), v)}) for n, v in kept.items()}
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=ids), **{n: d.assign_coords(ids) for n, d in nodes.items()}})


def trained() -> torch.nn.Module:
    """ResNet-20 with the weights of CIFAR-10."""
    state = torch.load(DATA / "cifar10" / "resnet20.th", map_location="cpu", weights_only=True)["state_dict"]
    model = CifarResNet(3)
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return model


def brains() -> dict[str, xr.Dataset]:
    """Dissimilarities to compare with."""
    both = read_rdms(FOLDER / "Kriegeskorte_Neuron2008_supplementalData.mat")
    return {
        "monkey IT": both.isel(subject=[0]),
        "human IT (2008)": both.isel(subject=[1]),
        "human IT (4 × 2 sessions)": read_rdms(FOLDER / "92_brainRDMs.mat"),
        "human IT (15 subjects)": read_rdms(FOLDER / "fmri_IT_RDMs_15subjects.npz"),
        "EVC (15 subjects)": read_rdms(FOLDER / "fmri_EVC_RDMs_15subjects.npz"),
    }


def per_subject(matrices: xr.Dataset) -> xr.Dataset:
    """Mean over the sessions of each subject: sessions are no subjects."""
    subjects = [str(one).split("|")[1].strip() for one in matrices.subject.values]
    return matrices.assign_coords(subject=subjects).groupby("subject").mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, help="write the file of images, and stop")
    parser.add_argument("--twins", type=int, default=20)
    parser.add_argument("--bootstrap", type=int, default=1000)
    given = parser.parse_args()
    shown = images()
    if given.images is not None:
        np.savez(given.images, images=shown, ids=np.array([str(number) for number in range(92)]))
        print(given.images)
        return
    kept, against = responses(trained(), shown), brains()
    against["human IT (4 × 2 sessions)"] = per_subject(against["human IT (4 × 2 sessions)"])
    twins: dict[str, list[Any]] = {name: [] for name in against}
    for seed in range(given.twins):
        torch.manual_seed(seed)
        of_twin = responses(CifarResNet(3), shown)
        rows = np.stack([dissimilarities(of_twin[layer]) for layer in LAYERS])
        for name, brain in against.items():
            twins[name].append(compare_rdms(rows, brain.rdm.values).mean(1))
    for name, brain in against.items():
        start = time.perf_counter()
        found = npr.compare(recording(kept), brain, n_draws=given.bootstrap)
        low, high = found.ceiling_lower.item(), found.ceiling_upper.item()
        print(f"\n{name}: ceiling {low:.3f} to {high:.3f}; {time.perf_counter() - start:.0f} s")
        held, spread = found.held_out_score.item(), found.held_out_spread.item()
        print(f"best layer in one half of the images, scored in the other: {held:.3f} ± {spread:.3f} over halves")
        shares = zip(LAYERS, found.share_chosen.values, strict=True)
        print("chosen: " + ", ".join(f"{layer} {share:.0%}" for layer, share in shares if share))
        print(f"{'layer':10} score   se    95 % interval   p adjusted   random twins: mean  sd  range")
        of_twins = np.array(twins[name])
        for at, layer in enumerate(LAYERS):
            one, t = found.isel(layer=at), of_twins[:, at]
            print(
                f"{layer:10} {one.score:.3f}  {one.score_se:.3f}  {one.score_lower:6.3f} {one.score_upper:6.3f}   "
                f"{one.p_adjusted:9.2g}   {t.mean():.3f} {t.std(ddof=1):.3f}  {t.min():.3f} {t.max():.3f}"
            )


if __name__ == "__main__":
    main()

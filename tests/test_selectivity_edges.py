"""Selectivity runs at the edge of what there is: few images, fields wider than these, units that see nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import neuroprobe as npr
import planted
from neuroprobe.errors import RegistryError, ResponseError
from neuroprobe.rig import open_rig
from neuroprobe.stimuli.properties import LABELLERS, labeller

STEP = 0.5 / 254 + 1e-5  # of pictures, which are stored in 8 bits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write_images(tmp_path_factory.mktemp("planted") / "images", 5)


def protocol(
    folder: Path, network: str = "build", layer: str = "units", record: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    shared = {"top": 6, "stability": [], "sham": 0, "permutations": 9, "indexes": ["colour", "class"]}
    return {
        "neuroprobe": 1,
        "seed": options.pop("seed", 0),
        "subject": {"network": f"planted:{network}", "layers": [layer], "preprocess": planted.PREPROCESS},
        "stimuli": {"images": {"folder": str(folder)}},
        "analyses": [{"selectivity": {**shared, **options}}],
        "record": {"device": "cpu", "batch": 16, **(record or {})},
    }


def run(out: Path, given: dict[str, Any]) -> xr.Dataset:
    result = npr.run(given, out)
    (node,) = result["selectivity"].children.values()
    return node.to_dataset().load()


def test_a_half_may_be_empty(tmp_path: Path) -> None:
    """Of three images, all are in one half by some seed."""
    images = planted.write_images(tmp_path / "images", 1)
    found = []
    for seed in range(4):
        node = run(tmp_path / f"{seed}.zarr", protocol(images, top=2, seed=seed))
        assert node["gamma_by_half"].dims == ("half", "channel")
        assert np.isfinite(node["gamma"][: planted.DEAD]).all()
        found.append(node["gamma_by_half"][:, : planted.DEAD].isnull().all("channel").any().item())
    assert True in found


@pytest.mark.parametrize("n_kept", [5, 0])
def test_lists_that_dropping_makes_too_short_are_refused(folder: Path, n_kept: int, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "images")
    for path in sorted((tmp_path / "images").glob("*/*.png"))[n_kept:]:
        with Image.open(path) as image:
            pixels = np.array(image)
        pixels[:1, :1] = 0
        Image.fromarray(pixels).save(path)
    given = protocol(tmp_path / "images", "failing", record={"nan": "drop"})
    with pytest.raises(ResponseError, match=rf"layer 'units': {n_kept} images gave finite responses, and lists of 6"):
        npr.run(given, tmp_path / "out.zarr")


def test_units_that_see_nothing(folder: Path, tmp_path: Path) -> None:
    """Their Neuron Feature is covered by nothing, and no change of what they are shown costs them anything."""
    node = run(tmp_path / "out.zarr", protocol(folder, "padded", "1"))
    assert node["defined"].values.tolist() == [1, 1, 0]
    assert not node["top_y"].any()
    np.testing.assert_allclose(node["top_value"][:2], [[0.5] * 6, [1.0] * 6])
    assert node["top_image"].values.tolist() == [list(range(6))] * 3  # of equal ones the first images
    np.testing.assert_array_equal(node["colour"], [0, 0, np.nan])
    np.testing.assert_array_equal(node["coverage"][:, 0, 0], [0, 0, np.nan])
    np.testing.assert_allclose(node["neuron_feature"][:2], 127 / 255, atol=STEP)
    assert (node["hue_modes"] == 0).all()


def test_fields_that_are_wider_than_images(folder: Path, tmp_path: Path) -> None:
    given = protocol(folder, "deep", "9", indexes=["colour", "symmetry", "class"])
    node, rig = run(tmp_path / "out.zarr", given), open_rig(npr.load_protocol(given))
    attrs, side = node.attrs, planted.SIDE
    assert attrs["whole_image"] == 0
    assert attrs["receptive_field_height"] > 2 * side > attrs["field_height"]
    assert node["neuron_feature"].shape == (3, attrs["field_height"], attrs["field_width"], 3)
    alive = np.flatnonzero(node["defined"])
    assert alive.size
    for unit in alive:
        sums, covered = np.zeros(node["neuron_feature"].shape[1:]), np.zeros(node["coverage"].shape[1:])
        own = altered = 0.0
        for rank in range(6):
            image, row, column, value = (
                node[name][unit, rank].item() for name in ("top_image", "top_y", "top_x", "top_value")
            )
            shown = rig.images.load([image])
            edges = [
                attrs[f"field_start_{axis}"] + attrs[f"field_stride_{axis}"] * at
                for axis, at in (("y", row), ("x", column))
            ]
            top, left = (max(0, edge) for edge in edges)
            bottom, right = min(edges[0] + attrs["field_height"], side), min(edges[1] + attrs["field_width"], side)
            crop = shown[0, :, top:bottom, left:right].permute(1, 2, 0).numpy()
            on_canvas = slice(top - edges[0], bottom - edges[0]), slice(left - edges[1], right - edges[1])
            weight = max(value, 0) / node["peak"][unit].item()
            sums[on_canvas] += weight * crop
            covered[on_canvas] += weight
            # the whole image is seen or not: what is mirrored here is what is seen
            shown[:, :, top:bottom, left:right] = shown[:, :, top:bottom, left:right].flip(3)
            with torch.no_grad():
                altered += rig.subject.network(shown)[0, unit, row, column].item()
            own += value
        share = node["symmetry_by_member"].sel(symmetry_member="90")[unit]
        np.testing.assert_allclose(share, altered / own, atol=1e-4)
        seen = covered / covered.max() > 0.1 + 1e-3
        feature = node["neuron_feature"].values[unit]
        np.testing.assert_allclose(feature[seen], sums[seen] / covered[seen][:, None], atol=STEP)


@pytest.fixture
def own_labellers() -> Iterator[None]:
    """Take the labellers that a test registers out of the registry again."""
    before = set(LABELLERS._known)
    yield
    for name in set(LABELLERS._known) - before:
        LABELLERS._known.pop(name)


@pytest.mark.usefixtures("own_labellers")
def test_labellers_of_ones_own_are_checked(folder: Path, tmp_path: Path) -> None:
    @labeller("side_of_a_test", ["left", "right"])
    def side(images: torch.Tensor) -> torch.Tensor:
        """Half of the image that a pixel is in."""
        columns = torch.arange(images.shape[3]) >= images.shape[3] // 2
        return columns.long().expand(len(images), images.shape[2], -1)

    @labeller("third_of_a_test", ["one", "two"])
    def third(images: torch.Tensor) -> torch.Tensor:
        """A label too many."""
        return torch.full(images[:, 0].shape, 2)

    @labeller("shape_of_a_test", ["one", "two"])
    def shape(images: torch.Tensor) -> torch.Tensor:
        """No whole numbers."""
        return images[:, 0]

    node = run(tmp_path / "out.zarr", protocol(folder, indexes=["side_of_a_test"]))
    assert node["side_of_a_test_label"].values.tolist() == ["left", "right"]
    np.testing.assert_allclose(node["side_of_a_test_frequency"].sum("side_of_a_test_label")[: planted.DEAD], 1)
    for name, said in (("third", "gave 2 to 2, expected places among its 2 labels"), ("shape", "gave float32 of")):
        with pytest.raises(RegistryError, match=f"pixel labeller '{name}_of_a_test' {said}"):
            npr.run(protocol(folder, indexes=[f"{name}_of_a_test"]), tmp_path / f"{name}.zarr")

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from altering import N_IMAGES, altered, random_images
from neuroprobe.stimuli.alterations import ALTERATIONS, REFERENCE_SIDE


def test_erasing(images: Tensor) -> None:
    height, width = images.shape[-2:]
    rows = [0.0, 20.2, height - 1.0, 3.4, height / 2, 11.0]
    columns = [0.0, 17.0, width - 1.0, width - 4.3, width / 2, 30.0]
    areas = [0.2, 0.1, 0.33, 0.02, 1.0, 0.05]
    aspects = [1.0, 0.3, 3.3, 0.5, 1.0, 2.2]
    result = altered("erasing", images, row=rows, column=columns, area=areas, aspect=aspects)
    for i, image in enumerate(images):
        pixels = areas[i] * height * width
        box = round((pixels * aspects[i]) ** 0.5), round((pixels / aspects[i]) ** 0.5)
        start = round(rows[i] - box[0] / 2), round(columns[i] - box[1] / 2)
        top, left = max(start[0], 0), max(start[1], 0)
        bottom, right = min(start[0] + box[0], height), min(start[1] + box[1], width)
        assert bottom > top
        assert right > left
        expected = vision.erase(image, top, left, bottom - top, right - left, torch.tensor(0.0))
        assert torch.equal(result[i], expected), f"image {i}"


def test_erasing_is_skipped_as_in_the_code_of_the_study() -> None:
    """A box that ends within the image is erased, one that leaves it at the bottom or on the right is not."""
    images = random_images(20, 20)
    #          inside, touches, below, right, above, left
    boxes = {"row": [10.0, 17, 18, 10, 1, 10], "column": [10.0, 17, 10, 18, 10, 1]}
    same = {"area": [0.09] * N_IMAGES, "aspect": [1.0] * N_IMAGES}
    clipped, skipped = (altered("erasing", images, **boxes, **same, outside=[o] * N_IMAGES) for o in (0.0, 1.0))
    for i, leaves in enumerate([False, False, True, True, False, False]):
        assert torch.equal(skipped[i], images[i] if leaves else clipped[i])
        assert not torch.equal(clipped[i], images[i])


def test_about_a_sixth_of_the_studys_boxes_is_skipped() -> None:
    n, side = 2000, 56
    thing = ALTERATIONS["erasing"]
    u = np.random.default_rng(0).random((len(thing.parameters), n))
    values = {
        name: torch.from_numpy(parameter.law.ppf(row))
        for (name, parameter), row in zip(thing.parameters.items(), u, strict=True)
    }
    images = torch.ones(n, 1, side, side)
    erased = thing(images, {**values, "outside": torch.ones(n)}, torch.arange(n), REFERENCE_SIDE)
    assert 0.13 < float((erased == 1).all((1, 2, 3)).float().mean()) < 0.18


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    centre=st.tuples(st.floats(-5, 16), st.floats(-5, 16)),
    side=st.floats(0, 20),
    value=st.floats(0, 1, width=32),
)
def test_occlusion(height: int, width: int, centre: tuple[float, float], side: float, value: float) -> None:
    image = random_images(height, width, n=1)
    centre_32, side_32 = torch.tensor(centre), torch.tensor(side)
    result = altered("occlusion", image, row=[centre[0]], column=[centre[1]], side=[side], value=[value])
    extent = int(side_32.round())
    top, left = (int((c - extent / 2).round()) for c in centre_32)
    for i in range(height):
        for j in range(width):
            covered = top <= i < top + extent and left <= j < left + extent
            expected = torch.full((3,), value) if covered else image[0, :, i, j]
            assert torch.equal(result[0, :, i, j], expected), (i, j)


def test_occlusion_is_grey_by_default() -> None:
    images = random_images(20, 20)
    row, side = [10.0] * N_IMAGES, [6.0] * N_IMAGES
    result = altered("occlusion", images, row=row, column=row, side=side)
    expected = images.clone()
    expected[:, :, 7:13, 7:13] = 0.5
    assert torch.equal(result, expected)

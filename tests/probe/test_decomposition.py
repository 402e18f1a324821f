"""Maps of an earlier layer in crops, against crops that are alone on a grey image."""

import numpy as np
import pytest
import torch
from torch import nn

from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.decomposition import layer_maps, maps_under
from neuroprobe.probe.receptive_field import receptive_fields

IMAGES = torch.rand(8, 3, 26, 30, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = [
            nn.Conv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(4, 5, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(5, 6, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(6 * 7 * 8, 7),
        ]
        return nn.Sequential(*layers).double().eval().requires_grad_(False)


@pytest.mark.parametrize("earlier", ["1", "2", "4"])
@pytest.mark.parametrize("batch", [2, 32])
def test_places_are_those_of_the_crop_alone(earlier: str, batch: int) -> None:
    net = network()
    fields = receptive_fields(net, [earlier, "6"], IMAGES[:1])
    field, before = fields["6"], fields[earlier]
    images, rows, columns = np.array([5, 0, 3, 7, 2]), np.array([0, 3, 6, 2, 3]), np.array([4, 3, 7, 0, 5])
    found = maps_under(net, earlier, before, field, IMAGES.__getitem__, images, rows, columns, batch=batch)
    n_there = 0
    for number, (image, row, column) in enumerate(zip(images, rows, columns, strict=True)):
        top, left, bottom, right = map(int, field.clipped_box(row, column))
        alone = torch.full_like(IMAGES[:1], 0.5)
        alone[0, :, top:bottom, left:right] = IMAGES[image, :, top:bottom, left:right]
        maps = layer_maps(net, earlier, alone)[0]
        corner_y, corner_x = map(int, field.box(row, column)[:2])
        seen = {}
        for r, c in np.ndindex(maps.shape[1:]):
            box = [int(edge) for edge in before.box(r, c)]
            if box[0] >= top and box[1] >= left and box[2] <= bottom and box[3] <= right:
                seen[box[0] - corner_y, box[1] - corner_x] = maps[:, r, c]
        # places are counted from the first whole field in a crop that is not clipped
        for r, c in np.ndindex(found.shape[2:]):
            first_y, first_x = (
                next(edge for edge in range(100) if (corner + edge - axis.start) % axis.stride == 0)
                for corner, axis in ((corner_y, before.rows), (corner_x, before.columns))
            )
            place = (first_y + r * before.rows.stride, first_x + c * before.columns.stride)
            if place in seen:
                np.testing.assert_allclose(found[number, :, r, c], seen.pop(place), rtol=1e-12)
                n_there += 1
            else:
                assert np.isnan(found[number, :, r, c]).all()
        assert not seen
    assert n_there > 15


def test_units_that_see_the_whole_image() -> None:
    net = network()
    fields = receptive_fields(net, ["1", "8"], IMAGES[:1])
    nowhere = np.zeros(2, int)
    found = maps_under(net, "1", fields["1"], fields["8"], IMAGES.__getitem__, np.array([4, 1]), nowhere, nowhere)
    maps = layer_maps(net, "1", IMAGES[[4, 1]])
    np.testing.assert_array_equal(found, maps[:, :, 1:-1, 1:-1])  # the fields of the others leave the image


def test_layers_that_do_not_fit() -> None:
    net = network()
    fields = receptive_fields(net, ["1", "4", "8"], IMAGES[:1])
    top = np.zeros(2, int)
    with pytest.raises(SubjectError, match="layer '8': its units see the whole image"):
        maps_under(net, "8", fields["8"], fields["8"], IMAGES.__getitem__, top, top, top)
    with pytest.raises(SubjectError, match="do not fit into fields"):
        maps_under(net, "4", fields["4"], fields["1"], IMAGES.__getitem__, top, top, top)
    with pytest.raises(UnknownNameError, match="unknown layer '9'"):
        layer_maps(net, "9", IMAGES)
    with pytest.raises(SubjectError, match=r"layer '1' gives \(3, 780\) per image, expected a map or channels"):
        layer_maps(nn.Sequential(nn.ReLU(), nn.Flatten(2)), "1", IMAGES)

"""Noise of generators: statistics of its cells, spectra of scrambled images, a function of seed and exemplar."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neuroprobe.stimuli.generated import draw_all
from neuroprobe.stimuli.generators import Screen
from neuroprobe.stimuli.images import ImageSet, Source

SCREEN = Screen(32, 48)


def drawn(name: str, seed: int = 0, screen: Screen = SCREEN, **settings) -> np.ndarray:
    levels = {key: value if isinstance(value, list) else [value] for key, value in settings.items()}
    one = draw_all(name, levels, screen, seed)
    return one.draw(range(len(one))).numpy().astype(np.float64)


def cells(images: np.ndarray, side: int) -> np.ndarray:
    """Values of the cells, in which all pixels are alike."""
    n, _, height, width = images.shape
    blocks = images[:, 0].reshape(n, height // side, side, width // side, side)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    return blocks[:, :, 0, :, 0] * 2 - 1


@pytest.mark.parametrize(
    ("distribution", "sd", "levels"), [("binary", 1, 2), ("uniform", 3**-0.5, None), ("gaussian", 1 / 3, None)]
)
def test_dense_noise_has_independent_cells(distribution: str, sd: float, levels: int | None) -> None:
    found = cells(drawn("dense_noise", exemplar=list(range(200)), cell=4, distribution=distribution), 4)
    n = found.size
    assert found.mean() == pytest.approx(0, abs=4 * sd / n**0.5)
    assert found.std() == pytest.approx(sd, rel=0.02)
    assert levels is None or len(np.unique(found)) == levels
    flat = found.reshape(200, -1)
    for shifted in (flat[:, 1:] * flat[:, :-1], flat[1:] * flat[:-1]):  # neighbours, and exemplars
        assert shifted.mean() / sd**2 == pytest.approx(0, abs=4 / shifted.size**0.5)


def test_sparse_noise_has_so_many_squares_of_either_sign() -> None:
    found = cells(drawn("sparse_noise", exemplar=list(range(300)), cell=4, n_squares=5, contrast=0.5), 4)
    assert set(np.unique(found)) == {-0.5, 0, 0.5}
    assert ((found != 0).sum((1, 2)) == 5).all()
    assert (found > 0).sum() == pytest.approx(750, abs=4 * (1500 / 4) ** 0.5)
    # all places alike: 96 of them
    per_place = (found != 0).sum(0).ravel()
    assert ((per_place - 1500 / 96) ** 2).sum() / (1500 / 96) < 96 + 4 * (2 * 96) ** 0.5
    assert ((drawn("sparse_noise", cell=16, n_squares=100) != 0.5).all(0)).all()


def test_noise_is_a_function_of_seed_and_exemplar() -> None:
    first = drawn("dense_noise", exemplar=[3, 8], contrast=[0.5, 1])
    again = drawn("dense_noise", exemplar=[8], contrast=1.0)
    np.testing.assert_array_equal(first[3], again[0])
    # one pattern at both contrasts
    np.testing.assert_allclose((first[2] - 0.5) * 2, first[3] - 0.5, atol=1e-6)
    assert (drawn("dense_noise", seed=1, exemplar=8) != again).any()
    assert (drawn("sparse_noise", exemplar=8) != drawn("sparse_noise", exemplar=9)).any()


def photographs(size: tuple[int, int], spread: float = 0.1) -> ImageSet:
    rng = np.random.default_rng(5)
    smooth = np.cumsum(np.cumsum(rng.normal(size=(3, *size, 3)), 1), 2)
    low, high = smooth.min(), smooth.max()
    pictures = (0.5 + spread * ((smooth - low) / (high - low) - 0.5)).astype(np.float32)
    return ImageSet(Source("made", ["a", "b", "c"], None, lambda index: pictures[index]))


@pytest.mark.parametrize("size", [(32, 32), (31, 33), (24, 35)])
def test_scrambled_images_keep_their_amplitudes(size: tuple[int, int]) -> None:
    images = photographs(size)
    one = draw_all("phase_scrambled", {"coherence": [0.0, 1.0], "exemplar": [0, 1]}, Screen(*size), 0, images)
    assert len(one) == 12
    assert one.columns(images.ids)["of_image"].tolist() == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    originals = images.load(one.of).double()
    shown = one.draw(range(12), images.load(one.of)).double()
    amplitude, expected = (torch.fft.fft2(one).abs() for one in (shown, originals))
    torch.testing.assert_close(amplitude, expected, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(shown.mean((2, 3)), originals.mean((2, 3)), atol=1e-6, rtol=0)
    is_whole = torch.from_numpy(one.values["coherence"] == 1)
    torch.testing.assert_close(shown[is_whole], originals[is_whole], atol=1e-6, rtol=0)
    scrambled = shown[~is_whole]
    assert len({tuple(row) for row in scrambled.flatten(1).tolist()}) == 6
    # phases of the image are lost: of many frequencies they agree by chance
    turned = torch.fft.fft2(scrambled[:, 0]) * torch.fft.fft2(originals[~is_whole][:, 0]).conj()
    agreement = torch.cos(turned.angle())[:, 1:, 1:].mean()
    assert abs(float(agreement)) < 4 / (6 * size[0] * size[1] / 2) ** 0.5


def test_scrambling_is_alike_in_all_channels() -> None:
    images = photographs((32, 32))
    one = draw_all("phase_scrambled", {}, Screen(32, 32), 0, images)
    shown, originals = one.draw([1], images.load([1])).double(), images.load([1]).double()
    shift = (torch.fft.fft2(shown) * torch.fft.fft2(originals).conj()).angle()[0]
    strong = torch.fft.fft2(originals)[0].abs().amin(0) > 0.05
    away = torch.remainder(shift[1] - shift[0] + torch.pi, 2 * torch.pi) - torch.pi
    assert float(away[strong].abs().max()) < 1e-3

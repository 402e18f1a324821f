"""Uniform colours round a circle of hues."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from neuroprobe.stimuli.generators.contract import Setting, generator
from neuroprobe.stimuli.generators.screen import Screen

# CIE 1976 L*a*b* under D65 to linear sRGB (IEC 61966-2-1)
WHITE: Final = (0.95047, 1.0, 1.08883)
TO_RGB: Final = (
    (3.2404542, -1.5371385, -0.4985314),
    (-0.9692660, 1.8760108, 0.0415560),
    (0.0556434, -0.2040259, 1.0572252),
)
HUE: Final = Setting(0.0, "angle")


def _uniform(screen: Screen, rgb: Tensor) -> Tensor:
    """Images of one colour each, of (n, 3)."""
    return rgb.clamp(0, 1).float()[:, :, None, None].expand(-1, -1, screen.height, screen.width).contiguous()


@generator("hue", hue=HUE, saturation=Setting(1.0, low=0, high=1), value=Setting(1.0, low=0, high=1))
def hue(screen: Screen, hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Uniform colour of HSV: red at a hue of 0, green at 120, blue at 240; hues differ in luminance."""
    own = torch.tensor([0.0, 120.0, 240.0], dtype=hue.dtype, device=hue.device)
    # a channel is at `value` within 60 degrees of its own hue, falls over the next 60, and stays lowest
    away = (hue[:, None] - own + 180).remainder(360).sub(180).abs()
    fall = (away / 60 - 1).clamp(0, 1)
    return _uniform(screen, value[:, None] * (1 - saturation[:, None] * fall))


@generator("lab_hue", hue=HUE, chroma=Setting(30.0, low=0, high=150), lightness=Setting(60.0, low=0, high=100))
def lab_hue(screen: Screen, hue: Tensor, chroma: Tensor, lightness: Tensor) -> Tensor:
    """Uniform colour of CIELAB (D65, sRGB) at one lightness; a chroma beyond what a display shows is clipped.

    A lightness of 60 and a chroma of 30 are shown at all hues.
    """
    angle = torch.deg2rad(hue)
    middle = (lightness + 16) / 116
    f = torch.stack([middle + chroma * angle.cos() / 500, middle, middle - chroma * angle.sin() / 200], 1)
    least = 6 / 29
    xyz = torch.where(f > least, f**3, 3 * least**2 * (f - 4 / 29)) * f.new_tensor(WHITE)
    linear = (xyz @ f.new_tensor(TO_RGB).T).clamp(0, 1)
    shown = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-12) ** (1 / 2.4) - 0.055)
    return _uniform(screen, shown)

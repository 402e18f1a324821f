"""ResNet-20/32/44/56 for CIFAR-10 (He et al. 2016, doi:10.1109/CVPR.2016.90, section 4.2) with option-A shortcuts.

Modules are named as in the usual checkpoints: conv1, bn1, layer1 … layer3, linear.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
INPUT_SIDE = 32


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and channels of zeros on both sides; no parameters."""

    def __init__(self, n_added: int) -> None:
        super().__init__()
        self.n_added = n_added

    def forward(self, x: Tensor) -> Tensor:
        """Halve the map and add channels of zeros."""
        before = self.n_added // 2
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.n_added - before))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut = nn.Identity() if stride == 1 and n_in == n_out else PaddedShortcut(n_out - n_in)

    def forward(self, x: Tensor) -> Tensor:
        """Return the rectified sum of both paths."""
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class CifarResNet(nn.Module):
    """Residual network of 6n + 2 layers in three stages of 16, 32 and 64 channels."""

    def __init__(self, n_blocks: int, n_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, n_blocks, stride=1)
        self.layer2 = self._stage(16, 32, n_blocks, stride=2)
        self.layer3 = self._stage(32, 64, n_blocks, stride=2)
        self.linear = nn.Linear(64, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _stage(n_in: int, n_out: int, n_blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(n_in, n_out, stride)
        return nn.Sequential(first, *(BasicBlock(n_out, n_out, 1) for _ in range(n_blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, height, width) to logits (n, classes)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))

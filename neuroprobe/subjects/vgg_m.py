"""VGG-M for ImageNet (Chatfield et al. 2014, doi:10.5244/C.28.6), in the port whose maps have 13 × 13 places.

Five convolutions with a rectifier behind each, the first two with a normalisation over channels, and three fully
connected layers. Modules are named by their kind and stage: conv1, relu1, norm1, pool1 … pool5, fc6, relu6, drop6 …
fc8.

The authors trained it on pixels from 0 to 255 less their mean, and so `MEAN` and `STD` have it: the mean colour of
ImageNet as torchvision declares it, as the authors' own mean is not known here, and no scaling but that to 255. Give
the mean that belongs to weights by `subject: {preprocess: {mean: …}}`, in shares of 255. Weights that were made for
images in the order blue, green, red fit after their first convolution is turned: ``w["conv1.weight"].flip(1)``.
"""

from __future__ import annotations

from torch import nn

MEAN = (0.485, 0.456, 0.406)
STD = (1 / 255, 1 / 255, 1 / 255)
INPUT_SIDE = 224


class VggM(nn.Sequential):
    """Images (n, 3, 224, 224) to logits (n, classes).

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     logits = VggM()(torch.empty(1, 3, 224, 224))
    >>> logits.shape
    torch.Size([1, 1000])
    """

    def __init__(self, n_classes: int = 1000) -> None:
        super().__init__()
        self._convolution(1, nn.Conv2d(3, 96, 7, stride=2), normalise=True)
        self.pool1 = nn.MaxPool2d(3, 2)
        self._convolution(2, nn.Conv2d(96, 256, 5, stride=2, padding=1), normalise=True)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)  # from 26 to 13: one place beyond the map
        self._convolution(3, nn.Conv2d(256, 512, 3, padding=1))
        self._convolution(4, nn.Conv2d(512, 512, 3, padding=1))
        self._convolution(5, nn.Conv2d(512, 512, 3, padding=1))
        self.pool5 = nn.MaxPool2d(3, 2)
        self.flatten = nn.Flatten()
        for stage, n_taken in ((6, 512 * 6 * 6), (7, 4096)):
            self.add_module(f"fc{stage}", nn.Linear(n_taken, 4096))
            self.add_module(f"relu{stage}", nn.ReLU())
            self.add_module(f"drop{stage}", nn.Dropout(0.5))
        self.fc8 = nn.Linear(4096, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _convolution(self, stage: int, convolution: nn.Conv2d, *, normalise: bool = False) -> None:
        self.add_module(f"conv{stage}", convolution)
        self.add_module(f"relu{stage}", nn.ReLU())
        if normalise:  # torch divides alpha by the size
            self.add_module(f"norm{stage}", nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0))

"""VGG-11 (Simonyan & Zisserman 2015, configuration A) in its CIFAR variant."""

from __future__ import annotations

from torch import nn

from rebuttal.config import checked
from rebuttal.models.blocks import he_initialised
from rebuttal.models.images import require_image

_POOL = None
_LAYERS = (64, _POOL, 128, _POOL, 256, 256, _POOL, 512, 512, _POOL, 512, 512, _POOL)  # widths of the convolutions


@checked
class VGG11:
    """Eight 3×3 convolutions and, as is usual for small images, one linear layer instead of three.

    Each of the five 2×2 max-pools halves the image; once a side is 1 pixel long, the remaining pools are omitted, so
    that any height and width works (28×28 has four). `batch_norm`: a batch-norm after each convolution.
    """

    batch_norm: bool = True

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        channels, height, width = require_image("vgg11", shape)
        layers: list[nn.Module] = []
        for width_or_pool in _LAYERS:
            if width_or_pool is _POOL:
                if min(height, width) > 1:
                    layers.append(nn.MaxPool2d(2))
                    height, width = height // 2, width // 2
                continue
            layers.append(he_initialised(nn.Conv2d(channels, width_or_pool, kernel_size=3, padding=1), "fan_out"))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(width_or_pool))
            layers.append(nn.ReLU())
            channels = width_or_pool
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))

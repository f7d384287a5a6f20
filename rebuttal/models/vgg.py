"""VGG-11 (Simonyan & Zisserman 2015, configuration A) in its CIFAR variant."""

from __future__ import annotations

from torch import nn

from rebuttal.config import checked
from rebuttal.models.images import require_image

_WIDTHS_AND_POOLS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512, "pool")


@checked
class VGG11:
    """Eight 3×3 convolutions and, as is usual for small images, one linear layer instead of three.

    The five 2×2 max-pools halve the image; where a side has come down to 1, the remaining ones are left
    out, so that any height and width works (28×28 has four).
    """

    batch_norm: bool = True

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        channels, height, width = require_image("vgg11", shape)
        layers: list[nn.Module] = []
        for step in _WIDTHS_AND_POOLS:
            if step == "pool":
                if min(height, width) > 1:
                    layers.append(nn.MaxPool2d(2))
                    height, width = height // 2, width // 2
                continue
            layers.append(_he(nn.Conv2d(channels, step, kernel_size=3, padding=1)))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(step))
            layers.append(nn.ReLU())
            channels = step
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))


def _he(convolution: nn.Conv2d) -> nn.Conv2d:
    """He initialisation, without which the plain (batch_norm=false) network does not start to learn."""
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(convolution.bias)
    return convolution

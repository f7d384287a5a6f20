"""Wide residual networks (Zagoruyko & Komodakis 2016)."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.models.blocks import Residual, he_initialised
from rebuttal.models.images import require_image

_STEM = 16
_WIDTHS = (16, 32, 64)  # of the three groups, times the width


@checked
class WideResNet:
    """WRN-`depth`-`width`: a 3×3 convolution, three groups of (depth − 4)/6 residual blocks, of which the second and
    third halve the image, batch-norm, ReLU, the mean over the image and a linear layer; no dropout.

    Batch-norm and ReLU precede each convolution. Where a block changes the shape, they precede the branch and the 1×1
    convolution of the skip together. `depth`: 10, 16, 22, 28, …; WRN-28-1 is the network of the demonstration that
    Zhang et al. published. Any number of channels, height and width.
    """

    depth: PositiveInt = 28
    width: PositiveInt = 1

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        channels, _, _ = require_image("wrn28_1", shape)
        blocks, rest = divmod(self.depth - 4, 6)
        if rest or blocks < 1:
            raise ConfigError(f"model.depth={self.depth}: allowed: 10, 16, 22, 28, …: six times the blocks, and 4")
        layers: list[nn.Module] = [_convolution(channels, _STEM)]
        channels = _STEM
        for group, narrow in enumerate(_WIDTHS):
            for block in range(blocks):
                layers += _block(channels, narrow * self.width, 2 if group > 0 and block == 0 else 1)
                channels = narrow * self.width
        pooled = [*_activation(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, *pooled, nn.Linear(channels, classes))


def _block(channels: int, width: int, stride: int) -> list[nn.Module]:
    before = _activation(channels)
    branch = [_convolution(channels, width, stride), *_activation(width), _convolution(width, width)]
    if stride == 1 and channels == width:
        return [Residual(nn.Sequential(*before, *branch), nn.Identity())]
    return [*before, Residual(nn.Sequential(*branch), _convolution(channels, width, stride, side=1))]


def _activation(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU()]


def _convolution(channels: int, width: int, stride: int = 1, side: int = 3) -> nn.Conv2d:
    return he_initialised(nn.Conv2d(channels, width, side, stride, padding=side // 2, bias=False), "fan_out")

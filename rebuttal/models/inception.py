"""The small Inception of Zhang et al. 2017 (appendix A, figure 3)."""

from __future__ import annotations

from torch import nn

from rebuttal.config import checked
from rebuttal.models.blocks import Concatenation, he_initialised
from rebuttal.models.images import require_image

# (a, b) are two convolutions side by side, 1×1 with a and 3×3 with b channels; a number is a halving of the image.
_STAGES: tuple[tuple[int, int] | int, ...] = (
    *((32, 32), (32, 48), 80),
    *((112, 48), (96, 64), (80, 80), (48, 96), 96),
    *((176, 160), (176, 160)),
)
_STEM = 96


@checked
class Inception:
    """A 3×3 convolution, eight pairs of convolutions side by side, and two halvings between them: a convolution of
    stride 2 beside a max-pool. The mean over the image goes through one linear layer.

    `batch_norm`: a batch-norm after each convolution, between bias and ReLU, without scale and shift, so that without
    it the network has as many weights. The paper does not state the initial weights: here He's, by inputs.
    Any number of channels, height and width.
    """

    batch_norm: bool = True

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        channels, _, _ = require_image("inception_small", shape)
        layers: list[nn.Module] = [self._convolution(channels, _STEM, 3)]
        channels = _STEM
        for wide in _STAGES:
            if isinstance(wide, int):
                layers.append(Concatenation(self._convolution(channels, wide, 3, 2), nn.MaxPool2d(3, 2, padding=1)))
                channels += wide
            else:
                layers.append(Concatenation(*(self._convolution(channels, c, side) for c, side in zip(wide, (1, 3)))))
                channels = sum(wide)
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def _convolution(self, channels: int, width: int, side: int, stride: int = 1) -> nn.Sequential:
        convolution = he_initialised(nn.Conv2d(channels, width, side, stride, padding=side // 2), "fan_in")
        norm = [nn.BatchNorm2d(width, affine=False)] if self.batch_norm else []
        return nn.Sequential(convolution, *norm, nn.ReLU())

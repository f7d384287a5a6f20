"""The small AlexNet of Zhang et al. 2017 (appendix A)."""

from __future__ import annotations

from torch import nn

from rebuttal.config import checked
from rebuttal.models.blocks import he_initialised
from rebuttal.models.images import require_image

_CHANNELS = 64  # the paper does not state it; of its number of parameters no other follows
_UNITS = (384, 192)
_ALPHA = 0.001 / 9  # of the local response normalisation, for each squared neighbour
_NEIGHBOURS = 4  # channels over which it sums


@checked
class AlexNet:
    """Twice a 5×5 convolution, ReLU, overlapping 3×3 max-pool of stride 2 and local response normalisation; then two
    fully connected layers of 384 and 192 ReLUs and a linear one.

    The normalisation (Krizhevsky et al. 2012, section 3.3) divides by (1 + α Σ x²)^0.75 over 4 neighbouring channels,
    α = 0.001/9. The paper does not state the initial weights: here He's, by inputs, for the convolutions, and torch's.
    Any number of channels, height and width.
    """

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Sequential:
        channels, height, width = require_image("alexnet_small", shape)
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += _convolution(channels)
            channels, height, width = _CHANNELS, (height + 1) // 2, (width + 1) // 2
        layers.append(nn.Flatten())
        size = channels * height * width
        for units in _UNITS:
            layers += [nn.Linear(size, units), nn.ReLU()]
            size = units
        return nn.Sequential(*layers, nn.Linear(size, classes))


def _convolution(channels: int) -> list[nn.Module]:
    convolution = he_initialised(nn.Conv2d(channels, _CHANNELS, 5, padding=2), "fan_in")
    # torch divides alpha by the number of neighbours
    normalisation = nn.LocalResponseNorm(_NEIGHBOURS, alpha=_ALPHA * _NEIGHBOURS, beta=0.75, k=1.0)
    return [convolution, nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), normalisation]

"""ResNet-18 (He et al. 2016) in its CIFAR variant."""

from __future__ import annotations

from torch import nn

from rebuttal.config import checked
from rebuttal.models.images import require_image


@checked
class ResNet18:
    """torchvision's ResNet-18 with a 3×3 first convolution of stride 1 and no first max-pool, as is usual for small
    images; any number of channels, height and width."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        from torchvision.models import resnet18  # here, because importing torchvision takes a second

        channels, _, _ = require_image("resnet18", shape)
        network: nn.Module = resnet18(num_classes=classes)
        stem = nn.Conv2d(channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        network.conv1 = stem
        network.maxpool = nn.Identity()
        return network

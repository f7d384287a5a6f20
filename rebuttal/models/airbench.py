"""Keller Jordan's network for CIFAR-10 in seconds (Jordan 2024, arXiv 2404.00498, sections 3.1 to 3.3)."""

from __future__ import annotations

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from rebuttal.config import checked
from rebuttal.errors import ConfigError
from rebuttal.models.images import require_image

PATCH = 2  # side of the patches that are whitened
EPSILON = 5e-4  # added to the variance of patches, so that directions without variance are not blown up
MOMENTUM = 0.4  # of batch-norm, the weight of the new batch: 1 − 0.6 in the paper's notation
PATCHES = 2**19  # in memory at once, in float64


@checked
class AirBench:
    """Whitened 2×2 patches, then blocks of two 3×3 convolutions each; no residual connections.

    The first layer's filters are the eigenvectors of the covariance of the training inputs' patches, and their
    negatives, scaled to unit variance; they are not trained, and their bias only in the first `bias_epochs` epochs. A
    block has the width that `widths` gives: convolution, max-pool, batch-norm, GELU, convolution, batch-norm, GELU;
    batch-norms have no scale that is trained. Convolutions start as the identity in as many channels as they have
    inputs (Dirac), with torch's initial weights in the others. The features' maximum over the image goes through a
    linear layer without bias, and the logits are multiplied by `scale`. Batch-norm adds torch's 1e-5 to variances.

    Any number of channels, height and width of at least 2; once a side is 1 pixel long, the remaining pools are
    omitted.
    """

    widths: tuple[PositiveInt, ...] = (64, 256, 256)
    bias_epochs: NonNegativeInt = 3
    scale: PositiveFloat = 1 / 9

    def network(self, shape: tuple[int, ...], classes: int) -> WhitenedNetwork:
        channels, height, width = require_image("airbench", shape)
        if min(height, width) < PATCH:
            raise ConfigError(
                f"model=airbench: needs images of at least {PATCH}x{PATCH}, but the first layer's inputs have shape "
                f"{list(shape)}"
            )
        whitening = Whitening(channels, self.bias_epochs)
        layers: list[nn.Module] = [whitening, nn.GELU()]
        channels, height, width = whitening.out_channels, height - PATCH + 1, width - PATCH + 1
        for wide in self.widths:
            pooled = min(height, width) > 1
            layers += _block(channels, wide, pooled)
            if pooled:
                height, width = height // 2, width // 2
            channels = wide
        layers += [nn.MaxPool2d((height, width)), nn.Flatten(), nn.Linear(channels, classes, bias=False)]
        return WhitenedNetwork(*layers, Multiply(self.scale))


class WhitenedNetwork(nn.Sequential):
    """Modules of which the first is a `Whitening`."""

    def initialise_from(self, inputs: Tensor) -> None:
        """Set the first layer's weights from inputs (n, C, H, W)."""
        self._first.initialise_from(inputs)

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch 1, 2, … of training."""
        self._first.start_epoch(epoch)

    @property
    def _first(self) -> Whitening:
        first = self[0]
        assert isinstance(first, Whitening)
        return first


class Whitening(nn.Conv2d):
    """A convolution over 2×2 patches whose outputs are uncorrelated and of variance 1 on the inputs that
    `initialise_from` was given. Its weights are not trained, its bias in the first `bias_epochs` epochs."""

    def __init__(self, channels: int, bias_epochs: int):
        super().__init__(channels, 2 * channels * PATCH**2, PATCH)
        self.bias_epochs = bias_epochs
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def initialise_from(self, inputs: Tensor) -> None:
        """Set the weights from inputs (n, C, H, W): eigenvectors of the patches' covariance, in the order of falling
        variance λ, each divided by √(λ + ε), and the negatives of all."""
        variances, directions = torch.linalg.eigh(patch_covariance(inputs))
        filters = (directions / (variances.clamp(min=0) + EPSILON).sqrt()).T.flip(0)
        self.weight.copy_(torch.cat([filters, -filters]).view_as(self.weight))

    def start_epoch(self, epoch: int) -> None:
        """Train the bias in this epoch, or no longer."""
        assert self.bias is not None
        self.bias.requires_grad_(epoch <= self.bias_epochs)


class Multiply(nn.Module):
    """x ↦ `factor`·x."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x

    def extra_repr(self) -> str:
        return f"{self.factor:.4g}"


def patch_covariance(inputs: Tensor) -> Tensor:
    """Return the covariance (d, d), d = 4C, of all 2×2 patches of images (n, C, H, W), on the CPU in float64."""
    size = inputs.shape[1] * PATCH**2
    count, total, products = 0, torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for images in inputs.split(max(1, PATCHES // inputs[0, 0].numel())):
        patches = images.cpu().double().unfold(2, PATCH, 1).unfold(3, PATCH, 1)
        rows = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, size)
        count, total, products = count + len(rows), total + rows.sum(dim=0), products + rows.T @ rows
    mean = total / count
    return products / count - torch.outer(mean, mean)


def _block(channels: int, width: int, pooled: bool) -> list[nn.Module]:
    pool: list[nn.Module] = [nn.MaxPool2d(2)] if pooled else []
    first = [_convolution(channels, width), *pool, _batch_norm(width), nn.GELU()]
    return [*first, _convolution(width, width), _batch_norm(width), nn.GELU()]


def _convolution(channels: int, width: int) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False)
    nn.init.dirac_(convolution.weight.data[:channels])
    return convolution


def _batch_norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, momentum=MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm

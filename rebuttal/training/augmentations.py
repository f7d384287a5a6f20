"""Augmentations of training images: options of the group `training/augmentation`.

One of your own is a frozen dataclass that is called with a batch of inputs and a generator of random numbers on the
CPU, and returns as many inputs of the same shape and type. Labels stay with their inputs.
"""

from __future__ import annotations

from typing import Annotated, Protocol

import torch
from pydantic import NonNegativeInt
from torch import Generator, Tensor
from torch.nn import functional as F

from rebuttal.config import Offers, checked
from rebuttal.errors import ConfigError


class Augmentation(Protocol):
    """A config object of the group `training/augmentation`."""

    def __call__(self, inputs: Tensor, random: Generator) -> Tensor:
        """Return the inputs (n, *shape) of a step, changed at random; all draws are from `random`."""
        ...


AugmentationOption = Annotated[Augmentation, Offers("__call__", 2, "an option of the group training/augmentation")]


@checked
class CropAndFlip:
    """Move each image by up to `shift` pixels up or down and left or right, each way of both equally likely, where what
    moves in is black; then, with `flip`, mirror half of them.

    The crop of 32 × 32 out of an image that is padded with zeros (He et al. 2016) is `shift` = padding = 4. A centre
    crop that follows (`preprocess.crop`) makes it a random crop out of the whole image."""

    shift: NonNegativeInt
    flip: bool

    def __call__(self, inputs: Tensor, random: Generator) -> Tensor:
        if inputs.ndim != 4:
            raise ConfigError(
                f"training.augmentation=CropAndFlip: needs images (C, H, W), but the inputs have shape "
                f"{list(inputs.shape[1:])}; allowed: null"
            )
        n, height, width = len(inputs), *inputs.shape[2:]
        down, right = torch.randint(2 * self.shift + 1, (2, n, 1), generator=random)
        mirrored = torch.rand((n, 1), generator=random) < (0.5 if self.flip else 0.0)
        columns = torch.arange(width).expand(n, width)
        columns = torch.where(mirrored, columns.flip(1), columns) + right
        rows = torch.arange(height) + down
        images = torch.arange(n).view(n, 1, 1)
        padded = F.pad(inputs, (self.shift,) * 4)
        image, row, column = (part.to(inputs.device) for part in (images, rows[:, :, None], columns[:, None, :]))
        return padded[image, :, row, column].permute(0, 3, 1, 2).contiguous()

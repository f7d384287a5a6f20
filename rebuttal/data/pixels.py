"""Input corruptions (Zhang et al. 2017, section 2.1): the structure of images is destroyed, their labels are kept."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rebuttal.data.examples import Split, in_unit_range
from rebuttal.seeds import generator

Pixels = Literal["original", "shuffled", "random", "gaussian"]


def corrupt_pixels(images: Tensor, kind: Pixels, split: Split, seed: int) -> Tensor:
    """Return corrupted `images` (n, C, H, W), uint8 or float32; `original` inputs of any shape are left as they are.

    `shuffled`: one permutation of the pixel locations for all images of all splits; `random`: a permutation of its own
    for each image; both move the channels of a location together. `gaussian`: independent normal pixels with the mean
    and variance of each channel over `images`, as float32 in units where 255 is 1.0, not clipped.
    """
    if kind == "original":
        return images
    n, channels, height, width = images.shape
    flat = images.flatten(2)
    if kind == "shuffled":
        order = generator(seed, "pixels", "shuffled").permutation(height * width)
        return flat[:, :, torch.from_numpy(order)].reshape(images.shape)
    if kind == "random":
        keys = generator(seed, split, "pixels", "random").random((n, height * width), dtype=np.float32)
        orders = torch.from_numpy(keys).argsort(dim=1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, orders).reshape(images.shape)
    std, mean = torch.std_mean(in_unit_range(flat), dim=(0, 2), correction=0)
    noise = generator(seed, split, "pixels", "gaussian").standard_normal(images.shape, dtype=np.float32)
    return torch.from_numpy(noise).mul_(std[:, None, None]).add_(mean[:, None, None])

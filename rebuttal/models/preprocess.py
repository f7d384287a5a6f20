"""The fixed first layer of every network, an option of the group `preprocess`: cropping and normalisation of inputs in
[0, 1].

It is part of the function f, so that every measure is taken in the same input space.
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from rebuttal.config import Offers, checked
from rebuttal.data.examples import in_unit_range
from rebuttal.errors import ConfigError

Normalisation = Literal["none", "per_channel", "per_image"]


class Preprocessing(Protocol):
    """A config object of the group `preprocess`."""

    def layer(self, shape: tuple[int, ...], tabular: bool) -> nn.Module:
        """Return the first layer of a network of inputs (n, *shape), floats or uint8 pixels. It has no parameters.

        If it has `output_shape`, that is the shape of what it returns, else `shape`. If it has `fit(inputs)`, that is
        called with the training inputs and may set buffers. `tabular`: each feature of a vector has a unit of its own.
        Raises `ConfigError` for a shape that it cannot take."""
        ...


PreprocessOption = Annotated[Preprocessing, Offers("layer", 2, "an option of the group preprocess")]


@checked
class CropAndNormalise:
    """See `Preprocess`, the layer."""

    crop: PositiveInt | None = None
    normalisation: Normalisation = "per_channel"

    def layer(self, shape: tuple[int, ...], tabular: bool) -> Preprocess:
        return Preprocess(shape, self.crop, self.normalisation, tabular)


class Preprocess(nn.Module):
    """Centre crop to `crop` × `crop` pixels (None: no crop), then normalisation.

    `per_channel`: (x − mean)/std with fixed statistics of the training data; affine. Each feature of `tabular` inputs
    is a channel; other vectors are one.
    `per_image` (Zhang et al. 2017, appendix A): subtract the image's mean, divide by max(std, 1/√d), both
    over all its d values; not affine.
    uint8 pixels are accepted as well, in units of 1/255.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: tuple[int, ...], crop: int | None, normalisation: Normalisation, tabular: bool = False):
        super().__init__()
        self.crop = crop
        self.normalisation = normalisation
        self.output_shape = cropped_shape(shape, crop)
        self.by_feature = tabular and len(shape) == 1
        statistics = (shape[0],) + (1,) * (len(shape) - 1) if len(shape) > 1 or self.by_feature else (1,)
        self.register_buffer("mean", torch.zeros(statistics))
        self.register_buffer("std", torch.ones(statistics))

    @torch.no_grad()
    def fit(self, inputs: Tensor) -> None:
        """Compute the statistics of `per_channel` from training inputs (n, *shape)."""
        if self.normalisation != "per_channel":
            return
        if self.by_feature:
            self._fit_features(inputs)
            return
        # One channel at a time: 50,000 colour images as floats would take 600 MB.
        for channel, values in enumerate(inputs.unbind(1) if inputs.ndim > 2 else [inputs]):
            std, mean = torch.std_mean(_as_doubles(values), correction=0)
            self.mean.view(-1)[channel] = mean
            self.std.view(-1)[channel] = std.clamp(min=1e-6)

    def _fit_features(self, inputs: Tensor) -> None:
        """Compute the statistics of each feature; one that never varies is only shifted."""
        std, mean = torch.std_mean(in_unit_range(inputs).double(), dim=0, correction=0)
        constant = (inputs == inputs[0]).all(dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=torch.finfo(self.std.dtype).tiny).masked_fill(constant, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.crop is not None:
            x = centre_crop(x, self.crop)
        x = in_unit_range(x)
        if self.normalisation == "per_channel":
            return (x - self.mean) / self.std
        if self.normalisation == "per_image":
            flat = x.flatten(1)
            flat = flat - flat.mean(dim=1, keepdim=True)
            floor: float = flat.shape[1] ** -0.5
            # From the norm, because torch.std along rows is ten times slower on the CPU.
            std: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True) * floor
            return (flat / std.clamp(min=floor)).reshape(x.shape)
        return x.clone()  # the model may change in place what it is given, which is the dataset's


class FlattenPixels(nn.Flatten):
    """Flattens inputs (n, *shape), floats or uint8 pixels, to floats (n, d) in input space; `dtype`: of this type."""

    def __init__(self, dtype: torch.dtype | None = None):
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        flat = super().forward(in_unit_range(x))
        return flat if self.dtype is None else flat.to(self.dtype)


def _as_doubles(values: Tensor) -> Tensor:
    """Return values (n, …), floats or uint8, in input space, (n · …,) float64; in pieces, because their floats take
    half as much again."""
    found = torch.empty(values.shape, dtype=torch.float64, device=values.device)
    for piece, given in zip(found.split(1024), values.split(1024)):
        piece.copy_(in_unit_range(given))
    return found.flatten()


def centre_crop(x: Tensor, size: int) -> Tensor:
    """Return the central (…, size, size) of images (…, H, W)."""
    top, left = (x.shape[-2] - size) // 2, (x.shape[-1] - size) // 2
    return x[..., top : top + size, left : left + size]


def cropped_shape(shape: tuple[int, ...], crop: int | None) -> tuple[int, ...]:
    """Return the shape after the crop. Raises `ConfigError` if the inputs are not images at least that large."""
    if crop is None:
        return tuple(shape)
    if len(shape) != 3 or min(shape[1:]) < crop:
        raise ConfigError(
            f"preprocess.crop={crop}: needs images of at least {crop}x{crop}, but the dataset's inputs have shape "
            f"{list(shape)}; allowed: null, for no crop"
        )
    return (shape[0], crop, crop)

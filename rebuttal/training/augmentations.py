"""Augmentations of training images: options of the group `training/augmentation`.

One of your own is a frozen dataclass that is called with a batch of inputs and a generator of random numbers on the
CPU, and returns as many inputs of the same shape and type. Labels stay with their inputs. One whose class has
`by_example = True` is called with two more arguments, for which it has defaults: the indices (n,) of the inputs among
the training inputs, and the epoch 1, 2, …
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Protocol

import torch
from pydantic import Field, NonNegativeInt
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


def augmented(augmentation: Any, inputs: Tensor, random: Generator, examples: Tensor, epoch: int) -> Tensor:
    """Return what an augmentation makes of inputs (n, *shape), which have the indices `examples` (n,), in an epoch."""
    more = (examples, epoch) if getattr(augmentation, "by_example", False) else ()
    given: Tensor = augmentation(inputs, random, *more)
    return given


@checked
class CropAndFlip:
    """Move each image by up to `shift` pixels up or down and left or right, each way of both equally likely, where what
    moves in is black; then, with `flip`, mirror half of them.

    The crop of 32 × 32 out of an image that is padded with zeros (He et al. 2016) is `shift` = padding = 4. A centre
    crop that follows (`preprocess.crop`) makes it a random crop out of the whole image."""

    shift: NonNegativeInt
    flip: bool

    def __call__(self, inputs: Tensor, random: Generator) -> Tensor:
        n, height, width = _images("CropAndFlip", inputs, self.shift)
        down, right = torch.randint(2 * self.shift + 1, (2, n, 1), generator=random)
        mirrored = torch.rand((n, 1), generator=random) < (0.5 if self.flip else 0.0)
        columns = torch.arange(width).expand(n, width)
        columns = torch.where(mirrored, columns.flip(1), columns) + right
        return _pixels(F.pad(inputs, (self.shift,) * 4), torch.arange(height) + down, columns)


@checked
class AlternatingFlip:
    """Mirror each image in every second epoch: half of them in epochs 1, 3, …, chosen by a hash of the image's index,
    and the others in epochs 2, 4, …, so that two epochs show each image both ways (Jordan 2024, section 3.6). And move
    each by up to `shift` pixels up or down and left or right, at random; what moves in is the image reflected at its
    border."""

    shift: NonNegativeInt = 2
    by_example: ClassVar[bool] = True

    def __call__(self, inputs: Tensor, random: Generator, examples: Tensor | None = None, epoch: int = 1) -> Tensor:
        n, height, width = _images("AlternatingFlip", inputs, self.shift)
        examples = torch.arange(n, device=inputs.device) if examples is None else examples
        mirrored = is_mirrored_first(examples) == (epoch % 2 == 1)
        down, right = torch.randint(-self.shift, self.shift + 1, (2, n, 1), generator=random)
        columns = _reflected(torch.arange(width) + right, width).to(inputs.device)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        return _pixels(inputs, _reflected(torch.arange(height) + down, height), columns)


@checked
class FlipAndRotate:
    """Mirror half of the images, with `flip`, and move them by up to `shift` pixels, as `CropAndFlip` does; then turn
    each about its centre by an angle that is uniform from −`degrees` to `degrees`, where what turns in is black.

    Pixels are interpolated bilinearly; those of uint8 images are rounded. Zhang et al. (2017, appendix E) flip and turn
    by up to 25 degrees."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 25.0
    flip: bool = True
    shift: NonNegativeInt = 0

    def __call__(self, inputs: Tensor, random: Generator) -> Tensor:
        n, _, _ = _images("FlipAndRotate", inputs)
        moved = CropAndFlip(shift=self.shift, flip=self.flip)(inputs, random)
        return rotated(moved, self.degrees * (2 * torch.rand(n, generator=random, dtype=torch.float64) - 1))


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Return images (n, C, H, W) that are turned anticlockwise about their centres by `degrees` (n,), float64."""
    pixels = images.float() if images.dtype == torch.uint8 else images
    height, width = pixels.shape[2:]
    cosine, sine = (f(degrees.deg2rad())[:, None, None].to(pixels) for f in (torch.cos, torch.sin))
    # Seen from the centre, in whole or half numbers: a turn by 0 degrees leaves all pixels as they are, exactly.
    down = torch.arange(height).to(pixels)[:, None] - (height - 1) / 2
    right = torch.arange(width).to(pixels) - (width - 1) / 2
    rows = cosine * down + sine * right + (height - 1) / 2
    turned = _interpolated(pixels, rows, cosine * right - sine * down + (width - 1) / 2)
    return turned.round().to(torch.uint8) if images.dtype == torch.uint8 else turned


def _interpolated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (n, C, H, W) at places (n, H, W) between their pixels; outside they are 0."""
    n, channels, height, width = images.shape
    framed = F.pad(images, (1, 1, 1, 1)).flatten(2)
    total = torch.zeros_like(images).flatten(2)
    for row, of_row in _neighbours(rows, height):
        for column, of_column in _neighbours(columns, width):
            place = (row * (width + 2) + column).view(n, 1, -1).expand(-1, channels, -1)
            total += framed.gather(2, place) * (of_row * of_column).view(n, 1, -1)
    return total.view_as(images)


def _neighbours(positions: Tensor, side: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the pixel before each position and the one after it, as indices of an axis with a frame of one pixel, and
    their weights."""
    before = positions.floor()
    share = positions - before
    for pixel, weight in ((before, 1 - share), (before + 1, share)):
        yield (pixel + 1).clamp(0, side + 1).long(), weight


def is_mirrored_first(examples: Tensor) -> Tensor:
    """Return which examples (n,), given by their indices, are mirrored in odd epochs: the highest bit of a Fibonacci
    hash (Knuth 1998, section 6.4), which is set for half of any long range, whatever the order of the classes."""
    return (examples * 2654435769) % 2**32 >= 2**31


def _images(kind: str, inputs: Tensor, shift: int = 0) -> tuple[int, int, int]:
    """Return number, height and width of images (n, C, H, W). Raises `ConfigError` if the inputs are none, or a shift
    by so many pixels would leave none of an image."""
    if inputs.ndim != 4:
        raise ConfigError(
            f"training.augmentation={kind}: needs images (C, H, W), but the inputs have shape "
            f"{list(inputs.shape[1:])}; allowed: null"
        )
    height, width = inputs.shape[2:]
    if shift >= min(height, width):
        raise ConfigError(
            f"training.augmentation.shift={shift}: allowed: 0 to {min(height, width) - 1} for images of "
            f"{height}x{width}"
        )
    return len(inputs), height, width


def _reflected(positions: Tensor, side: int) -> Tensor:
    """Return the pixel that reflection at the border puts in each position, of which 0 … side−1 are in the image."""
    return side - 1 - (side - 1 - positions.abs()).abs()


def _pixels(inputs: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (n, C, H', W') made of these rows (n, H') and columns (n, W') of images (n, C, H, W)."""
    images = torch.arange(len(inputs)).view(-1, 1, 1)
    image, row, column = (part.to(inputs.device) for part in (images, rows[:, :, None], columns[:, None, :]))
    return inputs[image, :, row, column].permute(0, 3, 1, 2).contiguous()

"""Random convolution filters and a linear solve."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from rebuttal.config import checked
from rebuttal.data.examples import in_unit_range
from rebuttal.device import require_memory
from rebuttal.errors import ConfigError
from rebuttal.functions.equations import CELLS, precision_for, refined, require_factor, say, solver
from rebuttal.seeds import generator
from rebuttal.stages.fit import Fit
from rebuttal.stages.function import Logits
from rebuttal.stages.session import Session
from rebuttal.training.evaluation import predict

log = logging.getLogger(__name__)

BLOCK = 256  # filters at a time
IMAGES = 256  # images at a time


@checked
class RandomFilters:
    """A linear function of random convolution features that fits the training labels, of several the one with the
    smallest weights (Zhang et al. 2017, section 5, who have 32,000 filters on CIFAR-10 and state no more).

    Features of an image, its channels shifted and scaled by mean and standard deviation over the training images:
    `filters` convolutions of `side` × `side` pixels, standard normal weights over √(C·side²), ReLU, means over
    `pool` × `pool` parts of the image. Weights are Φᵀα with (ΦΦᵀ + `ridge`)α = Y, the one-hot labels less their mean; Φ
    (n, filters·pool²) is never in memory as a whole. Solved as in `Kernel`; in float64.
    """

    fit: Fit
    filters: PositiveInt = 4096
    side: PositiveInt = 6
    pool: PositiveInt = 2
    ridge: NonNegativeFloat = 0.0
    differentiable: ClassVar[bool] = True
    fitted: ClassVar[bool] = False

    def needs(self, session: Session) -> tuple[()]:
        return ()

    def check(self, session: Session) -> None:
        source = session.open(self.fit.dataset)
        size = source.identity("train")["size"]
        self._check(source.shape, size)
        require_factor("random_filters", size, session.device)
        block = min(BLOCK, self.filters) * self.pool**2  # of features, twice: as drawn and as a product has them
        weights = self.filters * source.shape[0] * self.side**2
        what = f"function=random_filters: filters={self.filters}, side={self.side}, pool={self.pool}: filters, features"
        require_memory(16 * (weights + size * block), what, session.device)

    def function(self, session: Session) -> Logits:
        self.check(session)
        source = session.open(self.fit.dataset)
        examples = self.fit.training_examples(session)
        y = F.one_hot(examples.labels, source.classes).double()
        function, residual = fitted(self.features(examples.inputs), examples.inputs, y, self.ridge)
        logits = predict(function, examples.inputs, IMAGES)
        say(log, f"random_filters: {self.filters:,} filters", residual, logits, examples.labels)
        return function

    def features(self, inputs: Tensor) -> Features:
        """Draw the filters for training images (n, C, H, W)."""
        shape = (self.filters, inputs.shape[1], self.side, self.side)
        drawn = torch.from_numpy(generator(self.fit.seed, "random_filters").standard_normal(shape))
        std, mean = torch.std_mean(in_unit_range(inputs).double(), dim=(0, 2, 3), correction=0)
        weight = drawn.to(inputs.device) / drawn[0].numel() ** 0.5
        return Features(weight, mean, std.clamp(min=1e-6), self.pool)

    def _check(self, shape: tuple[int, ...], size: int) -> None:
        if len(shape) != 3 or min(shape[1:]) < self.side + self.pool - 1:
            raise ConfigError(
                f"function=random_filters: needs images of at least {self.side + self.pool - 1} pixels a side, but the "
                f"dataset's inputs have shape {list(shape)}; allowed: dataset.shape=[channels,height,width], or a "
                "smaller side"
            )
        if self.filters * self.pool**2 < size and not self.ridge:
            raise ConfigError(
                f"function=random_filters: {self.filters * self.pool**2:,} features cannot fit {size:,} labels; "
                "allowed: more filters, or ridge above 0"
            )

    def identity(self, session: Session) -> Any:
        settings = {"filters": self.filters, "side": self.side, "pool": self.pool, "ridge": self.ridge}
        data = self.fit.data_identity(session)
        return {"function": "random_filters", "version": 2, "data": data, "seed": self.fit.seed, **settings}


class Features(nn.Module):
    """Images (n, C, H, W), floats or uint8 pixels ↦ features, a block of filters at a time."""

    weight: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, weight: Tensor, mean: Tensor, std: Tensor, pool: int):
        super().__init__()
        self.pool = pool
        for name, tensor in (("weight", weight), ("mean", mean), ("std", std)):
            self.register_buffer(name, tensor)

    def blocks(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the features (n, block·pool²) of each block of filters, in float64."""
        x = (in_unit_range(images).to(self.mean) - self.mean[:, None, None]) / self.std[:, None, None]
        for weight in self.weight.split(BLOCK):
            yield F.adaptive_avg_pool2d(F.conv2d(x, weight).relu(), self.pool).flatten(1)

    def stacked(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the same for many images."""
        for parts in zip(*(self.blocks(part) for part in images.split(IMAGES))):
            yield torch.cat(parts)


class Readout(nn.Module):
    """Images ↦ their features times `weights` (features, K), plus `offset`."""

    weights: Tensor
    offset: Tensor

    def __init__(self, features: Features, weights: Tensor, offset: Tensor, residual: float):
        super().__init__()
        self.solution = {"weights": weights.numel(), "residual": residual}
        self.features = features
        self.register_buffer("weights", weights)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights.split(BLOCK * self.features.pool**2)
        images = x.to(self.offset.device)
        logits: Tensor = sum((f @ w for f, w in zip(self.features.blocks(images), weights)), start=self.offset)
        return logits


@torch.no_grad()
def fitted(features: Features, images: Tensor, y: Tensor, ridge: float) -> tuple[Readout, float]:
    """Return the function that fits targets (n, K), and ‖Y − Kα‖/‖Y‖ of the centred targets, K = ΦΦᵀ."""
    n, offset = len(images), y.mean(dim=0)
    matrix = torch.zeros(n, n, dtype=precision_for(n), device=images.device)
    size = max(1, CELLS // n)
    for block in features.stacked(images):
        for part, rows in zip(block.split(size), matrix.split(size)):
            rows += (part @ block.T).to(rows)
    refused = (
        f"function=random_filters: the features of {n:,} training inputs are dependent: some are equal, or there are "
        "too few filters; allowed: more filters, or ridge above 0"
    )

    def product(alpha: Tensor) -> Tensor:
        blocks = features.stacked(images)
        return ridge * alpha + sum(block @ (block.T @ alpha) for block in blocks)

    alpha, residual = refined(product, solver(matrix, ridge, refused), y - offset, refused)
    weights = torch.cat([block.T @ alpha for block in features.stacked(images)])
    return Readout(features, weights, offset, residual).eval(), residual

"""2-D slices of input space."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rebuttal.errors import ConfigError
from rebuttal.measures.variation import unit_vectors


@dataclass(frozen=True)
class Plane:
    """The plane through three inputs.

    `origin`: the first of them, (*shape). `axes`: orthonormal, (2, d). `corners`: coordinates of the inputs along the
    axes, (3, 2). `extent`: the square that a figure shows, as (left, right, bottom, top) in the same coordinates.
    """

    origin: Tensor
    axes: Tensor
    corners: np.ndarray
    extent: tuple[float, float, float, float]

    @classmethod
    def through(cls, inputs: Tensor) -> Plane:
        """Return the plane through inputs (3, *shape). Raises `ConfigError` if they lie on one line."""
        flat = inputs.flatten(1).double()
        edges = flat[1:] - flat[0]
        axes, triangle = torch.linalg.qr(edges.T)
        if edges.shape[1] < 2 or triangle.diagonal().abs().min() <= 1e-6 * edges.norm():
            raise ConfigError(
                "dataset: the three inputs of a 2-D slice lie on one line; allowed: three that span a plane"
            )
        corners = torch.cat([torch.zeros(1, 2, dtype=torch.float64, device=flat.device), edges @ axes])
        return cls(inputs[0], axes.T, corners.cpu().numpy(), _square(corners, 2))

    @classmethod
    def random(cls, inputs: Tensor, rng: np.random.Generator) -> Plane:
        """Return a plane in two random directions through the first of the inputs (2, *shape), scaled to the distance
        between them."""
        first, second = inputs
        length = (second - first).norm()
        return cls.through(torch.cat([first[None], first + length * unit_vectors(inputs, rng)]))

    @classmethod
    def some(cls, inputs: Tensor, count: int, rng: np.random.Generator, random: bool = False) -> list[Plane]:
        """Return planes through `count` random triples of the inputs (n, *shape), without those of triples that lie on
        one line; `random`: in random directions through the first of each, see there."""
        if len(inputs) < 3:
            return []
        planes = []
        for _ in range(count):
            corners = inputs[torch.from_numpy(rng.choice(len(inputs), size=3, replace=False)).to(inputs.device)]
            with suppress(ConfigError):
                planes.append(cls.random(corners[:2], rng) if random else cls.through(corners))
        return planes

    def resized(self, sides: float) -> Plane:
        """Return the plane with an extent of `sides` times the side of the square around the three inputs."""
        return replace(self, extent=_square(torch.from_numpy(self.corners), sides))

    def grid(self, resolution: int) -> Tensor:
        """Return inputs (resolution², *shape) on the extent, row by row from the bottom left."""
        left, right, bottom, top = self.extent
        device = self.axes.device
        y, x = torch.meshgrid(
            torch.linspace(bottom, top, resolution, dtype=torch.float64, device=device),
            torch.linspace(left, right, resolution, dtype=torch.float64, device=device),
            indexing="ij",
        )
        points = torch.stack([x.flatten(), y.flatten()], dim=1) @ self.axes
        return (self.origin.flatten() + points).float().reshape(-1, *self.origin.shape)


def _square(corners: Tensor, sides: float) -> tuple[float, float, float, float]:
    """Return (left, right, bottom, top) of a square around the mean of the corners (3, 2), `sides` times as wide as the
    longer side of their bounding box."""
    x, y = corners.mean(dim=0).tolist()
    half = sides / 2 * (corners.amax(dim=0) - corners.amin(dim=0)).max().item()
    return (x - half, x + half, y - half, y + half)

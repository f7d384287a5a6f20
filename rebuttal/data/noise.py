"""Independent noise with random labels: nothing can be learnt but the examples themselves."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt

from rebuttal.config import checked
from rebuttal.data.dataset import DatasetOption, Source
from rebuttal.data.examples import Examples, Split
from rebuttal.device import require_memory
from rebuttal.seeds import generator
from rebuttal.store.identity import describe

Shape = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
Classes = Annotated[int, Field(ge=2)]


@checked
class Noise:
    """Independent inputs, with labels drawn uniformly and independently of them."""

    shape: Shape = (3, 32, 32)
    classes: Classes = 10
    train_size: PositiveInt = 10_000
    student_size: PositiveInt = 10_000
    test_size: PositiveInt = 10_000
    generated: ClassVar[bool] = True

    def open(self, cache: Path) -> Source:
        return self

    def examples(self, split: Split, seed: int) -> Examples:
        size = getattr(self, f"{split}_size")
        require_memory(4 * size * prod(self.shape), f"dataset.{split}_size={size}: the inputs")
        inputs = self.draw(size, generator(seed, split, "inputs"))
        labels = generator(seed, split, "labels").integers(self.classes, size=size)
        return Examples(torch.from_numpy(inputs), torch.from_numpy(labels))

    def identity(self, split: Split) -> dict[str, Any]:
        sizes = {"train_size", "student_size", "test_size"}
        kept = {key: value for key, value in describe(self).items() if key not in sizes}
        return {**kept, "split": split, "size": getattr(self, f"{split}_size")}

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `size` inputs: float32 (size, *shape)."""
        raise NotImplementedError


@checked
class UniformNoise(Noise):
    """Every coordinate uniform on [0, 1)."""

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        return rng.random((size, *self.shape), dtype=np.float32)


@checked
class GaussianNoise(Noise):
    """Every coordinate normal, not clipped, so that mean and variance are exactly as configured."""

    mean: float = 0.5
    std: NonNegativeFloat = 0.25

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        noise = rng.standard_normal((size, *self.shape), dtype=np.float32)
        return (noise * np.float32(self.std) + np.float32(self.mean)).astype(np.float32)


@checked
class NoiseLike:
    """Noise in the input space of the dataset `like`: the same shape and number of classes."""

    like: DatasetOption
    kind: Literal["uniform", "gaussian"]
    train_size: PositiveInt = 10_000
    student_size: PositiveInt = 10_000
    test_size: PositiveInt = 10_000
    generated: ClassVar[bool] = True

    def open(self, cache: Path) -> Source:
        source = self.like.open(cache)
        noise = UniformNoise if self.kind == "uniform" else GaussianNoise
        sizes = {name: getattr(self, name) for name in ("train_size", "student_size", "test_size")}
        return noise(shape=tuple(source.shape), classes=source.classes, **sizes)

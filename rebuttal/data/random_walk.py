"""A random walk through image space: each image differs from the one before in exactly one pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt

from rebuttal.config import checked
from rebuttal.data.dataset import DatasetOption, Source
from rebuttal.data.examples import Examples, Split
from rebuttal.data.noise import Noise
from rebuttal.errors import ConfigError
from rebuttal.seeds import generator
from rebuttal.store.identity import describe

STEPS_PER_BLOCK = 2**16  # random numbers are drawn for about so many steps at a time
SPLIT_STARTS = {"train": 0, "test": 0, "student": 1}  # the image of `start` at which the walk of a split begins


@checked
class RandomWalk(Noise):
    """A random walk of images, with an independent random label for each image.

    A step changes all channels of one location (`step="location"`) or one channel of it (`step="value"`), to another
    of the 256 grey levels, uniformly (`value="uniform"`), or up or down by one, reflected at black and white
    (`value="grey_level"`); every step thus changes the image. `every=k` keeps every k-th image of the walk only; for
    large k these are independent noise. The walk starts at uniform noise, or at an image of the dataset `start` (the
    first for the training walk, the second for the student's).
    The test split continues the training walk; the student's walk is independent of it.
    """

    step: Literal["location", "value"] = "location"
    value: Literal["uniform", "grey_level"] = "uniform"
    every: PositiveInt = 1
    start: DatasetOption | None = None

    def open(self, cache: Path) -> Source:
        start = None if self.start is None else self.start.open(cache)
        if start is not None and tuple(start.shape) != tuple(self.shape):
            raise ConfigError(f"dataset.start: images of shape {list(start.shape)}; allowed: {list(self.shape)}")
        return Walk(self, start)


@dataclass(frozen=True)
class Walk:
    """An opened `RandomWalk`."""

    settings: RandomWalk
    start: Source | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.settings.shape

    @property
    def classes(self) -> int:
        return self.settings.classes

    def examples(self, split: Split, seed: int) -> Examples:
        size = getattr(self.settings, f"{split}_size")
        labels = generator(seed, split, "labels").integers(self.classes, size=size)
        walked = self.settings.train_size if split == "test" else 0
        rng = generator(seed, "student" if split == "student" else "train", "inputs")
        images = walk(self.settings, self._first(split, seed), walked, size, rng)
        return Examples(torch.from_numpy(images), torch.from_numpy(labels))

    def identity(self, split: Split) -> dict[str, Any]:
        sizes = {"train_size", "student_size", "test_size", "start"}
        kept = {key: value for key, value in describe(self.settings).items() if key not in sizes}
        return {
            **kept,
            "version": 2,
            "start": None if self.start is None else self.start.identity("train"),
            "split": split,
            "size": getattr(self.settings, f"{split}_size"),
            "after": self.settings.train_size if split == "test" else 0,
        }

    def _first(self, split: Split, seed: int) -> np.ndarray | None:
        if self.start is None:
            return None
        image = self.start.examples("train", seed).inputs[SPLIT_STARTS[split]]
        if image.dtype != torch.uint8:
            raise ConfigError(
                "dataset.start: its inputs are not uint8 pixels; allowed: a dataset of images, its pixels not gaussian"
            )
        return image.numpy()


def walk(settings: RandomWalk, first: np.ndarray | None, skip: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return images skip, …, skip + size − 1 of the walk, uint8 (size, *shape); a longer walk begins with the same.

    They are computed from a free walk over all integers: a uniform new value is one of its steps modulo 256, and a grey
    level reflected at 0 and 255 is the free walk folded.
    """
    together, locations = _layout(settings.shape, settings.step)
    if first is None:
        first = rng.integers(256, size=(together, locations), dtype=np.uint8)
    free = first.reshape(together, locations).T.astype(np.int64)
    images = np.empty((size, together, locations), dtype=np.uint8)
    if skip == 0:
        images[0] = free.T
    kept = 0
    for indices, shifts in _steps(settings, locations, together, (skip + size - 1) * settings.every, rng):
        for begin in range(0, len(indices), settings.every):
            between = slice(begin, begin + settings.every)  # the steps from one kept image to the next
            np.add.at(free, indices[between], shifts[between])
            kept += 1
            if kept >= skip:
                images[kept - skip] = _grey_levels(free, settings.value).T
    return images.reshape(size, *settings.shape)


def _steps(
    settings: RandomWalk, locations: int, together: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `count` steps in blocks of whole images: the location (m,) of each step and its shifts (m, together)."""
    block = max(1, STEPS_PER_BLOCK // settings.every) * settings.every
    for begin in range(0, count, block):
        # One row per step, so that the first draws of a longer walk are the same.
        draws = rng.random((min(block, count - begin), 1 + together))
        indices = (draws[:, 0] * locations).astype(np.int64)
        uniform = settings.value == "uniform"
        shifts = 1 + (draws[:, 1:] * 255).astype(np.int64) if uniform else np.where(draws[:, 1:] < 0.5, -1, 1)
        yield indices, shifts


def _grey_levels(free: np.ndarray, value: str) -> np.ndarray:
    return (free if value == "uniform" else 255 - np.abs(free % 510 - 255)).astype(np.uint8)


def _layout(shape: tuple[int, ...], step: str) -> tuple[int, int]:
    """Return how many values change together in a step, and how many such groups an image has."""
    together = shape[0] if step == "location" and len(shape) > 1 else 1
    return together, int(np.prod(shape)) // together
